//! The order against the agent's own rules: what it says is possible the intent takes, step by
//! step, and what it says is not possible is so in no order.

use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use xpu_model::alloc::AllocationRules;
use xpu_model::{
    BridgePortSpec, Intent, Kind, LogicalBridgeSpec, ObjectKey, PortMode, RuleError, SviBgp,
    SviSpec, VrfSpec,
};

use super::*;
use crate::apply::plan::plan;
use crate::manifest::{Manifest, PortType};
use crate::view::Oper;

type Manifests = BTreeMap<ObjectKey, Manifest>;

fn manifest(kind: Kind, id: &str, spec: Value) -> Manifest {
    Manifest {
        key: ObjectKey::parse(kind, id).expect("a name"),
        spec: Spec::read(kind, spec).expect("a spec"),
    }
}

fn bridge(id: &str, vlan: u8, vni: Option<u8>) -> Manifest {
    let spec = json!({"vlanId": vlan, "vni": vni});
    manifest(Kind::LogicalBridge, id, spec)
}

fn vrf(id: &str, vni: Option<u8>) -> Manifest {
    let spec = json!({"loopbackIpPrefix": "10.0.0.1/32", "vni": vni});
    manifest(Kind::Vrf, id, spec)
}

/// A transparent trunk where no bridges are named.
fn port(id: &str, mac: u8, bridges: &[&str]) -> Manifest {
    let mac = format!("02:00:00:00:00:{mac:02x}");
    let spec = json!({"macAddress": mac, "ptype": "TRUNK", "logicalBridges": bridges});
    manifest(Kind::BridgePort, id, spec)
}

fn svi(id: &str, vrf: &str, bridge: &str, gateways: &[&str]) -> Manifest {
    let spec = json!({"vrf": vrf, "logicalBridge": bridge, "macAddress": "02:00:00:00:00:01",
        "gwIpPrefix": gateways});
    manifest(Kind::Svi, id, spec)
}

fn all(manifests: impl IntoIterator<Item = Manifest>) -> Manifests {
    let keyed = manifests.into_iter().map(|it| (it.key.clone(), it));
    keyed.collect()
}

fn live(manifests: &Manifests, oper: Oper) -> Objects {
    let live = |it: &Manifest| {
        let live = Live {
            spec: it.spec.clone(),
            oper,
            components: Vec::new(),
        };
        (it.key.clone(), live)
    };
    manifests.values().map(live).collect()
}

fn rules() -> AllocationRules {
    AllocationRules {
        tables: 1001..=1100,
        node_seed: [7; 16],
        foreign_devices: BTreeSet::new(),
    }
}

/// Creates or updates, by the agent's rules.
fn put(intent: &mut Intent, wanted: &Manifest) -> Result<(), RuleError> {
    fn set<S: xpu_model::Spec>(
        intent: &mut Intent,
        key: &ObjectKey,
        spec: S,
    ) -> Result<(), RuleError> {
        let id = key.id.clone();
        match intent.get::<S>(&id) {
            Some(_) => intent.update(id, spec, &rules()).map(drop),
            None => intent.create(id, spec, &rules()).map(drop),
        }
    }
    let key = &wanted.key;
    match wanted.spec.clone() {
        Spec::Vrf(it) => {
            let spec = VrfSpec {
                vni: it.vni,
                loopback: it.loopback_ip_prefix.0,
                vtep: None,
            };
            set(intent, key, spec)
        }
        Spec::LogicalBridge(it) => {
            let spec = LogicalBridgeSpec {
                vlan: it.vlan_id,
                vni: it.vni,
                vtep: None,
            };
            set(intent, key, spec)
        }
        Spec::BridgePort(it) => {
            let mode = match (it.ptype, it.logical_bridges.first()) {
                (PortType::Access, Some(id)) => PortMode::Access(id.clone()),
                _ => PortMode::trunk(it.logical_bridges.into_iter().collect()),
            };
            let mac = it.mac_address.0;
            set(intent, key, BridgePortSpec { mac, mode })
        }
        Spec::Svi(it) => {
            let spec = SviSpec {
                vrf: it.vrf,
                logical_bridge: it.logical_bridge,
                mac: it.mac_address.0,
                gateways: it
                    .gw_ip_prefix
                    .into_iter()
                    .map(|it| it.0)
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap(),
                bgp: it.remote_as.map(|remote_as| SviBgp { remote_as }),
            };
            set(intent, key, spec)
        }
    }
}

/// Deletes, and is gone at once.
fn delete(intent: &mut Intent, key: &ObjectKey) -> Result<(), RuleError> {
    fn gone<S: xpu_model::Spec>(intent: &mut Intent, key: &ObjectKey) -> Result<(), RuleError> {
        intent.delete::<S>(&key.id)?;
        let generation = intent.generation;
        assert!(intent.collect::<S>(&key.id, generation));
        Ok(())
    }
    match key.kind {
        Kind::Vrf => gone::<VrfSpec>(intent, key),
        Kind::LogicalBridge => gone::<LogicalBridgeSpec>(intent, key),
        Kind::BridgePort => gone::<BridgePortSpec>(intent, key),
        Kind::Svi => gone::<SviSpec>(intent, key),
    }
}

