//! What a change waits for before it is answered.
//!
//! Others may write the same object meanwhile. So a call looks at the object as it is stored now,
//! never at the one that it made itself: of an object that is gone the backends report nothing, not
//! even that something is wrong with it.

use std::pin::pin;

use tokio::time::{Instant, sleep_until, timeout_at};
use xpu_model::{Generation, Id, Intent, Object, ObjectKey};

use super::{Api, Resource, error::ApiError};
use crate::reconcile::board::{ObjectStatus, Said};

impl Api {
    /// Waits until the machine is as asked, or the time is over, and shows the object as it stands.
    /// Where another call has changed it since, that change is waited for and shown.
    ///
    /// # Errors
    /// [`ApiError::Overtaken`] when another call has deleted it and nothing is left of it.
    pub(super) async fn answer<R: Resource>(
        &self,
        id: &Id,
        end: Instant,
    ) -> Result<R::Message, ApiError> {
        let mut intent = self.store.watch();
        let mut board = self.board.clone();
        let mut over = pin!(sleep_until(end));
        let mut is_last = false;
        loop {
            // Marked as seen before the look, so that what comes after it wakes us. The reports
            // first: see `Said`.
            let said = board.look();
            let now = intent.borrow_and_update().clone();
            let object = found::<R>(&now, id)?;
            let status = said.status(&object.key(), object.generation);
            if is_last || object.deleting || status.is_settled() {
                return Ok(R::message(object, &status));
            }
            // All arms are cancel-safe, and none awaits in its body.
            tokio::select! {
                () = &mut over => is_last = true,
                // Backends and store stop with the agent. The call is then answered with how far
                // things came.
                reported = board.changed() => is_last = !reported,
                changed = intent.changed() => is_last = changed.is_err(),
            }
        }
    }

    /// Waits until nothing is left of the object that was deleted at `generation`, or the time is
    /// over: the deletion goes on then, and Get shows how far it is.
    pub(super) async fn wait_gone<R: Resource>(
        &self,
        key: &ObjectKey,
        generation: Generation,
        end: Instant,
    ) {
        let mut intent = self.store.watch();
        let gone = intent.wait_for(|intent| {
            let left = R::objects(intent).get(&key.id);
            left.is_none_or(|object| object.generation > generation)
        });
        let _ = timeout_at(end, gone).await;
    }
}

fn found<'a, R: Resource>(intent: &'a Intent, id: &Id) -> Result<&'a Object<R>, ApiError> {
    let found = R::objects(intent).get(id);
    found
        .map(AsRef::as_ref)
        .ok_or_else(|| ApiError::Overtaken { key: R::key(id) })
}

/// An object as it is answered.
pub(super) fn message<R: Resource>(object: &Object<R>, said: &Said) -> R::Message {
    let status: ObjectStatus = said.status(&object.key(), object.generation);
    R::message(object, &status)
}
