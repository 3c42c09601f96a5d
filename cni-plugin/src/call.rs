//! A call at work: what it has to work with, and how it fails.

use std::{path::Path, time::Instant};

use crate::{
    agent::{Agent, AgentError, Peer},
    budget::AFTER_AGENT,
    env::Vars,
    error::{self, Error},
    host::Host,
    journal::{Entry, Journal, JournalError},
    lock::{Lock, LockError, lock},
    log::Log,
    port::Key,
    sandbox::{Open, Sandbox},
    undo::Held,
};

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
}

impl Call<'_> {
    /// When an agent that is asked in the middle of the call must have answered.
    pub(crate) fn agent_deadline(&self) -> Instant {
        let deadline = self.deadline.checked_sub(AFTER_AGENT);
        deadline.unwrap_or(self.deadline)
    }

    /// Opens the attachment's namespace; our own only where the runtime allows that.
    pub(crate) fn sandbox(&self, path: &Path) -> Result<Sandbox, Error> {
        Sandbox::open_as(
            path,
            Open {
                may_be_own: self.vars.netns_override,
                ..Open::default()
            },
        )
    }

    /// Connects to an agent, with this call's trace.
    pub(crate) fn connect_to(&self, peer: &Peer, deadline: Instant) -> Result<Agent, AgentError> {
        Agent::connect(peer, self.vars.traceparent.as_deref(), deadline)
    }

    /// Connects to an agent that the journal knows by its address, with the certificates that it
    /// `kept`. If it is this call's own agent, its configuration's certificates come first: files
    /// move, and what is kept may be old.
    pub(crate) fn connect(
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

    /// The journal's record of an attachment. One that can't be read is set aside and told in the
    /// log, and then there is none.
    pub(crate) fn record(
        &self,
        journal: &Journal,
        key: &Key,
    ) -> Result<Option<Entry>, JournalError> {
        self.readable(journal.load_or_set_aside(key))
    }

    /// The same for a call that changes nothing: one that can't be read stays where it is.
    pub(crate) fn peek(&self, journal: &Journal, key: &Key) -> Result<Option<Entry>, JournalError> {
        self.readable(journal.load(key))
    }

    fn readable(
        &self,
        read: Result<Option<Entry>, JournalError>,
    ) -> Result<Option<Entry>, JournalError> {
        match read {
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
    pub(crate) fn lock_entry(
        &self,
        journal: &Journal,
        seen: &Entry,
        deadline: Instant,
    ) -> Result<Option<(Lock, Entry)>, Error> {
        let pci = &seen.record.vf.pci;
        let held = lock(&journal.vf_lock(pci), deadline)?;
        let entry = self.peek(journal, seen.key())?;
        let same = entry.filter(|entry| entry.record.vf.pci == *pci);
        Ok(same.map(|entry| (held, entry)))
    }

    /// Locks an attachment whose record was read as `seen`, and then as [`Self::lock_entry`]: the
    /// order that all keep. For who undoes all of it.
    pub(crate) fn lock_attachment(
        &self,
        journal: &Journal,
        seen: &Entry,
        deadline: Instant,
    ) -> Result<Option<(Lock, Held)>, Error> {
        let own = lock(&journal.attachment_lock(seen.key()), deadline)?;
        let locked = self.lock_entry(journal, seen, deadline)?;
        Ok(locked.map(|(vf, entry)| (own, Held::until_free(entry, vf))))
    }

    /// As [`Self::lock_attachment`]; `None` also where somebody is at work on either.
    pub(crate) fn try_lock_attachment(
        &self,
        journal: &Journal,
        seen: &Entry,
    ) -> Result<Option<(Lock, Held)>, Error> {
        unless_held(self.lock_attachment(journal, seen, Instant::now()))
    }

    /// As [`Self::lock_entry`]; `None` also where somebody is at work on the VF.
    pub(crate) fn try_lock_entry(
        &self,
        journal: &Journal,
        seen: &Entry,
    ) -> Result<Option<(Lock, Entry)>, Error> {
        unless_held(self.lock_entry(journal, seen, Instant::now()))
    }
}

/// `None` also where somebody else holds the lock.
fn unless_held<T>(locked: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match locked {
        Err(Error::Lock(LockError::Held(_))) => Ok(None),
        locked => locked,
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
    pub(crate) fn first_of(errors: impl IntoIterator<Item = Error>) -> Result<(), Self> {
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::log::Level;

    /// A call of nobody's that has until `deadline`.
    pub(crate) fn bare<'a>(host: &'a Host, vars: &'a Vars, deadline: Instant) -> Call<'a> {
        Call {
            host,
            vars,
            stdin: &[],
            peer: None,
            log: Log::new(Level::Error, None, String::new()),
            deadline,
        }
    }
}
