//! IPAM by delegation (CNI specification, section 4): find the executable, run it with
//! our environment and the network's configuration, read its answer.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    net::IpAddr,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_pdeathsig,
        signal::Signal,
    },
    unistd::{getpid, getppid},
};
use serde::Deserialize;
use serde_json::Value;
use xpu_linux::sync::address::Route;
use xpu_model::{IfAddr, Prefix};

use crate::{env::Attachment, version::Version};

/// The most that is read of an answer; an honest one has some hundred bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// No such executable; code 7.
    #[error("`ipam.type`: no `{name}` in CNI_PATH ({path})")]
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
pub struct Call<'a> {
    /// Its name.
    pub name: &'a str,
    /// `CNI_COMMAND` for it.
    pub command: &'static str,
    /// For which interface.
    pub attachment: &'a Attachment,
    /// `CNI_PATH`.
    pub path: &'a str,
    /// `CNI_ARGS`.
    pub args: Option<&'a str>,
    /// The network's configuration.
    pub config: &'a [u8],
    /// When it is killed.
    pub deadline: Instant,
}

/// One run of an IPAM plugin for a network rather than an interface: STATUS, GC.
#[derive(Debug, Clone, Copy)]
pub struct NetworkCall<'a> {
    /// Its name.
    pub name: &'a str,
    /// `CNI_COMMAND` for it.
    pub command: &'static str,
    /// `CNI_PATH`.
    pub path: &'a str,
    /// The network's configuration.
    pub config: &'a [u8],
    /// When it is killed.
    pub deadline: Instant,
}

/// What every run needs; the attachment's three variables are for who has one.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    name: &'a str,
    command: &'static str,
    attachment: Option<&'a Attachment>,
    path: &'a str,
    args: Option<&'a str>,
    config: &'a [u8],
    deadline: Instant,
}

impl<'a> From<&Call<'a>> for Run<'a> {
    fn from(call: &Call<'a>) -> Self {
        Self {
            name: call.name,
            command: call.command,
            attachment: Some(call.attachment),
            path: call.path,
            args: call.args,
            config: call.config,
            deadline: call.deadline,
        }
    }
}

impl<'a> From<&NetworkCall<'a>> for Run<'a> {
    fn from(call: &NetworkCall<'a>) -> Self {
        Self {
            name: call.name,
            command: call.command,
            attachment: None,
            path: call.path,
            args: None,
            config: call.config,
            deadline: call.deadline,
        }
    }
}

/// What IPAM gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lease {
    /// Addresses, with the gateway each came with.
    pub ips: Vec<(IfAddr, Option<IpAddr>)>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name servers, passed through.
    pub dns: Option<Value>,
}

impl Lease {
    /// Reads an IPAM plugin's answer to ADD, of any version.
    ///
    /// # Errors
    /// [`IpamError::Answer`].
    pub fn read(answer: &[u8]) -> Result<Self, IpamError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default)]
            ips: Vec<Ip>,
            #[serde(default)]
            routes: Vec<RawRoute>,
            dns: Option<Value>,
        }
        #[derive(Deserialize)]
        struct Ip {
            address: String,
            gateway: Option<String>,
        }
        #[derive(Deserialize)]
        struct RawRoute {
            dst: String,
            gw: Option<String>,
            mtu: Option<u32>,
            advmss: Option<u32>,
            priority: Option<u32>,
            table: Option<u32>,
            scope: Option<u8>,
        }
        let unusable = |reason: String| IpamError::Answer { reason };
        let host = |text: Option<String>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| unusable(format!("`{text}` is no address")))
            })
            .transpose()
        };
        let document: Document =
            serde_json::from_slice(answer).map_err(|error| unusable(error.to_string()))?;
        let mut lease = Self {
            dns: document.dns,
            ..Self::default()
        };
        for ip in document.ips {
            let address = ip
                .address
                .parse::<IfAddr>()
                .map_err(|error| unusable(error.to_string()))?;
            lease.ips.push((address, host(ip.gateway)?));
        }
        for raw in document.routes {
            let to = raw
                .dst
                .parse::<Prefix>()
                .map_err(|error| unusable(error.to_string()))?;
            // A route without a gateway goes by that of the address of its family, as the
            // reference plugins have it (`ipam.ConfigureIface`).
            let via = match host(raw.gw)? {
                Some(via) => Some(via),
                None => lease
                    .ips
                    .iter()
                    .filter_map(|(_, gateway)| *gateway)
                    .find(|gateway| gateway.is_ipv4() == to.addr().is_ipv4()),
            };
            let RawRoute {
                mtu,
                advmss,
                priority,
                table,
                scope,
                ..
            } = raw;
            lease.routes.push(Route {
                to,
                via,
                mtu,
                advmss,
                priority,
                table,
                scope,
            });
        }
        if lease.ips.is_empty() {
            return Err(unusable("it gives no address".to_owned()));
        }
        Ok(lease)
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
/// [`IpamError`].
pub fn allocate(call: &Call<'_>) -> Result<Lease, IpamError> {
    Lease::read(&run_in_its_version(&call.into())?)
}

/// Runs an IPAM plugin's DEL.
///
/// # Errors
/// [`IpamError`].
pub fn release(call: &Call<'_>) -> Result<(), IpamError> {
    run_in_its_version(&call.into()).map(drop)
}

/// Runs an IPAM plugin's CHECK.
///
/// # Errors
/// [`IpamError`].
pub fn check(call: &Call<'_>) -> Result<(), IpamError> {
    run_in_its_version(&call.into()).map(drop)
}

