//! How long to wait before trying again: 100 ms, doubling to 30 s, with jitter so that nodes
//! that failed together do not come back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);

/// The waits of one backend.
pub(super) struct Backoff {
    next: Duration,
    last: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self::up_to(LAST)
    }

    /// Waits that double to `last` only.
    pub(super) const fn up_to(last: Duration) -> Self {
        Self { next: FIRST, last }
    }

    /// The next wait; each is twice the one before.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.last);
        jitter(wait)
    }

    /// Things went well: begin again at the first.
    pub(super) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// From three quarters to five quarters of `duration`.
pub(super) fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(0.75 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_bound_and_starts_over() {
        let mut backoff = Backoff::new();
        let near = |wait: Duration, want: Duration| {
            assert!(
                wait >= want.mul_f64(0.74) && wait <= want.mul_f64(1.26),
                "{wait:?}"
            );
        };
        near(backoff.next(), FIRST);
        near(backoff.next(), FIRST * 2);
        for _ in 0..20 {
            backoff.next();
        }
        near(backoff.next(), LAST);
        backoff.reset();
        near(backoff.next(), FIRST);
    }
}
