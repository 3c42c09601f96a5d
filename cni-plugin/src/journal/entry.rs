//! One record on disk: which steps have begun, and noting the next.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{JournalError, Learned, Record, Step, files::file_error};
use crate::port::Key;

/// A record on disk, with the steps that have begun.
#[derive(Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Its key, which its file's name is: a hash, and asked for again and again.
    pub(super) key: Key,
    pub(super) begun: Vec<Step>,
    pub(super) path: PathBuf,
    /// Open for appending: from the start in the process that wrote it, else from the first step
    /// on.
    pub(super) file: Option<File>,
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
pub(super) fn cut_half_line(file: &File, path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let end = text.iter().rposition(|byte| *byte == b'\n');
    let whole = end.map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
    }
    Ok(())
}
