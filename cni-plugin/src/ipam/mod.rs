//! IPAM by delegation (CNI specification, section 4): find the executable, run it with
//! our environment and the network's configuration, read its answer.

use std::{io, path::PathBuf, time::Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::{Call, env::Attachment, version::Version};

mod lease;
mod process;

pub use lease::{Lease, RouteText, nullable};
use process::run;

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// No such executable; code 7.
    #[error("`ipam.type`: no `{name}` in CNI_PATH ({path}); install it there")]
    NotFound {
        /// What was sought.
        name: String,
        /// Where.
        path: String,
    },
    /// It can't be run; code 103.
    #[error("can't run the IPAM plugin {}", program.display())]
    Run {
        /// The executable.
        program: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It didn't end in time and was killed; code 11.
    #[error("the IPAM plugin {} did not end in time", program.display())]
    Deadline {
        /// The executable.
        program: PathBuf,
    },
    /// It wasn't run, since the time that is left is too short for one that is well; code 11.
    #[error("no time was left for the IPAM plugin {}; try again", program.display())]
    NoTime {
        /// The executable.
        program: PathBuf,
    },
    /// It answered with an error, whose code is passed on.
    #[error("{msg} (IPAM plugin {name})")]
    Failed {
        /// The executable's name.
        name: String,
        /// Its code.
        code: u32,
        /// Its words.
        msg: String,
        /// Its further words.
        details: String,
    },
    /// Its answer can't be read, or says what can't be; code 103.
    #[error("the IPAM plugin's answer can't be used: {reason}")]
    Answer {
        /// Why.
        reason: String,
    },
}

/// One run of an IPAM plugin.
#[derive(Debug, Clone, Copy)]
pub struct Delegate<'a> {
    /// Its name.
    pub name: &'a str,
    /// `CNI_COMMAND` for it.
    pub command: &'static str,
    /// For which interface; `None`: for the network as a whole, as STATUS and GC are.
    pub attachment: Option<&'a Attachment>,
    /// `CNI_PATH`.
    pub path: &'a str,
    /// `CNI_ARGS`.
    pub args: Option<&'a str>,
    /// The network's configuration.
    pub config: &'a [u8],
    /// When it is killed.
    pub deadline: Instant,
}

impl Call<'_> {
    /// A run of an IPAM plugin with what this call has: its configuration, `CNI_PATH` and time, and
    /// for an interface its arguments.
    pub(crate) fn delegate<'a>(
        &'a self,
        name: &'a str,
        command: &'static str,
        attachment: Option<&'a Attachment>,
    ) -> Delegate<'a> {
        Delegate {
            name,
            command,
            attachment,
            path: self.vars.path.as_deref().unwrap_or_default(),
            args: self.vars.args.as_deref().filter(|_| attachment.is_some()),
            config: self.stdin,
            deadline: self.deadline,
        }
    }
}

/// Whether an IPAM plugin works on the interface itself, as the reference `dhcp` does, which speaks
/// from it: then it is there before ADD and until after DEL.
#[must_use]
pub fn needs_interface(name: &str) -> bool {
    name == "dhcp"
}

/// Runs an IPAM plugin's ADD.
///
/// # Errors
/// [`IpamError`] when it gives no addresses. After [`IpamError::Deadline`] and [`IpamError::Answer`] it
/// may hold some, which its DEL releases.
pub fn allocate(call: &Delegate<'_>) -> Result<Lease, IpamError> {
    Lease::read(&run_in_its_version(call)?)
}

/// Runs an IPAM plugin's DEL.
///
/// # Errors
/// [`IpamError`] when it doesn't say that it has released the addresses; it may hold them still.
pub fn release(call: &Delegate<'_>) -> Result<(), IpamError> {
    run_in_its_version(call).map(drop)
}

/// Runs an IPAM plugin's CHECK.
///
/// # Errors
/// [`IpamError::Failed`] with what it found to differ; another one when it can't tell.
pub fn check(call: &Delegate<'_>) -> Result<(), IpamError> {
    run_in_its_version(call).map(drop)
}

