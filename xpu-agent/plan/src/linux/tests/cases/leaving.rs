//! Devices that stay until FRR has let go.

use pretty_assertions::assert_eq;

use super::*;
use crate::VrfInFrr;

fn vrf(vni: Option<u32>) -> VrfSpec {
    VrfSpec {
        vni: vni.map(|vni| vni.try_into().unwrap()),
        loopback: "10.255.0.1/32".parse().unwrap(),
        vtep: None,
    }
}

/// FRR with the Vrf `blue` only.
fn blue(told: Option<u32>, holds: Option<u32>, instance: bool) -> FrrFacts {
    let vni = |vni: Option<u32>| vni.map(|vni| vni.try_into().unwrap());
    let blue = VrfInFrr {
        told: vni(told),
        holds: vni(holds),
        instance,
    };
    FrrFacts::Known {
        vrfs: BTreeMap::from([(id("blue"), blue)]),
    }
}

struct World {
    intent: Intent,
    node: Node,
    kernel: Kernel,
}

impl World {
    /// A Vrf with the L3VNI 10000 that is up.
    fn new() -> Self {
        let mut intent = Intent::default();
        let spec = vrf(Some(10_000));
        intent.create(id("blue"), spec, &rules()).unwrap();
        let mut world = Self {
            intent,
            node: node(),
            kernel: with_vtep(),
        };
        world.pass(&blue(Some(10_000), Some(10_000), true));
        assert_eq!(world.has(), ["blue", "l3-1", "10000"]);
        world
    }

    /// What is done, and what the Vrf then waits for.
    fn pass(&mut self, frr: &FrrFacts) -> (Vec<String>, Option<State>) {
        let inputs = Inputs {
            intent: &self.intent,
            node: &self.node,
            frr,
        };
        let plan = self.kernel.pass(&inputs).unwrap();
        let reported = report(&inputs, &self.kernel.observe(&inputs), &[]);
        (
            words(&plan.steps),
            state(&reported, xpu_model::Kind::Vrf, "blue"),
        )
    }

    fn has(&self) -> Vec<String> {
        let links = ["blue", "l3-1"].map(named).into_iter();
        let links = links.filter(|it| self.kernel.0.links.contains_key(it));
        let vnis = self.kernel.0.vnis[&named("vxl3")].iter();
        links
            .map(|it| it.to_string())
            .chain(vnis.map(ToString::to_string))
            .collect()
    }
}

fn waits(what: &str) -> (Vec<String>, Option<State>) {
    let reason = format!("waits for FRR to let go of {what}");
    (vec![], Some(State::Pending(reason)))
}

#[test]
fn a_deleted_vrf_stays_until_frr_has_let_go_of_vni_and_instance() {
    let mut world = World::new();
    world.intent.delete::<VrfSpec>(&id("blue")).unwrap();
    // The agent has just been restarted; FRR has not been told; bgpd has not heard of it.
    for facts in [
        FrrFacts::Unknown,
        blue(Some(10_000), Some(10_000), true),
        blue(None, Some(10_000), true),
    ] {
        assert_eq!(world.pass(&facts), waits("vni 10000 of vrf blue"));
    }
    let (steps, state) = world.pass(&blue(None, None, true));
    assert_eq!(
        steps,
        [
            "delete l3-1",
            "remove VLAN 1 from vxl3",
            "remove VNI 10000 from vxl3",
            "remove VLAN 1 from br-l3",
        ]
    );
    assert_eq!(Some(state), Some(waits("vrf blue").1));
    world.pass(&blue(None, None, false));
    assert_eq!(world.has(), [""; 0]);
    // What FRR has later on, from its startup configuration say, makes nothing come back.
    let (steps, state) = world.pass(&blue(Some(10_000), Some(10_000), true));
    assert_eq!((steps, state), (vec![], None));
}