fn carry_out(intent: &mut Intent, change: &Change) -> Result<(), RuleError> {
    match change {
        Change::Create(wanted) | Change::Update(wanted, _) => put(intent, wanted),
        Change::Delete(key) => delete(intent, key),
    }
}

/// What of these the agent takes, in the order of dependency.
fn valid(manifests: impl IntoIterator<Item = Manifest>) -> (Intent, Manifests) {
    let (mut intent, mut taken) = (Intent::default(), Manifests::new());
    for (key, manifest) in all(manifests) {
        if put(&mut intent, &manifest).is_ok() {
            taken.insert(key, manifest);
        }
    }
    (intent, taken)
}

/// Whether some order of the changes is possible: what is reached depends on which of them are
/// done, not on their order.
fn possible(intent: &Intent, changes: &[Change]) -> bool {
    let mut reached = BTreeMap::from([(0_u32, intent.clone())]);
    while let Some((done, intent)) = reached.pop_first() {
        if done.count_ones() as usize == changes.len() {
            return true;
        }
        for (place, change) in (0_u32..).zip(changes) {
            let more = done | 1 << place;
            let mut next = intent.clone();
            if more != done && !reached.contains_key(&more) && carry_out(&mut next, change).is_ok()
            {
                reached.insert(more, next);
            }
        }
    }
    false
}

/// What has only a few values, so that objects meet.
fn any_manifest() -> impl Strategy<Value = Manifest> {
    static VNIS: [Option<u8>; 3] = [None, Some(1), Some(2)];
    static BRIDGES: [&str; 3] = ["net-0", "net-1", "net-2"];
    static GATEWAYS: [&[&str]; 4] = [
        &["10.1.0.1/24"],
        &["10.1.0.129/25"],
        &["10.2.0.1/24", "fd00::1/64"],
        &["10.1.0.2/24", "10.2.0.2/24"],
    ];
    (0..4_usize, 0..3_usize, 0..3_usize, 0..3_usize, 0..4_usize).prop_map(|(kind, id, a, b, c)| {
        let vlan = u8::try_from(a + 1).expect("small");
        match kind {
            0 => vrf(&format!("vrf-{id}"), VNIS[a]),
            1 => bridge(BRIDGES[id], vlan, VNIS[b]),
            2 => {
                let bridges: &[&str] = match c {
                    0 => &[],
                    1 => &BRIDGES[..2],
                    2 => &BRIDGES[1..],
                    _ => &BRIDGES[b..=b],
                };
                port(&format!("port-{id}"), vlan.min(2), bridges)
            }
            _ => svi(
                &format!("svi-{id}"),
                &format!("vrf-{}", a.min(1)),
                BRIDGES[b],
                GATEWAYS[c],
            ),
        }
    })
}

fn kinds() -> impl Strategy<Value = BTreeSet<Kind>> {
    let some = proptest::sample::subsequence(Kind::ALL.to_vec(), 0..=4);
    let some = some.prop_map(|kinds| kinds.into_iter().collect());
    prop_oneof![Just(BTreeSet::from(Kind::ALL)), some]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_step_meets_what_is_taken_and_a_cycle_has_no_way_out(
        there in vec(any_manifest(), 0..16),
        wanted in vec(any_manifest(), 0..16),
        prune in kinds(),
    ) {
        let (mut intent, there) = valid(there);
        let (_, wanted) = valid(wanted);
        let stays = |it: &&Manifest| !wanted.contains_key(&it.key) && !prune.contains(&it.key.kind);
        let end = || there.values().filter(stays).chain(wanted.values()).cloned();
        let plan = plan(&wanted, &live(&there, Oper::Up), &prune);
        // What can't be in the end, the agent refuses; and more steps than these take too long to
        // be tried in every order.
        if valid(end()).1 == all(end()) && plan.changes.len() <= 9 {
            let way = possible(&intent, &plan.changes);
            prop_assert_eq!(plan.obstacle.is_none(), way, "{:?}", plan);
            for change in plan.changes.iter().filter(|_| way) {
                let taken = carry_out(&mut intent, change);
                prop_assert_eq!(taken, Ok(()), "{:?} in {:?}", change, plan);
            }
        }
    }
}

/// `+ net-a`, in order.
fn steps(there: &Manifests, wanted: &Manifests) -> Vec<String> {
    let plan = plan(wanted, &live(there, Oper::Up), &BTreeSet::from(Kind::ALL));
    assert_eq!(plan.obstacle, None);
    let step = |change: &Change| match change {
        Change::Create(it) => format!("+ {}", it.key.id),
        Change::Update(it, _) => format!("~ {}", it.key.id),
        Change::Delete(key) => format!("- {}", key.id),
    };
    plan.changes.iter().map(step).collect()
}

