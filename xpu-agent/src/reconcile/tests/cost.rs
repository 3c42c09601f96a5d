//! What a change costs, counted: passes of played backends, commands to played daemons.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use xpu_model::{BridgePortSpec, LogicalBridgeSpec, PortMode, Spec};
use xpu_plan::FrrFacts;

use super::*;
use crate::{config::Config, store::Ledger};

const NETWORKS: u32 = 300;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn put<S: Spec>(intent: &Intent, name: &str, spec: S) -> Arc<Intent> {
    let rules = AllocationRules {
        tables: 1001..=1010,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    let mut intent = intent.clone();
    intent.create(id(name), spec, &rules).unwrap();
    Arc::new(intent)
}

fn delete<S: Spec>(intent: &Intent, name: &str) -> Arc<Intent> {
    let mut intent = intent.clone();
    intent.delete::<S>(&id(name)).unwrap();
    Arc::new(intent)
}

fn collect<S: Spec>(intent: &Intent, name: &str) -> Arc<Intent> {
    let mut intent = intent.clone();
    let generation = S::objects(&intent)[&id(name)].generation;
    assert!(intent.collect::<S>(&id(name), generation));
    Arc::new(intent)
}

fn network(vlan: u32) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: vlan.try_into().unwrap(),
        vni: None,
        vtep: None,
    }
}

fn networks() -> Arc<Intent> {
    let nets = 1..=NETWORKS;
    nets.fold(Arc::default(), |intent, vlan| {
        put(&intent, &format!("net-{vlan}"), network(vlan))
    })
}

fn port() -> BridgePortSpec {
    BridgePortSpec {
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mode: PortMode::Access(id("net-7")),
    }
}

/// Does at once what is asked, unless told to fail; with a part in ports or, like FRR, without.
struct Counted<const PORTS: bool> {
    passes: Arc<AtomicUsize>,
    fails: watch::Receiver<bool>,
}

impl<const PORTS: bool> Backend for Counted<PORTS> {
    const NAME: status::Backend = status::Backend::Linux;
    const KINDS: &'static [Kind] = if PORTS {
        &Kind::ALL
    } else {
        <frr::FrrBackend as Backend>::KINDS
    };

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        self.passes.fetch_add(1, Ordering::Relaxed);
        let dead: BTreeSet<_> = crate::store::tombstones(intent).into_iter().collect();
        let live = intent
            .keys()
            .filter(|key| !dead.iter().any(|(dead, _)| dead == key));
        let live = live.filter(|key| Self::KINDS.contains(&key.kind));
        let fails = *self.fails.borrow_and_update();
        PassReport {
            generation: intent.generation,
            failed: usize::from(fails),
            objects: live
                .map(|key| (key, Component::new(State::Success)))
                .collect(),
            ..PassReport::default()
        }
    }

    async fn dirty(&mut self) {
        if self.fails.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Loop {
    passes: Arc<AtomicUsize>,
    reports: watch::Receiver<Arc<PassReport>>,
}

impl Loop {
    fn start<const PORTS: bool>(
        intent: &watch::Sender<Arc<Intent>>,
        fails: &watch::Sender<bool>,
    ) -> Self {
        let passes = Arc::new(AtomicUsize::new(0));
        let (reports, seen) = watch::channel(Arc::new(PassReport::default()));
        let backend = Counted::<PORTS> {
            passes: passes.clone(),
            fails: fails.subscribe(),
        };
        let task = run(
            backend,
            intent.subscribe(),
            reports,
            telemetry(),
            CancellationToken::new(),
        );
        drop(tokio::spawn(task));
        Self {
            passes,
            reports: seen,
        }
    }

    /// The passes since it was asked last, once nothing moves any more, long before an audit.
    #[expect(
        clippy::disallowed_methods,
        reason = "time is paused: it passes once nothing else is to be done"
    )]
    async fn passes(&self) -> usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.passes.swap(0, Ordering::Relaxed)
    }

    fn generation(&self) -> Generation {
        self.reports.borrow().generation
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_among_many_networks_is_a_pass_of_who_has_a_part_in_it() {
    let (intent, _) = watch::channel(networks());
    let (fails, _) = watch::channel(false);
    let linux = Loop::start::<true>(&intent, &fails);
    let frr = Loop::start::<false>(&intent, &fails);
    assert_eq!((linux.passes().await, frr.passes().await), (1, 1));
    let board = Board::new(vec![
        source(status::Backend::Linux, &Kind::ALL, linux.reports.clone()),
        source(
            status::Backend::Frr,
            <frr::FrrBackend as Backend>::KINDS,
            frr.reports.clone(),
        ),
    ]);
    let send = |next: &Arc<Intent>| drop(intent.send_replace(next.clone()));
    let key = ObjectKey::parse(Kind::BridgePort, "port1").unwrap();

    let with_port = put(&networks_of(&intent), "port1", port());
    send(&with_port);
    assert_eq!((linux.passes().await, frr.passes().await), (1, 0));
    assert_eq!(frr.generation(), with_port.generation);
    assert!(board.said().status(&key, with_port.generation).is_up());

    let deleted = delete::<BridgePortSpec>(&with_port, "port1");
    send(&deleted);
    assert_eq!((linux.passes().await, frr.passes().await), (1, 0));
    assert_eq!(frr.generation(), deleted.generation);
    assert!(board.is_gone(&key, deleted.generation));

    // It is forgotten: nobody has anything to do.
    let forgotten = collect::<BridgePortSpec>(&deleted, "port1");
    send(&forgotten);
    assert_eq!((linux.passes().await, frr.passes().await), (0, 0));

    // The same id again is a new port.
    let again = put(&forgotten, "port1", port());
    send(&again);
    assert_eq!((linux.passes().await, frr.passes().await), (1, 0));
    assert!(board.said().status(&key, again.generation).is_up());
}

fn networks_of(intent: &watch::Sender<Arc<Intent>>) -> Arc<Intent> {
    intent.borrow().clone()
}

#[tokio::test(start_paused = true)]
async fn what_both_have_a_part_in_is_a_pass_of_both_until_it_is_forgotten() {
    let (intent, _) = watch::channel(networks());
    let (fails, _) = watch::channel(false);
    let linux = Loop::start::<true>(&intent, &fails);
    let frr = Loop::start::<false>(&intent, &fails);
    assert_eq!((linux.passes().await, frr.passes().await), (1, 1));
    let start = networks_of(&intent);

    let deleted = delete::<LogicalBridgeSpec>(&start, "net-9");
    intent.send_replace(deleted.clone());
    assert_eq!((linux.passes().await, frr.passes().await), (1, 1));
    let forgotten = collect::<LogicalBridgeSpec>(&deleted, "net-9");
    intent.send_replace(forgotten.clone());
    assert_eq!((linux.passes().await, frr.passes().await), (0, 0));

    // Forgotten and made anew before anybody looked, with another number.
    let deleted = delete::<LogicalBridgeSpec>(&forgotten, "net-8");
    intent.send_replace(deleted.clone());
    assert_eq!((linux.passes().await, frr.passes().await), (1, 1));
    let forgotten = collect::<LogicalBridgeSpec>(&deleted, "net-8");
    intent.send_replace(put(&forgotten, "net-8", network(4000)));
    assert_eq!((linux.passes().await, frr.passes().await), (1, 1));
}

/// What failed is tried at the next change, whosever it is, and nobody says it is done.
#[tokio::test(start_paused = true)]
async fn a_backend_in_trouble_does_not_pass_over_a_change() {
    let (intent, _) = watch::channel(networks());
    let (fails, _) = watch::channel(true);
    let frr = Loop::start::<false>(&intent, &fails);
    assert_eq!(frr.passes().await, 1);
    let with_port = put(&networks_of(&intent), "port1", port());
    intent.send_replace(with_port.clone());
    assert_eq!(frr.passes().await, 1);
    fails.send_replace(false);
    assert_eq!(frr.passes().await, 1);
    intent.send_replace(delete::<BridgePortSpec>(&with_port, "port1"));
    assert_eq!(frr.passes().await, 0);
}

/// Daemons that have no configuration and take every command.
fn daemons(directory: &Path) -> Arc<AtomicUsize> {
    let commands = Arc::new(AtomicUsize::new(0));
    for daemon in ["mgmtd", "zebra", "bgpd"] {
        let listener = UnixListener::bind(directory.join(format!("{daemon}.vty"))).unwrap();
        let commands = commands.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, commands.clone()));
            }
        });
    }
    commands
}

