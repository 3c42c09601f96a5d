//! The store: commits and who waits for them.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{registered, registered_seconds};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counts what the store does; cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreMeter {
    changes: Family<ResultLabel, Counter>,
    commits: Family<ResultLabel, Counter>,
    duration: Histogram,
    batch: Histogram,
}

impl StoreMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let meter = Self {
            changes: registered(
                registry,
                "store_changes",
                "Changes asked of the store: made, refused by a rule, or not even queued because \
                 too many waited",
                Family::default(),
            ),
            commits: registered(
                registry,
                "store_commits",
                "Commits to disk; after one that fails the agent ends",
                Family::default(),
            ),
            duration: registered_seconds(
                registry,
                "store_commit_duration",
                "How long a commit took, fsync included",
                super::seconds(),
            ),
            batch: registered(
                registry,
                "store_batch_changes",
                "Changes that one commit made durable; a commit that only forgets deleted objects \
                 does not count",
                super::sizes(),
            ),
        };
        meter.begin();
        meter
    }

    /// Shows what has not happened yet as 0.
    fn begin(&self) {
        for result in ["made", "refused", "busy"] {
            drop(self.changes.get_or_create(&ResultLabel { result }));
        }
        for result in ["ok", "failed"] {
            drop(self.commits.get_or_create(&ResultLabel { result }));
        }
    }

    /// What became of a change.
    pub(crate) fn change(&self, result: ChangeResult) {
        let result = match result {
            ChangeResult::Made => "made",
            ChangeResult::Refused => "refused",
            ChangeResult::Busy => "busy",
        };
        self.changes.get_or_create(&ResultLabel { result }).inc();
    }

    /// A commit ended.
    pub(crate) fn commit(&self, changes: usize, took: Duration, worked: bool) {
        let result = if worked { "ok" } else { "failed" };
        self.commits.get_or_create(&ResultLabel { result }).inc();
        self.duration.observe(took.as_secs_f64());
        if changes > 0 {
            self.batch.observe(as_f64(changes));
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChangeResult {
    Made,
    Refused,
    Busy,
}

/// Numbers of things are far below where `f64` begins to round.
pub(super) fn as_f64(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}
