//! The loop under paused time, with a backend that is told what to report.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use xpu_model::status::{Component, PassReport, State};
use xpu_model::{Generation, Id, Kind, ObjectKey, VrfSpec, alloc::AllocationRules};

use super::{schedule::AUDIT, *};
use crate::telemetry::{metrics::Metrics, trace::Causes};

/// Reports the next of `states` for every object, the last one for ever.
struct Scripted {
    states: Vec<State>,
    passes: mpsc::UnboundedSender<Instant>,
    dirty: watch::Receiver<()>,
}

impl Backend for Scripted {
    const NAME: status::Backend = status::Backend::Linux;
    const KINDS: &'static [Kind] = &Kind::ALL;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        self.passes.send(Instant::now()).unwrap();
        let state = match self.states.len() {
            1 => self.states[0].clone(),
            _ => self.states.remove(0),
        };
        let component = |id: &Id| {
            (
                ObjectKey::new(Kind::Vrf, id.clone()),
                Component::new(state.clone()),
            )
        };
        PassReport {
            generation: intent.generation,
            objects: intent
                .vrfs
                .keys()
                .map(component)
                .collect::<BTreeMap<_, _>>(),
            ..PassReport::default()
        }
    }

    async fn dirty(&mut self) {
        if self.dirty.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

mod cost;

struct Rig {
    intent: watch::Sender<Arc<Intent>>,
    dirty: watch::Sender<()>,
    passes: mpsc::UnboundedReceiver<Instant>,
    board: Board,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// What has become of a Vrf as it is wanted now.
    async fn settled(&mut self, vrf: &str) -> board::ObjectStatus {
        let key = ObjectKey::parse(Kind::Vrf, vrf).unwrap();
        let generation = self.intent.borrow().generation;
        loop {
            let status = self.board.look().status(&key, generation);
            if status.is_settled() {
                return status;
            }
            assert!(self.board.changed().await, "the loop has ended");
        }
    }
}

fn source(
    backend: status::Backend,
    kinds: &'static [Kind],
    reports: watch::Receiver<Arc<PassReport>>,
) -> Source {
    Source {
        backend,
        kinds,
        reports,
    }
}

fn rig(states: &[State]) -> Rig {
    let (intent, intent_seen) = watch::channel(Arc::new(Intent::default()));
    let (dirty, dirty_seen) = watch::channel(());
    let (passes_made, passes) = mpsc::unbounded_channel();
    let (reports, seen) = watch::channel(Arc::new(PassReport::default()));
    let stop = CancellationToken::new();
    let backend = Scripted {
        states: states.to_vec(),
        passes: passes_made,
        dirty: dirty_seen,
    };
    let task = tokio::spawn(run(
        backend,
        intent_seen,
        reports,
        telemetry(),
        stop.clone(),
    ));
    let board = Board::new(vec![source(status::Backend::Linux, &Kind::ALL, seen)]);
    Rig {
        intent,
        dirty,
        passes,
        board,
        stop,
        task,
    }
}

fn telemetry() -> PassTelemetry {
    PassTelemetry::new(
        status::Backend::Linux,
        &Metrics::default(),
        Causes::default(),
    )
}

fn with_vrf(name: &str) -> Arc<Intent> {
    let mut intent = Intent::default();
    let rules = AllocationRules {
        tables: 1001..=1010,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    let spec = VrfSpec {
        vni: None,
        loopback: "10.0.0.1/32".parse().unwrap(),
        vtep: None,
    };
    intent.create(name.parse().unwrap(), spec, &rules).unwrap();
    Arc::new(intent)
}

#[tokio::test(start_paused = true)]
async fn a_change_of_intent_starts_a_pass_at_once() {
    let mut rig = rig(&[State::Success]);
    rig.passes.recv().await.unwrap();
    let changed = Instant::now();
    rig.intent.send_replace(with_vrf("blue"));
    assert_eq!(rig.passes.recv().await.unwrap(), changed);
    assert!(rig.settled("blue").await.is_up());
}

#[tokio::test(start_paused = true)]
async fn an_event_starts_a_pass_at_once() {
    let mut rig = rig(&[State::Success]);
    rig.passes.recv().await.unwrap();
    let moved = Instant::now();
    rig.dirty.send_replace(());
    assert_eq!(rig.passes.recv().await.unwrap(), moved);
}

#[tokio::test(start_paused = true)]
async fn trouble_is_tried_again_with_growing_waits_and_the_next_change_is_not_kept_waiting() {
    let mut rig = rig(&[State::Error("busy".to_owned())]);
    rig.intent.send_replace(with_vrf("blue"));
    let mut times = Vec::new();
    while times.len() < 12 {
        times.push(rig.passes.recv().await.unwrap());
    }
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits.last().unwrap() > &Duration::from_secs(20),
        "{waits:?}"
    );
    assert!(
        waits.iter().all(|wait| *wait <= Duration::from_secs(38)),
        "{waits:?}"
    );
    let changed = Instant::now();
    rig.intent.send_replace(with_vrf("green"));
    assert_eq!(rig.passes.recv().await.unwrap(), changed);
}

#[tokio::test(start_paused = true)]
async fn all_well_is_audited_seldom() {
    let mut rig = rig(&[State::Success]);
    let first = rig.passes.recv().await.unwrap();
    let audit = rig.passes.recv().await.unwrap() - first;
    assert!(
        (AUDIT * 3 / 4..=AUDIT * 5 / 4).contains(&audit),
        "{audit:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_settled_and_not_tried_again_in_a_hurry() {
    let mut rig = rig(&[State::Refused("table full".to_owned())]);
    rig.passes.recv().await.unwrap();
    rig.intent.send_replace(with_vrf("blue"));
    let refused = rig.passes.recv().await.unwrap();
    assert!(!rig.settled("blue").await.is_up());
    assert!(rig.passes.recv().await.unwrap() - refused >= AUDIT * 3 / 4);
}

/// No retry mends it, but what stood in the way may go.
#[tokio::test(start_paused = true)]
async fn what_is_refused_comes_up_with_an_event() {
    let refused = State::Refused("a device is in the way".to_owned());
    let mut rig = rig(&[refused.clone(), refused, State::Success]);
    rig.passes.recv().await.unwrap();
    rig.intent.send_replace(with_vrf("blue"));
    rig.passes.recv().await.unwrap();
    assert!(!rig.settled("blue").await.is_up());
    let gone = Instant::now();
    rig.dirty.send_replace(());
    assert_eq!(rig.passes.recv().await.unwrap(), gone);
    while !rig.settled("blue").await.is_up() {
        assert!(rig.board.changed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_loop() {
    let mut rig = rig(&[State::Success]);
    rig.passes.recv().await.unwrap();
    rig.stop.cancel();
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_kept_waiting_by_long_trouble() {
    let mut rig = rig(&[State::Error("away".to_owned())]);
    rig.intent.send_replace(with_vrf("blue"));
    for _ in 0..12 {
        rig.passes.recv().await.unwrap();
    }
    let back = Instant::now();
    rig.dirty.send_replace(());
    assert_eq!(rig.passes.recv().await.unwrap(), back, "at once");
    let retried = rig.passes.recv().await.unwrap() - back;
    assert!(retried <= Duration::from_millis(130), "{retried:?}");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_events_in_trouble_is_heard_once_a_second() {
    let mut rig = rig(&[State::Error("away".to_owned())]);
    rig.intent.send_replace(with_vrf("blue"));
    let dirty = rig.dirty.clone();
    let storm = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            tick.tick().await;
            dirty.send_replace(());
        }
    });
    let begin = Instant::now();
    let mut passes = 0;
    while rig.passes.recv().await.unwrap() < begin + Duration::from_secs(20) {
        passes += 1;
    }
    storm.abort();
    assert!((15..=40).contains(&passes), "{passes} passes in 20 s");
}

/// A VNI without a VTEP, say: Linux refuses it, and FRR would wait for its device for ever.
#[test]
fn what_one_backend_refuses_is_settled_whatever_another_waits_for() {
    let refused = || State::Refused("no VTEP".to_owned());
    let waits = || State::Pending("no device yet".to_owned());
    let fails = || State::Error("busy".to_owned());
    for (reached, linux, frr, settled) in [
        (true, refused(), waits(), true),
        (true, State::Success, refused(), true),
        (true, State::Success, State::Success, true),
        (false, refused(), waits(), false),
        (true, State::Success, waits(), false),
        (true, fails(), waits(), false),
    ] {
        let status = board::ObjectStatus {
            components: vec![
                (status::Backend::Linux, Component::new(linux)),
                (status::Backend::Frr, Component::new(frr)),
            ],
            reached,
        };
        assert_eq!(status.is_settled(), settled, "{status:?}");
    }
}

#[test]
fn an_object_waits_only_for_backends_that_have_a_part_in_its_kind() {
    let reached = PassReport {
        generation: Generation(7),
        ..PassReport::default()
    };
    let (_linux, linux) = watch::channel(Arc::new(reached));
    let (_hung, hung) = watch::channel(Arc::new(PassReport::default()));
    let frr = <frr::FrrBackend as Backend>::KINDS;
    let board = Board::new(vec![
        source(status::Backend::Linux, &Kind::ALL, linux),
        source(status::Backend::Frr, frr, hung),
    ]);
    for kind in Kind::ALL {
        let key = ObjectKey::parse(kind, "blue").unwrap();
        let status = board.said().status(&key, Generation(7));
        let alone = kind == Kind::BridgePort;
        assert_eq!(status.reached, alone, "{key}");
        assert_eq!(status.components.is_empty(), alone, "{key}");
        assert_eq!(board.is_gone(&key, Generation(7)), alone, "{key}");
    }
}
