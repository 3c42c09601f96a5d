//! Why an attachment is undone, which decides all that one undo does otherwise than another: whom it
//! asks and waits for, and what it gives up.

use std::time::Instant;

use super::Undone;
use crate::budget::{NEXT_OWNERS_IPAM_LIMIT, UNDO_GRACE};

/// Why an attachment is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its pod ends, which it must be able to.
    PodEnds,
    /// Its ADD failed.
    AddFailed {
        /// For want of the agent's answer: that has just [hung](crate::drain::hung), which has cost
        /// the call its time.
        agent_hung: bool,
    },
    /// Its runtime doesn't know it any more.
    Gc,
    /// It stands in the way of its own next attempt.
    EarlierAttempt,
    /// It is dead, and another attachment needs what it holds: its VF, or its port's MAC.
    NextOwner,
    /// It is dead, and somebody passes by.
    Sweep {
        /// When the undo must be done.
        until: Instant,
    },
}

impl Why {
    /// Whether the agent is asked to delete the port, rather than that being left for later at once.
    #[must_use]
    pub const fn asks_agent(self) -> bool {
        !matches!(self, Self::AddFailed { agent_hung: true })
    }

    /// Whether an agent that hung not long ago is left alone. Who comes in passing keeps nobody
    /// waiting; all others have their own reason to try.
    #[must_use]
    pub const fn heeds_backoff_of_agent(self) -> bool {
        matches!(self, Self::Sweep { .. })
    }

    /// Whether an IPAM plugin that hung not long ago is left alone: one that hangs for a pod that is
    /// gone must not cost another pod its start.
    #[must_use]
    pub const fn heeds_backoff_of_ipam(self) -> bool {
        matches!(self, Self::Sweep { .. } | Self::NextOwner)
    }

    /// Whether an IPAM plugin that releases the addresses is well for all. What works for a pod that
    /// is there may hang for one that is gone.
    #[must_use]
    pub const fn clears_backoff_of_ipam(self) -> bool {
        matches!(self, Self::Sweep { .. })
    }

    /// Whether addresses are released that the VF's next owner needn't wait for. Else they are for
    /// their own DEL, for GC and for the sweep.
    #[must_use]
    pub const fn releases_addresses(self) -> bool {
        !matches!(self, Self::NextOwner)
    }

    /// Whether addresses count as released whose IPAM plugin is nowhere. A pod must be able to end;
    /// whoever else cleans up can try again later.
    #[must_use]
    pub const fn forgets_missing_ipam(self) -> bool {
        matches!(self, Self::PodEnds)
    }

    /// Whether so much is undone that whoever asked for it can go on.
    #[must_use]
    pub fn is_enough(self, undone: &Undone) -> bool {
        match self {
            Self::NextOwner => undone.frees_vf,
            // Of an earlier attempt, the record is about to be written over.
            _ => undone.is_clean(),
        }
    }

    /// When an undo that begins `now` must be done, in a call that must have answered at `answer_by`.
    #[must_use]
    pub fn deadline(self, answer_by: Instant, now: Instant) -> Instant {
        match self {
            Self::Sweep { until } => until,
            _ => answer_by.max(now + UNDO_GRACE),
        }
    }

    /// Until when an IPAM may take that must be asked before the VF moves, where the undo has until
    /// `deadline`. It may hang, and bringing the VF home needs some of the time.
    #[must_use]
    pub fn interface_ipam_deadline(self, deadline: Instant, now: Instant) -> Instant {
        let half = now + deadline.saturating_duration_since(now) / 2;
        match self {
            Self::NextOwner => half.min(now + NEXT_OWNERS_IPAM_LIMIT),
            _ => half,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Error;

    /// What each asks for and gives up, in the order of the methods.
    #[test]
    fn each_reason_has_its_policy() {
        let now = Instant::now();
        let seconds = |seconds| now + Duration::from_secs(seconds);
        let until = seconds(2);
        let [no, yes] = [false, true];
        for (why, policy) in [
            (Why::PodEnds, [yes, no, no, no, yes, yes]),
            (
                Why::AddFailed { agent_hung: no },
                [yes, no, no, no, yes, no],
            ),
            (
                Why::AddFailed { agent_hung: yes },
                [no, no, no, no, yes, no],
            ),
            (Why::Gc, [yes, no, no, no, yes, no]),
            (Why::EarlierAttempt, [yes, no, no, no, yes, no]),
            (Why::NextOwner, [yes, no, yes, no, no, no]),
            (Why::Sweep { until }, [yes, yes, yes, yes, yes, no]),
        ] {
            let told = [
                why.asks_agent(),
                why.heeds_backoff_of_agent(),
                why.heeds_backoff_of_ipam(),
                why.clears_backoff_of_ipam(),
                why.releases_addresses(),
                why.forgets_missing_ipam(),
            ];
            assert_eq!(told, policy, "{why:?}");
            // A call with time left, and one without.
            let times = [8, 1].map(|left| why.deadline(seconds(left), now));
            let sweeps = matches!(why, Why::Sweep { .. });
            let wanted = if sweeps { [2, 2] } else { [8, 5] };
            assert_eq!(times, wanted.map(seconds), "{why:?}");
            let half = if why == Why::NextOwner { 1 } else { 3 };
            assert_eq!(why.interface_ipam_deadline(seconds(6), now), seconds(half));
        }
    }

    #[test]
    fn each_reason_has_what_is_enough_for_it() {
        let undone = |fails: bool, awaited, frees_vf| Undone {
            failures: fails
                .then(|| Error::Busy(String::new()))
                .into_iter()
                .collect(),
            awaited,
            frees_vf,
        };
        let all = [
            undone(false, false, true),
            undone(false, true, false),
            undone(true, false, true),
            undone(true, false, false),
        ];
        let [no, yes] = [false, true];
        let until = Instant::now();
        for (why, enough) in [
            (Why::EarlierAttempt, [yes, no, no, no]),
            (Why::NextOwner, [yes, no, yes, no]),
            (Why::Sweep { until }, [yes, no, no, no]),
        ] {
            let told = all.each_ref().map(|undone| why.is_enough(undone));
            assert_eq!(told, enough, "{why:?}");
        }
    }
}
