//! What an Update may not do: take what others have, name fields that there are not.

use serde_json::json;

use super::{dangling, hold, hold_beside, invalid, taken, update};
use crate::{
    calls::{BRIDGE_PORT, LOGICAL_BRIDGE, SVI, VRF},
    world::{access, bridge, create, prefix, svi, vrf},
};

/// What a Create may not take, an Update may not either.
#[tokio::test]
async fn updates_that_meet_others() {
    let more = vec![
        create(VRF, "vrf-two", vrf(Some(5002))),
        create(BRIDGE_PORT, "port-2", access(2, "net-blue")),
        create(
            SVI,
            "svi-pink",
            svi("vrf-red", "net-pink", &["10.2.0.1/24"]),
        ),
    ];
    let (blue, pink) = ("logicalBridges/net-blue", "net-pink");
    let (vrf_vni, lb_vni) = ("vrf.spec.vni", "logical_bridge.spec.vni");
    let to_vrf = |vni| update(VRF, "vrf-two", vrf(Some(vni)), "spec.vni");
    let to_bridge = |spec, mask| update(LOGICAL_BRIDGE, pink, spec, mask);
    let to_port = |spec, mask| update(BRIDGE_PORT, "port-2", spec, mask);
    let to_svi = |spec, mask| update(SVI, "svi-pink", spec, mask);
    let bridges = "bridge_port.spec.logical_bridges";
    let none = "logicalBridges/net-none";
    hold_beside(
        more,
        vec![
            taken(to_vrf(10100), vrf_vni, "10100", blue),
            taken(to_vrf(5001), vrf_vni, "5001", "vrfs/vrf-red"),
            taken(
                to_bridge(bridge(101, Some(5002)), "spec.vni"),
                lb_vni,
                "5002",
                "vrfs/vrf-two",
            ),
            taken(
                to_bridge(bridge(101, Some(10100)), "*"),
                lb_vni,
                "10100",
                blue,
            ),
            taken(
                to_port(access(1, "net-blue"), "spec.macAddress"),
                "bridge_port.spec.mac_address",
                "02:00:00:00:00:01",
                "bridgePorts/port-1",
            ),
            dangling(
                to_port(access(2, "net-none"), "spec.logicalBridges"),
                bridges,
                none,
            ),
            taken(
                to_svi(json!({"logicalBridge": "net-blue"}), ""),
                "svi.spec.logical_bridge",
                blue,
                "svis/svi-blue",
            ),
            taken(
                to_svi(json!({"gwIpPrefix": [prefix("fd00::7/96")]}), ""),
                "svi.spec.gw_ip_prefix",
                "fd00::7/96",
                "svis/svi-blue",
            ),
            dangling(
                to_svi(json!({"vrf": "vrf-none"}), ""),
                "svi.spec.vrf",
                "vrfs/vrf-none",
            ),
            dangling(
                to_svi(json!({"logicalBridge": "net-none"}), ""),
                "svi.spec.logical_bridge",
                none,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn masks() {
    let fields = "there are vlan_id, vni, vtep_ip_prefix";
    let (mask, pink) = ("update_mask", "net-pink");
    let mut cases = Vec::new();
    for path in [
        "spec.vlan",
        "name",
        "status",
        "spec.vtep_ip_prefix.len",
        "spec.spec.vni",
    ] {
        // In JSON's form, as both faces take it.
        let json = path.replace("_ip_p", "IpP");
        let problem = format!("`{path}` is no field of the spec; {fields}");
        let call = update(LOGICAL_BRIDGE, pink, bridge(7, None), &json);
        cases.push(invalid(call, &[(mask, &problem)]));
    }
    // What takes all fields hides no wrong one, wherever it stands.
    for json in [
        "*,spec.vlan",
        "spec.vlan,*",
        "spec,spec.vlan",
        "spec.vni,spec.vlan,*",
    ] {
        let problem = format!("`spec.vlan` is no field of the spec; {fields}");
        let call = update(LOGICAL_BRIDGE, pink, bridge(7, None), json);
        cases.push(invalid(call, &[(mask, &problem)]));
    }
    cases.push(invalid(
        update(LOGICAL_BRIDGE, pink, json!({}), "*"),
        &[(
            "logical_bridge.spec.vlan_id",
            "0 is no VLAN id; it must be from 1 to 4094",
        )],
    ));
    cases.push(invalid(
        update(
            SVI,
            "svi-blue",
            json!({"enableBgp": true}),
            "spec.enableBgp",
        ),
        &[(
            "svi.spec.remote_as",
            "is required with enable_bgp: 1 to 4294967295",
        )],
    ));
    hold(cases).await;
}
