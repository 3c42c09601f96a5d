//! The backend over a kernel that is played, and one look at the real one.

use std::collections::VecDeque;

use futures::FutureExt;
use xpu_model::{
    Generation, LogicalBridgeSpec,
    alloc::AllocationRules,
    status::{Component, State},
};

use super::*;
use crate::config::Config;

mod drift;

/// Looks at the machine that runs the test and changes nothing.
#[tokio::test]
async fn foreign_devices_are_known_once_it_is_open() {
    let node = Config::default().node().unwrap();
    let (foreign, seen) = watch::channel(BTreeSet::new());
    let (_facts, facts) = watch::channel(FrrFacts::Unknown);
    let _backend = LinuxBackend::open(Arc::new(node), facts, foreign)
        .await
        .unwrap();
    assert!(seen.borrow().contains(&"lo".parse().unwrap()));
}

/// Takes every action, and is as empty afterwards; but for the answers that it is given.
#[derive(Default)]
struct Played {
    answers: VecDeque<Option<RtnlError>>,
}

impl Machine for Played {
    async fn observe(&mut self, _: &Inputs<'_>) -> Result<Observed, ObserveError> {
        match self.answers.pop_front().flatten() {
            Some(error) => Err(error.into()),
            None => Ok(Observed::default()),
        }
    }

    async fn apply(&mut self, plan: LinuxPlan) -> Vec<Outcome> {
        let outcome = |step| Outcome {
            step,
            result: Ok(()),
        };
        plan.steps.into_iter().map(outcome).collect()
    }

    async fn changed(&mut self) -> Result<(), FollowError> {
        std::future::pending().await
    }
}

fn backend() -> LinuxBackend<Played> {
    let node = Config::default().node().unwrap();
    let (_, facts) = watch::channel(FrrFacts::Unknown);
    let (foreign, _) = watch::channel(BTreeSet::new());
    LinuxBackend::over(Played::default(), Arc::new(node), facts, foreign)
}

fn torn() -> RtnlError {
    RtnlError::Unsteady {
        what: "list the links".to_owned(),
    }
}

fn with_network(intent: &Intent, vlan: u32) -> Arc<Intent> {
    let mut intent = intent.clone();
    let rules = AllocationRules {
        tables: 1001..=1002,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    let spec = LogicalBridgeSpec {
        vlan: vlan.try_into().unwrap(),
        vni: None,
        vtep: None,
    };
    let id = format!("net-{vlan}").parse().unwrap();
    intent.create(id, spec, &rules).unwrap();
    Arc::new(intent)
}

#[tokio::test]
async fn an_unsteady_kernel_takes_back_no_word_and_is_looked_at_again() {
    let mut backend = backend();
    let first = with_network(&Intent::default(), 10);
    let second = with_network(&first, 11);
    let good = backend.pass(&first).await;
    assert_eq!((good.objects.len(), good.generation), (1, first.generation));

    // At the first look, and after the plan was applied.
    for (answers, planned) in [
        (vec![Some(torn())], 0),
        (vec![None, Some(torn())], good.planned),
    ] {
        for _ in 0..2 {
            backend.machine.answers = answers
                .iter()
                .map(|answer| answer.as_ref().map(|_| torn()))
                .collect();
            let report = backend.pass(&second).await;
            assert_eq!(report.objects, good.objects);
            assert_eq!(report.generation, first.generation);
            assert_eq!(report.planned, planned);
            assert_eq!(report.unobserved, None);
            assert!(report.wants_retry());
            assert_eq!(report.node.len(), good.node.len() + 1, "{:?}", report.node);
        }
    }
    let report = backend.pass(&second).await;
    assert_eq!((report.objects.len(), report.node), (2, good.node));
}

#[tokio::test]
async fn of_an_agent_that_could_not_look_yet_nothing_is_known() {
    let mut backend = backend();
    let intent = with_network(&Intent::default(), 10);
    backend.machine.answers = VecDeque::from([Some(torn())]);
    let report = backend.pass(&intent).await;
    assert!(report.objects.is_empty() && report.unobserved.is_some());
    assert_eq!(report.generation, Generation(0));
    assert!(report.wants_retry());
}

#[tokio::test]
async fn a_kernel_that_cannot_be_looked_at_is_trouble_of_every_object() {
    let mut backend = backend();
    let intent = with_network(&Intent::default(), 10);
    backend.pass(&intent).await;
    let refused = RtnlError::Malformed {
        what: "list the links".to_owned(),
        detail: "short".to_owned(),
    };
    backend.machine.answers = VecDeque::from([Some(refused)]);
    let report = backend.pass(&intent).await;
    let errs = |component: &Component| matches!(component.state, State::Error(_));
    assert!(report.objects.len() == 1 && report.objects.values().all(errs));
    assert!(report.unobserved.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unsteady_kernel_does_not_end_the_start() {
    let mut asked = 0;
    let found = steady(|| {
        asked += 1;
        let answer = if asked < 20 { Err(torn()) } else { Ok(asked) };
        async move { answer }
    });
    assert_eq!(found.await.unwrap(), 20);
    let refused = steady(|| async {
        Err::<(), _>(RtnlError::Malformed {
            what: "list the links".to_owned(),
            detail: "short".to_owned(),
        })
    });
    assert!(refused.await.is_err());
}

/// A map of ports that changes is as good a reason for a pass as an event of the kernel's.
#[tokio::test]
async fn another_map_of_ports_is_an_event_and_holds_from_the_next_pass() {
    let map = |netdev: &str| PortResolver::Map {
        by_mac: [(
            "02:00:00:00:00:01".parse().unwrap(),
            netdev.parse().unwrap(),
        )]
        .into(),
        by_id: Default::default(),
    };
    let (ports, seen) = watch::channel(map("rep0"));
    let mut backend = backend().with_ports(seen);
    let is_dirty = |backend: &mut LinuxBackend<Played>| backend.dirty().now_or_never().is_some();
    let intent = Arc::new(Intent::default());
    backend.pass(&intent).await;
    assert_eq!(backend.node.ports, map("rep0"));
    assert!(!is_dirty(&mut backend));
    ports.send_replace(map("rep1"));
    assert!(is_dirty(&mut backend));
    backend.pass(&intent).await;
    assert_eq!(backend.node.ports, map("rep1"));
    assert!(!is_dirty(&mut backend));
}
