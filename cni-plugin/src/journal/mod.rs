//! The journal: what each attachment has changed on this node, on disk before it is
//! changed, so that whoever comes later can undo it.
//!
//! ```text
//! attachments/<key>   one record: a first line that never changes, then one line for each
//!                     step as it begins
//! attachments/trial.tmp  for the moment in which STATUS finds out whether records can be written
//! vf/<pci>            a symbolic link to the record that owns the VF
//! lock                an empty file, whose bytes are locked
//! tombstones/<key>-<agent>  a port that is still to be deleted, with a hash of its agent's address
//! corrupt/            records that couldn't be read
//! backoff/<name>      how often in a row an agent, an IPAM plugin or an attachment's end failed
//! cursor              the record that the sweep looked at last
//! ```
//!
//! The first line is written with fsync before anything else happens. Step lines are
//! appended without: a killed process loses nothing of them, and after a power cut
//! the boot id says that every step must be taken for begun. A torn last line reads
//! as absent. The last step says that the attachment is being undone: a record that outlives its
//! DEL is told from a living attachment's by it. Its line isn't synced either, since it matters
//! only while the pod seems to live: after a power cut, by the boot id, none does.

mod backoff;
mod claim;
mod entry;
mod files;
mod listing;
mod locks;
mod record;
mod tombstone;
mod trial;

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use backoff::{Backoff, Subject};
pub use entry::Entry;
pub use listing::Listing;
pub use record::{Ipam, Learned, NetNsRef, Netdev, Record, Step, Vf};
pub use tombstone::Tombstone;

use crate::{host::read_small, port::Key};
use files::{file_error, remove, temporary, write_durably};

/// Why the journal can't be read or written; code 5.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("can't {action} {}", path.display())]
    File {
        /// What was done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file that a newer plugin wrote: it is left for that one.
    #[error("{} is of format {format}, which a newer plugin wrote; install that again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A record that was set aside since it can't be read.
    #[error(
        "a record can't be read, so the addresses that it holds are not known and may be in use; \
         see to it that its pod is gone, then remove {}", path.display()
    )]
    SetAside {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no record.
    #[error(
        "{} can't be decoded: {detail}; see to it that what it held is free, then remove it",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// The journal's folder.
#[derive(Debug, Clone)]
pub struct Journal {
    root: PathBuf,
}

impl Journal {
    /// Opens the journal, making its folders where they are missing.
    ///
    /// # Errors
    /// [`JournalError::File`] when a folder can't be made.
    pub fn open(root: &Path) -> Result<Self, JournalError> {
        const LAST: &str = "corrupt";
        // If the folder that is made last is there, all are.
        if root.join(LAST).is_dir() {
            return Ok(Self {
                root: root.to_owned(),
            });
        }
        for folder in ["attachments", "vf", "tombstones", LAST] {
            let path = root.join(folder);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| file_error("make the folder", &path, source))?;
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn record_path(&self, key: &Key) -> PathBuf {
        self.root.join("attachments").join(key.as_str())
    }

    /// Writes a new record, durably.
    ///
    /// # Errors
    /// [`JournalError::File`] when it is not on disk; nothing may be changed then.
    pub fn create(&self, record: Record) -> Result<Entry, JournalError> {
        let key = record.key();
        let path = self.record_path(&key);
        let file = write_durably(&path, &record.line())?;
        Ok(Entry {
            record,
            key,
            begun: Vec::new(),
            path,
            file: Some(file),
        })
    }

    /// The record of an attachment. One that can't be read is set aside and told as
    /// [`JournalError::Corrupt`] once; after that there is none. One of a newer plugin stays where
    /// it is.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] for one that was set aside just now; [`JournalError::Newer`];
    /// [`JournalError::File`] when it can't be read or set aside, and stays where it is.
    pub fn load_or_set_aside(&self, key: &Key) -> Result<Option<Entry>, JournalError> {
        match self.load(key) {
            Err(JournalError::Corrupt { path, detail }) => self.set_aside(&path, detail),
            read => read,
        }
    }

    /// The record of an attachment. Whatever it is, it stays where it is.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], [`JournalError::Newer`], or [`JournalError::File`] when it can't be
    /// read.
    pub fn load(&self, key: &Key) -> Result<Option<Entry>, JournalError> {
        let path = self.record_path(key);
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
            Err(source) => return Err(file_error("read", &path, source)),
        };
        match Record::parse(&text) {
            Ok((record, _)) if record.key() != *key => Err(JournalError::Corrupt {
                path,
                detail: "it belongs to another attachment".to_owned(),
            }),
            Ok((record, begun)) => Ok(Some(Entry {
                record,
                key: key.clone(),
                begun,
                path,
                file: None,
            })),
            Err(detail) => match newer_format(&text) {
                Some(format) => Err(JournalError::Newer { path, format }),
                None => Err(JournalError::Corrupt { path, detail }),
            },
        }
    }

    fn set_aside(&self, path: &Path, detail: String) -> Result<Option<Entry>, JournalError> {
        let aside = self
            .root
            .join("corrupt")
            .join(path.file_name().unwrap_or_default());
        match fs::rename(path, &aside) {
            Ok(()) => Err(JournalError::Corrupt {
                path: aside,
                detail,
            }),
            // Another call was quicker.
            Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => Ok(None),
            Err(source) => Err(file_error("set aside", path, source)),
        }
    }

    /// The file of a record that was set aside since it can't be read.
    #[must_use]
    pub fn unreadable(&self, key: &Key) -> Option<PathBuf> {
        let aside = self.root.join("corrupt").join(key.as_str());
        aside.symlink_metadata().is_ok().then_some(aside)
    }

    /// Forgets an attachment: its claim first, so that no claim outlives its record. The caller holds
    /// the attachment's lock, or its VF's from when it had the claim: else the record may be that of
    /// a later attempt by now.
    ///
    /// # Errors
    /// [`JournalError::File`] when a file can't be removed; the record stays then.
    pub fn forget(&self, entry: &Entry) -> Result<(), JournalError> {
        let key = &entry.key;
        if self.holds_vf(entry) {
            self.release(entry)?;
        }
        self.forget_unwritten_tombstone(key, &entry.record.agent)?;
        self.clear_failures(Subject::Attachment(key))?;
        remove(&entry.path)
    }

    /// Forgets an attachment that has no record: of an ADD that ended while it wrote one. The
    /// caller holds the attachment's lock.
    ///
    /// # Errors
    /// [`JournalError::File`] when what there is of one can't be removed.
    pub fn forget_unwritten(&self, key: &Key) -> Result<(), JournalError> {
        remove(&temporary(&self.record_path(key)))
    }
}

/// The format of a text that is newer than what this plugin knows of it.
fn newer_format(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    let first = text.lines().next().unwrap_or_default();
    let Any { format } = serde_json::from_str(first).ok()?;
    (format > Record::FORMAT.max(Tombstone::FORMAT)).then_some(format)
}

#[cfg(test)]
#[path = "../../tests/unit/journal.rs"]
mod tests;
