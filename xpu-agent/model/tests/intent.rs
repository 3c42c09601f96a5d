//! The intent's methods, over random sequences of calls and one by one.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection::vec, prelude::*};
use xpu_model::{
    BridgePortSpec, Generation, Id, IfAddr, Intent, LogicalBridgeSpec, Mac, Object, PortMode,
    RuleError, Spec, SviSpec, VlanId, Vni, VrfSpec, alloc::AllocationRules, intent::Outcome,
    objects::Difference,
};

fn rules() -> AllocationRules {
    AllocationRules {
        tables: 1001..=1100,
        node_seed: [7; 16],
        foreign_devices: ["docker0"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect(),
    }
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn vrf(vni: Option<u32>) -> VrfSpec {
    let vni = vni.map(|vni| Vni::try_from(vni).unwrap());
    VrfSpec {
        vni,
        loopback: "10.0.0.1/32".parse().unwrap(),
        vtep: None,
    }
}

fn bridge(vlan: u32, vni: Option<u32>) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: VlanId::try_from(vlan).unwrap(),
        vni: vni.map(|vni| Vni::try_from(vni).unwrap()),
        vtep: None,
    }
}

fn device_of(name: &str) -> String {
    let mut intent = Intent::default();
    intent.create(id(name), vrf(None), &rules()).unwrap();
    intent.vrfs[&id(name)].allocation.device.to_string()
}

#[test]
fn a_vrf_device_is_the_id_if_it_fits_and_is_free() {
    assert_eq!(device_of("production-west"), "production-west");
    for taken in [
        "production-western",
        "default",
        "docker0",
        "svi-100",
        "l3-4094",
        "br-tenant",
    ] {
        let device = device_of(taken);
        assert_ne!(device, taken);
        assert!(device.len() <= 15, "{device}");
        assert_eq!(
            device,
            device_of(taken),
            "the same on every node and in every run"
        );
    }
    assert_ne!(
        device_of("production-western"),
        device_of("production-westend")
    );
}

#[test]
fn two_long_ids_never_share_a_device() {
    let mut intent = Intent::default();
    for name in ["a-very-long-tenant-1", "a-very-long-tenant-2"] {
        intent.create(id(name), vrf(None), &rules()).unwrap();
    }
    let devices: BTreeSet<_> = intent
        .vrfs
        .values()
        .map(|it| &it.allocation.device)
        .collect();
    let tables: BTreeSet<_> = intent.vrfs.values().map(|it| it.allocation.table).collect();
    assert_eq!((devices.len(), tables.len()), (2, 2));
}

#[test]
fn an_update_keeps_what_was_allocated() {
    let mut intent = Intent::default();
    intent.create(id("blue"), vrf(None), &rules()).unwrap();
    let before = intent.vrfs[&id("blue")].allocation.clone();
    intent.update(id("blue"), vrf(Some(9)), &rules()).unwrap();
    assert_eq!(intent.vrfs[&id("blue")].allocation, before);
}

#[test]
fn a_tombstone_holds_its_numbers_until_collected_and_can_come_back() {
    let mut intent = Intent::default();
    intent
        .create(id("net-1"), bridge(10, Some(100)), &rules())
        .unwrap();
    intent.delete::<LogicalBridgeSpec>(&id("net-1")).unwrap();
    let refused = intent
        .create(id("net-2"), bridge(10, None), &rules())
        .unwrap_err();
    assert!(
        matches!(
            refused,
            RuleError::Conflict {
                field: "spec.vlan_id",
                ..
            }
        ),
        "{refused}"
    );
    let refused = intent
        .create(id("vrf-1"), vrf(Some(100)), &rules())
        .unwrap_err();
    assert!(
        matches!(
            refused,
            RuleError::Conflict {
                field: "spec.vni",
                ..
            }
        ),
        "{refused}"
    );

    let first_death = intent.generation;
    let outcome = intent
        .create(id("net-1"), bridge(11, None), &rules())
        .unwrap();
    assert_eq!(outcome, Outcome::Changed);
    intent.delete::<LogicalBridgeSpec>(&id("net-1")).unwrap();
    assert!(
        !intent.collect::<LogicalBridgeSpec>(&id("net-1"), first_death),
        "an older death"
    );
    assert!(intent.collect::<LogicalBridgeSpec>(&id("net-1"), intent.generation));
    intent
        .create(id("net-2"), bridge(11, None), &rules())
        .unwrap();
}

