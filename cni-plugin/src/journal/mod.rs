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
mod listing;
mod record;
mod tombstone;
mod trial;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use xpu_linux::sysfs::PciAddr;

pub use backoff::{Backoff, Subject};
pub use listing::Listing;
pub use record::{Ipam, Learned, NetNsRef, Netdev, Record, Step, Vf};
pub use tombstone::Tombstone;

use crate::{
    host::read_small,
    lock::{About, Place},
    port::Key,
};

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
    #[error("{} can't be decoded: {detail}", path.display())]
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

/// A record on disk, with the steps that have begun.
#[derive(Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Its key, which its file's name is: a hash, and asked for again and again.
    key: Key,
    begun: Vec<Step>,
    path: PathBuf,
    /// Open for appending: from the start in the process that wrote it, else from the first step
    /// on.
    file: Option<File>,
}

impl Entry {
    /// The attachment's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether `step` has begun, and so may have happened.
    #[must_use]
    pub fn has_begun(&self, step: Step) -> bool {
        self.begun.contains(&step)
    }

    /// Whether `step` has happened for certain: another one began after it. The undo is none such:
    /// it may follow a step at which a process was killed.
    #[must_use]
    pub fn has_ended(&self, step: Step) -> bool {
        let last = self.begun.iter().rposition(|begun| *begun == step);
        last.is_some_and(|at| {
            let mut later = self.begun.iter().skip(at + 1);
            later.any(|begun| *begun != Step::Detaching)
        })
    }

    /// Takes every step for begun: what a record of an earlier boot comes to.
    pub fn assume_all(&mut self) {
        self.begun = Step::ALL.to_vec();
    }

    /// Notes that `step` is about to happen.
    ///
    /// # Errors
    /// [`JournalError::File`] when it can't be noted; the step must not be taken then.
    pub fn begin(&mut self, step: Step) -> Result<(), JournalError> {
        self.begin_with(step, Learned::default())
    }

    /// Notes that `step` is about to happen, and what became known since the last one.
    ///
    /// # Errors
    /// [`JournalError::File`] when it can't be noted; the step must not be taken then.
    pub fn begin_with(&mut self, step: Step, learned: Learned) -> Result<(), JournalError> {
        self.append(step, &step.line(&learned))?;
        self.record.learn(learned);
        Ok(())
    }

    fn append(&mut self, step: Step, line: &str) -> Result<(), JournalError> {
        let line = format!("{line}\n");
        let failed = |source| file_error("append to", &self.path, source);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).open(&self.path);
                let file = file.map_err(failed)?;
                // A writer that was killed, or a power cut, may have left one.
                cut_half_line(&file, &self.path).map_err(failed)?;
                file
            }
        };
        if let Err(source) = file.write_all(line.as_bytes()) {
            // If even that fails, the write's error is the one to tell.
            let _ = cut_half_line(&file, &self.path);
            return Err(failed(source));
        }
        self.file = Some(file);
        self.begun.push(step);
        Ok(())
    }
}

/// Takes what a full disk or a killed writer left of a line off the end of a record: the next line
/// would be a part of it, and nobody would read either.
fn cut_half_line(file: &File, path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let end = text.iter().rposition(|byte| *byte == b'\n');
    let whole = end.map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
    }
    Ok(())
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

    /// The lock for work on a VF.
    #[must_use]
    pub fn vf_lock(&self, pci: &PciAddr) -> Place {
        self.place(About::Vf(pci.clone()))
    }

    /// The lock for work on an attachment, whether it has a record or not yet.
    #[must_use]
    pub fn attachment_lock(&self, key: &Key) -> Place {
        self.place(About::Attachment(key.clone()))
    }

    /// The lock for the node's turn at RTNL.
    #[must_use]
    pub fn turn_lock(&self) -> Place {
        self.place(About::Turn)
    }

    /// The lock for the draining of tombstones.
    #[must_use]
    pub fn drain_lock(&self) -> Place {
        self.place(About::Drain)
    }

    fn place(&self, about: About) -> Place {
        // Not `locks`: earlier versions have a folder of that name.
        let file = self.root.join("lock");
        Place { file, about }
    }

    fn record_path(&self, key: &Key) -> PathBuf {
        self.root.join("attachments").join(key.as_str())
    }

    fn claim_path(&self, pci: &PciAddr) -> PathBuf {
        self.root.join("vf").join(pci.as_str())
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

    /// Releases an attachment's claim on its VF. The caller holds the VF's lock and knows that the
    /// claim is this attachment's.
    ///
    /// # Errors
    /// [`JournalError::File`] when the claim can't be removed; it stays.
    pub fn release(&self, entry: &Entry) -> Result<(), JournalError> {
        remove(&self.claim_path(&entry.record.vf.pci))
    }

    /// Whether an attachment holds its VF. If not, it has given it back, with all that is of it, or
    /// its ADD never came to claim it: nothing but addresses can be left.
    #[must_use]
    pub fn holds_vf(&self, entry: &Entry) -> bool {
        self.owner(&entry.record.vf.pci).as_ref() == Some(&entry.key)
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

    /// Makes an attachment the owner of a VF, in place of whoever was. The caller
    /// holds the VF's lock and has found out that nobody living owns it.
    ///
    /// # Errors
    /// [`JournalError::File`] when the claim can't be made; then nobody owns the VF, or who did.
    pub fn claim(&self, pci: &PciAddr, key: &Key) -> Result<(), JournalError> {
        let path = self.claim_path(pci);
        let target = Path::new("../attachments").join(key.as_str());
        let claimed = match symlink(&target, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove(&path)?;
                symlink(&target, &path)
            }
            claimed => claimed,
        };
        claimed.map_err(|source| file_error("claim the VF by", &path, source))
    }

    /// Who owns a VF.
    #[must_use]
    pub fn owner(&self, pci: &PciAddr) -> Option<Key> {
        let target = fs::read_link(self.claim_path(pci)).ok()?;
        Key::from_file_name(target.file_name()?.to_str()?)
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File {
        action,
        path: path.to_owned(),
        source,
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

/// Removes a file; that there is none is success.
fn remove(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("remove", path, error)),
        _ => Ok(()),
    }
}

/// Where a file is written before it has its name. A key has no dot.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Writes a file whole: a reader, and a power cut, sees all of it or none. Gives it open, at its
/// end.
fn write_durably(path: &Path, line: &str) -> Result<File, JournalError> {
    // Writers of one name hold a lock, so a temporary file is a dead one's, and is written over.
    let temporary = temporary(path);
    let write = || -> io::Result<File> {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    };
    write().map_err(|source| {
        // On a full disk a part may have been written, which nobody else would remove.
        let _gone = fs::remove_file(&temporary);
        file_error("write", path, source)
    })
}

#[cfg(test)]
#[path = "../../tests/unit/journal.rs"]
mod tests;
