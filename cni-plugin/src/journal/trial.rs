//! A trial of the journal: whether a record could be written now.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use super::{
    Journal, JournalError,
    files::{file_error, remove},
};

/// More than most records have, so that the disk has to find a place for it.
const LENGTH: usize = 4096;

impl Journal {
    /// Writes a file where the records are, and removes it. No listing takes its name for a record's.
    ///
    /// # Errors
    /// [`JournalError::File`] when that fails, as an ADD's record would.
    pub fn try_to_write(&self) -> Result<(), JournalError> {
        let path = self.root.join("attachments").join("trial.tmp");
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600);
            options.open(&path)
        };
        let failed = |source| file_error("write", &path, source);
        let mut file = open().map_err(failed)?;
        // Before it is written: nobody else would remove what a killed process leaves, and another
        // trial at the same time has a file of its own.
        remove(&path)?;
        file.write_all(&[b' '; LENGTH]).map_err(failed)?;
        file.sync_data().map_err(failed)
    }
}
