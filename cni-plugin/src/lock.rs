//! Locks between the plugin's processes: `flock(2)` on files of the state folder,
//! which the kernel lets go with the process, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        signal::{
            SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
        },
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::gettid,
};

/// Why a lock isn't held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Its file can't be used; code 5.
    #[error("can't lock {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Another process held it for all of the time there was; code 11.
    #[error("another call of the plugin holds {}; try again", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
}

/// A lock that is held; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Lets go and removes the file, which nobody needs any more. Who waits for it makes a new one.
    pub fn retire(self) {
        // One that stays is a name in a folder; whoever works under it next removes it.
        let _stays = fs::remove_file(&self.path);
    }

    /// Whether the file that was locked is still there, for others to find.
    fn is_current(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }
}

/// Removes the file of a lock that nobody holds.
pub fn retire_unheld(path: &Path) {
    let Ok(file) = OpenOptions::new().append(true).open(path) else {
        return;
    };
    if let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        let lock = Lock {
            file,
            path: path.to_owned(),
        };
        // One that was removed meanwhile has left its name to another.
        if lock.is_current().unwrap_or_default() {
            lock.retire();
        }
    }
}

/// Waits for the lock on `path`, which its holders [retire](Lock::retire), until the deadline.
///
/// # Errors
/// [`LockError`].
pub fn lock_retirable(path: &Path, deadline: Instant) -> Result<Lock, LockError> {
    loop {
        let lock = lock(path, deadline)?;
        let current = lock.is_current().map_err(|source| LockError::File {
            path: path.to_owned(),
            source,
        });
        // Its last holder may have removed it while this call waited.
        if current? {
            return Ok(lock);
        }
    }
}

/// Waits for the lock on `path`, whose file stays, until the deadline.
///
/// # Errors
/// [`LockError`].
pub fn lock(path: &Path, deadline: Instant) -> Result<Lock, LockError> {
    let held = |file| Lock {
        file,
        path: path.to_owned(),
    };
    let failed = |source| LockError::File {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)?;
    // The common case first: nobody else, no timer.
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => return Ok(held(file)),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    let _alarm = Alarm::set(deadline).map_err(|errno| failed(errno.into()))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(file) => return Ok(held(file)),
            Err((_, Errno::EINTR)) if Instant::now() >= deadline => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                });
            }
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    }
}

/// Interrupts this thread's system call at a deadline: `flock` has no timeout of its
/// own. It rings on after the deadline, for the ring before the call is entered.
struct Alarm {
    _timer: Timer,
}

impl Alarm {
    const RING_AGAIN: Duration = Duration::from_millis(20);

    fn set(deadline: Instant) -> nix::Result<Self> {
        static HANDLER: Once = Once::new();
        extern "C" fn interrupt(_: i32) {}
        let mut installed = Ok(());
        HANDLER.call_once(|| {
            // No SA_RESTART: the interruption is the point.
            let action = SigAction::new(
                SigHandler::Handler(interrupt),
                SaFlags::empty(),
                SigSet::empty(),
            );
            // SAFETY: the handler does nothing, so it is async-signal-safe.
            installed = unsafe { sigaction(Signal::SIGALRM, &action) }.map(drop);
        });
        installed?;
        let thread_id = gettid().as_raw();
        let notify = SigevNotify::SigevThreadId {
            signal: Signal::SIGALRM,
            thread_id,
            si_value: 0,
        };
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let first = left.max(Duration::from_millis(1)); // zero would disarm it
        let when = Expiration::IntervalDelayed(first.into(), Self::RING_AGAIN.into());
        timer.set(when, TimerSetTimeFlags::empty())?;
        Ok(Self { _timer: timer })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let held = lock(&path, Instant::now()).unwrap();
        let start = Instant::now();
        let told = lock(&path, start + Duration::from_millis(60));
        assert!(matches!(told, Err(LockError::Held { .. })), "{told:?}");
        assert!(start.elapsed() >= Duration::from_millis(60));
        drop(held);
        assert!(lock(&path, Instant::now()).is_ok());
    }

    #[test]
    fn a_lock_that_is_let_go_goes_to_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let held = lock(&path, Instant::now()).unwrap();
        let (waiting, ready) = mpsc::channel();
        let other = path.clone();
        let waiter = std::thread::spawn(move || {
            waiting.send(()).unwrap();
            lock(&other, Instant::now() + Duration::from_secs(10)).map(drop)
        });
        ready.recv().unwrap();
        drop(held);
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn a_retired_lock_is_made_anew_by_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let held = lock(&path, Instant::now()).unwrap();
        // As the waiter has it: open already, but not yet locked.
        let old = OpenOptions::new().append(true).open(&path).unwrap();
        held.retire();
        assert!(!path.exists());
        let old = Lock {
            file: Flock::lock(old, FlockArg::LockExclusiveNonblock).unwrap(),
            path: path.clone(),
        };
        assert!(!old.is_current().unwrap());
        let new = lock_retirable(&path, Instant::now()).unwrap();
        assert!(new.is_current().unwrap());
        drop(old);
        retire_unheld(&path);
        assert!(path.exists(), "somebody holds it");
        drop(new);
        retire_unheld(&path);
        assert!(!path.exists());
        retire_unheld(&path);
    }

    #[test]
    fn waiters_of_a_lock_that_is_retired_again_and_again_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let inside = std::sync::atomic::AtomicU32::new(0);
        let most = std::sync::atomic::AtomicU32::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let far = Instant::now() + Duration::from_secs(30);
                        let held = lock_retirable(&path, far).unwrap();
                        most.fetch_max(inside.fetch_add(1, order) + 1, order);
                        std::thread::yield_now();
                        inside.fetch_sub(1, order);
                        held.retire();
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told() {
        let told = lock(Path::new("/proc/none/x"), Instant::now());
        assert!(matches!(told, Err(LockError::File { .. })), "{told:?}");
    }
}
