//! The reconcile loop: one task per backend, each bringing its part of the machine to the
//! intent, independently of the others.
//!
//! A pass is observe → plan → apply → report. A pass runs when the intent changed (at once; what
//! changes meanwhile is one more pass, not many), when the backend says the world moved, after a
//! back-off while something is left to do, and at a jittered interval as an audit. A pass never
//! fails: what went wrong is in its report. After an event the back-off starts over, so that what
//! was away and is back is repaired soon; events that lead to nothing but trouble are heard at
//! most once a second.
//!
//! An intent in which nothing of a backend's kinds changed asks nothing of it: its report holds for
//! that intent too, and says so by its generation. Forgetting a tombstone that the backend reported
//! gone is no change either.
//!
//! No order is kept between backends. Where one needs another's work first, its planner sees
//! that as data and says "waits for …"; the other's pass makes it dirty again.

mod backoff;
pub mod board;
mod change;
pub mod collector;
pub mod frr;
pub mod linux;
mod schedule;
pub mod silent;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};
use xpu_model::{Generation, Intent, Kind, ObjectKey, status};

use crate::telemetry::PassTelemetry;
pub use board::{Board, Source};
use schedule::{Ending, Schedule};

/// A part of the machine that can be brought to the intent.
pub trait Backend: Send + 'static {
    /// Which component of an object's status it fills.
    const NAME: status::Backend;

    /// The kinds of object it has a part in. Its reports hold no others, and an object of another
    /// kind does not wait for it.
    const KINDS: &'static [Kind];

    /// Observe, plan, apply, report. Goes on past failures and reports each.
    fn pass(&mut self, intent: &Arc<Intent>) -> impl Future<Output = status::PassReport> + Send;

    /// Completes when the world may have moved away from the last pass. Cancel-safe: a change
    /// seen by a dropped future is seen again by the next.
    fn dirty(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why a pass runs; for log, metrics and traces only, a pass does not depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cause {
    Start,
    Intent,
    Event,
    Retry,
    Audit,
}

impl Cause {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Intent => "intent",
            Self::Event => "event",
            Self::Retry => "retry",
            Self::Audit => "audit",
        }
    }
}

/// What a loop's reports begin with.
#[must_use]
pub fn no_report_yet() -> status::PassReport {
    status::PassReport {
        unobserved: Some("the first pass is not done".to_owned()),
        ..status::PassReport::default()
    }
}

/// Runs a backend until `stop`. What was made stays as it is then: stopping is hitless.
pub async fn run<B: Backend>(
    backend: B,
    intent: watch::Receiver<Arc<Intent>>,
    reports: watch::Sender<Arc<status::PassReport>>,
    telemetry: PassTelemetry,
    stop: CancellationToken,
) {
    let mut reconciler = Reconciler {
        backend,
        followed: Arc::default(),
        intent,
        reports,
        schedule: Schedule::new(Instant::now()),
        telemetry,
    };
    let mut next = Some(Cause::Start);
    while let Some(cause) = next {
        // A pass is not cancelled half-way by `stop`: it is short, and a plan applied in part
        // would have to be found out about by the next start.
        reconciler.pass(cause).await;
        next = stop.run_until_cancelled(reconciler.next()).await.flatten();
    }
}

/// A backend in its loop.
struct Reconciler<B> {
    backend: B,
    intent: watch::Receiver<Arc<Intent>>,
    /// The intent that the last report holds for.
    followed: Arc<Intent>,
    reports: watch::Sender<Arc<status::PassReport>>,
    schedule: Schedule,
    telemetry: PassTelemetry,
}

