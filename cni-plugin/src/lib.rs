//! The CNI plugin for SR-IOV VFs on an xPU EVPN gateway.
//!
//! **Does:** gives a pod a VF whose frames reach the logical bridges that the network
//! names, takes it back, and tells whether it is as it was: every command of CNI 1.1.0.
//! Keeps on disk what it must undo.
//!
//! **Never:** decides about bridges, VLANs or routes of the node (the agent does), runs
//! a shell, logs to stdout, or touches a device that this attachment doesn't own.
//!
//! **Start reading at** [`add`], then [`undo`], which needs nothing but the journal.

pub mod add;
pub mod agent;
pub mod check;
pub mod config;
pub mod del;
pub mod device;
pub mod deviceinfo;
pub mod drain;
pub mod env;
pub mod error;
pub mod gc;
pub mod host;
pub mod install;
pub mod ipam;
pub mod journal;
pub mod lock;
pub mod log;
pub mod pf;
pub mod port;
mod privileges;
pub mod result;
pub mod sandbox;
pub mod settings;
pub mod status;
pub mod sweep;
pub mod undo;
pub mod version;

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    agent::{Agent, AgentError, Peer},
    config::Raw,
    env::{Command, EnvError, Vars},
    error::Error,
    host::Host,
    journal::{Entry, Journal, JournalError},
    lock::{Lock, LockError, lock},
    log::{Level, Log},
    port::Key,
    sandbox::{Open, Sandbox},
    version::Version,
};

/// The time that one call has for everything: long enough for an agent's 5 s, short
/// enough that a runtime's own deadline doesn't cut the undo off.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The time an undo has when the call's own has run out: an ADD that failed at its
/// deadline must still clean up.
const UNDO_GRACE: Duration = Duration::from_secs(5);

/// What a call works with.
#[derive(Debug)]
pub struct Call<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The environment.
    pub vars: &'a Vars,
    /// The configuration's bytes, for delegates.
    pub stdin: &'a [u8],
    /// The agent of this call's network, as far as its configuration can be used.
    pub peer: Option<Peer>,
    /// The log.
    pub log: Log,
    /// When the call must have answered.
    pub deadline: Instant,
    /// The time that an undo has at least.
    pub grace: Duration,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a call is for, which says whom an undo may keep waiting and what it may give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A pod ends, which it must be able to: addresses count as released whose IPAM plugin is
    /// nowhere.
    PodsEnd,
    /// A runtime asks for anything else. Such an IPAM plugin keeps the record, as in passing:
    /// whoever cleans up can try again later.
    Other,
    /// Others are helped in passing: agents and IPAM plugins that hung not long ago are left alone.
    InPassing,
}

/// What of a call's time is kept from the agent, for what comes after it.
const AFTER_AGENT: Duration = Duration::from_secs(2);

impl Call<'_> {
    /// When an agent that is asked in the middle of the call must have answered.
    fn agent_deadline(&self) -> Instant {
        let deadline = self.deadline.checked_sub(AFTER_AGENT);
        deadline.unwrap_or(self.deadline)
    }

    /// Opens the attachment's namespace; our own only where the runtime allows that.
    fn sandbox(&self, path: &Path) -> Result<Sandbox, Error> {
        Sandbox::open_as(
            path,
            Open {
                may_be_own: self.vars.netns_override,
                ..Open::default()
            },
        )
    }

    /// Connects to an agent, with this call's trace.
    fn connect_to(&self, peer: &Peer, deadline: Instant) -> Result<Agent, AgentError> {
        Agent::connect(peer, self.vars.traceparent.as_deref(), deadline)
    }

    /// Connects to an agent that the journal knows by its address, with the certificates that it
    /// `kept`. If it is this call's own agent, its configuration's certificates come first: files
    /// move, and what is kept may be old.
    fn connect(
        &self,
        addr: &str,
        kept: Result<Peer, AgentError>,
        deadline: Instant,
    ) -> Result<Agent, AgentError> {
        let own = self.peer.as_ref();
        let own = own.filter(|own| own.addr().to_string() == addr);
        let Some(own) = own else {
            return self.connect_to(&kept?, deadline);
        };
        match (self.connect_to(own, deadline), kept) {
            (Err(error @ AgentError::Unusable { .. }), Ok(kept)) if kept != *own => {
                // If neither can be used, the configuration's is the one to mend.
                self.connect_to(&kept, deadline).map_err(|_| error)
            }
            (connected, _) => connected,
        }
    }

    /// The journal's record of an attachment. One that can't be read is told in the log, and then
    /// there is none.
    fn record(&self, journal: &Journal, key: &Key) -> Result<Option<Entry>, JournalError> {
        match journal.load(key) {
            Err(error @ JournalError::Corrupt { .. }) => {
                self.log.warn(error::chain(&error));
                Ok(None)
            }
            other => other,
        }
    }

    /// Locks the VF of an attachment whose record was read as `seen`, and reads the record again:
    /// whoever held the lock may have finished it, or begun it anew with another VF. `None`: so it
    /// was.
    fn lock_entry(
        &self,
        journal: &Journal,
        seen: &Entry,
        deadline: Instant,
    ) -> Result<Option<(Lock, Entry)>, Error> {
        let pci = &seen.record.vf.pci;
        let held = lock(&journal.vf_lock(pci), deadline)?;
        let entry = self.record(journal, &seen.record.key())?;
        let same = entry.filter(|entry| entry.record.vf.pci == *pci);
        Ok(same.map(|entry| (held, entry)))
    }

    /// As [`Self::lock_entry`]; `None` also where somebody is at work on the VF.
    fn try_lock_entry(
        &self,
        journal: &Journal,
        seen: &Entry,
    ) -> Result<Option<(Lock, Entry)>, Error> {
        match self.lock_entry(journal, seen, Instant::now()) {
            Err(Error::Lock(LockError::Held(_))) => Ok(None),
            locked => locked,
        }
    }
}

