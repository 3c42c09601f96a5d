//! What systemd is told (`sd_notify(3)`): when the agent is ready, what it waits for, that it
//! stops, and that it lives. Without systemd nothing of this happens.
//!
//! An agent that waits for FRR is not ready, and is not to be killed for it: as long as it lives it
//! asks for more time to start. systemd looks at the watchdog only from READY=1 on, so until then
//! these requests are what shows that the agent is alive.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::readiness::Readiness;
use crate::store::Store;

/// How long an agent that was seen alive may be silent, where systemd's watchdog says nothing else.
const ALIVE: Duration = Duration::from_secs(60);

/// Reports to systemd until the agent stops.
pub async fn run(mut readiness: Readiness, store: Store) {
    let stop = readiness.stop().clone();
    let started = AtomicBool::new(false);
    let states = async {
        let mut sent: Option<String> = None;
        // After a stop `changed` is always ready, so this loop would never yield again.
        while !stop.is_cancelled() {
            let status = status(&readiness);
            if sent.as_ref() != Some(&status) {
                tell_status(&readiness, &status, &started);
                sent = Some(status);
            }
            readiness.changed().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = states => {}
        () = watch_over(store, &started) => {}
    }
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// One line for `systemctl status`.
fn status(readiness: &Readiness) -> String {
    let waiting = readiness.waiting();
    let reasons: Vec<_> = waiting
        .iter()
        .map(|it| format!("{}: {}", it.part, it.reason))
        .collect();
    match reasons.as_slice() {
        [] => "ready".to_owned(),
        // systemd takes a line end for the end of the status.
        reasons => format!("waits for {}", reasons.join("; ").replace('\n', " ")),
    }
}

fn tell_status(readiness: &Readiness, status: &str, started: &AtomicBool) {
    if readiness.waiting().is_empty() {
        info!("ready");
        // systemd ignores READY=1 after the first time.
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        started.store(true, Relaxed);
    } else {
        tell(&[NotifyState::Status(status)]);
    }
}

/// Reports that the agent is alive, as long as it is: the runtime, since this task runs, and the
/// store's thread, since it answers. A pass that takes long is no failure and is not looked at.
async fn watch_over(store: Store, started: &AtomicBool) {
    let watchdog = sd_notify::watchdog_enabled();
    let limit = watchdog.unwrap_or(ALIVE);
    let mut ticks = interval(limit / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if timeout(limit / 3, store.answers()).await != Ok(true) {
            continue;
        }
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if !started.load(Relaxed) {
            let more = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
            tell(&[NotifyState::ExtendTimeoutUsec(more)]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(
            %error,
            "systemd cannot be told; see whether NOTIFY_SOCKET names a socket that the agent \
             may write to, and NotifyAccess= allows it"
        );
    }
}