/// Runs an IPAM plugin's STATUS or GC. One that is older than these commands has
/// nothing to say to them, which is success: its ADD and DEL serve all the same.
///
/// # Errors
/// [`IpamError::Failed`] with its refusal; another one when it can't be run or doesn't answer.
pub fn run_if_supported(call: &Delegate<'_>) -> Result<(), IpamError> {
    match run(call) {
        Err(IpamError::Failed {
            code, msg, details, ..
        }) if is_older(call.command, code, &[&msg, &details]) => Ok(()),
        // Others refuse it with whatever they check first, for example that a container id is
        // missing, or say how they are used, and not as JSON.
        Err(IpamError::Failed { .. } | IpamError::Answer { .. }) if says_it_is_older(call) => {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Whether the plugin lists its versions, and none of them has STATUS and GC.
fn says_it_is_older(call: &Delegate<'_>) -> bool {
    #[derive(Deserialize)]
    struct Versions {
        #[serde(rename = "supportedVersions")]
        supported: Vec<String>,
    }
    let config = format!(r#"{{"cniVersion":"{}"}}"#, Version::V1_1_0.as_str());
    let ask = Delegate {
        command: "VERSION",
        config: config.as_bytes(),
        ..*call
    };
    let answer = run(&ask).ok();
    let versions = answer.and_then(|answer| serde_json::from_slice::<Versions>(&answer).ok());
    versions.is_some_and(|Versions { supported }| {
        // It may list versions that we don't know: older ones, or newer ones beside this one.
        !supported.is_empty()
            && !supported
                .iter()
                .any(|text| text == Version::V1_1_0.as_str())
    })
}

/// Whether a refusal says that the plugin doesn't know the command: by its version, or,
/// as the reference library had it before 1.1.0, as a wrong `CNI_COMMAND`.
fn is_older(command: &str, code: u32, words: &[&str]) -> bool {
    /// "Invalid necessary environment variables" (CNI specification, section 5).
    const ENVIRONMENT: u32 = 4;
    let named = |text: &&str| text.contains("CNI_COMMAND") || text.contains(command);
    code == INCOMPATIBLE || (code == ENVIRONMENT && words.iter().any(named))
}

/// "Incompatible CNI version" (CNI specification, section 5).
const INCOMPATIBLE: u32 = 1;

/// Runs the plugin with the configuration as it is and, if it is older than the
/// configuration's version, once more as 1.0.0: what 1.1.0 adds to an IPAM's answer is
/// optional, so an older IPAM serves a newer network (Debian 13 ships such ones).
fn run_in_its_version(call: &Delegate<'_>) -> Result<Vec<u8>, IpamError> {
    let refused = match run(call) {
        Err(
            error @ IpamError::Failed {
                code: INCOMPATIBLE, ..
            },
        ) => error,
        other => return other,
    };
    let Ok(mut config) = serde_json::from_slice::<Value>(call.config) else {
        return Err(refused);
    };
    let older = Value::from(Version::V1_0_0.as_str());
    match config.get_mut("cniVersion") {
        Some(version) if *version == Version::V1_1_0.as_str() => *version = older.clone(),
        _ => return Err(refused),
    }
    // For CHECK the configuration holds ADD's result, which has a version of its own.
    let result = config.get_mut("prevResult").and_then(Value::as_object_mut);
    if let Some(version) = result.and_then(|result| result.get_mut("cniVersion")) {
        *version = older;
    }
    run(&Delegate {
        config: config.to_string().as_bytes(),
        ..*call
    })
}

/// The executable of an IPAM plugin: the first in `CNI_PATH`.
///
/// # Errors
/// [`IpamError::NotFound`] when none of its folders has a file of that name.
pub fn find(name: &str, path: &str) -> Result<PathBuf, IpamError> {
    let mut folders = path.split(':').filter(|folder| !folder.is_empty());
    folders
        .find_map(|folder| {
            let program = PathBuf::from(folder).join(name);
            program.is_file().then_some(program)
        })
        .ok_or_else(|| IpamError::NotFound {
            name: name.to_owned(),
            path: path.to_owned(),
        })
}

#[cfg(test)]
#[path = "../../tests/unit/ipam.rs"]
mod tests;
