use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::Sender,
    },
};

use futures::FutureExt;
use xpu_model::{Generation, LogicalBridgeSpec, VlanId, VrfSpec};

use super::*;

fn open(directory: &Path) -> Result<Store, OpenError> {
    Store::open(
        directory,
        1001..=1003,
        watch::channel(BTreeSet::new()).1,
        StoreTelemetry::default(),
    )
}

fn bridge(vlan: u32) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: VlanId::try_from(vlan).unwrap(),
        vni: None,
        vtep: None,
    }
}

fn vrf() -> VrfSpec {
    VrfSpec {
        vni: None,
        loopback: "10.0.0.1/32".parse().unwrap(),
        vtep: None,
    }
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// Opens again once the first thread has let go of the file.
fn reopen(directory: &Path, store: Store) -> Store {
    let Store {
        requests, intent, ..
    } = store;
    drop(requests);
    // The thread drops the publishing end after the database, so this ends with the thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut intent = intent;
    while runtime.block_on(intent.changed()).is_ok() {}
    open(directory).unwrap()
}

#[test]
fn a_commit_survives_a_restart_with_its_allocation_and_generation() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        store.create(id("blue"), vrf()).await.unwrap();
        store.create(id("net-1"), bridge(10)).await.unwrap();
        store
            .delete::<LogicalBridgeSpec>(id("net-1"))
            .await
            .unwrap();
        store
            .collect::<LogicalBridgeSpec>(id("net-1"), Generation(3))
            .await
            .unwrap();
    });
    let before = store.intent();
    let store = reopen(directory.path(), store);
    assert_eq!(store.intent(), before, "as it was, allocations included");
    assert_eq!(
        store.intent().generation,
        Generation(3),
        "no generation is used twice"
    );
    let mac = |intent: &Intent| intent.vrfs[&id("blue")].allocation.router_mac;
    runtime.block_on(store.create(id("green"), vrf())).unwrap();
    assert_ne!(
        mac(&store.intent()),
        store.intent().vrfs[&id("green")].allocation.router_mac
    );
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.create(id("net-1"), bridge(10)).await.unwrap();
    let before = store.intent();
    let error = store.create(id("net-2"), bridge(10)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.vlan_id: 10 is in use by logicalBridges/net-1; choose another"
    );
    assert!(Arc::ptr_eq(&before, &store.intent()));
}

#[tokio::test]
async fn concurrent_writers_never_lose_an_update() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let tasks: Vec<_> = (1..=100)
        .map(|vlan| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .create(id(&format!("net-{vlan}")), bridge(vlan))
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.intent().logical_bridges.len(), 100);
    assert_eq!(store.intent().generation, Generation(100));
}

#[tokio::test]
async fn an_edit_sees_what_the_one_before_it_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.create(id("net-1"), bridge(1)).await.unwrap();
    let edits = (0..50).map(|_| {
        store.update::<LogicalBridgeSpec, String>(id("net-1"), Missing::Refuse, |spec| {
            Ok(bridge(u32::from(spec.unwrap().vlan) + 1))
        })
    });
    for result in futures::future::join_all(edits).await {
        result.unwrap();
    }
    assert_eq!(
        store.intent().logical_bridges[&id("net-1")].spec,
        bridge(51)
    );
    let refused = store
        .update::<LogicalBridgeSpec, _>(id("net-1"), Missing::Refuse, |_| Err("not this one"))
        .await;
    assert!(matches!(refused, Err(UpdateError::Edit("not this one"))));
}

#[tokio::test]
async fn tables_run_out_with_the_range_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for name in ["vrf-1", "vrf-2", "vrf-3"] {
        store.create(id(name), vrf()).await.unwrap();
    }
    let error = store.create(id("vrf-4"), vrf()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no free routing table is left in 1001..=1003")
    );
}

#[test]
fn a_second_agent_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path()).unwrap();
    assert!(matches!(
        open(directory.path()),
        Err(OpenError::InUse { .. })
    ));
}

/// Version 1 of the records, as the first release wrote them. This file never changes.
#[test]
fn version_1_is_read() {
    let golden = include_str!("goldens/v1.jsonl");
    let mut intent = Intent::default();
    for line in golden.lines() {
        let (key, record) = line.split_once(' ').unwrap();
        record::decode(key, record.as_bytes(), &mut intent).unwrap();
    }
    let red = &intent.vrfs[&id("red-tenant")];
    assert_eq!(red.allocation.table.get(), 1001);
    assert_eq!(red.allocation.device.as_str(), "red-tenant");
    assert_eq!(intent.svis[&id("svi-red")].spec.gateways.len(), 2);
    assert!(intent.bridge_ports[&id("port-1")].deleting);
    assert_eq!(intent.generation, Generation(7));
    assert_eq!(red.created, red.generation);
}