#[test]
fn a_deleted_vrf_does_not_wait_for_an_frr_that_is_down() {
    let holds = blue(Some(10_000), Some(10_000), true);
    for facts in [FrrFacts::Unknown, holds] {
        let mut world = World::new();
        world.intent.delete::<VrfSpec>(&id("blue")).unwrap();
        let (_, state) = world.pass(&facts.stopped());
        assert_eq!((world.has(), state), (vec![], None));
    }
}

#[test]
fn an_frr_that_is_down_has_been_told_what_it_was_told() {
    let facts = blue(Some(10_000), Some(10_000), true).stopped();
    let vni = 10_000.try_into().unwrap();
    assert!(facts.is_ready(&id("blue"), vni) && !facts.may_hold(&id("blue"), vni));
    assert_eq!(FrrFacts::Unmanaged.stopped(), FrrFacts::Unmanaged);
}

#[rstest::rstest]
#[case::another(Some(20_000))]
#[case::none(None)]
fn an_l3vni_stays_until_frr_has_let_go_of_it(#[case] next: Option<u32>) {
    let mut world = World::new();
    let spec = vrf(next);
    world.intent.update(id("blue"), spec, &rules()).unwrap();
    for facts in [
        blue(Some(10_000), Some(10_000), true),
        blue(None, Some(10_000), true),
    ] {
        assert_eq!(world.pass(&facts), waits("vni 10000 of vrf blue"));
        assert_eq!(world.has(), ["blue", "l3-1", "10000"]);
    }
    world.pass(&blue(None, None, true));
    assert_eq!(world.has(), ["blue"]);
    world.pass(&blue(next, next, true));
    assert_eq!(world.has().len(), if next.is_some() { 3 } else { 1 });
}

/// The kernel has a VNI once.
#[test]
fn who_takes_the_vni_waits_for_it() {
    let mut world = World::new();
    let taken = 10_000.try_into().unwrap();
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(taken),
        vtep: None,
    };
    let spec = vrf(Some(20_000));
    world.intent.update(id("blue"), spec, &rules()).unwrap();
    world.intent.create(id("net-a"), net, &rules()).unwrap();
    let facts = blue(None, Some(10_000), true);
    world.pass(&facts);
    let inputs = Inputs {
        intent: &world.intent,
        node: &world.node,
        frr: &facts,
    };
    let reported = report(&inputs, &world.kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&reported, xpu_model::Kind::LogicalBridge, "net-a"),
        waits("vni 10000 of vrf blue").1
    );
    world.pass(&blue(None, None, true));
    let vnis = &world.kernel.0.vnis[&named("vxlan")];
    assert_eq!(vnis.iter().copied().collect::<Vec<_>>(), [taken]);
}

/// The VTEP goes with the last object that brings it, and the VXLAN devices with the VTEP.
#[test]
fn the_vtep_of_a_vrf_stays_as_long() {
    let mut world = World::new();
    world.node.vtep = None;
    let spec = VrfSpec {
        vtep: Some("192.0.2.1/32".parse().unwrap()),
        ..vrf(Some(10_000))
    };
    world.intent.update(id("blue"), spec, &rules()).unwrap();
    let holds = blue(Some(10_000), Some(10_000), true);
    world.pass(&holds);
    world.intent.delete::<VrfSpec>(&id("blue")).unwrap();
    assert_eq!(world.pass(&holds), waits("vni 10000 of vrf blue"));
    // Who comes with another waits for that too, and is not refused.
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(20_000.try_into().unwrap()),
        vtep: Some("192.0.2.2/32".parse().unwrap()),
    };
    world.intent.create(id("net-a"), net, &rules()).unwrap();
    world.pass(&holds);
    let inputs = Inputs {
        intent: &world.intent,
        node: &world.node,
        frr: &holds,
    };
    let reported = report(&inputs, &world.kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&reported, xpu_model::Kind::LogicalBridge, "net-a"),
        waits("vni 10000 of vrf blue").1
    );
    world
        .intent
        .delete::<LogicalBridgeSpec>(&id("net-a"))
        .unwrap();
    world.pass(&blue(None, None, false));
    assert!(!world.kernel.0.links.contains_key(&named("vxl3")));
}