#[test]
fn a_tombstone_is_not_forgotten_before_those_that_refer_to_it() {
    let mut intent = Intent::default();
    intent.create(id("blue"), vrf(None), &rules()).unwrap();
    intent
        .create(id("net-1"), bridge(10, None), &rules())
        .unwrap();
    let gateway = SviSpec {
        vrf: id("blue"),
        logical_bridge: id("net-1"),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        gateways: vec!["10.0.0.1/24".parse::<xpu_model::IfAddr>().unwrap()]
            .try_into()
            .unwrap(),
        bgp: None,
    };
    intent.create(id("gate-1"), gateway, &rules()).unwrap();
    intent.delete::<SviSpec>(&id("gate-1")).unwrap();
    let svi = intent.generation;
    intent.delete::<LogicalBridgeSpec>(&id("net-1")).unwrap();
    let bridge = intent.generation;
    let net = LogicalBridgeSpec::key(&id("net-1"));
    assert!(intent.is_referred_to(&net));
    assert!(!intent.collect::<LogicalBridgeSpec>(&id("net-1"), bridge));
    assert!(intent.collect::<SviSpec>(&id("gate-1"), svi));
    assert!(!intent.is_referred_to(&net));
    assert!(intent.collect::<LogicalBridgeSpec>(&id("net-1"), bridge));
}

/// A call as a client may make it.
#[derive(Debug, Clone)]
enum Call {
    PutVrf(u8, Option<u32>),
    PutBridge(u8, u32, Option<u32>),
    PutPort(u8, u8, Vec<u8>, bool),
    PutSvi(u8, u8, u8, u8),
    Delete(u8, u8),
    Collect(u8, u8),
}

fn call() -> impl Strategy<Value = Call> {
    let small = 0..3_u8;
    let vni = proptest::option::of(1..4_u32);
    prop_oneof![
        (small.clone(), vni.clone()).prop_map(|(a, b)| Call::PutVrf(a, b)),
        (small.clone(), 1..4_u32, vni).prop_map(|(a, b, c)| Call::PutBridge(a, b, c)),
        (small.clone(), 1..4_u8, vec(0..3_u8, 0..3), any::<bool>())
            .prop_map(|(a, b, c, d)| Call::PutPort(a, b, c, d)),
        (small.clone(), small.clone(), small.clone(), 0..3_u8)
            .prop_map(|(a, b, c, d)| Call::PutSvi(a, b, c, d)),
        (0..4_u8, small.clone()).prop_map(|(a, b)| Call::Delete(a, b)),
        (0..4_u8, small).prop_map(|(a, b)| Call::Collect(a, b)),
    ]
}

fn put<S: Spec>(intent: &mut Intent, id: Id, spec: S) -> Result<(), RuleError> {
    match intent.get::<S>(&id) {
        Some(_) => intent.update(id, spec, &rules()).map(drop),
        None => intent.create(id, spec, &rules()).map(drop),
    }
}

fn remove<S: Spec>(intent: &mut Intent, id: &Id, collect: bool) -> Result<(), RuleError> {
    if collect {
        let generation = S::objects(intent).get(id).map(|object| object.generation);
        intent.collect::<S>(id, generation.unwrap_or_default());
        return Ok(());
    }
    intent.delete::<S>(id)
}

