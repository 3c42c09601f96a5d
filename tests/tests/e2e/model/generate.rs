//! Calls as they may come, with few values of everything, so that they meet. What two objects may
//! not share on a real machine (a VF, a Vrf's loopback) goes by their number.

use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};

use crate::{
    calls::{BRIDGE_PORT, Call, KINDS, Kind, LOGICAL_BRIDGE, SVI, VRF},
    world::{access, bridge, mac, prefix, svi, trunk, vrf, with},
};

const NETS: [&str; 3] = ["net-1", "net-2", "logicalBridges/net-3"];
const GATEWAYS: [&str; 5] = [
    "10.1.0.1/24",
    "10.1.0.129/25",
    "10.2.0.1/24",
    "fd00:1::1/64",
    "fd00:2::1/64",
];

#[derive(Clone, Debug)]
pub enum Step {
    Call(Call),
    /// The agent is killed and started again.
    Restart,
}

fn id(kind: Kind, number: u8) -> String {
    let word = match kind {
        VRF => "vrf",
        LOGICAL_BRIDGE => "net",
        BRIDGE_PORT => "port",
        _ => "gate",
    };
    format!("{word}-{number}")
}

fn vni() -> impl Strategy<Value = Option<u32>> {
    prop::option::weighted(0.75, 1..=6_u32)
}

/// The spec of an object with this number, as full as it may be or not.
fn spec(kind: Kind, number: u8) -> BoxedStrategy<Value> {
    match kind {
        VRF => (vni(), 1..=2_u8)
            .prop_map(move |(vni, host)| {
                let loopback = prefix(&format!("10.255.{number}.{host}/32"));
                with(vrf(vni), json!({"loopbackIpPrefix": loopback}))
            })
            .boxed(),
        LOGICAL_BRIDGE => (prop_oneof![8 => 1..=6_u32, 1 => Just(0)], vni())
            .prop_map(|(vlan, vni)| bridge(vlan, vni))
            .boxed(),
        BRIDGE_PORT => {
            let netdev = select(vec![number, number + 3]);
            let access = (netdev.clone(), select(NETS.as_slice()))
                .prop_map(|(netdev, net)| access(netdev, net));
            let trunk = (netdev, subsequence(NETS.as_slice(), 0..=3))
                .prop_map(|(netdev, nets)| trunk(netdev, &nets));
            prop_oneof![access, trunk].boxed()
        }
        _ => (
            (1..=3_u8).prop_map(|number| id(VRF, number)),
            select(NETS.as_slice()),
            subsequence(GATEWAYS.as_slice(), 1..=2),
            0xfd..=0xfe_u8,
        )
            .prop_map(|(vrf, net, gateways, last)| {
                let spec = svi(&vrf, net, &gateways);
                with(spec, json!({"macAddress": mac(last)}))
            })
            .boxed(),
    }
}

fn mask(kind: Kind) -> impl Strategy<Value = Option<String>> {
    let fields: &[&str] = match kind {
        VRF => &["spec.vni", "spec.loopbackIpPrefix"],
        LOGICAL_BRIDGE => &["spec.vlanId", "spec.vni"],
        BRIDGE_PORT => &["spec.macAddress", "spec.ptype", "spec.logicalBridges"],
        _ => &[
            "spec.vrf",
            "spec.logicalBridge",
            "spec.macAddress",
            "spec.gwIpPrefix",
        ],
    };
    let some = subsequence(fields, 1..=fields.len()).prop_map(|fields| fields.join(","));
    prop::option::of(some)
}

/// Some of everything, to begin with.
pub fn first() -> Vec<Step> {
    let loopback = |number: u8| {
        let loopback = prefix(&format!("10.255.{number}.1/32"));
        json!({"loopbackIpPrefix": loopback})
    };
    let all = [
        (VRF, 1, with(vrf(Some(1)), loopback(1))),
        (VRF, 2, with(vrf(None), loopback(2))),
        (LOGICAL_BRIDGE, 1, bridge(1, Some(2))),
        (LOGICAL_BRIDGE, 2, bridge(2, Some(3))),
        (LOGICAL_BRIDGE, 3, bridge(3, None)),
        (BRIDGE_PORT, 1, access(1, "net-1")),
        (BRIDGE_PORT, 2, trunk(2, &["net-1", "net-2"])),
        (BRIDGE_PORT, 3, trunk(3, &[])),
        (
            SVI,
            1,
            svi("vrf-1", "net-1", &["10.1.0.1/24", "fd00:1::1/64"]),
        ),
        (SVI, 2, svi("vrf-2", "net-2", &["10.1.0.1/24"])),
    ];
    let create = |(kind, number, spec)| Step::Call(Call::Create(kind, id(kind, number), spec));
    all.map(create).into()
}

/// Any call, or the agent's death.
pub fn step() -> impl Strategy<Value = Step> {
    let call = (select(KINDS.as_slice()), 1..=3_u8).prop_flat_map(|(kind, number)| {
        let name = id(kind, number);
        let create = {
            let name = name.clone();
            spec(kind, number).prop_map(move |spec| Call::Create(kind, name.clone(), spec))
        };
        let update = {
            let name = name.clone();
            let parts = (spec(kind, number), mask(kind), any::<bool>());
            parts.prop_map(move |(spec, mask, allow_missing)| Call::Update {
                kind,
                name: name.clone(),
                spec,
                mask,
                allow_missing,
            })
        };
        let delete = any::<bool>()
            .prop_map(move |allow_missing| Call::Delete(kind, name.clone(), allow_missing));
        prop_oneof![4 => create, 6 => update, 1 => delete]
    });
    prop_oneof![30 => call.prop_map(Step::Call), 1 => Just(Step::Restart)]
}
