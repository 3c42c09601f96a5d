//! Every way a call fails, and the CNI error code each has. The one place that knows
//! the codes (CNI specification 1.1.0, section 5, "Error").

use std::io::{self, ErrorKind};

use serde_json::{Value, json};
use xpu_linux::{
    netns::NetNsError,
    sync::RtnlError,
    sysfs::{PciAddr, SysfsError},
};
pub use xpu_model::cause::chain;

use crate::{
    agent::{AgentError, DOCTOR},
    config::ConfigError,
    device::Away,
    env::Command,
    env::EnvError,
    ipam::IpamError,
    journal::JournalError,
    lock::LockError,
    version::Version,
    version::VersionError,
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The version is older than the command.
    #[error(
        "cniVersion `{version}` has no {}; it came with {}: set that, or a later one",
        command.as_str(), command.since()
    )]
    TooOld {
        /// The configuration's version.
        version: Version,
        /// The command.
        command: Command,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The pod's namespace.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The namespace is that of the host.
    #[error(
        "CNI_NETNS `{0}` is the host's own network namespace; a runtime that means it sets \
         CNI_NETNS_OVERRIDE=1"
    )]
    HostNetNs(String),
    /// The namespace's name is another's by now.
    #[error(
        "CNI_NETNS `{0}` is another namespace by now, so the pod that was meant has ended; ADD again \
         for one that runs"
    )]
    OtherNetNs(String),
    /// IPAM.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// sysfs.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// Netlink.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
    /// A setting that the VF's driver doesn't take.
    #[error("`{key}`: {value} can't be had for {whom}: {reason}")]
    Setting {
        /// The configuration's key.
        key: &'static str,
        /// What it was to be.
        value: String,
        /// The VF, as its PF or the PCI bus calls it.
        whom: String,
        /// Why, in the driver's words where it has any.
        reason: String,
    },
    /// The device isn't what this call needs.
    #[error("{0}")]
    Device(String),
    /// Somebody else is at work on the device, or holds it.
    #[error("{0}")]
    Busy(String),
    /// The VF isn't home, by what its pod does or for want of time.
    #[error("the VF {pci} {why}")]
    NotHome {
        /// The VF.
        pci: PciAddr,
        /// What keeps it.
        why: Away,
    },
    /// A part of an attachment that couldn't be undone. It has its cause's code, and its words
    /// among its own.
    #[error("{part}: {}{}", chain(&**cause), of(owner.as_deref()))]
    NotUndone {
        /// Which part.
        part: &'static str,
        /// Whose, where that isn't the caller's.
        owner: Option<String>,
        /// Why.
        cause: Box<Self>,
    },
    /// CHECK found something else than ADD had answered, or left.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was compared.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// STATUS: no ADD could be served.
    #[error("{0}; no pod can be attached now")]
    NotReady(String),
    /// STATUS: pods that are attached have no network.
    #[error("{what}")]
    PodsSuffer {
        /// Whose port is how.
        what: String,
        /// What can be done about it.
        next_step: &'static str,
    },
    /// Which boot of the kernel runs can't be told.
    #[error("can't read /proc/sys/kernel/random/boot_id")]
    BootId(#[source] io::Error),
    /// A file, or a device, that can't be read or written.
    #[error("can't {what}")]
    Io {
        /// What was done with which file.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The same of another attachment than the caller's, whose name is told with it.
    #[must_use]
    pub fn left_of(self, name: String) -> Self {
        match self {
            Self::NotUndone { part, cause, .. } => Self::NotUndone {
                part,
                owner: Some(name),
                cause,
            },
            other => other,
        }
    }

    /// The code in the error document.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) | Self::TooOld { .. } => 1,
            Self::Config(ConfigError::Unsupported { .. }) | Self::Setting { .. } => 2,
            Self::Env(_) => 4,
            Self::Journal(_)
            | Self::BootId(_)
            | Self::Io { .. }
            | Self::Lock(LockError::File { .. }) => 5,
            Self::Config(ConfigError::Decode(_)) => 6,
            Self::Config(_) => 7,
            // Not the specification's: the reference library has it (`types.ErrInvalidNetNS`).
            Self::NetNs(_) | Self::HostNetNs(_) | Self::OtherNetNs(_) => 8,
            // What keeps changing while it is listed may stand still the next time.
            Self::Lock(LockError::Held { .. })
            | Self::Busy(_)
            | Self::NotHome { .. }
            | Self::Rtnl(RtnlError::Unsteady { .. }) => 11,
            Self::Agent(error) => match error {
                AgentError::Unreachable { .. }
                | AgentError::Deadline { .. }
                | AgentError::Later { .. }
                | AgentError::Down { .. } => 11,
                AgentError::Unusable { .. } => 7,
                AgentError::Refused { .. } => 101,
            },
            Self::NotReady(_) => 50,
            Self::PodsSuffer { .. } => 51,
            Self::Sysfs(_) | Self::Device(_) => 100,
            Self::Rtnl(_) => 102,
            Self::Ipam(error) => match error {
                // The IPAM plugin's own code says more than one of ours.
                IpamError::Failed { code, .. } => *code,
                IpamError::NotFound { .. } => 7,
                IpamError::Deadline { .. } | IpamError::NoTime { .. } => 11,
                IpamError::Run { .. } | IpamError::Answer { .. } => 103,
            },
            Self::Mismatch { .. } => 104,
            Self::NotUndone { cause, .. } => cause.code(),
        }
    }

    /// The document for stdout. `msg` begins with the cause, since some runtimes keep
    /// nothing else; `notes` says what else went wrong on the way out.
    #[must_use]
    pub fn document(&self, version: Version, notes: &[String]) -> Value {
        let mut document = json!({
            "cniVersion": version.as_str(),
            "code": self.code(),
            "msg": visible(&chain(self)),
        });
        let details: Vec<&str> = notes
            .iter()
            .map(String::as_str)
            .chain(self.others_words())
            .chain(self.next_step())
            .collect();
        if !details.is_empty() {
            document["details"] = visible(&details.join("; ")).into();
        }
        document
    }

    /// The further words of an IPAM plugin.
    fn others_words(&self) -> Option<&str> {
        match self {
            Self::Ipam(IpamError::Failed { details, .. }) if !details.is_empty() => Some(details),
            Self::NotUndone { cause, .. } => cause.others_words(),
            _ => None,
        }
    }

    /// Its words, its causes', and the next step.
    #[must_use]
    pub fn told(&self) -> String {
        let step = self.next_step().map(|step| format!("; {step}"));
        format!("{}{}", chain(self), step.unwrap_or_default())
    }

    /// What the operator can do about it, where the error's own words don't say so, being another
    /// program's or the kernel's about a file. The kernel's about a device say what it is.
    #[must_use]
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Journal(JournalError::File { source, .. })
            | Self::Lock(LockError::File { source, .. })
            | Self::Io { source, .. } => files(source),
            Self::BootId(_) => Some("mount procfs at /proc"),
            Self::Setting { .. } => {
                Some("remove the key, or give the network VFs whose driver takes the value")
            }
            Self::Agent(error) => match error {
                AgentError::Unreachable { next_step, .. } => *next_step,
                AgentError::Deadline { .. } | AgentError::Down { .. } => Some(DOCTOR),
                AgentError::Later { .. }
                | AgentError::Refused { .. }
                | AgentError::Unusable { .. } => None,
            },
            Self::PodsSuffer { next_step, .. } => Some(next_step),
            Self::Ipam(error) => match error {
                IpamError::Run { source, .. } => executable(source),
                IpamError::Deadline { .. } => {
                    Some("see what it waits for: its server, or a lock of its store")
                }
                IpamError::Answer { .. } => {
                    Some("run it by hand, as the specification says, to see what it answers")
                }
                IpamError::NotFound { .. }
                | IpamError::NoTime { .. }
                | IpamError::Failed { .. } => None,
            },
            Self::NotUndone { cause, .. } => cause.next_step(),
            Self::Env(_)
            | Self::Version(_)
            | Self::TooOld { .. }
            | Self::Config(_)
            | Self::Journal(_)
            | Self::Lock(LockError::Held { .. })
            | Self::NetNs(_)
            | Self::HostNetNs(_)
            | Self::OtherNetNs(_)
            | Self::Sysfs(_)
            | Self::Rtnl(_)
            | Self::Device(_)
            | Self::Busy(_)
            | Self::NotHome { .. }
            | Self::Mismatch { .. }
            | Self::NotReady(_) => None,
        }
    }
}