fn make(intent: &mut Intent, call: &Call) -> Result<(), RuleError> {
    let named = |kind: &str, n: u8| id(&format!("{kind}-{n}"));
    match call {
        Call::PutVrf(n, vni) => put(intent, named("vrf", *n), vrf(*vni)),
        Call::PutBridge(n, vlan, vni) => put(intent, named("net", *n), bridge(*vlan, *vni)),
        Call::PutPort(n, mac, nets, access) => {
            let nets: BTreeSet<Id> = nets.iter().map(|net| named("net", *net)).collect();
            let mode = match nets.first() {
                Some(net) if *access => PortMode::Access(net.clone()),
                _ => PortMode::trunk(nets),
            };
            let mac = Mac::try_from([2, 0, 0, 0, 0, *mac]).unwrap();
            put(intent, named("port", *n), BridgePortSpec { mac, mode })
        }
        Call::PutSvi(n, vrf, net, third) => {
            let spec = SviSpec {
                vrf: named("vrf", *vrf),
                logical_bridge: named("net", *net),
                mac: Mac::try_from([2, 0, 0x5e, 0, 0, 1]).unwrap(),
                gateways: vec![
                    format!("10.1.{third}.1/24")
                        .parse::<xpu_model::IfAddr>()
                        .unwrap(),
                ]
                .try_into()
                .unwrap(),
                bgp: None,
            };
            put(intent, named("svi", *n), spec)
        }
        Call::Delete(kind, n) | Call::Collect(kind, n) => {
            let collect = matches!(call, Call::Collect(..));
            match kind {
                0 => remove::<VrfSpec>(intent, &named("vrf", *n), collect),
                1 => remove::<LogicalBridgeSpec>(intent, &named("net", *n), collect),
                2 => remove::<BridgePortSpec>(intent, &named("port", *n), collect),
                _ => remove::<SviSpec>(intent, &named("svi", *n), collect),
            }
        }
    }
}

/// The promises in [`Intent`]'s documentation, said again in other words.
fn holds(intent: &Intent) -> Result<(), TestCaseError> {
    let vlans: Vec<_> = intent
        .logical_bridges
        .values()
        .map(|it| it.spec.vlan)
        .collect();
    prop_assert_eq!(vlans.iter().collect::<BTreeSet<_>>().len(), vlans.len());
    let bridge_vnis = intent.logical_bridges.values().filter_map(|it| it.spec.vni);
    let vnis: Vec<_> = bridge_vnis
        .chain(intent.vrfs.values().filter_map(|it| it.spec.vni))
        .collect();
    prop_assert_eq!(vnis.iter().collect::<BTreeSet<_>>().len(), vnis.len());
    for port in intent.live::<BridgePortSpec>() {
        for net in port.spec.mode.named() {
            prop_assert!(
                intent.get::<LogicalBridgeSpec>(net).is_some(),
                "a dangling reference"
            );
        }
    }
    let mut macs = BTreeMap::new();
    for net in intent.live::<LogicalBridgeSpec>() {
        for port in intent
            .live::<BridgePortSpec>()
            .filter(|it| it.spec.mode.carries(&net.id))
        {
            let other = macs.insert((net.id.clone(), port.spec.mac), port.id.clone());
            prop_assert_eq!(other, None, "one MAC twice in a LogicalBridge");
        }
    }
    let mut nets = BTreeSet::new();
    for svi in intent.live::<SviSpec>() {
        prop_assert!(intent.get::<VrfSpec>(&svi.spec.vrf).is_some());
        prop_assert!(
            intent
                .get::<LogicalBridgeSpec>(&svi.spec.logical_bridge)
                .is_some()
        );
        prop_assert!(
            nets.insert(svi.spec.logical_bridge.clone()),
            "two Svis on one network"
        );
        let others = intent.live::<SviSpec>();
        let beside = others.filter(|it| it.id != svi.id && it.spec.vrf == svi.spec.vrf);
        for (a, b) in beside.flat_map(|it| pairs(&it.spec, &svi.spec)) {
            prop_assert!(!a.subnet().overlaps(b.subnet()), "{a} and {b} overlap");
        }
    }
    Ok(())
}

fn pairs(one: &SviSpec, other: &SviSpec) -> Vec<(IfAddr, IfAddr)> {
    let with = |a: &IfAddr| -> Vec<_> { other.gateways.iter().map(|b| (*a, *b)).collect() };
    one.gateways.iter().flat_map(with).collect()
}

