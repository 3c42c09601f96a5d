//! Files put in their places whole.
//!
//! Each is written beside its place and renamed: a runtime that executes the plugin at that moment
//! gets the old one or the new one, never half of one ("text file busy" neither).

use std::{
    fs::{self, File, OpenOptions, Permissions},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

/// When what an installer has begun counts as left by one that was killed.
const LEFT: Duration = Duration::from_secs(600);

/// How often a name is sought that nobody has: with 64 random bits the second one is free.
const TRIES: usize = 8;

/// Puts a file in its place.
///
/// # Errors
/// The kernel's; `path` is as it was then.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let create = |temporary: &Path| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        options.open(temporary)
    };
    let fill = |mut file: File| {
        // Whatever the umask: a runtime need not be who installs.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    put(path, create, fill)
}

/// Puts a symbolic link in its place.
///
/// # Errors
/// As of [`replace`].
pub fn link(path: &Path, target: &str) -> io::Result<()> {
    put(path, |temporary| symlink(target, temporary), Ok)
}

/// Creates something beside `path` under a name that nobody has, fills it and renames it.
fn put<T>(
    path: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
    fill: impl FnOnce(T) -> io::Result<()>,
) -> io::Result<()> {
    remove_left(path);
    let mut tries = 1;
    let (temporary, made) = loop {
        let temporary = beside(path);
        match create(&temporary) {
            Ok(made) => break (temporary, made),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    };
    let done = fill(made).and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // What was begun is of no use; the first error is the one that counts.
        let _gone = fs::remove_file(&temporary);
    }
    done
}

/// Removes what killed installers have left beside `path`: in a container that is killed and begun
/// again, that would be a program each time. Of no consequence to what is put there now.
fn remove_left(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let start = format!(".{name}.");
    let folder = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in folder.into_iter().flatten().flatten() {
        let found = entry.file_name();
        let is_ours = (found.to_str())
            .is_some_and(|found| found.starts_with(&start) && found.ends_with(".tmp"));
        // By what the link says of itself, not what it leads to.
        let age = fs::symlink_metadata(entry.path())
            .and_then(|it| it.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > LEFT) {
            let _gone = fs::remove_file(entry.path());
        }
    }
}

/// A name beside `path`. Not by the process id: installers in containers all have the same.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The standard library's random number; of no consequence but that it is another each time.
    let random = RandomState::new().hash_one(());
    path.with_file_name(format!(".{name}.{random:016x}.tmp"))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn what_a_killed_installer_left_goes_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - 2 * LEFT;
        let [left, begun, theirs] =
            [".xpu-cni.1.tmp", ".xpu-cni.2.tmp", ".xpu-cnid.1.tmp"].map(|it| dir.path().join(it));
        for path in [&left, &begun, &theirs] {
            let file = File::create(path).unwrap();
            if path != &begun {
                file.set_modified(old).unwrap();
            }
        }
        replace(&dir.path().join("xpu-cni"), b"new", 0o755).unwrap();
        let are_there = [&left, &begun, &theirs].map(|path| path.exists());
        assert_eq!(are_there, [false, true, true]);
    }

    /// A runtime starts the plugin whenever it likes.
    #[test]
    fn who_reads_meanwhile_reads_a_whole_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xpu-cni");
        let programs = [vec![b'a'; 1 << 20], vec![b'b'; 3 << 20]];
        replace(&path, &programs[0], 0o755).unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0; 2];
                while !is_done.load(Ordering::Relaxed) {
                    let read = fs::read(&path).unwrap();
                    let which = programs.iter().position(|program| *program == read);
                    seen[which.unwrap_or_else(|| panic!("{} bytes", read.len()))] += 1;
                }
                seen
            });
            for round in 1..=40 {
                replace(&path, &programs[round % 2], 0o755).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
            let seen = reader.join().unwrap();
            assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
        });
    }

    /// Threads stand for containers: they have one process id, too.
    #[test]
    fn installers_at_the_same_time_all_succeed_and_leave_one_whole_program() {
        const ROUNDS: usize = 50;
        let dir = tempfile::tempdir().unwrap();
        let (program, alias) = (dir.path().join("xpu-cni"), dir.path().join("evpn-gw"));
        let programs = [b'a', b'b', b'c'].map(|byte| vec![byte; 1 << 18]);
        let together = Barrier::new(programs.len());
        std::thread::scope(|scope| {
            let installer = |content| {
                let rounds = (0..ROUNDS).map(|_round| {
                    together.wait();
                    replace(&program, content, 0o755)?;
                    link(&alias, "xpu-cni")?;
                    fs::read(&alias)
                });
                // All rounds, whatever fails: the others wait for this one.
                rounds.collect::<Vec<_>>()
            };
            let threads: Vec<_> = programs
                .iter()
                .map(|content| scope.spawn(move || installer(content)))
                .collect();
            for round in threads.into_iter().flat_map(|it| it.join().unwrap()) {
                let read = round.unwrap();
                assert!(programs.contains(&read), "{} bytes", read.len());
            }
        });
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "no temporary file is left");
    }
}