async fn serve(mut stream: UnixStream, commands: Arc<AtomicUsize>) {
    let mut pending = Vec::new();
    while stream.read_buf(&mut pending).await.is_ok_and(|n| n > 0) {
        while let Some(end) = pending.iter().position(|byte| *byte == 0) {
            let command: Vec<u8> = pending.drain(..=end).collect();
            commands.fetch_add(1, Ordering::Relaxed);
            let text = match &command[..end] {
                b"show version" => "FRRouting 10.3 (xpu) on Linux(6.12).\n",
                _ => "",
            };
            let answer = [text.as_bytes(), &[0; 4]].concat();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

#[tokio::test]
async fn frr_is_not_asked_anything_for_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let commands = daemons(directory.path());
    let kept = frr::Kept {
        ledger: Ledger::open(directory.path()).unwrap(),
        startup: None,
    };
    let (linux, linux_seen) = watch::channel(0);
    let backend = frr::FrrBackend::new(
        directory.path().to_owned(),
        kept,
        Arc::new(Config::default().node().unwrap()),
        watch::channel(FrrFacts::Unknown).0,
        linux_seen,
        watch::channel(BTreeSet::new()).1,
        Metrics::default().frr,
    );
    let (intent, intent_seen) = watch::channel(networks());
    let (reports, mut seen) = watch::channel(Arc::new(PassReport::default()));
    let stop = CancellationToken::new();
    drop(tokio::spawn(run(
        backend,
        intent_seen,
        reports,
        telemetry(),
        stop.clone(),
    )));
    let start = networks_of(&intent);
    let reached = |generation| move |report: &Arc<PassReport>| report.generation >= generation;
    let report = seen.wait_for(reached(start.generation)).await.unwrap();
    assert!(!report.wants_retry(), "{report:?}");
    drop(report);
    let before = commands.load(Ordering::Relaxed);
    assert!(before > 0);

    let with_port = put(&start, "port1", port());
    intent.send_replace(with_port.clone());
    drop(seen.wait_for(reached(with_port.generation)).await.unwrap());
    assert_eq!(commands.load(Ordering::Relaxed), before);

    // What it looks at it is told of by Linux.
    linux.send_replace(1);
    seen.changed().await.unwrap();
    assert!(commands.load(Ordering::Relaxed) > before);
    stop.cancel();
}
