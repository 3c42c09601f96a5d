//! The journal as a whole: which records there are, and how far the sweep has come.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
};

use super::{Journal, JournalError, files::file_error};
use crate::{host::read_small, port::Key};

/// The file with the record that the sweep looked at last.
const CURSOR: &str = "cursor";

/// What is in the folder of records.
#[derive(Debug, Default)]
pub struct Listing {
    /// The keys of all records, in no order.
    pub keys: Vec<Key>,
    /// Those whose record is being written, or whose writer ended while it was.
    pub unwritten: Vec<Key>,
}

impl Journal {
    /// The keys of all records, in no order. No record is opened.
    ///
    /// # Errors
    /// [`JournalError::File`] when the folder can't be read.
    pub fn keys(&self) -> Result<Vec<Key>, JournalError> {
        Ok(self.listing()?.keys)
    }

    /// What is in the folder of records.
    ///
    /// # Errors
    /// [`JournalError::File`] when the folder can't be read.
    pub fn listing(&self) -> Result<Listing, JournalError> {
        let dir = self.root.join("attachments");
        let failed = |source| file_error("list", &dir, source);
        let mut listing = Listing::default();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            match name.strip_suffix(".tmp") {
                None => listing.keys.extend(Key::from_file_name(name)),
                Some(name) => listing.unwritten.extend(Key::from_file_name(name)),
            }
        }
        Ok(listing)
    }

    /// Fails if a record, other than those of `known` attachments, was set aside since it can't be
    /// read: whose it is, and what it holds, only people can tell.
    ///
    /// # Errors
    /// [`JournalError::SetAside`] with the first of them; [`JournalError::File`] when the folder
    /// can't be read.
    pub fn all_readable_but(&self, known: &HashSet<Key>) -> Result<(), JournalError> {
        let dir = self.root.join("corrupt");
        let failed = |source| file_error("list", &dir, source);
        let mut first = None;
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            // What else is there were tombstones, which hold no addresses.
            let key = name.to_str().and_then(Key::from_file_name);
            if key.is_some_and(|key| !known.contains(&key)) {
                let path = entry.path();
                first = Some(first.map_or(path.clone(), |first| path.min(first)));
            }
        }
        first.map_or(Ok(()), |path| Err(JournalError::SetAside { path }))
    }

    /// The record that the sweep looked at last; `None` also when the file is torn, from
    /// which the sweep recovers by starting over.
    #[must_use]
    pub fn cursor(&self) -> Option<Key> {
        let text = read_small(&self.root.join(CURSOR)).ok()?;
        Key::from_file_name(&text)
    }

    /// Remembers the record that the sweep looked at last.
    ///
    /// # Errors
    /// [`JournalError::File`] when it can't be written; the next sweep begins where this one did.
    pub fn set_cursor(&self, key: &Key) -> Result<(), JournalError> {
        let path = self.root.join(CURSOR);
        // Neither synced nor locked: a lost or torn cursor costs a second look. Written over and
        // not made anew, which costs less: all keys are of one length.
        let written = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(key.as_str().as_bytes(), 0));
        written.map_err(|source| file_error("write", &path, source))
    }
}
