//! Programs of the share, kept in the guest's memory.
//!
//! The share is 9p without a cache, so that the guest sees at once what the host writes. A program
//! started from there is read anew at each start, which takes an emulated processor 13 ms per MiB:
//! far longer than it then runs. So jobs get copies, made anew where the host's file has changed.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Where jobs find programs that were pushed: the first folder of their `PATH`.
pub const FOLDER: &str = "/opt/lab/bin";

/// One at a time: jobs start side by side.
static UNDER_WAY: Mutex<()> = Mutex::new(());

/// Copies what is new in `source` to `folder`, then starts something. Nothing else starts
/// meanwhile: a child that was forked beside a copy would have that open for writing, and nobody
/// could run it.
///
/// # Errors
/// What the file systems, or the start, said.
pub fn start_with<T>(
    source: &Path,
    folder: &Path,
    start: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let _one = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    refresh(source, folder)?;
    start()
}

/// A program that runs keeps the file that it has; what was pushed once stays.
fn refresh(source: &Path, folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(source) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // A dot begins the name of what the host is about to rename.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            copy(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A program's copy, made as a whole where there is none of this version; its folder too.
///
/// # Errors
/// What the file systems said.
pub fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let new = fs::metadata(source)?;
    if fs::metadata(target).is_ok_and(|old| is_same(&old, &new)) {
        return Ok(());
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.join(format!(".{name}.{}", std::process::id()));
    // In one write: the kernel then keeps it in large folios.
    fs::write(&partial, fs::read(source)?)?;
    fs::set_permissions(&partial, Permissions::from_mode(0o755))?;
    File::options()
        .write(true)
        .open(&partial)?
        .set_modified(new.modified()?)?;
    fs::rename(partial, target)
}

/// A copy keeps its source's size and time.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.len() == other.len()
        && one
            .modified()
            .is_ok_and(|time| other.modified().is_ok_and(|it| it == time))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_new_is_copied_and_what_is_known_is_left() {
        let root = tempfile::tempdir().expect("temporary folder");
        let (source, folder) = (root.path().join("share"), root.path().join("bin"));
        refresh(&source, &folder).expect("nothing was pushed yet");
        fs::create_dir(&source).expect("made");
        let tool = source.join("tool");
        fs::write(&tool, "old").expect("written");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("set");
        fs::write(source.join(".tool.7"), "half").expect("written");
        refresh(&source, &folder).expect("copied");
        let copy = folder.join("tool");
        let first = fs::metadata(&copy).expect("there");
        assert_eq!(first.permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), 1);

        refresh(&source, &folder).expect("nothing to do");
        assert_eq!(fs::metadata(&copy).expect("there").ino(), first.ino());

        fs::write(&tool, "newer").expect("written");
        refresh(&source, &folder).expect("copied");
        assert_eq!(fs::read_to_string(&copy).expect("read"), "newer");
        assert_ne!(fs::metadata(&copy).expect("there").ino(), first.ino());
    }
}
