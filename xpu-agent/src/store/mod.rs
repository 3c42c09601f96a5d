//! The store: one thread owns the intent and makes each change durable before anybody sees it.
//!
//! ```text
//! API ──Request──▶ [bounded queue] ──▶ store thread: change a clone, commit (fsync), publish
//!                                                      │
//! reconcilers, API ◀────────── watch<Arc<Intent>> ─────┘
//! ```
//!
//! Requests that wait together are committed together; each is judged on the intent that the
//! ones before it made, and a refused one leaves no trace.
//!
//! A commit that the disk refuses ends the thread, and with it the agent: redb accepts nothing
//! more from then on, and what is on disk is known only after opening it anew. Kernel and FRR
//! stay as they are.

mod db;
mod ledger;
mod record;
mod thread;

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::info;
use xpu_model::{
    Generation, Id, IfName, Intent, ObjectKey, RuleError, Spec, alloc::AllocationRules,
    intent::Outcome,
};

use crate::telemetry::{
    metrics::{ChangeResult, Metrics, StoreMeter},
    trace::Causes,
};
pub use db::OpenError;
use db::{Database, Write};
pub use ledger::{Ledger, LedgerError};
use thread::{Answer, Owner, Request};

/// Requests that may wait. Beyond this a caller is told to come back, which is better than a queue
/// that hides an overload.
const QUEUE: usize = 512;

/// Requests of one caller that may wait: less than the queue has, so that it does not shut others
/// out. A CNI burst is about a hundred.
const SHARE: usize = 256;

/// The names of devices that are not ours, as they come and go: no Vrf's device gets one of them.
pub type ForeignDevices = watch::Receiver<BTreeSet<IfName>>;

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The intent's rules refuse it.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Too many changes are waiting.
    #[error("{QUEUE} changes are waiting to be stored; try again")]
    Busy,
    /// Too many changes of the same caller are waiting.
    #[error("{SHARE} changes of this caller are waiting to be stored; try again")]
    CallerBusy,
    /// The disk refused the commit.
    #[error(transparent)]
    Disk(Failure),
    /// The agent is stopping.
    #[error("the agent is stopping; try again when it is back")]
    Stopped,
}

/// Why an update was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpdateError<E> {
    /// The store could not make it, or its rules refuse it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller's own edit refused the object that is stored.
    #[error(transparent)]
    Edit(E),
}

/// Why the store's thread ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be written ({reason}); see to the space and the health of the disk that holds it, \
     and start the agent again", path.display()
)]
pub struct Failure {
    path: PathBuf,
    reason: String,
}

/// What an update does where there is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is refused.
    Refuse,
    /// It creates one.
    Create,
}

/// The handle to the store; cheap to clone. The thread ends when the last handle is gone, or with
/// a [`Failure`].
#[derive(Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    intent: watch::Receiver<Arc<Intent>>,
    failure: watch::Receiver<Option<Failure>>,
    meter: StoreMeter,
    /// Whose requests these are, if that is known.
    share: Option<Share>,
}

/// One caller's places in the queue; a clone is the same caller's.
#[derive(Clone, Debug)]
pub struct Share(Arc<Semaphore>);

impl Default for Share {
    /// Of a caller that has none in use.
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SHARE)))
    }
}

/// What the store is metered and traced with.
#[derive(Clone, Debug)]
pub struct StoreTelemetry {
    /// Counts changes and commits.
    pub meter: StoreMeter,
    /// Learns which call made which generation.
    pub causes: Causes,
}

impl Default for StoreTelemetry {
    fn default() -> Self {
        Self {
            meter: Metrics::default().store,
            causes: Causes::default(),
        }
    }
}

impl Store {
    /// Opens (or makes) the store in `directory` and starts its thread.
    ///
    /// # Errors
    /// [`OpenError`] when the directory or the file cannot be used, another process has it, or
    /// its records are of a version this agent does not know.
    pub fn open(
        directory: &Path,
        tables: RangeInclusive<u32>,
        foreign_devices: ForeignDevices,
        telemetry: StoreTelemetry,
    ) -> Result<Self, OpenError> {
        let (database, loaded) = Database::open(directory)?;
        Self::start(database, loaded, tables, foreign_devices, telemetry)
    }

