//! Whether the agent does its work, and what it waits for if not.
//!
//! Readiness is a state, not an event: it is looked up when asked for, from what the backends
//! last reported. An agent whose FRR goes away is not ready until FRR is back.

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    reconcile::Board,
    store::{Failure, Store},
};

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Which part of the agent waits: `store`, a backend, or `agent`.
    #[serde(rename = "for")]
    pub part: &'static str,
    /// What for, and what an operator can do about it.
    pub reason: String,
}

/// Looks up readiness; cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    board: Board,
    store: watch::Receiver<Option<Failure>>,
    stop: CancellationToken,
}

impl Readiness {
    /// Readiness of an agent with these parts, which ends with `stop`.
    #[must_use]
    pub fn new(board: Board, store: &Store, stop: CancellationToken) -> Self {
        Self {
            board,
            store: store.failure(),
            stop,
        }
    }

    /// What is waited for; nothing: the agent is ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        if self.stop.is_cancelled() {
            waiting.push(Waiting {
                part: "agent",
                reason: "the agent is stopping".to_owned(),
            });
        }
        if let Some(failure) = self.store.borrow().as_ref() {
            waiting.push(Waiting {
                part: "store",
                reason: failure.to_string(),
            });
        }
        for (backend, report) in self.board.reports() {
            if let Some(reason) = &report.unobserved {
                waiting.push(Waiting {
                    part: backend.as_str(),
                    reason: reason.clone(),
                });
            }
        }
        waiting
    }

    /// Completes when [`Self::waiting`] may have changed. Cancel-safe.
    pub async fn changed(&mut self) {
        // All arms are cancel-safe. Store and backends stop with the agent; an arm whose sender is
        // gone does not match any more and is disabled.
        tokio::select! {
            () = self.stop.cancelled() => {}
            true = self.board.changed() => {}
            Ok(()) = self.store.changed() => {}
        }
    }

    /// What ends the agent.
    #[must_use]
    pub const fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