/// Runs an IPAM plugin's STATUS or GC. One that is older than these commands has
/// nothing to say to them, which is success: its ADD and DEL serve all the same.
///
/// # Errors
/// [`IpamError`].
pub fn tell(call: &NetworkCall<'_>) -> Result<(), IpamError> {
    match run(&call.into()) {
        Err(IpamError::Failed {
            code, msg, details, ..
        }) if is_older(call.command, code, &[&msg, &details]) => Ok(()),
        // Others refuse it with whatever they check first, as a container id that is missing.
        Err(IpamError::Failed { .. }) if says_it_is_older(call) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether the plugin lists its versions, and none of them has STATUS and GC.
fn says_it_is_older(call: &NetworkCall<'_>) -> bool {
    #[derive(Deserialize)]
    struct Versions {
        #[serde(rename = "supportedVersions")]
        supported: Vec<String>,
    }
    let config = format!(r#"{{"cniVersion":"{}"}}"#, Version::V1_1_0.as_str());
    let ask = NetworkCall {
        command: "VERSION",
        config: config.as_bytes(),
        ..*call
    };
    let answer = run(&Run::from(&ask)).ok();
    let versions = answer.and_then(|answer| serde_json::from_slice::<Versions>(&answer).ok());
    versions.is_some_and(|Versions { supported }| {
        // Older ones than we know are among them; who knows a newer one knows this one.
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
fn run_in_its_version(call: &Run<'_>) -> Result<Vec<u8>, IpamError> {
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
    // CHECK has the result of ADD in it, which it reads by that result's own version.
    let result = config.get_mut("prevResult").and_then(Value::as_object_mut);
    if let Some(version) = result.and_then(|result| result.get_mut("cniVersion")) {
        *version = older;
    }
    run(&Run {
        config: config.to_string().as_bytes(),
        ..*call
    })
}

fn run(call: &Run<'_>) -> Result<Vec<u8>, IpamError> {
    let program = find(call.name, call.path)?;
    let failed = |source| IpamError::Run {
        program: program.clone(),
        source,
    };
    let mut command = Command::new(&program);
    // The rest of our environment goes along, as the specification asks.
    command
        .env("CNI_COMMAND", call.command)
        .env("CNI_PATH", call.path);
    match call.attachment {
        Some(attachment) => command
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_IFNAME", attachment.ifname.as_str()),
        None => command
            .env_remove("CNI_CONTAINERID")
            .env_remove("CNI_IFNAME"),
    };
    match call
        .attachment
        .and_then(|attachment| attachment.netns.as_ref())
    {
        Some(netns) => command.env("CNI_NETNS", netns),
        None => command.env_remove("CNI_NETNS"),
    };
    match call.args {
        Some(args) => command.env("CNI_ARGS", args),
        None => command.env_remove("CNI_ARGS"),
    };
    // Killed, we hold no lock any more: what we have started must not go on allocating.
    let parent = getpid();
    let with_us = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // Killed before that, we leave a child whom nobody will tell.
        if getppid() == parent {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec nothing but prctl(2) and getppid(2) runs, which are
    // async-signal-safe.
    unsafe { command.pre_exec(with_us) };
    let stdin = memory_file(call.config).map_err(failed)?;
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let ended = read_answer(&mut child, call.deadline).and_then(|answer| {
        let status = match answer {
            Some(_) => wait(&mut child, call.deadline)?,
            None => None,
        };
        Ok(answer.zip(status))
    });
    let (answer, status) = match ended {
        Ok(Some(ended)) => ended,
        Ok(None) => {
            reap(&mut child);
            return Err(IpamError::Deadline { program });
        }
        Err(source) => {
            reap(&mut child);
            return Err(IpamError::Run { program, source });
        }
    };
    if status.success() {
        Ok(answer)
    } else {
        Err(refusal(call.name, &status.to_string(), &answer))
    }
}

/// The executable of an IPAM plugin: the first in `CNI_PATH`.
///
/// # Errors
/// [`IpamError::NotFound`].
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

/// The configuration as a file: unlike a pipe it never blocks the writer, whatever
/// the reader does.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"cni-config", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Reads stdout to its end; `None` when that doesn't come by the deadline.
fn read_answer(child: &mut Child, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(Some(Vec::new()));
    };
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match poll(
            &mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)],
            left(deadline),
        ) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let read = stdout.read(&mut chunk)?;
        if read == 0 {
            return Ok(Some(answer));
        }
        answer.extend(&chunk[..read]);
        if u64::try_from(answer.len()).is_ok_and(|length| length > MAX_ANSWER) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "its answer does not end",
            ));
        }
    }
}

/// Waits for the end of a process that has closed its stdout, which need not be the same; `None`
/// when that doesn't come by the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    // Most are done by now.
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let process = pidfd(child)?;
    loop {
        match poll(
            &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
            left(deadline),
        ) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return child.wait().map(Some),
        }
    }
}

/// A descriptor that becomes readable when the process ends.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers; the process is our child and not reaped yet, so the
    // id is still its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The time until a deadline, as `poll` takes it.
fn left(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
}

fn reap(child: &mut Child) {
    // It may have ended by itself meanwhile; either way nothing of it must stay.
    let _ended = child.kill();
    let _reaped = child.wait();
}

fn refusal(name: &str, status: &str, answer: &[u8]) -> IpamError {
    #[derive(Deserialize)]
    struct Document {
        code: u32,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    let name = name.to_owned();
    match serde_json::from_slice::<Document>(answer) {
        Ok(Document { code, msg, details }) => IpamError::Failed {
            name,
            code,
            msg,
            details,
        },
        Err(_) => IpamError::Answer {
            reason: format!("{name} ended with {status} and no error document"),
        },
    }
}

#[cfg(test)]
#[path = "../tests/unit/ipam.rs"]
mod tests;
