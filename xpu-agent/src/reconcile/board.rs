//! The board: what every backend last said, and who waits for it.

use std::sync::Arc;

use futures::future::select_ok;
use tokio::sync::watch;
use xpu_model::{
    Generation, Kind, ObjectKey,
    status::{Backend, Component, PassReport, State},
};

/// The last report of each backend; cheap to clone.
#[derive(Clone)]
pub struct Board {
    sources: Vec<Source>,
}

/// Where a backend's reports come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whose.
    pub backend: Backend,
    /// The kinds it has a part in; nobody waits for it with an object of another.
    pub kinds: &'static [Kind],
    /// Its last report.
    pub reports: watch::Receiver<Arc<PassReport>>,
}

/// An object's status, made of all backends' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// A word per backend that the object concerns.
    pub components: Vec<(Backend, Component)>,
    /// Whether every backend that has a part in the kind has worked on the generation asked for.
    pub reached: bool,
}

impl ObjectStatus {
    /// Packets can flow.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let fine = |(_, component): &(Backend, Component)| component.state == State::Success;
        self.reached && self.components.iter().all(fine)
    }

    /// Whether there is nothing to wait for: all is well, or a backend refuses it for good, so that
    /// it does not come up by itself, however far the others come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let refused =
            |(_, component): &(Backend, Component)| matches!(component.state, State::Refused(_));
        self.is_up() || (self.reached && self.components.iter().any(refused))
    }
}

/// What every backend had last said at one moment.
///
/// An intent that is read after it goes with it: a live object that no report of its generation
/// or a later one mentions does not concern that backend. Read before, the object may be gone
/// since, which the reports tell in the same way.
#[derive(Clone, Debug)]
pub struct Said {
    reports: Vec<(Backend, &'static [Kind], Arc<PassReport>)>,
}

impl Said {
    /// The status of an object last changed at `generation`.
    #[must_use]
    pub fn status(&self, key: &ObjectKey, generation: Generation) -> ObjectStatus {
        let mut status = ObjectStatus {
            components: Vec::new(),
            reached: true,
        };
        let concerned = self.reports.iter();
        for (backend, _, report) in concerned.filter(|(_, kinds, _)| kinds.contains(&key.kind)) {
            if report.generation < generation {
                status.reached = false;
                let waiting = State::Pending("not worked on yet".to_owned());
                status.components.push((*backend, Component::new(waiting)));
            } else if let Some(component) = report.objects.get(key) {
                status.components.push((*backend, component.clone()));
            }
        }
        status
    }
}

impl Board {
    /// A board of these backends, at least one.
    #[must_use]
    pub const fn new(sources: Vec<Source>) -> Self {
        Self { sources }
    }

    /// The backends that have a part in a kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Source> {
        self.sources
            .iter()
            .filter(move |source| source.kinds.contains(&kind))
    }

    /// What every backend has last said.
    #[must_use]
    pub fn said(&self) -> Said {
        let report = |source: &Source| {
            let report = source.reports.borrow().clone();
            (source.backend, source.kinds, report)
        };
        Said {
            reports: self.sources.iter().map(report).collect(),
        }
    }

    /// As [`Self::said`], and marks it as seen: [`Self::changed`] then completes for later reports
    /// only.
    pub fn look(&mut self) -> Said {
        for source in &mut self.sources {
            source.reports.mark_unchanged();
        }
        self.said()
    }

    /// Whether every backend that has a part in the kind has seen `generation`, and none has a
    /// trace of the object.
    #[must_use]
    pub fn is_gone(&self, key: &ObjectKey, generation: Generation) -> bool {
        self.of(key.kind).all(|source| {
            let report = source.reports.borrow();
            report.generation >= generation && !report.objects.contains_key(key)
        })
    }

    /// The generation that each backend's last pass worked on.
    pub fn generations(&self) -> impl Iterator<Item = (Backend, Generation)> {
        let generation = |source: &Source| source.reports.borrow().generation;
        self.sources
            .iter()
            .map(move |source| (source.backend, generation(source)))
    }

    /// Each backend's last report.
    pub fn reports(&self) -> impl Iterator<Item = (Backend, Arc<PassReport>)> {
        let report = |source: &Source| source.reports.borrow().clone();
        self.sources
            .iter()
            .map(move |source| (source.backend, report(source)))
    }

    /// Completes when a backend has reported; with false once all have stopped, which they do
    /// with the agent. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        let changes = self
            .sources
            .iter_mut()
            .map(|source| Box::pin(source.reports.changed()));
        select_ok(changes).await.is_ok()
    }
}