/// What a collection finds is what is in it, and what differs is what was written.
fn finds<S: Spec>(before: &Intent, now: &Intent) -> Result<(), TestCaseError> {
    let (before, now) = (S::objects(before), S::objects(now));
    for by in now.values().flat_map(|object| object.spec.found_by()) {
        let has = |object: &&Arc<Object<S>>| object.spec.found_by().contains(&by);
        let found: Vec<_> = now.find(&by).collect();
        prop_assert_eq!(found, now.values().filter(has).collect::<Vec<_>>());
    }
    let forgotten = before.values().flat_map(|object| object.spec.found_by());
    for by in forgotten {
        let is_there = now.values().any(|it| it.spec.found_by().contains(&by));
        prop_assert_eq!(now.find(&by).next().is_some(), is_there);
    }
    for id in before.keys().chain(now.keys()) {
        let after: Vec<_> = now.after(Some(id)).collect();
        let later = now.values().filter(|object| object.id > *id);
        prop_assert_eq!(after, later.collect::<Vec<_>>());
    }
    let dead: Vec<_> = now.values().filter(|object| object.deleting).collect();
    prop_assert_eq!(now.tombstones().collect::<Vec<_>>(), dead);

    let written = now
        .values()
        .filter(|object| before.get(&object.id) != Some(object));
    let gone = before
        .values()
        .filter(|object| now.get(&object.id).is_none());
    let (mut told_written, mut told_gone) = (Vec::new(), Vec::new());
    for difference in before.differences(now) {
        match difference {
            Difference::Written(object) => told_written.push(object),
            Difference::Forgotten(object) => told_gone.push(object),
        }
    }
    prop_assert_eq!(told_written, written.collect::<Vec<_>>());
    prop_assert_eq!(told_gone, gone.collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #[test]
    fn the_promises_hold_after_any_sequence_of_calls(calls in vec(call(), 0..60)) {
        let mut intent = Intent::default();
        for call in &calls {
            let before = intent.clone();
            match make(&mut intent, call) {
                Err(_) => prop_assert_eq!(&intent, &before, "a refusal changed something"),
                Ok(()) => {
                    let step = intent.generation.0 - before.generation.0;
                    prop_assert!(step <= 1);
                    prop_assert!(step == 1 || matches!(call, Call::Collect(..)) || intent == before);
                }
            }
            holds(&intent)?;
            finds::<VrfSpec>(&before, &intent)?;
            finds::<LogicalBridgeSpec>(&before, &intent)?;
            finds::<BridgePortSpec>(&before, &intent)?;
            finds::<SviSpec>(&before, &intent)?;
        }
    }

    /// As many as make trees of several nodes, of which two states share most.
    #[test]
    fn many_are_found_as_few_are(
        first in 0..300_u32,
        changes in vec((0..320_u32, 0..4_u8), 0..40),
    ) {
        let named = |n: u32| id(&format!("net-{n}"));
        let mut intent = Intent::default();
        for n in 0..first {
            intent.create(named(n), bridge(n + 1, None), &rules()).unwrap();
        }
        let before = intent.clone();
        for (n, change) in changes {
            // What is refused is the other test's.
            let _ = match change {
                0 | 1 => remove::<LogicalBridgeSpec>(&mut intent, &named(n), change == 1),
                2 => put(&mut intent, named(n), bridge(n + 1, None)),
                _ => put(&mut intent, named(n), bridge(n + 1, Some(n + 1))),
            };
        }
        finds::<LogicalBridgeSpec>(&before, &intent)?;
        finds::<LogicalBridgeSpec>(&intent, &before)?;
    }
}

#[test]
fn generations_only_grow() {
    let mut intent = Intent::default();
    intent
        .create(id("net-1"), bridge(1, None), &rules())
        .unwrap();
    assert_eq!(intent.generation, Generation(1));
    intent
        .create(id("net-1"), bridge(1, None), &rules())
        .unwrap();
    assert_eq!(intent.generation, Generation(1), "a retry is no commit");
}

/// Of two ports with one netdev the one that was there first has it, whatever is said of it later.
#[test]
fn a_change_does_not_make_an_object_younger() {
    let mut intent = Intent::default();
    intent.create(id("blue"), vrf(None), &rules()).unwrap();
    intent.create(id("redd"), vrf(None), &rules()).unwrap();
    intent.update(id("blue"), vrf(Some(7)), &rules()).unwrap();
    let age = |intent: &Intent| {
        let blue = &intent.vrfs[&id("blue")];
        (blue.created, blue.generation)
    };
    assert_eq!(age(&intent), (Generation(1), Generation(3)));
    // One that comes again is another.
    intent.delete::<VrfSpec>(&id("blue")).unwrap();
    intent.create(id("blue"), vrf(None), &rules()).unwrap();
    assert_eq!(age(&intent), (Generation(5), Generation(5)));
}
