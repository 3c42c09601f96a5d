//! Locks between the plugin's processes: bytes of one file of the state folder, each locked by an
//! open file description of its own (`F_OFD_SETLK`, fcntl_locking(2)). The kernel lets go of them
//! with the process, however it ends; and no lock has a file, so none is made or left behind.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::{
        signal::{
            SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
        },
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::gettid,
};
use xpu_linux::sysfs::PciAddr;

use crate::port::Key;

/// What a lock is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The node's turn at RTNL.
    Turn,
    /// The draining of tombstones.
    Drain,
    /// Work on a VF.
    Vf(PciAddr),
    /// Work on an attachment, whether it has a record or not yet.
    Attachment(Key),
}

impl About {
    /// The byte that stands for it. Two attachments collide with probability 2^-60, and then only
    /// wait for each other.
    #[must_use]
    pub fn byte(&self) -> i64 {
        const DIGITS: u32 = 15;
        const VFS: i64 = 1 << 60;
        const ATTACHMENTS: i64 = 1 << 61;
        let number = |text: &str| {
            let digits = text.chars().filter_map(|c| c.to_digit(16));
            digits
                .take(DIGITS as usize)
                .fold(0, |number, digit| number << 4 | i64::from(digit))
        };
        match self {
            Self::Turn => 0,
            Self::Drain => 1,
            Self::Vf(pci) => VFS | number(pci.as_str()),
            Self::Attachment(key) => ATTACHMENTS | number(key.as_str()),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => write!(f, "the node's turn at moving devices"),
            Self::Drain => write!(f, "the ports that are still to be deleted"),
            Self::Vf(pci) => write!(f, "the VF {pci}"),
            Self::Attachment(key) => write!(f, "the attachment {}", key.as_str()),
        }
    }
}

/// A lock that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file that all locks are in.
    pub file: PathBuf,
    /// Which of them.
    pub about: About,
}

/// Why a lock isn't held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file can't be used; code 5.
    #[error("can't lock {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Another process held it for all of the time there was; code 11.
    #[error("another xpu-cni process holds {0}; try again")]
    Held(About),
}

/// A lock that is held; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    _held: File,
}

/// Waits for a lock until the deadline.
///
/// # Errors
/// [`LockError::Held`] when another process holds it until then; [`LockError::File`] when the file
/// can't be used.
pub fn lock(place: &Place, deadline: Instant) -> Result<Lock, LockError> {
    let failed = |source| LockError::File {
        path: place.file.clone(),
        source,
    };
    let file = open(&place.file).map_err(failed)?;
    let byte = range(place.about.byte());
    // Mostly nobody else has it, and no timer is needed.
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
        Ok(_) => return Ok(Lock { _held: file }),
        Err(Errno::EAGAIN | Errno::EACCES) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    let _alarm = Alarm::set(deadline).map_err(|errno| failed(errno.into()))?;
    loop {
        match fcntl(&file, FcntlArg::F_OFD_SETLKW(&byte)) {
            Ok(_) => return Ok(Lock { _held: file }),
            Err(Errno::EINTR) if Instant::now() >= deadline => {
                return Err(LockError::Held(place.about.clone()));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// The byte, to lock it for writing.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel has these small numbers in fields that are smaller than libc's constants"
)]
const fn range(start: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0, // F_OFD_SETLK wants it so
    }
}

/// Each lock has the file opened anew: locks of one open file description don't exclude each other.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Interrupts this thread's system call at a deadline: `fcntl` has no timeout of
/// its own. It rings on after the deadline, for the ring before the call is entered.
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
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use super::*;
    use crate::env::Attachment;

    fn place(file: &Path, about: About) -> Place {
        let file = file.to_owned();
        Place { file, about }
    }

    fn of(container: &str) -> About {
        About::Attachment(Key::of(&Attachment {
            container_id: container.to_owned(),
            ifname: "net1".parse().unwrap(),
            netns: None,
        }))
    }

    fn vf(pci: &str) -> About {
        About::Vf(pci.parse().unwrap())
    }

    #[test]
    fn a_held_lock_is_waited_for_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let turn = place(&dir.path().join("locks"), About::Turn);
        let held = lock(&turn, Instant::now()).unwrap();
        let start = Instant::now();
        let told = lock(&turn, start + Duration::from_millis(60));
        assert!(
            matches!(told, Err(LockError::Held(About::Turn))),
            "{told:?}"
        );
        assert!(start.elapsed() >= Duration::from_millis(60));
        drop(held);
        assert!(lock(&turn, Instant::now()).is_ok());
    }

    #[test]
    fn a_lock_that_is_let_go_goes_to_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let turn = place(&dir.path().join("locks"), About::Turn);
        let held = lock(&turn, Instant::now()).unwrap();
        let (waiting, ready) = mpsc::channel();
        let other = turn.clone();
        let waiter = std::thread::spawn(move || {
            waiting.send(()).unwrap();
            lock(&other, Instant::now() + Duration::from_secs(10)).map(drop)
        });
        ready.recv().unwrap();
        drop(held);
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn each_subject_has_a_lock_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("locks");
        let subjects = [
            About::Turn,
            About::Drain,
            vf("0000:af:06.0"),
            vf("0000:af:06.1"),
            vf("0001:af:06.0"),
            vf("10000:af:1f.7"),
            of("c1"),
            of("c2"),
        ];
        let places = subjects.map(|about| place(&file, about));
        let all: Vec<_> = places
            .iter()
            .map(|place| lock(place, Instant::now()).unwrap())
            .collect();
        for place in &places {
            let told = lock(place, Instant::now());
            assert!(matches!(told, Err(LockError::Held(_))), "{place:?}");
        }
        drop(all);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
    }

    #[test]
    fn waiters_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir.path().join("locks"), of("c1"));
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let far = Instant::now() + Duration::from_secs(30);
                        let held = lock(&place, far).unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told() {
        let told = lock(
            &place(Path::new("/proc/none/x"), About::Drain),
            Instant::now(),
        );
        assert!(matches!(told, Err(LockError::File { .. })), "{told:?}");
    }
}
