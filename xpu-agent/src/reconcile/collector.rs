//! The collector: forgets a tombstone once every backend reports the object gone.

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use xpu_model::{BridgePortSpec, Generation, Kind, LogicalBridgeSpec, ObjectKey, SviSpec, VrfSpec};

use super::Board;
use crate::store::{Store, StoreError, tombstones};

/// Runs until `stop`.
pub async fn run(store: Store, mut board: Board, stop: CancellationToken) {
    let mut intent = store.watch();
    loop {
        let snapshot = intent.borrow_and_update().clone();
        for (key, generation) in tombstones(&snapshot) {
            // What others refer to goes after them.
            if board.is_gone(&key, generation) && !snapshot.is_referred_to(&key) {
                match collect(&store, &key, generation).await {
                    Ok(()) => debug!(object = %key, "gone and forgotten"),
                    // Tried again with the next report.
                    Err(error) => {
                        warn!(object = %key, %error, "a deleted object stays in the store for now and is tried again; if it stays, see \
                         what is said of the store")
                    }
                }
            }
        }
        // All arms are cancel-safe, and none awaits in its body.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = intent.changed() => if changed.is_err() { return },
            true = board.changed() => {}
        }
    }
}

async fn collect(store: &Store, key: &ObjectKey, generation: Generation) -> Result<(), StoreError> {
    let id = key.id.clone();
    match key.kind {
        Kind::Vrf => store.collect::<VrfSpec>(id, generation).await,
        Kind::LogicalBridge => store.collect::<LogicalBridgeSpec>(id, generation).await,
        Kind::BridgePort => store.collect::<BridgePortSpec>(id, generation).await,
        Kind::Svi => store.collect::<SviSpec>(id, generation).await,
    }
    .map(drop)
}
