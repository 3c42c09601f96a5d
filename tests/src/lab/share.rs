//! Files for the guest: it sees the share as `/share`; what is in its `bin` is also in the guest's
//! `PATH`, as a copy that the runner makes.
//!
//! A file is replaced by renaming a whole new one over it, so that a program that runs in the
//! guest keeps the old one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::paths::Paths;
use crate::runner::programs;

/// Where the guest sees the share.
pub const IN_GUEST: &str = "/share";

/// Puts a program into the guest's `PATH`; answers with its path there.
///
/// # Errors
/// Where it can't be read or there is no space.
pub fn push(paths: &Paths, source: &Path) -> Result<PathBuf> {
    let placed = place(paths, source, "bin")?;
    let name = placed.file_name().unwrap_or_default();
    Ok(Path::new(programs::FOLDER).join(name))
}

/// Gives the guest the programs that another machine's has.
///
/// # Errors
/// Where one can't be read or there is no space.
pub fn push_all_of(paths: &Paths, other: &Paths) -> Result<()> {
    let folder = other.share.join("bin");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        push(paths, &entry?.path())?;
    }
    Ok(())
}

/// Puts a test's binary where the guest can run it.
///
/// # Errors
/// Where it can't be read or there is no space.
pub fn stage_test(paths: &Paths, source: &Path) -> Result<PathBuf> {
    place(paths, source, "tests")
}

/// Puts the runner's own program where the guest's init starts it from.
///
/// # Errors
/// Where it was not built beside this program.
pub fn install_runner(paths: &Paths) -> Result<()> {
    let own = std::env::current_exe().context("cannot find the lab's own program")?;
    let runner = own.with_file_name("lab-guest");
    place(paths, &runner, "sys").context("build it with `make lab-tools`")?;
    Ok(())
}

/// Removes the tests' binaries of earlier builds.
///
/// # Errors
/// What the file system said.
pub fn forget_tests(paths: &Paths) -> Result<()> {
    let folder = paths.share.join("tests");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Copies a file into a folder of the share; answers with its path in the guest.
fn place(paths: &Paths, source: &Path, folder: &str) -> Result<PathBuf> {
    let name = source
        .file_name()
        .with_context(|| format!("{} is no file", source.display()))?;
    let target = paths.share.join(folder).join(name);
    programs::copy(source, &target)
        .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
    Ok(Path::new(IN_GUEST).join(folder).join(name))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::PermissionsExt};

    use super::*;

    fn paths(root: &Path) -> Paths {
        let sub = |name| root.join(name);
        Paths {
            tree: sub("tree"),
            run: sub("run"),
            share: sub("share"),
            cache: sub("cache"),
        }
    }

    #[test]
    fn a_pushed_file_is_executable_and_replaced_as_a_whole() {
        let root = tempfile::tempdir().expect("temporary folder");
        let paths = paths(root.path());
        let source = root.path().join("tool");
        fs::write(&source, "old").expect("written");
        assert_eq!(
            push(&paths, &source).expect("pushed"),
            Path::new("/opt/lab/bin/tool")
        );
        let copy = paths.share.join("bin/tool");
        let running = File::open(&copy).expect("open");

        fs::write(&source, "newer").expect("written");
        push(&paths, &source).expect("pushed");
        assert_eq!(fs::read_to_string(&copy).expect("read"), "newer");
        assert_eq!(
            std::io::read_to_string(running).expect("read"),
            "old",
            "the old inode lives"
        );
        assert_eq!(
            fs::metadata(&copy).expect("there").permissions().mode() & 0o111,
            0o111
        );
        let left = fs::read_dir(paths.share.join("bin"))
            .expect("listed")
            .count();
        assert_eq!(left, 1, "no partial files");
    }

    #[test]
    fn a_missing_source_is_named() {
        let root = tempfile::tempdir().expect("temporary folder");
        let missing = root.path().join("absent");
        let error = push(&paths(root.path()), &missing).expect_err("not there");
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
