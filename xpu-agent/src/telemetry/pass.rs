//! Metrics and spans of a reconcile loop's passes.

use std::time::Duration;

use tracing::{Span, info_span};
use xpu_model::{
    Generation,
    status::{Backend, PassReport},
};

use super::{
    metrics::{Metrics, PassMeter},
    trace::Causes,
};
use crate::reconcile::Cause;

/// Meters one backend's passes, and ties each to the calls that it works for.
#[derive(Debug)]
pub struct PassTelemetry {
    backend: Backend,
    meter: PassMeter,
    causes: Causes,
    /// The newest generation that the machine was seen to follow in full.
    settled: Option<Generation>,
    /// Whether the last pass left nothing to do.
    at_rest: bool,
    /// The generation of the last pass that could observe.
    known: Option<Generation>,
}

impl PassTelemetry {
    /// Of `backend`, whose calls are found in `causes`.
    #[must_use]
    pub fn new(backend: Backend, metrics: &Metrics, causes: Causes) -> Self {
        Self {
            backend,
            meter: metrics.passes.of(backend),
            causes,
            settled: None,
            at_rest: false,
            known: None,
        }
    }

    /// A pass begins; its span is a child of the oldest call whose change has not been followed
    /// yet, with links to the others.
    pub(crate) fn begin(&self, generation: Generation, cause: Cause) -> Span {
        self.meter.begun();
        let cause = cause.as_str();
        let span = info_span!("pass", backend = %self.backend, %generation, cause);
        self.causes.tie(&span, self.settled.unwrap_or_default());
        span
    }

    /// A pass ended; `backoff` is the wait until the next try, if one is needed.
    pub(crate) fn passed(
        &mut self,
        cause: Cause,
        report: &PassReport,
        took: Duration,
        backoff: Option<Duration>,
    ) {
        self.meter.passed(cause, report, took, backoff);
        if report.unobserved.is_none() {
            // Repairs count as drift only where the intent was the same as in the pass before.
            if self.known == Some(report.generation) {
                self.meter.drift(report.repaired);
            }
            self.known = Some(report.generation);
        }
        self.at_rest = backoff.is_none();
        if self.at_rest {
            self.settled = Some(report.generation);
        }
    }

    /// The machine follows `generation` as it is: nothing in it concerns the backend.
    pub(crate) fn followed(&mut self, generation: Generation) {
        if self.at_rest {
            self.settled = Some(generation);
        }
        if self.known.is_some() {
            self.known = Some(generation);
        }
    }
}