/// Version 2 adds when an object was created. This file never changes either.
#[test]
fn version_2_is_read_and_written() {
    let golden = include_str!("goldens/v2.jsonl");
    let mut intent = Intent::default();
    for line in golden.lines() {
        let (key, record) = line.split_once(' ').unwrap();
        record::decode(key, record.as_bytes(), &mut intent).unwrap();
    }
    let red = &intent.vrfs[&id("red-tenant")];
    let port = &intent.bridge_ports[&id("port-1")];
    assert_eq!(
        (port.created, port.generation),
        (Generation(3), Generation(7))
    );
    let written =
        |key: &str, record: Vec<u8>| format!("{key} {}", String::from_utf8(record).unwrap());
    let again = [
        written("vrfs/red-tenant", record::encode(red)),
        written(
            "logicalBridges/net-1",
            record::encode(&intent.logical_bridges[&id("net-1")]),
        ),
        written(
            "bridgePorts/port-1",
            record::encode(&intent.bridge_ports[&id("port-1")]),
        ),
        written("svis/svi-red", record::encode(&intent.svis[&id("svi-red")])),
    ];
    assert_eq!(
        again.join("\n"),
        golden.trim_end(),
        "what is written today is version 2 still"
    );
}

#[test]
fn a_newer_record_is_refused_not_guessed() {
    let error = record::decode("vrfs/blue", br#"{"version":3}"#, &mut Intent::default());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("has version 3, this agent reads 2")
    );
}

/// A disk that fails when told to.
#[derive(Debug)]
struct Disk {
    memory: redb::backends::InMemoryBackend,
    broken: Arc<AtomicBool>,
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        if self.broken.load(Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.memory.write(offset, data)
    }
}

/// A store on a disk that fails once that is set.
pub(crate) fn on_a_disk() -> (Store, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk {
        memory: redb::backends::InMemoryBackend::new(),
        broken: broken.clone(),
    };
    let (database, loaded) = Database::on(disk).unwrap();
    let foreign = watch::channel(BTreeSet::new()).1;
    let store = Store::start(
        database,
        loaded,
        1001..=1003,
        foreign,
        StoreTelemetry::default(),
    );
    (store.unwrap(), broken)
}

#[tokio::test]
async fn a_disk_that_fails_is_told_to_every_caller_and_ends_the_thread() {
    let (store, broken) = on_a_disk();
    store.create(id("net-1"), bridge(1)).await.unwrap();
    let before = store.intent();
    broken.store(true, Relaxed);
    // More than a batch: some wait in the queue when the thread ends.
    let creates = (2..200).map(|vlan| store.create(id(&format!("net-{vlan}")), bridge(vlan)));
    let answers = futures::future::join_all(creates).await;
    for answer in &answers {
        assert!(
            matches!(answer, Err(StoreError::Disk(_) | StoreError::Stopped)),
            "{answer:?}"
        );
    }
    assert!(matches!(answers[0], Err(StoreError::Disk(_))));
    let mut published = store.watch();
    published.mark_unchanged();
    assert!(published.changed().await.is_err(), "the thread has ended");
    assert!(
        Arc::ptr_eq(&before, &store.intent()),
        "nothing was published"
    );
    let failure = store.failure().borrow().clone().unwrap().to_string();
    assert!(failure.contains("/test/intent.redb"), "{failure}");
    assert!(failure.contains("start the agent again"), "{failure}");
    assert!(matches!(
        store.create(id("net-1"), bridge(1)).await,
        Err(StoreError::Stopped)
    ));
}

/// A change that the store's thread is at until a word comes.
async fn held(store: &Store) -> (impl Future<Output = Answer>, Sender<()>) {
    let (begun, begins) = oneshot::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let mut slow = Box::pin(store.change(move |_, _| {
        begun.send(()).unwrap();
        goes.recv().unwrap();
        Ok(Vec::new())
    }));
    assert!(slow.as_mut().now_or_never().is_none());
    begins.await.unwrap();
    (slow, go)
}

#[tokio::test]
async fn a_full_queue_is_no_dead_thread() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let (slow, go) = held(&store).await;
    let mut waiting = Vec::new();
    for _ in 0..QUEUE {
        let mut change = Box::pin(store.change(|_, _| Ok(Vec::new())));
        assert!(change.as_mut().now_or_never().is_none());
        waiting.push(change);
    }
    let busy = store.change(|_, _| Ok(Vec::new())).await;
    assert!(matches!(busy, Err(StoreError::Busy)), "{busy:?}");
    let mut answers = std::pin::pin!(store.answers());
    assert!(answers.as_mut().now_or_never().is_none());
    go.send(()).unwrap();
    assert!(answers.await);
    slow.await.unwrap();
    for change in waiting {
        change.await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_has_a_share_of_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let (slow, go) = held(&store).await;
    let share = Share::default();
    let (greedy, again) = (store.shared(share.clone()), store.shared(share));
    let mut waiting = Vec::new();
    for _ in 0..SHARE {
        let mut change = Box::pin(greedy.change(|_, _| Ok(Vec::new())));
        assert!(change.as_mut().now_or_never().is_none());
        waiting.push(change);
    }
    let busy = again.change(|_, _| Ok(Vec::new())).now_or_never();
    assert!(
        matches!(busy, Some(Err(StoreError::CallerBusy))),
        "{busy:?}"
    );
    let other = store.shared(Share::default());
    let mut other = std::pin::pin!(other.change(|_, _| Ok(Vec::new())));
    assert!(other.as_mut().now_or_never().is_none(), "it waits");
    go.send(()).unwrap();
    slow.await.unwrap();
    other.await.unwrap();
    // Who gives up waiting has its place until the thread has come to it.
    drop(waiting);
    assert!(store.answers().await);
    again.change(|_, _| Ok(Vec::new())).await.unwrap();
}
