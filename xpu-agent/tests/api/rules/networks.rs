//! What a LogicalBridge and a Vrf may be.

use serde_json::json;

use super::{delete, hold, in_use, invalid, taken, update};
use crate::{
    calls::{LOGICAL_BRIDGE, VRF},
    face::Face,
    rig::Rig,
    world::{bridge, bytes, create, prefix, vrf, with},
};

#[tokio::test]
async fn logical_bridges() {
    let new = |spec| create(LOGICAL_BRIDGE, "net-new", spec);
    let (vlan, vni) = ("logical_bridge.spec.vlan_id", "logical_bridge.spec.vni");
    let vtep = "logical_bridge.spec.vtep_ip_prefix";
    let mut cases = vec![
        taken(
            new(bridge(100, None)),
            vlan,
            "100",
            "logicalBridges/net-blue",
        ),
        taken(
            new(bridge(7, Some(10100))),
            vni,
            "10100",
            "logicalBridges/net-blue",
        ),
        taken(new(bridge(7, Some(5001))), vni, "5001", "vrfs/vrf-red"),
        taken(
            update(LOGICAL_BRIDGE, "net-pink", bridge(100, None), ""),
            vlan,
            "100",
            "logicalBridges/net-blue",
        ),
        invalid(
            new(bridge(0, Some(0))),
            &[
                (vlan, "0 is no VLAN id; it must be from 1 to 4094"),
                (vni, "0 is no VNI; it must be from 1 to 16777215"),
            ],
        ),
        invalid(new(json!(null)), &[("logical_bridge.spec", "is required")]),
        in_use(
            delete(LOGICAL_BRIDGE, "net-blue"),
            "logicalBridges/net-blue",
            "bridgePorts/port-1, svis/svi-blue",
        ),
    ];
    for wrong in [4095, 65_536 + 5, u32::MAX] {
        let problem = format!("{wrong} is no VLAN id; it must be from 1 to 4094");
        cases.push(invalid(new(bridge(wrong, None)), &[(vlan, &problem)]));
    }
    for wrong in [1 << 24, u32::MAX] {
        let problem = format!("{wrong} is no VNI; it must be from 1 to 16777215");
        cases.push(invalid(new(bridge(7, Some(wrong))), &[(vni, &problem)]));
    }
    for (wrong, problem) in [
        (json!({}), "addr is required"),
        (
            json!({"addr": {}, "len": 32}),
            "v4_addr or v6_addr is required",
        ),
        (
            json!({"addr": {"af": "IP_AF_INET6", "v4Addr": 167772162}, "len": 32}),
            "af and the kind of address differ",
        ),
        (
            json!({"addr": {"v6Addr": bytes(&[1, 2, 3])}, "len": 32}),
            "v6_addr has 3 bytes; it must have 16",
        ),
        (
            prefix("10.0.0.1/33"),
            "10.0.0.1/33: the length must be from 0 to 32",
        ),
        (
            prefix("10.0.0.1/-1"),
            "10.0.0.1/-1: the length must be from 0 to 32",
        ),
        (
            prefix("fd00::1/129"),
            "fd00::1/129: the length must be from 0 to 128",
        ),
        (
            prefix("224.0.0.1/32"),
            "224.0.0.1 is unspecified, multicast, loopback or broadcast; an interface needs a \
             unicast address",
        ),
    ] {
        let spec = with(bridge(7, None), json!({"vtepIpPrefix": wrong}));
        cases.push(invalid(new(spec), &[(vtep, problem)]));
    }
    hold(cases).await;
}

#[tokio::test]
async fn the_length_of_a_vtep_means_nothing() {
    let rig = Rig::start().await;
    let without = json!({"addr": {"v4Addr": 167_772_162}});
    let spec = with(bridge(7, None), json!({"vtepIpPrefix": without}));
    let call = create(LOGICAL_BRIDGE, "net-new", spec);
    assert!(Face::Grpc.call(&rig, &call).await.is_ok());
}

#[tokio::test]
async fn vrfs() {
    let new = |spec| create(VRF, "vrf-new", spec);
    let mut cases = vec![
        invalid(
            new(json!({})),
            &[("vrf.spec.loopback_ip_prefix", "is required")],
        ),
        invalid(
            new(with(vrf(None), json!({"vtepIpPrefix": {"len": 32}}))),
            &[("vrf.spec.vtep_ip_prefix", "addr is required")],
        ),
        invalid(
            new(with(
                vrf(None),
                json!({"loopbackIpPrefix": prefix("127.0.0.1/32")}),
            )),
            &[(
                "vrf.spec.loopback_ip_prefix",
                "127.0.0.1 is unspecified, multicast, loopback or broadcast; an interface needs a \
                 unicast address",
            )],
        ),
        invalid(
            new(with(
                vrf(None),
                json!({"loopbackIpPrefix": prefix("fd00::1/0")}),
            )),
            &[(
                "vrf.spec.loopback_ip_prefix",
                "len is 0 or missing; give the prefix length, 1 to 128",
            )],
        ),
        taken(
            new(vrf(Some(10100))),
            "vrf.spec.vni",
            "10100",
            "logicalBridges/net-blue",
        ),
        taken(new(vrf(Some(5001))), "vrf.spec.vni", "5001", "vrfs/vrf-red"),
        in_use(delete(VRF, "vrf-red"), "vrfs/vrf-red", "svis/svi-blue"),
    ];
    for wrong in [0, 1 << 24, u32::MAX] {
        let problem = format!("{wrong} is no VNI; it must be from 1 to 16777215");
        cases.push(invalid(
            new(vrf(Some(wrong))),
            &[("vrf.spec.vni", &problem)],
        ));
    }
    hold(cases).await;
}
