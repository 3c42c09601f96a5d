//! The time a call has, on a clock that stands still unless it is told to run, or nothing else is
//! left to do.

mod store;

use std::sync::{Arc, mpsc};

use futures::FutureExt;
use tokio::{
    sync::{oneshot, watch},
    time::advance,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use xpu_model::{
    Kind, LogicalBridgeSpec, Object,
    status::{Backend, Component, PassReport, State},
};
use xpu_proto::evpn_gw::v1alpha1::{
    CreateLogicalBridgeRequest, DeleteLogicalBridgeRequest, LbOperStatus, LogicalBridge,
    LogicalBridgeSpec as Message, UpdateLogicalBridgeRequest,
    logical_bridge_service_server::LogicalBridgeService,
};

use super::*;
use crate::reconcile::Source;

/// The API over a store, and a backend that reports what it is told to, at first nothing.
struct Rig {
    api: Api,
    store: Store,
    reports: watch::Sender<Arc<PassReport>>,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let none = watch::channel(Default::default()).1;
        let store = Store::open(directory.path(), 1001..=1003, none, Default::default()).unwrap();
        Self::over(store, directory)
    }

    fn over(store: Store, directory: tempfile::TempDir) -> Self {
        let (reports, seen) = watch::channel(Arc::new(PassReport::default()));
        let board = Board::new(vec![Source {
            backend: Backend::Linux,
            kinds: &Kind::ALL,
            reports: seen,
        }]);
        Self {
            api: Api::new(store.clone(), board, Duration::from_secs(5)),
            store,
            reports,
            _directory: directory,
        }
    }

    /// Holds the store's thread up until the answer is used or dropped.
    async fn stall(&self) -> mpsc::Sender<()> {
        let (begins, begun) = oneshot::channel();
        let (go_on, waits) = mpsc::channel();
        let store = self.store.clone();
        tokio::spawn(async move {
            let hold = move |_: Option<&LogicalBridgeSpec>| {
                begins.send(()).unwrap();
                let _ = waits.recv();
                Err(())
            };
            let id = Id::user("nobody-s").unwrap();
            store.update(id, Missing::Create, hold).await
        });
        begun.await.unwrap();
        go_on
    }

    /// Waits until the store's thread has done what was asked of it.
    async fn stored(&self) {
        assert!(self.store.answers().await);
    }

    async fn create(&self, timeout: &str) -> Result<Response<LogicalBridge>, Status> {
        let request = CreateLogicalBridgeRequest {
            logical_bridge_id: "net-blue".to_owned(),
            logical_bridge: Some(bridge("", 100)),
        };
        self.api
            .create_logical_bridge(within(request, timeout))
            .await
    }

    /// The backend has worked on the store's intent and is content with it.
    fn report(&self) {
        let intent = self.store.intent();
        let live = intent.logical_bridges.values().filter(|it| !it.deleting);
        let word = |it: &Arc<Object<LogicalBridgeSpec>>| (it.key(), Component::new(State::Success));
        self.reports.send_replace(Arc::new(PassReport {
            generation: intent.generation,
            objects: live.map(word).collect(),
            ..PassReport::default()
        }));
    }

    /// Another client writes the object.
    async fn write(&self, vlan: u32) {
        let vlan = vlan.try_into().unwrap();
        let edit = move |spec: Option<&LogicalBridgeSpec>| {
            let spec = spec.unwrap().clone();
            Ok::<_, ()>(LogicalBridgeSpec { vlan, ..spec })
        };
        let written = self.store.update(id(), Missing::Refuse, edit).await;
        written.unwrap();
    }

    fn exists(&self) -> bool {
        let intent = self.store.intent();
        let found = intent.logical_bridges.values();
        found.filter(|object| !object.deleting).count() == 1
    }
}

fn id() -> Id {
    Id::user("net-blue").unwrap()
}

fn bridge(name: &str, vlan_id: u32) -> LogicalBridge {
    LogicalBridge {
        name: name.to_owned(),
        spec: Some(Message {
            vlan_id,
            ..Default::default()
        }),
        status: None,
    }
}

fn within<T>(message: T, timeout: &str) -> Request<T> {
    let mut request = Request::new(message);
    let timeout = timeout.parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", timeout);
    request
}

/// Waits for the store's thread without letting the clock run, as the runtime would.
fn at_once<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let elsewhere = || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        { runtime }.build().unwrap().block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(elsewhere).join().unwrap())
}