#[test]
fn who_gives_a_value_up_goes_before_who_takes_it() {
    let a_chain = (
        all([bridge("net-a", 100, None), bridge("net-b", 200, None)]),
        all([bridge("net-a", 200, None), bridge("net-b", 101, None)]),
    );
    assert_eq!(steps(&a_chain.0, &a_chain.1), ["~ net-b", "~ net-a"]);
    let a_new_one = (
        all([bridge("net-b", 100, None)]),
        all([bridge("net-a", 100, None), bridge("net-b", 200, None)]),
    );
    assert_eq!(steps(&a_new_one.0, &a_new_one.1), ["~ net-b", "+ net-a"]);
    // LogicalBridges and Vrfs have their VNIs from one space.
    let a_vni = (
        all([bridge("net-a", 100, Some(7)), vrf("vrf-a", None)]),
        all([bridge("net-a", 100, Some(8)), vrf("vrf-a", Some(7))]),
    );
    assert_eq!(steps(&a_vni.0, &a_vni.1), ["~ net-a", "~ vrf-a"]);
    let networks = || [bridge("net-a", 1, None), bridge("net-b", 2, None)];
    let ports = |macs: [u8; 2]| {
        let ports = ["port-a", "port-b"].into_iter().zip(macs);
        let ports = ports.map(|(id, mac)| port(id, mac, &["net-a"]));
        all(networks().into_iter().chain(ports))
    };
    assert_eq!(
        steps(&ports([1, 2]), &ports([2, 3])),
        ["~ port-b", "~ port-a"]
    );
    let gateways = |subnets: [&str; 2]| {
        let svis = [("svi-a", "net-a"), ("svi-b", "net-b")].into_iter();
        let svis = svis.zip(&subnets);
        let svis = svis.map(|((id, bridge), subnet)| svi(id, "vrf-a", bridge, &[subnet]));
        all(networks()
            .into_iter()
            .chain([vrf("vrf-a", None)])
            .chain(svis))
    };
    assert_eq!(
        steps(
            &gateways(["10.1.0.1/24", "10.2.0.1/24"]),
            &gateways(["10.2.0.129/25", "10.3.0.1/24"])
        ),
        ["~ svi-b", "~ svi-a"]
    );
}

#[test]
fn a_network_goes_as_soon_as_its_port_has_left_it() {
    let there = all([
        bridge("blue", 100, None),
        bridge("grey", 7, None),
        port("port-a", 1, &["blue"]),
    ]);
    let wanted = all([
        bridge("green", 100, None),
        bridge("grey", 7, None),
        port("port-a", 1, &["grey"]),
    ]);
    assert_eq!(steps(&there, &wanted), ["~ port-a", "- blue", "+ green"]);
}

fn cycle_of(there: &Manifests, wanted: &Manifests) -> Vec<String> {
    let plan = plan(wanted, &live(there, Oper::Up), &BTreeSet::from(Kind::ALL));
    match plan.obstacle {
        Some(Obstacle::Cycle(sentences)) => sentences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cycle_is_explained_step_by_step() {
    let there = all([bridge("net-a", 100, None), bridge("net-b", 200, None)]);
    let swapped = all([bridge("net-a", 200, None), bridge("net-b", 100, None)]);
    assert_eq!(
        cycle_of(&there, &swapped),
        [
            "logicalBridges/net-a takes vlanId 200 from logicalBridges/net-b",
            "logicalBridges/net-b takes vlanId 100 from logicalBridges/net-a",
        ]
    );
    let there = all([bridge("blue", 100, None), port("port-a", 1, &["blue"])]);
    let renamed = all([bridge("green", 100, None), port("port-a", 1, &["green"])]);
    assert_eq!(
        cycle_of(&there, &renamed),
        [
            "logicalBridges/blue is deleted when bridgePorts/port-a does not refer to it",
            "bridgePorts/port-a refers to logicalBridges/green, which is to be made",
            "logicalBridges/green takes vlanId 100 from logicalBridges/blue",
        ]
    );
}

#[test]
fn who_takes_a_value_of_what_goes_needs_it_gone() {
    let there = all([bridge("blue", 100, None), bridge("grey", 7, Some(7))]);
    let wanted = all([bridge("green", 100, None), bridge("pink", 8, None)]);
    let needs = |live: &Objects| {
        let plan = plan(&wanted, live, &BTreeSet::from(Kind::ALL));
        let needs = plan.needs_gone.into_iter();
        let needs = needs.map(|(key, gone)| (key.id.to_string(), gone.len()));
        needs.collect::<Vec<_>>()
    };
    // Whether it is deleted by this plan, or is on its way out already.
    for oper in [Oper::Up, Oper::ToBeDeleted] {
        assert_eq!(needs(&live(&there, oper)), [("green".to_owned(), 1)]);
    }
}
