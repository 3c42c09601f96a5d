//! Signals, on a thread of their own.
//!
//! | signal | what |
//! |---|---|
//! | SIGTERM, SIGINT | stop; a second one ends the process at once |
//! | SIGHUP | read again what can be read again |
//!
//! The thread does not need the runtime: it ends the process when the deadline is over, even if the
//! runtime is stuck. It does not log, either, or do anything else that may hang: the log may go to
//! a pipe whose reader has stopped.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long the last line of the log may take; the log itself may be what hangs.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The signals, taken away from all threads that start after it.
#[derive(Debug)]
pub struct Signals {
    signals: SignalFd,
    stopping: Arc<EventFd>,
}

/// What the thread waits for.
enum Wake {
    Signal(Signal),
    /// The agent stops by itself.
    Stopping,
    Deadline,
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP. Call it before other threads are made: those that are
    /// there already would still die of the signals.
    ///
    /// # Errors
    /// When the signals cannot be blocked, or there are no descriptors left.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGHUP);
        set.thread_block()?;
        Ok(Self {
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            stopping: Arc::new(EventFd::from_flags(
                EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
            )?),
        })
    }

    /// Starts the thread. `stop` is cancelled by a signal; whoever cancels it, the process ends
    /// `deadline` later at the latest. `reload` is called after a SIGHUP, on a thread of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn watch(
        self,
        stop: CancellationToken,
        deadline: Duration,
        reload: impl Fn() + Send + 'static,
    ) -> io::Result<Stopping> {
        let stopping = Stopping {
            event: self.stopping.clone(),
        };
        // One waiting reload is enough: it reads what is there when its turn comes.
        let (hangup, hangups) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || hangups.iter().for_each(|()| reload()))?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                self.until_stop(&stop, &hangup);
                self.until_end(deadline);
            })?;
        Ok(stopping)
    }

    fn until_stop(&self, stop: &CancellationToken, hangup: &SyncSender<()>) {
        loop {
            match self.next(None) {
                Wake::Signal(Signal::SIGHUP) => {
                    // Where the channel is full, a reload is waiting already.
                    let _ = hangup.try_send(());
                }
                Wake::Signal(signal) => {
                    stop.cancel();
                    // Logged by another thread, for which nobody waits. Where none can be
                    // started the line is missing, and the stop goes on.
                    let _ = std::thread::Builder::new().spawn(move || {
                        info!(%signal, "stopping; a second signal ends the agent at once");
                    });
                    return;
                }
                Wake::Stopping | Wake::Deadline => {
                    stop.cancel();
                    return;
                }
            }
        }
    }

    /// Ends the process at the deadline, or at a second signal; mostly it has ended by itself
    /// before.
    fn until_end(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            match self.next(Some(end.saturating_duration_since(Instant::now()))) {
                Wake::Signal(Signal::SIGHUP) | Wake::Stopping => {}
                Wake::Signal(signal) => {
                    // The code that a shell reports for a process that died of the signal.
                    let code = 128 + signal as i32;
                    leave(code, move || {
                        error!(%signal, "a second signal: calls and passes under way are dropped");
                    });
                }
                Wake::Deadline => leave(1, move || {
                    error!(
                        ?deadline,
                        "not stopped in time, ended by force; the log says what hung"
                    );
                }),
            }
        }
    }

    fn next(&self, limit: Option<Duration>) -> Wake {
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            // Rounded up: a limit of half a millisecond is no busy loop.
            let millis = limit.as_millis().saturating_add(1);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        loop {
            let mut fds = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stopping.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) => return Wake::Deadline,
                Err(Errno::EINTR) => continue,
                // Neither can fail with what it is given here; the safe way out is to stop.
                Err(_) => return Wake::Deadline,
                Ok(_) => {}
            }
            let stopping = fds[1].any() == Some(true);
            if let Ok(Some(info)) = self.signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                if let Ok(signal) = Signal::try_from(number) {
                    return Wake::Signal(signal);
                }
            } else if stopping && self.stopping.read().is_ok() {
                return Wake::Stopping;
            }
        }
    }
}

/// Starts the deadline for an agent that stops by itself.
#[derive(Debug)]
pub struct Stopping {
    event: Arc<EventFd>,
}

impl Stopping {
    /// The agent stops.
    pub fn begin(&self) {
        // Fails only when the counter is full, which a few calls do not make it.
        let _ = self.event.write(1);
    }
}

/// Ends the process. The last line is logged by another thread, since the log may be what hangs.
fn leave(code: i32, words: impl FnOnce() + Send + 'static) -> ! {
    let (said, hear) = mpsc::channel();
    let speaker = std::thread::Builder::new().spawn(move || {
        words();
        // Once the time is over nobody waits for it any more.
        let _ = said.send(());
    });
    if speaker.is_ok() {
        let _ = hear.recv_timeout(LAST_WORDS);
    }
    // SAFETY: ends the process and touches nothing of it. Not `exit`: what that runs may hang too.
    unsafe { libc::_exit(code) }
}
