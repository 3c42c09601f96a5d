//! When a backend's next pass is due, and why. Asks no clock: it is told when a pass ended.

use std::time::Duration;

use tokio::time::Instant;
use xpu_model::status::{Component, PassReport, State};

use super::{
    Cause,
    backoff::{Backoff, jitter},
};

/// Between audits, jittered by a quarter. An audit finds drift that no event told of.
pub(super) const AUDIT: Duration = Duration::from_secs(60);

/// The longest that events go unheard after a pass that one of them caused and that failed; the
/// trouble itself may be what makes events.
const EVENT_GAP: Duration = Duration::from_secs(1);

/// How a pass left the backend's part of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing is left that a retry would mend.
    Settled,
    /// Something is pending on the world outside, which does not always tell when it comes (FRR
    /// has no event for "the L3VNI is up").
    Pending,
    /// Something failed.
    Failed,
}

impl Ending {
    pub(super) fn of(report: &PassReport) -> Self {
        let is_pending = |it: &Component| matches!(it.state, State::Pending(_));
        if report.wants_retry() {
            Self::Failed
        } else if report.objects.values().any(is_pending) {
            Self::Pending
        } else {
            Self::Settled
        }
    }
}

/// The passes of one backend in time.
pub(super) struct Schedule {
    backoff: Backoff,
    event_gap: Backoff,
    last: Ending,
    events_from: Instant,
    due: Instant,
}

impl Schedule {
    /// A first pass is due at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            backoff: Backoff::new(),
            event_gap: Backoff::up_to(EVENT_GAP),
            last: Ending::Settled,
            events_from: now,
            due: now,
        }
    }

    /// A pass ended; the wait until the next try, if one is needed.
    pub(super) fn passed(
        &mut self,
        cause: Cause,
        ending: Ending,
        now: Instant,
    ) -> Option<Duration> {
        self.last = ending;
        self.events_from = now;
        if ending != Ending::Failed {
            self.event_gap.reset();
        } else if matches!(cause, Cause::Event) {
            self.events_from += self.event_gap.next();
        }
        if ending == Ending::Settled {
            self.backoff.reset();
            self.due = now + jitter(AUDIT);
            return None;
        }
        self.due = self.events_from.max(now + self.backoff.next());
        Some(self.due - now)
    }

    /// When the next pass runs if nothing else starts one before.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// What the pass is for that runs then.
    pub(super) const fn due_cause(&self) -> Cause {
        match self.last {
            Ending::Settled => Cause::Audit,
            Ending::Pending | Ending::Failed => Cause::Retry,
        }
    }

    /// Events before this start no pass; they are heard then.
    pub(super) const fn events_from(&self) -> Instant {
        self.events_from
    }

    /// Whether any change of intent starts a pass, whomever it concerns: what failed is tried with
    /// it, and no report of such a pass may hold for another intent.
    pub(super) fn takes_any_change(&self) -> bool {
        self.last == Ending::Failed
    }

    /// A change of intent starts a pass.
    pub(super) const fn changed(&mut self) -> Cause {
        self.backoff.reset();
        self.event_gap.reset();
        Cause::Intent
    }

    /// An event starts a pass. Waits begin anew, so that what was away and is back is repaired
    /// soon, except the one that keeps events apart.
    pub(super) const fn event(&mut self) -> Cause {
        self.backoff.reset();
        Cause::Event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait is what it should be, give or take the jitter.
    fn assert_near(wait: Duration, wanted: Duration) {
        let range = wanted.mul_f64(0.74)..=wanted.mul_f64(1.26);
        assert!(range.contains(&wait), "{wait:?} is not near {wanted:?}");
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_audit_is_due_where_nothing_is_left() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.passed(Cause::Start, Ending::Settled, now), None);
        assert!(matches!(schedule.due_cause(), Cause::Audit));
        assert_near(schedule.due() - now, AUDIT);
        assert_eq!(schedule.events_from(), now);
        assert!(!schedule.takes_any_change());
    }

    #[rstest::rstest]
    #[case(Ending::Pending)]
    #[case(Ending::Failed)]
    fn what_is_left_is_tried_again_at_growing_waits(#[case] ending: Ending) {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        for wanted in [100, 200, 400] {
            let wait = schedule.passed(Cause::Retry, ending, now).unwrap();
            assert_near(wait, ms(wanted));
            assert_eq!(schedule.due(), now + wait);
            assert!(matches!(schedule.due_cause(), Cause::Retry));
        }
        assert_eq!(schedule.passed(Cause::Retry, Ending::Settled, now), None);
        let wait = schedule.passed(Cause::Audit, ending, now).unwrap();
        assert_near(wait, ms(100));
    }

    #[test]
    fn what_starts_a_pass_out_of_turn_starts_the_back_off_over() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        for start in [Schedule::changed, Schedule::event] {
            for _ in 0..8 {
                schedule.passed(Cause::Retry, Ending::Failed, now);
            }
            assert!(schedule.takes_any_change());
            let cause = start(&mut schedule);
            let wait = schedule.passed(cause, Ending::Pending, now).unwrap();
            assert_near(wait, ms(100));
        }
    }

    /// What goes on failing hears of events ever later, up to a bound.
    #[test]
    fn events_that_lead_to_trouble_are_kept_apart() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        for wanted in [100, 200, 400, 800, 1000, 1000] {
            let cause = schedule.event();
            schedule.passed(cause, Ending::Failed, now);
            assert_near(schedule.events_from() - now, ms(wanted));
            assert!(schedule.due() >= schedule.events_from());
        }
        // A retry that fails does not make them wait, and a change is another matter.
        schedule.passed(Cause::Retry, Ending::Failed, now);
        assert_eq!(schedule.events_from(), now);
        schedule.changed();
        let cause = schedule.event();
        schedule.passed(cause, Ending::Failed, now);
        assert_near(schedule.events_from() - now, ms(100));
    }
}
