//! The journal's files: written whole or not at all, and removed whether they are there or not.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::JournalError;

/// What a file operation that failed comes to.
pub fn file_error(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Removes a file; that there is none is success.
pub fn remove(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("remove", path, error)),
        _ => Ok(()),
    }
}

/// Where a file is written before it has its name. A key has no dot.
pub fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Writes a file whole: a reader, and a power cut, sees all of it or none. Gives it open, at its
/// end.
pub fn write_durably(path: &Path, line: &str) -> Result<File, JournalError> {
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
