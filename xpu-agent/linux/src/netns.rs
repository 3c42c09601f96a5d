//! Network namespaces: open one, prove that it is one, work inside it.
//!
//! Entering is a property of the calling thread, so the work runs on that thread
//! and the way back is taken even when the work panics. This module never makes,
//! mounts or deletes a namespace.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

/// Where the calling thread's own namespace is found.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a namespace can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// The path can't be opened.
    #[error("can't open the network namespace {}", path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The path opens, but is some other file: the mount is gone or was replaced.
    #[error("{} is not a network namespace", path.display())]
    NotANetNs {
        /// What was opened.
        path: PathBuf,
    },
    /// The thread may not enter.
    #[error("can't enter the network namespace {}", path.display())]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// What tells one living namespace from another (`ioctl_ns(2)`: device and inode).
/// Inodes are used again after a namespace died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetNsId {
    /// Device number of the namespace file system.
    pub dev: u64,
    /// Inode of the namespace.
    pub ino: u64,
}

/// An open network namespace. While this lives, so does the namespace.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    id: NetNsId,
    path: PathBuf,
}

impl NetNs {
    /// Opens the namespace that is mounted (or linked) at `path`.
    ///
    /// # Errors
    /// [`NetNsError::Open`] when there is nothing to open, [`NetNsError::NotANetNs`]
    /// when it is any other kind of file.
    pub fn open(path: &Path) -> Result<Self, NetNsError> {
        let failed = |source| NetNsError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let fs = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
        if fs.filesystem_type() != NSFS_MAGIC {
            return Err(NetNsError::NotANetNs {
                path: path.to_owned(),
            });
        }
        let meta = file.metadata().map_err(failed)?;
        let id = NetNsId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        Ok(Self {
            file,
            id,
            path: path.to_owned(),
        })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// [`NetNsError::Open`] when `/proc` isn't mounted.
    pub fn current() -> Result<Self, NetNsError> {
        Self::open(Path::new(OWN))
    }

    /// What stands at a path: one look instead of the three that opening takes. It equals a
    /// namespace's [`id`](Self::id) only if that very namespace is there.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn id_at(path: &Path) -> io::Result<NetNsId> {
        let meta = fs::metadata(path)?;
        Ok(NetNsId {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// The id of the calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` isn't mounted.
    pub fn own_id() -> io::Result<NetNsId> {
        Self::id_at(Path::new(OWN))
    }

    /// Which namespace this is.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// Does `work` inside this namespace, on the calling thread, and comes back.
    ///
    /// # Errors
    /// [`NetNsError::Enter`] when the kernel refuses; `work` has not run then.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetNsError> {
        let home = File::open(OWN).map_err(|source| NetNsError::Open {
            path: OWN.into(),
            source,
        })?;
        let home = Home(home);
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Enter {
            path: self.path.clone(),
            source: errno.into(),
        })?;
        let done = work();
        drop(home);
        Ok(done)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes the thread back where it came from.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            // Going on in a pod's namespace would aim every later request at the
            // wrong network; nothing after this point could be trusted.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_not_a_namespace() {
        let result = NetNs::open(Path::new("/etc/passwd"));
        assert!(
            matches!(result, Err(NetNsError::NotANetNs { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn a_missing_path_is_an_open_error() {
        let result = NetNs::open(Path::new("/run/netns/there is none"));
        assert!(matches!(result, Err(NetNsError::Open { .. })), "{result:?}");
    }

    #[test]
    fn work_runs_inside_and_the_thread_comes_back() {
        let own = NetNs::current().unwrap().id();
        let other = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            NetNs::current().unwrap()
        })
        .join()
        .unwrap();
        let inside = other.run(|| NetNs::current().unwrap().id()).unwrap();
        assert_eq!(inside, other.id());
        assert_ne!(inside, own);
        assert_eq!(NetNs::current().unwrap().id(), own);
    }

    #[test]
    fn a_look_tells_what_opening_tells() {
        let own = NetNs::current().unwrap();
        assert_eq!(NetNs::own_id().unwrap(), own.id());
        assert_ne!(NetNs::id_at(Path::new("/etc/passwd")).unwrap(), own.id());
        assert!(NetNs::id_at(Path::new("/run/netns/there is none")).is_err());
    }
}