impl<B: Backend> Reconciler<B> {
    /// Brings the backend's part of the machine to the newest intent, and reports.
    async fn pass(&mut self, cause: Cause) {
        let intent = self.intent.borrow_and_update().clone();
        let last = self.reports.borrow().clone();
        // It ends with the pass, not with the wait for the next.
        let span = self.telemetry.begin(intent.generation, cause);
        let started = Instant::now();
        let pass = self.backend.pass(&intent);
        let report = pass.instrument(span.clone()).await;
        let took = started.elapsed();
        span.in_scope(|| tell(&report, &last, cause, took));
        drop(span);

        let ending = Ending::of(&report);
        let backoff = self.schedule.passed(cause, ending, Instant::now());
        self.telemetry.passed(cause, &report, took, backoff);
        self.followed = intent;
        self.reports.send_replace(Arc::new(report));
    }

    /// Waits for what starts the next pass; none when the store is gone, as the agent is stopping.
    async fn next(&mut self) -> Option<Cause> {
        loop {
            let events_from = self.schedule.events_from();
            let dirty = async {
                tokio::time::sleep_until(events_from).await;
                self.backend.dirty().await;
            };
            // All arms are cancel-safe, and none awaits in its body.
            tokio::select! {
                changed = self.intent.changed() => {
                    changed.ok()?;
                    if !self.follow() {
                        return Some(self.schedule.changed());
                    }
                }
                () = dirty => return Some(self.schedule.event()),
                () = tokio::time::sleep_until(self.schedule.due()) => {
                    return Some(self.schedule.due_cause());
                }
            }
        }
    }

    /// Has the last report say that it holds for the newest intent, if that asks nothing of the
    /// backend; else false, and a pass is needed.
    fn follow(&mut self) -> bool {
        let next = self.intent.borrow_and_update().clone();
        if self.schedule.takes_any_change()
            || change::concerns(B::KINDS, &self.followed, &next, &self.reports.borrow())
        {
            return false;
        }
        if holds_for(&self.reports, next.generation) {
            self.telemetry.followed(next.generation);
        }
        self.followed = next;
        true
    }
}

/// Says that the last report holds for a generation that asks nothing of the backend; false if it
/// says so already. In place: a report is as large as the intent.
fn holds_for(reports: &watch::Sender<Arc<status::PassReport>>, generation: Generation) -> bool {
    reports.send_if_modified(|report| {
        let is_news = report.generation < generation;
        if is_news {
            Arc::make_mut(report).generation = generation;
        }
        is_news
    })
}

/// The report of a pass that came to nothing, as when it could not even observe: nobody knows how
/// the objects are. The trouble says why, and what can be done.
fn unknown(
    intent: &Intent,
    concerned: impl IntoIterator<Item = ObjectKey>,
    trouble: &str,
) -> status::PassReport {
    let trouble = trouble.to_owned();
    let unknown = || status::Component::new(status::State::Error(trouble.clone()));
    let keys = concerned.into_iter().map(|key| (key, unknown()));
    status::PassReport {
        generation: intent.generation,
        failed: 1,
        objects: keys.collect(),
        node: vec![trouble.clone()],
        unobserved: Some(trouble),
        ..status::PassReport::default()
    }
}

/// Logs what a pass did, and what is wrong if the last pass did not find the same.
fn tell(report: &status::PassReport, last: &status::PassReport, cause: Cause, took: Duration) {
    let status::PassReport {
        generation: _,
        planned,
        failed,
        repaired: _,
        objects,
        node,
        refusals,
        notices,
        unobserved: _,
    } = report;
    let new = |now: &[String], before: &[String]| -> Vec<String> {
        let new = now.iter().filter(|it| !before.contains(it));
        new.cloned().collect()
    };
    for trouble in new(node, &last.node)
        .into_iter()
        .chain(new(refusals, &last.refusals))
        .chain(new(notices, &last.notices))
    {
        warn!(%trouble, "needs attention");
    }
    for (object, component) in objects {
        let known = last.objects.get(object).map(|component| &component.state);
        if let status::State::Error(reason) | status::State::Refused(reason) = &component.state
            && known != Some(&component.state)
        {
            warn!(%object, %reason, "object is not as asked");
        }
    }
    if *planned > 0 {
        info!(?cause, planned, failed, ?took, "plan applied");
    } else {
        debug!(?cause, ?took, "nothing to do");
    }
}

#[cfg(test)]
mod tests;