/// A failed call: the error, and what else went wrong while undoing.
#[derive(Debug)]
pub struct Failure {
    /// The first error.
    pub error: Error,
    /// Errors after it.
    pub notes: Vec<String>,
}

impl Failure {
    /// The first error with the others as its notes; no error is success.
    fn first_of(errors: impl IntoIterator<Item = Error>) -> Result<(), Self> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(error) => Err(Self {
                error,
                notes: errors.map(|error| error::chain(&error)).collect(),
            }),
        }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            notes: Vec::new(),
        }
    }
}

/// What C's `main` does in the plugin's programs, which go without Rust's own.
///
/// What the standard library sets up before a Rust `main`, above all a stack for the handler of
/// stack overflows, for which it reads `/proc/self/maps`, is a fifth of what `VERSION` takes. A
/// runtime starts this program for every pod interface, and under a processor quota.
pub fn start(run: impl FnOnce() -> ExitCode) -> libc::c_int {
    // SAFETY: ignoring a signal installs no handler. A reader of stdout that has gone is then an
    // error of `write`, as Rust programs have it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    libc::c_int::from(run() != ExitCode::SUCCESS)
}

/// Reads the call from environment and stdin, does it, and writes one JSON document
/// to stdout. The exit code is 1 after an error.
#[must_use]
pub fn main(host: &Host) -> ExitCode {
    let vars = Vars::from_process();
    // Room for any usual configuration, so that one system call reads it.
    let mut stdin = Vec::with_capacity(4 * 1024);
    let read = std::io::stdin().lock().read_to_end(&mut stdin);
    let (answer, code) = match read {
        Ok(_) => answer(host, &vars, &stdin),
        Err(source) => {
            let error = Error::Io {
                what: "read the configuration from stdin".to_owned(),
                source,
            };
            (
                Some(error.document(Version::LATEST, &[])),
                ExitCode::FAILURE,
            )
        }
    };
    let Some(answer) = answer else { return code };
    // A runtime that has closed its end no longer wants the answer.
    let _unheard = writeln!(std::io::stdout().lock(), "{answer}");
    code
}

/// The document for stdout, if the command has one, and the exit code.
#[must_use]
pub fn answer(host: &Host, vars: &Vars, stdin: &[u8]) -> (Option<Value>, ExitCode) {
    let mut version = Version::LATEST;
    match dispatch(host, vars, stdin, &mut version) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(Failure { error, notes }) => (Some(error.document(version, &notes)), ExitCode::FAILURE),
    }
}

fn dispatch(
    host: &Host,
    vars: &Vars,
    stdin: &[u8],
    version: &mut Version,
) -> Result<Option<Value>, Failure> {
    let command = vars.command()?;
    if command == Command::Version {
        return Ok(Some(version::answer(stdin)));
    }
    let deadline = Instant::now() + CALL_DEADLINE;
    let attachment = match vars.attachment() {
        _ if !command.has_attachment() => None,
        // ADD made no such interface. A pod must be able to end.
        Err(EnvError::Invalid {
            key: "CNI_IFNAME", ..
        }) if command == Command::Del => return Ok(None),
        attachment => Some(attachment?),
    };
    let read = Raw::read(stdin, &host.config_files).map_err(Error::from);
    let read = read.and_then(|raw| Ok((raw.version()?, raw)));
    let raw = match read {
        Ok((known, raw)) => {
            *version = known;
            raw
        }
        // ADD refuses such a configuration, so it made nothing by it; what it made by an earlier
        // one, the journal knows. A pod must be able to end.
        Err(_) if command == Command::Del => Raw::default(),
        Err(error) => return Err(error.into()),
    };
    if *version < command.since() {
        return Err(Error::TooOld {
            version: *version,
            command,
        }
        .into());
    }
    let prefix = match &attachment {
        Some(about) => format!("{command:?} {} {}", about.container_id, about.ifname),
        None => format!("{command:?}"),
    };
    let (level, file) = raw.log();
    let log = Log::new(Level::from_config(level), file, prefix);
    for remark in raw.remarks() {
        log.warn(remark);
    }
    if let Err(error) = privileges::give_up_module_loading() {
        log.warn(format_args!(
            "can't give up CAP_SYS_MODULE, with which a name that a pod chose may load a module: \
             {error}"
        ));
    }
    let call = Call {
        host,
        vars,
        stdin,
        peer: raw.peer().ok(),
        log,
        deadline,
        grace: UNDO_GRACE,
        purpose: match command {
            Command::Del => Purpose::PodsEnd,
            _ => Purpose::Other,
        },
    };
    let start = Instant::now();
    let done = match (command, &attachment) {
        (Command::Add, Some(about)) => add::run(&call, about, &raw, *version).map(Some),
        (Command::Del, Some(about)) => del::run(&call, about, &raw, *version).map(|()| None),
        (Command::Check, Some(about)) => check::run(&call, about, &raw, *version).map(|()| None),
        (Command::Status, _) => status::run(&call, &raw, *version).map(|()| None),
        (Command::Gc, _) => gc::run(&call, &raw, *version).map(|()| None),
        // `VERSION` has been answered, and the others have an attachment.
        (Command::Version | Command::Add | Command::Del | Command::Check, _) => Ok(None),
    };
    match &done {
        Ok(_) => call
            .log
            .info(format_args!("done in {} ms", start.elapsed().as_millis())),
        Err(failure) => call.log.write(Level::Error, error::chain(&failure.error)),
    }
    if done.is_ok() && matches!(command, Command::Add | Command::Del | Command::Gc) {
        sweep::sweep(call, attachment.as_ref());
    }
    done
}