/// A client that gives a second must hear of its object before the second is over.
#[tokio::test(start_paused = true)]
async fn what_the_store_takes_is_not_there_for_the_machine() {
    let rig = Rig::new();
    let go_on = rig.stall().await;
    let begun = Instant::now();
    let mut call = Box::pin(rig.create("1S"));
    assert!(call.as_mut().now_or_never().is_none());
    advance(Duration::from_millis(800)).await;
    go_on.send(()).unwrap();
    rig.stored().await;
    let made = call.await.unwrap().into_inner();
    assert_eq!(begun.elapsed(), Duration::from_millis(900));
    assert_eq!(made.name, "logicalBridges/net-blue", "as it stands");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_late_is_told_of_and_goes_on() {
    let rig = Rig::new();
    let late = |status: Status| {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("the change goes on"), "{status}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "NOT_STORED_YET");
        assert_eq!(info.metadata["name"], "logicalBridges/net-blue");
    };

    let go_on = rig.stall().await;
    let begun = Instant::now();
    late(rig.create("1S").await.unwrap_err());
    assert_eq!(begun.elapsed(), Duration::from_millis(900));
    assert!(!rig.exists());
    drop(go_on);
    rig.stored().await;
    assert!(rig.exists());

    let go_on = rig.stall().await;
    let request = UpdateLogicalBridgeRequest {
        logical_bridge: Some(bridge("net-blue", 7)),
        ..Default::default()
    };
    late(
        rig.api
            .update_logical_bridge(within(request, "1S"))
            .await
            .unwrap_err(),
    );
    drop(go_on);
    rig.stored().await;
    let id = Id::user("net-blue").unwrap();
    assert_eq!(rig.store.intent().logical_bridges[&id].spec.vlan.get(), 7);

    let go_on = rig.stall().await;
    // The agent's own bound holds, too.
    let begun = Instant::now();
    let request = Request::new(DeleteLogicalBridgeRequest {
        name: "net-blue".to_owned(),
        allow_missing: false,
    });
    late(rig.api.delete_logical_bridge(request).await.unwrap_err());
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert!(rig.exists());
    drop(go_on);
    rig.stored().await;
    assert!(!rig.exists());
}

/// The store finds nothing to delete, and by the time that is looked into somebody has created it.
#[tokio::test(start_paused = true)]
async fn a_delete_is_not_answered_for_an_object_that_lives() {
    for allow_missing in [false, true] {
        let rig = Rig::new();
        let go_on = rig.stall().await;
        let request = Request::new(DeleteLogicalBridgeRequest {
            name: "net-blue".to_owned(),
            allow_missing,
        });
        let mut delete = Box::pin(rig.api.delete_logical_bridge(request));
        assert!(delete.as_mut().now_or_never().is_none());
        let mut create = Box::pin(rig.create("1S"));
        assert!(create.as_mut().now_or_never().is_none());
        drop(go_on);
        rig.stored().await;
        let begun = Instant::now();
        let answer = delete.await.map(drop).map_err(|status| status.code());
        let expected = if allow_missing {
            Ok(())
        } else {
            Err(Code::NotFound)
        };
        assert_eq!(answer, expected);
        assert_eq!(
            begun.elapsed(),
            Duration::ZERO,
            "there is nothing to wait for"
        );
        assert!(rig.exists());
    }
}

/// The store makes both in one go, and whoever deleted waits for a tombstone that is no more.
#[tokio::test(start_paused = true)]
async fn a_delete_does_not_wait_for_an_object_that_was_created_again_with_it() {
    let rig = Rig::new();
    drop(Box::pin(rig.create("1S")).now_or_never());
    at_once(rig.stored());
    let go_on = rig.stall().await;
    let request = Request::new(DeleteLogicalBridgeRequest {
        name: "net-blue".to_owned(),
        allow_missing: false,
    });
    let mut delete = Box::pin(rig.api.delete_logical_bridge(request));
    assert!(delete.as_mut().now_or_never().is_none());
    let mut create = Box::pin(rig.create("1S"));
    assert!(create.as_mut().now_or_never().is_none());
    drop(go_on);
    at_once(rig.stored());
    let begun = Instant::now();
    delete.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "that was deleted is gone");
    assert!(rig.exists());
}

/// What nobody has a word to say about is not up.
#[tokio::test(start_paused = true)]
async fn who_waits_for_an_object_that_is_deleted_learns_of_it() {
    let rig = Rig::new();
    let mut create = Box::pin(rig.create("1S"));
    assert!(create.as_mut().now_or_never().is_none());
    at_once(rig.stored());
    assert!(create.as_mut().now_or_never().is_none());
    let deleted = at_once(rig.store.delete::<LogicalBridgeSpec>(id())).unwrap();
    let begun = Instant::now();
    let shown = create.await.unwrap().into_inner().status.unwrap();
    assert_eq!(shown.oper_status(), LbOperStatus::ToBeDeleted);
    assert_eq!(begun.elapsed(), Duration::ZERO);

    // Another call for it, and this time nothing is left before it looks.
    let mut create = Box::pin(rig.create("1S"));
    assert!(create.as_mut().now_or_never().is_none());
    at_once(rig.stored());
    assert!(create.as_mut().now_or_never().is_none());
    let again = at_once(rig.store.delete::<LogicalBridgeSpec>(id())).unwrap();
    assert!(again > deleted);
    rig.report();
    let collected = at_once(rig.store.collect::<LogicalBridgeSpec>(id(), again));
    assert!(collected.unwrap().logical_bridges.is_empty());
    let refused = create.await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    assert!(refused.message().contains("deleted it"), "{refused}");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "OBJECT_DELETED");
    assert_eq!(info.metadata["name"], "logicalBridges/net-blue");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// Neither is answered with the one's spec and the state of the other's.
#[tokio::test(start_paused = true)]
async fn who_waits_for_an_object_that_another_writes_is_shown_what_it_became() {
    for settles in [true, false] {
        let rig = Rig::new();
        let mut create = Box::pin(rig.create("1S"));
        assert!(create.as_mut().now_or_never().is_none());
        at_once(rig.stored());
        assert!(create.as_mut().now_or_never().is_none());
        if !settles {
            // In time for the first change; but by now there is another one.
            rig.report();
        }
        at_once(rig.write(7));
        assert!(create.as_mut().now_or_never().is_none());
        if settles {
            rig.report();
        }
        let begun = Instant::now();
        let shown = create.await.unwrap().into_inner();
        assert_eq!(shown.spec.unwrap().vlan_id, 7);
        let (status, took) = if settles {
            (LbOperStatus::Up, Duration::ZERO)
        } else {
            (LbOperStatus::Down, Duration::from_millis(900))
        };
        assert_eq!(shown.status.unwrap().oper_status(), status);
        assert_eq!(begun.elapsed(), took);
    }
}