    fn start(
        database: Database,
        loaded: db::Loaded,
        tables: RangeInclusive<u32>,
        foreign_devices: ForeignDevices,
        telemetry: StoreTelemetry,
    ) -> Result<Self, OpenError> {
        info!(
            generation = loaded.intent.generation.0,
            vrfs = loaded.intent.vrfs.len(),
            logical_bridges = loaded.intent.logical_bridges.len(),
            bridge_ports = loaded.intent.bridge_ports.len(),
            svis = loaded.intent.svis.len(),
            "intent read from the store"
        );
        let intent = Arc::new(loaded.intent);
        let (publish, watch) = watch::channel(intent.clone());
        let (fail, failure) = watch::channel(None);
        let (requests, queue) = mpsc::channel(QUEUE);
        let rules = AllocationRules {
            tables,
            node_seed: loaded.node_seed,
            foreign_devices: BTreeSet::new(),
        };
        let meter = telemetry.meter.clone();
        let owner = Owner {
            database,
            telemetry,
            intent,
            fail,
            publish,
            rules,
            foreign_devices,
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || owner.run(queue))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            requests,
            intent: watch,
            failure,
            meter,
            share: None,
        })
    }

    /// The same store for one caller, whose requests together have its share of the queue.
    #[must_use]
    pub fn shared(&self, share: Share) -> Self {
        Self {
            share: Some(share),
            ..self.clone()
        }
    }

    /// Why the thread ended, if the disk made it end; known before the published intent's end.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.failure.clone()
    }

    /// The published intent, to follow.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Intent>> {
        self.intent.clone()
    }

    /// The intent as it stands.
    #[must_use]
    pub fn intent(&self) -> Arc<Intent> {
        self.intent.borrow().clone()
    }

    /// How many changes wait, and how many may.
    #[must_use]
    pub fn queue(&self) -> (u64, u64) {
        let limit = self.requests.max_capacity();
        let free = self.requests.capacity();
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        (number(limit - free.min(limit)), number(limit))
    }

    /// Whether the thread answers. Waits as long as it takes, for a place in a full queue, too:
    /// who has much to do is alive. Callers bound it.
    pub async fn answers(&self) -> bool {
        let (request, answer) = Request::new(|_, _| Ok(Vec::new()), None);
        self.requests.send(request).await.is_ok() && matches!(answer.await, Ok(Ok(_)))
    }

    /// Creates an object ([`Intent::create`]); answers when it is durable, with the intent that
    /// has it.
    ///
    /// # Errors
    /// [`StoreError`] when the object is there with another spec, a rule refuses it, too many
    /// changes wait, or the store cannot write; nothing has changed then.
    pub async fn create<S: Spec>(&self, id: Id, spec: S) -> Result<Arc<Intent>, StoreError> {
        let stored = self.change(move |intent, rules| {
            let outcome = intent.create(id.clone(), spec, rules)?;
            Ok(writes::<S>(outcome, &id, intent))
        });
        Ok(stored.await?.intent)
    }

    /// Replaces an object's spec by what `edit` makes of the one that is stored, in one step: no
    /// other writer comes between. `edit` is given none where there is no object and `missing`
    /// lets it create one.
    ///
    /// # Errors
    /// [`UpdateError`] when there is no object and `missing` refuses that, when `edit` or a rule
    /// refuses, when too many changes wait, or when the store cannot write; nothing has changed
    /// then.
    pub async fn update<S: Spec, E: Send + 'static>(
        &self,
        id: Id,
        missing: Missing,
        edit: impl FnOnce(Option<&S>) -> Result<S, E> + Send + 'static,
    ) -> Result<Arc<Intent>, UpdateError<E>> {
        let (refuse, mut refusal) = oneshot::channel();
        let stored = self
            .change(move |intent, rules| {
                let current = intent.get::<S>(&id);
                if current.is_none() && missing == Missing::Refuse {
                    return Err(RuleError::NotFound { key: S::key(&id) });
                }
                let exists = current.is_some();
                match edit(current.map(|object| &object.spec)) {
                    Ok(spec) => {
                        let outcome = if exists {
                            intent.update(id.clone(), spec, rules)?
                        } else {
                            intent.create(id.clone(), spec, rules)?
                        };
                        Ok(writes::<S>(outcome, &id, intent))
                    }
                    Err(error) => {
                        // The caller waits for the reply below, so the receiver is there.
                        let _ = refuse.send(error);
                        Ok(Vec::new())
                    }
                }
            })
            .await?;
        match refusal.try_recv() {
            Ok(error) => Err(UpdateError::Edit(error)),
            Err(_) => Ok(stored.intent),
        }
    }

    /// Makes an object a tombstone ([`Intent::delete`]); answers with its generation. The object
    /// may have been created again by what was committed together with it.
    ///
    /// # Errors
    /// [`StoreError`] when there is no such object, others refer to it, too many changes wait, or
    /// the store cannot write; nothing has changed then.
    pub async fn delete<S: Spec>(&self, id: Id) -> Result<Generation, StoreError> {
        let stored = self.change(move |intent, _| {
            intent.delete::<S>(&id)?;
            Ok(writes::<S>(Outcome::Changed, &id, intent))
        });
        Ok(stored.await?.generation)
    }

    /// Forgets a tombstone ([`Intent::collect`]).
    ///
    /// # Errors
    /// [`StoreError`] when too many changes wait or the store cannot write; the tombstone stays
    /// then.
    pub async fn collect<S: Spec>(
        &self,
        id: Id,
        generation: Generation,
    ) -> Result<Arc<Intent>, StoreError> {
        let stored = self.ask(move |intent, _| {
            let removed = intent.collect::<S>(&id, generation);
            Ok(if removed {
                vec![Write::remove(&S::key(&id))]
            } else {
                Vec::new()
            })
        });
        Ok(stored.await?.intent)
    }

    /// Makes a change that a caller asks for.
    async fn change(
        &self,
        change: impl FnOnce(&mut Intent, &AllocationRules) -> Result<Vec<Write>, RuleError>
        + Send
        + 'static,
    ) -> Answer {
        let answer = self.ask(change).await;
        if matches!(answer, Err(StoreError::Busy | StoreError::CallerBusy)) {
            self.meter.change(ChangeResult::Busy);
        }
        answer
    }

    /// Has the thread make a change, if there is a place in its queue.
    async fn ask(
        &self,
        change: impl FnOnce(&mut Intent, &AllocationRules) -> Result<Vec<Write>, RuleError>
        + Send
        + 'static,
    ) -> Answer {
        let place = self.share.as_ref().map(|share| {
            let place = share.0.clone().try_acquire_owned();
            place.map_err(|_| StoreError::CallerBusy)
        });
        let (request, answer) = Request::new(change, place.transpose()?);
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => StoreError::Stopped,
            })?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn writes<S: Spec>(outcome: Outcome, id: &Id, intent: &Intent) -> Vec<Write> {
    match (outcome, S::objects(intent).get(id)) {
        (Outcome::Changed, Some(object)) => vec![Write::put(object)],
        _ => Vec::new(),
    }
}

/// Every tombstone of an intent, for the collector.
pub(crate) fn tombstones(intent: &Intent) -> Vec<(ObjectKey, Generation)> {
    fn of<S: Spec>(intent: &Intent) -> impl Iterator<Item = (ObjectKey, Generation)> {
        let dead = S::objects(intent).tombstones();
        dead.map(|object| (object.key(), object.generation))
    }
    of::<xpu_model::SviSpec>(intent)
        .chain(of::<xpu_model::BridgePortSpec>(intent))
        .chain(of::<xpu_model::LogicalBridgeSpec>(intent))
        .chain(of::<xpu_model::VrfSpec>(intent))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
