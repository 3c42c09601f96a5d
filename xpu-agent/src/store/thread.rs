//! The store's thread: it takes requests from the queue, judges each, and commits those that wait
//! together.

use std::{sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tracing::{Span, debug_span, error};
use xpu_model::{Generation, Intent, RuleError, alloc::AllocationRules};

use super::{
    Failure, ForeignDevices, StoreError, StoreTelemetry,
    db::{Database, Write},
};
use crate::telemetry::metrics::ChangeResult;

/// Requests committed by one fsync at most.
const BATCH: usize = 64;

/// A change of the intent, with what it writes.
type Change =
    Box<dyn FnOnce(&mut Intent, &AllocationRules) -> Result<Vec<Write>, RuleError> + Send>;

/// A change that is asked for.
pub(super) struct Request {
    change: Change,
    /// The call that asks.
    call: Span,
    reply: oneshot::Sender<Answer>,
    /// Its caller's place in the queue, given back when the request is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

/// What becomes of a request.
pub(super) type Answer = Result<Stored, StoreError>;

/// A change that is durable.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The intent that has it, with what was committed together with it.
    pub(super) intent: Arc<Intent>,
    /// The intent's generation right after the change itself.
    pub(super) generation: Generation,
}

impl Request {
    pub(super) fn new(
        change: impl FnOnce(&mut Intent, &AllocationRules) -> Result<Vec<Write>, RuleError>
        + Send
        + 'static,
        place: Option<OwnedSemaphorePermit>,
    ) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let request = Self {
            change: Box::new(change),
            call: Span::current(),
            reply,
            _place: place,
        };
        (request, answer)
    }
}

/// What the thread owns.
pub(super) struct Owner {
    pub(super) database: Database,
    pub(super) telemetry: StoreTelemetry,
    pub(super) intent: Arc<Intent>,
    // Before `publish`, whose end others take for the thread's.
    pub(super) fail: watch::Sender<Option<Failure>>,
    pub(super) publish: watch::Sender<Arc<Intent>>,
    pub(super) rules: AllocationRules,
    pub(super) foreign_devices: ForeignDevices,
}

impl Owner {
    /// Serves the queue until nobody can ask any more, or the disk refuses a commit.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            if let Err(failure) = self.commit(&mut batch) {
                error!(%failure, "the agent stops");
                self.fail.send_replace(Some(failure));
                queue.close();
                while let Ok(Request { reply, .. }) = queue.try_recv() {
                    drop(reply.send(Err(StoreError::Stopped)));
                }
                return;
            }
        }
    }

    /// Commits a batch and answers it, be it with the failure that is returned.
    fn commit(&mut self, batch: &mut Vec<Request>) -> Result<(), Failure> {
        if self.foreign_devices.has_changed().unwrap_or(false) {
            self.rules.foreign_devices = self.foreign_devices.borrow_and_update().clone();
        }
        let mut next = self.intent.as_ref().clone();
        let (mut writes, mut accepted) = (Vec::new(), Vec::new());
        let mut calls = Vec::new();
        for Request {
            change,
            call,
            reply,
            ..
        } in batch.drain(..)
        {
            let before = next.generation;
            // The intent's methods check before they change: a refusal leaves no trace in `next`.
            match change(&mut next, &self.rules) {
                Ok(wrote) => {
                    // Forgetting a tombstone writes, and is no change that anybody asked for.
                    if next.generation > before {
                        calls.push((next.generation, call));
                    }
                    writes.extend(wrote);
                    accepted.push((next.generation, reply));
                }
                Err(error) => {
                    self.telemetry.meter.change(ChangeResult::Refused);
                    drop(reply.send(Err(error.into())));
                }
            }
        }
        let result = if writes.is_empty() {
            Ok(self.intent.clone())
        } else {
            self.write(next, &writes, &calls)
        };
        match result {
            Ok(intent) => {
                self.intent = intent;
                if !writes.is_empty() {
                    // Noted before the passes that look for it can start.
                    for (generation, call) in &calls {
                        self.telemetry.meter.change(ChangeResult::Made);
                        self.telemetry.causes.note(*generation, call);
                    }
                    self.publish.send_replace(self.intent.clone());
                }
                for (generation, reply) in accepted {
                    let intent = self.intent.clone();
                    drop(reply.send(Ok(Stored { intent, generation })));
                }
                Ok(())
            }
            Err(reason) => {
                let path = self.database.path().to_owned();
                let failure = Failure { path, reason };
                for (_, reply) in accepted {
                    drop(reply.send(Err(StoreError::Disk(failure.clone()))));
                }
                Err(failure)
            }
        }
    }

    /// Makes the changes of `calls` durable, as one.
    fn write(
        &mut self,
        next: Intent,
        writes: &[Write],
        calls: &[(Generation, Span)],
    ) -> Result<Arc<Intent>, String> {
        let generation = next.generation;
        let mut others = calls.iter().map(|(_, call)| call);
        let first = others.next().and_then(Span::id);
        let span = debug_span!(parent: first, "commit", %generation, changes = calls.len());
        others.for_each(|call| {
            span.follows_from(call);
        });
        let_others_go_first();
        let begun = Instant::now();
        let result = span.in_scope(|| self.database.commit(generation, writes));
        self.telemetry
            .meter
            .commit(calls.len(), begun.elapsed(), result.is_ok());
        let_others_go_first();
        result.map(|()| Arc::new(next))
    }
}

/// Gives the processor to whoever waits for it. A commit takes a tenth of a millisecond of it in one
/// piece, mostly in the kernel, for a caller that waits for the disk anyway; on a node of few
/// processors those that only read would stand behind all of it. Where nobody waits this is nothing
/// (sched_yield(2)).
pub(super) fn let_others_go_first() {
    std::thread::yield_now();
}
