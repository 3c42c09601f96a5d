//! Which calls the passes work for.
//!
//! A pass is caused by a state, not by a call: what many calls changed may be one pass, and what
//! one call changed may take several. The store notes for each generation the call that made it;
//! a pass looks there for the calls whose changes the machine does not follow yet.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use xpu_model::Generation;

/// Changes that are remembered.
const MOST: usize = 256;

/// How long passes are tied to a call: one that can never be followed must not collect the
/// retries of a week.
const AGE: Duration = Duration::from_secs(120);

/// Links of one pass; a trace with more is no help to anybody.
const LINKS: usize = 32;

/// The latest changes and the calls that made them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    changes: Arc<Mutex<VecDeque<Change>>>,
}

#[derive(Debug)]
struct Change {
    generation: Generation,
    call: SpanContext,
    at: Instant,
}

impl Causes {
    /// Notes that `call` made `generation`. Without traces, or for a call that is not sampled,
    /// there is nothing to note.
    pub fn note(&self, generation: Generation, call: &Span) {
        let context = call.context();
        let call = context.span().span_context().clone();
        if !call.is_sampled() {
            return;
        }
        let mut changes = self.lock();
        if changes.len() == MOST {
            changes.pop_front();
        }
        changes.push_back(Change {
            generation,
            call,
            at: Instant::now(),
        });
    }

    /// Makes the span of a pass a child of the oldest call after `settled`, linked to the others.
    pub fn tie(&self, pass: &Span, settled: Generation) {
        let mut calls = self.after(settled).into_iter();
        if let Some(parent) = calls.next() {
            let parent = Context::new().with_remote_span_context(parent);
            // Fails where no layer exports this span, so that the link would have no use.
            let _ = pass.set_parent(parent);
        }
        calls.take(LINKS).for_each(|call| pass.add_link(call));
    }

    fn after(&self, settled: Generation) -> Vec<SpanContext> {
        self.lock()
            .iter()
            .filter(|change| change.generation > settled && change.at.elapsed() < AGE)
            .map(|change| change.call.clone())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Change>> {
        // A panic cannot leave a list of plain values half changed.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
