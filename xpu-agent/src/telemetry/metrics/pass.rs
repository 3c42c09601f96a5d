//! The reconcile loops, and FRR as they find it.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use xpu_model::status::{Backend, PassReport};

use super::{registered, registered_seconds, store::as_f64};
use crate::reconcile::Cause;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    backend: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    backend: &'static str,
    result: &'static str,
}

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Counts the passes of all backends; cheap to clone.
#[derive(Clone, Debug)]
pub struct PassMeters {
    passes: Family<PassLabels, Counter>,
    duration: Family<BackendLabel, Histogram, fn() -> Histogram>,
    plan: Family<BackendLabel, Histogram, fn() -> Histogram>,
    actions: Family<ActionLabels, Counter>,
    drift: Family<BackendLabel, Counter>,
    backoff: Family<BackendLabel, Seconds>,
    under_way: Family<BackendLabel, Gauge>,
    unobserved: Family<BackendLabel, Counter>,
}

impl PassMeters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            passes: registered(
                registry,
                "reconcile_passes",
                "Passes by what caused them: start, intent, event, retry, audit",
                Family::default(),
            ),
            duration: registered_seconds(
                registry,
                "reconcile_duration",
                "How long a pass took, from observing to reporting",
                Family::new_with_constructor(super::seconds),
            ),
            plan: registered(
                registry,
                "reconcile_plan_actions",
                "Actions in a plan; passes that planned nothing do not count",
                Family::new_with_constructor(super::sizes),
            ),
            actions: registered(
                registry,
                "reconcile_actions",
                "Actions applied, by whether kernel or FRR took them",
                Family::default(),
            ),
            drift: registered(
                registry,
                "reconcile_drift_repaired",
                "Actions that put right what somebody else had changed: for an intent that had been \
                 worked on, and objects that had been as asked",
                Family::default(),
            ),
            backoff: registered_seconds(
                registry,
                "reconcile_backoff",
                "The wait until something that failed or is pending is tried again; 0 when nothing \
                 is",
                Family::default(),
            ),
            under_way: registered(
                registry,
                "reconcile_under_way",
                "1 while a pass is under way; where it stays 1, kernel or FRR does not answer",
                Family::default(),
            ),
            unobserved: registered(
                registry,
                "reconcile_unobserved",
                "Passes that could not even observe",
                Family::default(),
            ),
        }
    }

    /// The meter of one backend.
    #[must_use]
    pub fn of(&self, backend: Backend) -> PassMeter {
        let label = BackendLabel {
            backend: backend.as_str(),
        };
        PassMeter {
            duration: self.duration.get_or_create_owned(&label),
            plan: self.plan.get_or_create_owned(&label),
            drift: self.drift.get_or_create_owned(&label),
            backoff: self.backoff.get_or_create_owned(&label),
            under_way: self.under_way.get_or_create_owned(&label),
            unobserved: self.unobserved.get_or_create_owned(&label),
            all: self.clone(),
            backend: backend.as_str(),
        }
    }
}

/// Counts the passes of one backend.
#[derive(Clone, Debug)]
pub struct PassMeter {
    backend: &'static str,
    all: PassMeters,
    duration: Histogram,
    plan: Histogram,
    drift: Counter,
    backoff: Seconds,
    under_way: Gauge,
    unobserved: Counter,
}

impl PassMeter {
    /// A pass begins.
    pub(crate) fn begun(&self) {
        self.under_way.set(1);
    }

    /// A pass ended; `backoff` is the wait until the next try, if one is needed.
    pub(crate) fn passed(
        &self,
        cause: Cause,
        report: &PassReport,
        took: Duration,
        backoff: Option<Duration>,
    ) {
        let backend = self.backend;
        let cause = cause.as_str();
        self.under_way.set(0);
        self.all
            .passes
            .get_or_create(&PassLabels { backend, cause })
            .inc();
        self.duration.observe(took.as_secs_f64());
        self.backoff
            .set(backoff.map_or(0.0, |wait| wait.as_secs_f64()));
        if report.unobserved.is_some() {
            self.unobserved.inc();
            return;
        }
        if report.planned > 0 {
            self.plan.observe(as_f64(report.planned));
        }
        let applied = report.planned.saturating_sub(report.failed);
        for (result, number) in [("applied", applied), ("failed", report.failed)] {
            let labels = ActionLabels { backend, result };
            self.all
                .actions
                .get_or_create(&labels)
                .inc_by(u64::try_from(number).unwrap_or(u64::MAX));
        }
    }

    /// Actions of a pass repaired drift.
    pub(crate) fn drift(&self, actions: usize) {
        self.drift
            .inc_by(u64::try_from(actions).unwrap_or(u64::MAX));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: String,
}

/// What FRR is like; cheap to clone.
#[derive(Clone, Debug)]
pub struct FrrMeter {
    up: Gauge,
    version: Family<VersionLabel, Gauge>,
    losses: Counter,
}

impl FrrMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            up: registered(
                registry,
                "frr_up",
                "Whether FRR's daemons answered the last pass",
                Gauge::default(),
            ),
            version: registered(
                registry,
                "frr_version",
                "1 for the version that zebra tells",
                Family::default(),
            ),
            losses: registered(
                registry,
                "frr_losses",
                "How often FRR, having answered, was gone or did not answer",
                Counter::default(),
            ),
        }
    }

    /// FRR answered.
    pub fn answered(&self, version: impl std::fmt::Display) {
        self.up.set(1);
        self.version.clear();
        let version = version.to_string();
        self.version.get_or_create(&VersionLabel { version }).set(1);
    }

    /// FRR did not answer.
    pub fn lost(&self) {
        if self.up.set(0) == 1 {
            self.losses.inc();
        }
    }
}
