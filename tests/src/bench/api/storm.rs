//! Bad clients that do the same over and over, at a pace.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What runs beside a measured client: a thread that the kernel runs only when it has nothing else
/// to do (sched(7), `SCHED_IDLE`), for such clients would be on machines of their own. What they
/// make the server do is in its time, what they compute is not.
#[derive(Debug)]
pub struct Storm {
    stop: DropGuard,
    rounds: Arc<AtomicU32>,
    thread: JoinHandle<Result<()>>,
}

/// When to do it again.
#[derive(Debug)]
pub struct Pace {
    interval: Interval,
    rounds: Arc<AtomicU32>,
    /// Told when the first round is over.
    first: Option<oneshot::Sender<()>>,
    begun: bool,
}

impl Pace {
    /// Waits until it is time for another round; those before are over.
    pub async fn next(&mut self) {
        if self.begun {
            self.rounds.fetch_add(1, Relaxed);
            if let Some(first) = self.first.take() {
                // Who waits may have gone.
                let _ = first.send(());
            }
        }
        self.begun = true;
        self.interval.tick().await;
    }
}

impl Storm {
    /// Starts one; returns when the first round is over.
    ///
    /// # Errors
    /// That of the first round.
    pub async fn start<F>(every: Duration, work: F) -> Result<Self>
    where
        F: AsyncFnOnce(Pace) -> Result<()> + Send + 'static,
    {
        let (begun, first) = oneshot::channel();
        let (stop, rounds) = (CancellationToken::new(), Arc::<AtomicU32>::default());
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let thread = thread::spawn(move || {
            be_idle().context("cannot leave the processor to others")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut interval = interval(every);
                // What is late is not made up for by a burst.
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let pace = Pace {
                    interval,
                    rounds: counted,
                    first: Some(begun),
                    begun: false,
                };
                // None: it was stopped, as it should be.
                let ended = stopped.run_until_cancelled(work(pace)).await;
                ended.unwrap_or(Ok(()))
            })
        });
        let storm = Self {
            stop: stop.drop_guard(),
            rounds,
            thread,
        };
        match first.await {
            Ok(()) => Ok(storm),
            Err(_) => storm
                .end()
                .and_then(|_| Err(anyhow!("ended before it began"))),
        }
    }

    /// Ends it; how many rounds it was.
    ///
    /// # Errors
    /// Where one had failed.
    pub fn end(self) -> Result<u32> {
        drop(self.stop);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(anyhow!("it panicked")))?;
        Ok(self.rounds.load(Relaxed))
    }
}

/// Puts the calling thread behind all that are not idle.
fn be_idle() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the parameter outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