/// What a program needs that can't be run.
fn executable(source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error() {
        // The last one for its interpreter: it was found itself.
        Some(libc::ENOEXEC | libc::EACCES | libc::ENOENT) => {
            Some("see that it is an executable for this machine")
        }
        _ => None,
    }
}

/// What a file needs that can't be read or written.
fn files(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room there"),
        ErrorKind::ReadOnlyFilesystem => Some("mount it writable"),
        ErrorKind::PermissionDenied => Some("see to rights and mounts there"),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            Some("see to the folders and mounts there")
        }
        _ => None,
    }
}

fn of(owner: Option<&str>) -> String {
    owner
        .map(|owner| format!(" (left of {owner})"))
        .unwrap_or_default()
}

/// A text for people's terminals, some of whose words are from configurations and from other
/// programs: no character of it moves a cursor.
fn visible(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_starts_with_the_cause_and_ends_with_the_details() {
        let error = Error::Busy("0000:af:06.0 is at work".to_owned());
        let document = error.document(Version::V0_4_0, &["undo: port left".to_owned()]);
        assert_eq!(document["cniVersion"], "0.4.0");
        assert_eq!(document["code"], 11);
        assert_eq!(document["msg"], "0000:af:06.0 is at work");
        assert_eq!(document["details"], "undo: port left");
    }

    #[test]
    fn what_is_left_of_an_attachment_has_its_causes_code() {
        let failed = || {
            Box::new(Error::Ipam(IpamError::Failed {
                name: "host-local".to_owned(),
                code: 110,
                msg: "the store is away".to_owned(),
                details: "since noon".to_owned(),
            }))
        };
        let left = |owner: Option<&str>| Error::NotUndone {
            part: "IPAM",
            owner: owner.map(str::to_owned),
            cause: failed(),
        };
        let document = left(None).document(Version::LATEST, &[]);
        assert_eq!(document["code"], 110);
        let told = "IPAM: the store is away (IPAM plugin host-local)";
        assert_eq!(document["msg"], told);
        assert_eq!(document["details"], "since noon");
        let told = format!("{told} (left of net1 of container c1)");
        assert_eq!(chain(&left(Some("net1 of container c1"))), told);
    }

    #[test]
    fn an_error_in_the_kernels_words_comes_with_a_next_step() {
        let failed = || Error::Io {
            what: "write /x".to_owned(),
            source: io::Error::from_raw_os_error(libc::ENOSPC),
        };
        let left = Error::NotUndone {
            part: "device info",
            owner: None,
            cause: Box::new(failed()),
        };
        for error in [failed(), left] {
            let document = error.document(Version::LATEST, &["undo: port left".to_owned()]);
            let told = "undo: port left; make room there";
            assert_eq!(document["details"], told);
        }
        // What says it itself isn't followed by more, and what is no file's is told nothing of files.
        let own = Error::Busy("the VF is held; try again".to_owned());
        let device = Error::Io {
            what: "find the PF ens1".to_owned(),
            source: io::Error::from_raw_os_error(libc::ENODEV),
        };
        for error in [own, device] {
            assert_eq!(error.document(Version::LATEST, &[]).get("details"), None);
        }
    }

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        let error = Error::Device("`\x1b[2Jnet1\n` is no name".to_owned());
        let document = error.document(Version::LATEST, &["\t".to_owned()]);
        assert_eq!(document["msg"], "`\\u{1b}[2Jnet1\\n` is no name");
        assert_eq!(document["details"], "\\t");
    }

    #[test]
    fn each_verb_has_its_codes() {
        let too_old = Error::TooOld {
            version: Version::V0_3_1,
            command: Command::Check,
        };
        let told = "cniVersion `0.3.1` has no CHECK; it came with 0.4.0: set that, or a later one";
        assert_eq!((too_old.code(), chain(&too_old)), (1, told.to_owned()));
        let mismatch = Error::Mismatch {
            what: "MTU of net1".to_owned(),
            expected: "1450".to_owned(),
            found: "1500".to_owned(),
        };
        let told = "MTU of net1: expected 1450, found 1500";
        assert_eq!((mismatch.code(), chain(&mismatch)), (104, told.to_owned()));
        assert_eq!(Error::NotReady(String::new()).code(), 50);
        let suffers = Error::PodsSuffer {
            what: String::new(),
            next_step: "",
        };
        assert_eq!(suffers.code(), 51);
    }

    #[test]
    fn a_vf_that_is_not_home_is_tried_again() {
        for (why, told) in [
            (Away::OnItsWay, "has not come back"),
            (
                Away::Crowded {
                    count: 65,
                    most: 64,
                },
                "has 65 of",
            ),
        ] {
            let pci = "0000:af:06.0".parse().unwrap();
            let error = Error::NotHome { pci, why };
            assert_eq!(error.code(), 11);
            let told = format!("the VF 0000:af:06.0 {told}");
            assert!(chain(&error).starts_with(&told), "{error}");
        }
    }

    #[test]
    fn what_would_not_stand_still_is_try_again() {
        let what = "list the links".to_owned();
        assert_eq!(Error::Rtnl(RtnlError::Unsteady { what }).code(), 11);
    }

    #[test]
    fn causes_follow_the_error_once() {
        let source = io::Error::other("disk full");
        let error = Error::Io {
            what: "write /x".to_owned(),
            source,
        };
        assert_eq!(chain(&error), "can't write /x: disk full");
    }
}
