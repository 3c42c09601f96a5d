//! Logs of what strangers can cause as often as they like.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// At most one line in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Lets one event in a second be logged.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Mutex<(Option<Instant>, u64)>);

impl LogThrottle {
    /// Whether to log this event: if so, how many have not been logged since the last that was.
    pub(super) fn tell(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *state;
        let now = Instant::now();
        if last.is_some_and(|last| now < last + EVERY) {
            *untold += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(untold))
    }
}
