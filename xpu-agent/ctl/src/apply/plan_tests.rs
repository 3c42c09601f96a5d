use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::*;
use crate::live::Live;
use crate::manifest::Spec;
use crate::view::Oper;

fn manifest(kind: Kind, id: &str, spec: Value) -> Manifest {
    Manifest {
        key: ObjectKey::parse(kind, id).expect("a name"),
        spec: Spec::read(kind, spec).expect("a spec"),
    }
}

fn bridge(id: &str, vlan: u16) -> Manifest {
    manifest(Kind::LogicalBridge, id, json!({ "vlanId": vlan }))
}

fn vrf(id: &str) -> Manifest {
    manifest(Kind::Vrf, id, json!({"loopbackIpPrefix": "10.0.0.1/32"}))
}

fn svi(id: &str, bridge: &str) -> Manifest {
    let spec = json!({"vrf": "prod", "logicalBridge": bridge, "macAddress": "02:00:00:00:00:01",
        "gwIpPrefix": ["10.1.0.1/24"]});
    manifest(Kind::Svi, id, spec)
}

fn port(id: &str, bridge: &str) -> Manifest {
    let spec = json!({"ptype": "ACCESS", "logicalBridges": [bridge],
        "macAddress": "02:00:00:00:00:02"});
    manifest(Kind::BridgePort, id, spec)
}

fn wanted<const N: usize>(manifests: [Manifest; N]) -> BTreeMap<ObjectKey, Manifest> {
    manifests.map(|it| (it.key.clone(), it)).into()
}

fn live<const N: usize>(manifests: [Manifest; N]) -> Objects {
    let up = |it: Manifest| {
        let live = Live {
            spec: it.spec,
            oper: Oper::Up,
            components: Vec::new(),
        };
        (it.key, live)
    };
    manifests.map(up).into()
}

/// `+ vrfs/prod`, in order.
fn steps(plan: &Plan) -> Vec<String> {
    let step = |change: &Change| match change {
        Change::Create(it) => format!("+ {}", it.key),
        Change::Update(it, fields) => {
            let fields: Vec<_> = fields.iter().map(FieldChange::mask_path).collect();
            format!("~ {} {}", it.key, fields.join(","))
        }
        Change::Delete(key) => format!("- {key}"),
    };
    plan.changes.iter().map(step).collect()
}

#[test]
fn what_is_as_wanted_stays() {
    let all = || [vrf("prod"), bridge("blue", 100), svi("gw-1", "blue")];
    let plan = plan(&wanted(all()), &live(all()), &BTreeSet::from(Kind::ALL));
    let nothing = Plan {
        unchanged: 3,
        ..Plan::default()
    };
    assert_eq!(plan, nothing);
}

#[test]
fn who_is_referred_to_comes_first() {
    let all = [
        svi("gw-1", "blue"),
        port("port-1", "blue"),
        bridge("blue", 100),
        vrf("prod"),
    ];
    let plan = plan(&wanted(all), &Objects::new(), &BTreeSet::new());
    assert_eq!(
        steps(&plan),
        [
            "+ vrfs/prod",
            "+ logicalBridges/blue",
            "+ bridgePorts/port-1",
            "+ svis/gw-1"
        ]
    );
}

#[test]
fn changes_name_their_fields() {
    let spec = json!({"vlanId": 101, "vni": 7});
    let changed = manifest(Kind::LogicalBridge, "blue", spec);
    let plan = plan(
        &wanted([changed]),
        &live([bridge("blue", 100)]),
        &BTreeSet::new(),
    );
    assert_eq!(
        steps(&plan),
        ["~ logicalBridges/blue spec.vlan_id,spec.vni"]
    );
    let Change::Update(_, fields) = &plan.changes[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(fields[1].old, None);
    assert_eq!(fields[1].new, Some(json!(7)));
}

#[test]
fn only_kinds_that_are_named_are_pruned_and_no_pods_port() {
    let there = live([
        vrf("prod"),
        bridge("blue", 100),
        port("port-1", "blue"),
        port("cni-0123456789", "blue"),
    ]);
    let keep = wanted([bridge("blue", 100)]);
    let only = |kind| BTreeSet::from([kind]);
    assert!(steps(&plan(&keep, &there, &BTreeSet::new())).is_empty());
    assert!(steps(&plan(&keep, &there, &only(Kind::LogicalBridge))).is_empty());
    assert_eq!(
        steps(&plan(&keep, &there, &only(Kind::BridgePort))),
        ["- bridgePorts/port-1"]
    );
    assert_eq!(
        steps(&plan(&keep, &there, &only(Kind::Vrf))),
        ["- vrfs/prod"]
    );
}

#[test]
fn a_network_goes_before_another_takes_its_vlan_unless_it_is_in_use() {
    let all = BTreeSet::from([Kind::LogicalBridge]);
    let renamed = wanted([bridge("green", 100)]);
    let unused = live([bridge("blue", 100)]);
    assert_eq!(
        steps(&plan(&renamed, &unused, &all)),
        ["- logicalBridges/blue", "+ logicalBridges/green"]
    );
    let moved = wanted([bridge("green", 200), port("port-1", "green")]);
    let used = live([bridge("blue", 100), port("port-1", "blue")]);
    assert_eq!(
        steps(&plan(&moved, &used, &all)),
        [
            "+ logicalBridges/green",
            "~ bridgePorts/port-1 spec.logical_bridges",
            "- logicalBridges/blue"
        ]
    );
}

#[test]
fn what_is_being_deleted_is_made_anew_and_not_pruned() {
    let mut there = live([bridge("blue", 100), bridge("grey", 200)]);
    for live in there.values_mut() {
        live.oper = Oper::ToBeDeleted;
    }
    let plan = plan(
        &wanted([bridge("blue", 100)]),
        &there,
        &BTreeSet::from(Kind::ALL),
    );
    assert_eq!(steps(&plan), ["+ logicalBridges/blue"]);
}
