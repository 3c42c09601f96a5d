//! What takes long to fail is left alone for a while, longer each time: it must not cost every
//! call of the node.

use std::{
    fs,
    io::ErrorKind,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::{
    Journal, JournalError,
    files::{file_error, remove},
};
use crate::{
    host::read_small,
    port::{Key, hex},
};

/// What may fail again and again.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// An agent, by its address.
    Agent(&'a str),
    /// An IPAM plugin, by its name.
    Ipam(&'a str),
    /// An attachment that is to be finished.
    Attachment(&'a Key),
}

/// How long something is left alone.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// After its first failure.
    first: Duration,
    /// How many times longer after each further one.
    factor: u32,
    /// At the most.
    most: Duration,
}

impl Subject<'_> {
    const fn waits(self) -> Waits {
        match self {
            Self::Agent(_) => Waits {
                first: Duration::from_secs(2),
                factor: 2,
                most: Duration::from_secs(60),
            },
            Self::Ipam(_) | Self::Attachment(_) => Waits {
                first: Duration::from_secs(10),
                factor: 4,
                most: Duration::from_secs(600),
            },
        }
    }

    /// How long it is left alone after so many failures in a row.
    fn wait(self, failures: u32) -> Duration {
        let Waits {
            first,
            factor,
            most,
        } = self.waits();
        let Some(before) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        first
            .saturating_mul(factor.saturating_pow(before))
            .min(most)
    }

    fn file(self) -> String {
        match self {
            Self::Agent(addr) => format!("agent-{}", digest(addr)),
            Self::Ipam(name) => format!("ipam-{}", digest(name)),
            Self::Attachment(key) => key.as_str().to_owned(),
        }
    }
}

/// Whether something that failed may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// It may.
    Due {
        /// How often it has failed in a row.
        failures: u32,
    },
    /// It failed not long ago, and is left alone for a while.
    LeaveAlone,
}

/// A name that is good for a file's.
pub(super) fn digest(name: &str) -> String {
    hex(&Sha256::digest(name)[..20])
}

impl Journal {
    fn backoff_path(&self, subject: Subject<'_>) -> PathBuf {
        self.root.join("backoff").join(subject.file())
    }

    /// Whether something that failed may be tried again. What can't be told counts as never failed.
    #[must_use]
    pub fn backoff(&self, subject: Subject<'_>) -> Backoff {
        let path = self.backoff_path(subject);
        let Some(failures) = read_small(&path).ok().and_then(|text| text.parse().ok()) else {
            return Backoff::Due { failures: 0 };
        };
        let last = fs::metadata(&path).and_then(|meta| meta.modified());
        let since = last
            .ok()
            .and_then(|last| SystemTime::now().duration_since(last).ok());
        // A clock that went back keeps nothing waiting.
        if since.is_none_or(|since| since >= subject.wait(failures)) {
            Backoff::Due { failures }
        } else {
            Backoff::LeaveAlone
        }
    }

    /// Whether something has failed not long ago.
    #[must_use]
    pub fn is_left_alone(&self, subject: Subject<'_>) -> bool {
        self.backoff(subject) == Backoff::LeaveAlone
    }

    /// Notes a failure. One while it is to be left alone doesn't count: calls that run at the same
    /// time tell of one fault.
    ///
    /// # Errors
    /// [`JournalError::File`] when the note can't be written; the subject is tried again at once then.
    pub fn note_failure(&self, subject: Subject<'_>) -> Result<(), JournalError> {
        let Backoff::Due { failures: known } = self.backoff(subject) else {
            return Ok(());
        };
        let path = self.backoff_path(subject);
        let text = known.saturating_add(1).to_string();
        let write = || match fs::write(&path, &text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(self.root.join("backoff"))?;
                fs::write(&path, &text)
            }
            written => written,
        };
        // Neither synced nor locked: a lost one costs one try more.
        write().map_err(|source| file_error("write", &path, source))
    }

    /// Forgets the failures.
    ///
    /// # Errors
    /// [`JournalError::File`] when the note can't be removed; it counts until it is.
    pub fn clear_failures(&self, subject: Subject<'_>) -> Result<(), JournalError> {
        remove(&self.backoff_path(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_left_alone_longer_each_time() {
        let agent = Subject::Agent("http://192.0.2.9:1");
        let seconds = |failures| agent.wait(failures).as_secs();
        assert_eq!([0, 1, 2, 3, 99].map(seconds), [0, 2, 4, 8, 60]);

        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let due = |failures| Backoff::Due { failures };
        assert_eq!(journal.backoff(agent), due(0));
        journal.note_failure(agent).unwrap();
        assert!(journal.is_left_alone(agent));
        let path = journal.backoff_path(agent);
        let touch = |ago: u64, ahead: u64| {
            let now = SystemTime::now() + Duration::from_secs(ahead);
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(ago)).unwrap();
        };
        // Told of twice, it is one fault, unless it was tried anew.
        journal.note_failure(agent).unwrap();
        touch(3, 0);
        assert_eq!(journal.backoff(agent), due(1));
        journal.note_failure(agent).unwrap();
        touch(5, 0);
        assert_eq!(journal.backoff(agent), due(2));
        touch(0, 3600);
        assert_eq!(journal.backoff(agent), due(2), "the clock went back");
        journal.clear_failures(agent).unwrap();
        assert_eq!(journal.backoff(agent), due(0));
    }
}
