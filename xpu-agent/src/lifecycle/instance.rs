//! One agent per network namespace: two would undo each other's work for ever.
//!
//! The lock is a file named by the namespace's inode, so agents in namespaces of their own (a
//! node with several, the lab) don't mind each other. The kernel lets go of it with the process.
//! Where an agent keeps its store plays no part. A lock on the namespace's own file
//! (`/proc/thread-self/ns/net`) would do without a directory, but any user can take that one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where the lock files are; systemd's `RuntimeDirectory`.
pub const DIRECTORY: &str = "/run/xpu-agent";

/// Held as long as the agent runs.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
}

/// Why the agent must not run here.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another one does.
    #[error(
        "another xpu-agent ({holder}) runs in this network namespace; stop it first: \
         systemctl stop xpu-agent, or kill {holder}"
    )]
    Running {
        /// Its process id as it wrote it down, or a text that says that it is not known.
        holder: String,
    },
    /// The lock cannot be had.
    #[error("cannot lock {}; is its directory writable?", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Instance {
    /// Locks the calling thread's network namespace, with a file in `directory`, which is made
    /// with mode 0700 if it is not there.
    ///
    /// # Errors
    /// [`InstanceError`]: another agent has it, or the file cannot be used.
    pub fn lock(directory: &Path) -> Result<Self, InstanceError> {
        const NAMESPACE: &str = "/proc/thread-self/ns/net";
        let failed = |path: &Path, source| InstanceError::Io {
            path: path.to_owned(),
            source,
        };
        let namespace = fs::metadata(NAMESPACE)
            .map_err(|error| failed(Path::new(NAMESPACE), error))?
            .ino();
        let path = directory.join(format!("netns-{namespace}.lock"));
        let file = open(directory, &path).map_err(|error| failed(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(file).unwrap_or_else(|| "of unknown process id".to_owned());
                return Err(InstanceError::Running { holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        sign(&file).map_err(|error| failed(&path, error))?;
        Ok(Self { _lock: file })
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Writes our process id, for the message that another one prints.
fn sign(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn holder(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.parse::<u32>().ok().map(|pid| pid.to_string())
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn one_at_a_time_and_the_message_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        let first = Instance::lock(&run).unwrap();
        let error = Instance::lock(&run).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&error, InstanceError::Running { holder } if *holder == pid),
            "{error}"
        );
        drop(first);
        Instance::lock(&run).unwrap();
    }

    #[test]
    fn each_namespace_has_one() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path();
        let ours = Instance::lock(run).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let theirs = Instance::lock(run).unwrap();
                assert!(Instance::lock(run).is_err(), "two in one");
                drop(theirs);
                Instance::lock(run).unwrap();
            });
        });
        assert!(Instance::lock(run).is_err(), "two in the first");
        drop(ours);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let inode = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let lock = directory.path().join(format!("netns-{inode}.lock"));
        std::os::unix::fs::symlink(&precious, lock).unwrap();
        assert!(matches!(
            Instance::lock(directory.path()),
            Err(InstanceError::Io { .. })
        ));
        assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    }
}
