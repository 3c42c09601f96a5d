//! Ids and names: what they may be, which are there, which are taken.

use tonic::Code;

use super::{ID_RULE, broken, delete, get, grpc_only, hold, invalid, not_found, update};
use crate::{
    calls::{BRIDGE_PORT, Call, Kind, LOGICAL_BRIDGE, SVI, VRF},
    world::{access, bridge, create, svi, trunk, vrf},
};

#[tokio::test]
async fn ids() {
    let mut cases = Vec::new();
    for id in ["abc", "1abc", "abc-", "Abcd", "ab_cd", "ab/cd", "\u{e9}tat"] {
        let problem = format!("`{id}` is no valid id; {ID_RULE}");
        for (kind, field, spec) in [
            (VRF, "vrf_id", vrf(None)),
            (LOGICAL_BRIDGE, "logical_bridge_id", bridge(7, None)),
            (BRIDGE_PORT, "bridge_port_id", access(7, "net-blue")),
            (SVI, "svi_id", svi("vrf-red", "net-pink", &["10.2.0.1/24"])),
        ] {
            cases.push(invalid(create(kind, id, spec), &[(field, &problem)]));
        }
    }
    let long = "a".repeat(64);
    let problem = format!("`{long}` is no valid id; {ID_RULE}");
    cases.push(invalid(
        create(VRF, &long, vrf(None)),
        &[("vrf_id", &problem)],
    ));
    // What is quoted is cut, or it would not fit in the headers that carry the error.
    let longer = "a".repeat(50_000);
    let cut = format!(
        "`{}… (50000 bytes)` is no valid id; {ID_RULE}",
        "a".repeat(80)
    );
    cases.push(invalid(
        create(VRF, &longer, vrf(None)),
        &[("vrf_id", &cut)],
    ));
    let uuid = "9f8b7a6c-0000-4000-8000-000000000001";
    let problem = format!("`{uuid}` is a UUID, which only the server gives; choose another id");
    cases.push(invalid(
        create(VRF, uuid, vrf(None)),
        &[("vrf_id", &problem)],
    ));
    let Call::Update {
        kind,
        name,
        spec,
        mask,
        ..
    } = update(VRF, uuid, vrf(None), "")
    else {
        unreachable!()
    };
    let upsert = Call::Update {
        kind,
        name,
        spec,
        mask,
        allow_missing: true,
    };
    cases.push(invalid(upsert, &[("vrf.name", &problem)]));
    hold(cases).await;
}

#[tokio::test]
async fn names() {
    let wrong =
        |name: &str| format!("`{name}` is no name of a Vrf; write vrfs/{{id}} or the bare id");
    let mut cases = vec![
        not_found(get(VRF, "vrfs/vrf-none"), "vrfs/vrf-none"),
        not_found(get(VRF, "vrf-none"), "vrfs/vrf-none"),
        not_found(delete(VRF, "vrf-none"), "vrfs/vrf-none"),
        not_found(update(VRF, "vrf-none", vrf(None), ""), "vrfs/vrf-none"),
        not_found(get(SVI, "svi-none"), "svis/svi-none"),
        not_found(get(BRIDGE_PORT, "port-none"), "bridgePorts/port-none"),
        not_found(get(LOGICAL_BRIDGE, "net-none"), "logicalBridges/net-none"),
        grpc_only(invalid(get(VRF, ""), &[("name", "is required")])),
        grpc_only(invalid(
            update(VRF, "", vrf(None), ""),
            &[("vrf.name", "is required")],
        )),
    ];
    for name in [
        "svis/vrf-red",
        "//network.opiproject.org/svis/vrf-red",
        "//network.opiproject.org/vrf-red",
        "//example.org/vrfs/vrf-red",
        "ports/vrf-red",
    ] {
        let problem = wrong(name);
        cases.push(grpc_only(invalid(get(VRF, name), &[("name", &problem)])));
        cases.push(grpc_only(invalid(delete(VRF, name), &[("name", &problem)])));
        let call = update(VRF, name, vrf(None), "");
        cases.push(grpc_only(invalid(call, &[("vrf.name", &problem)])));
    }
    let problem = format!("`x` is no valid id; {ID_RULE}");
    cases.push(invalid(get(VRF, "x"), &[("name", &problem)]));
    hold(cases).await;
}

/// Each differs in one field from the one there is.
#[tokio::test]
async fn ids_that_are_taken() {
    let exists = |kind: Kind, id: &str, spec| {
        let name = format!("{}/{id}", kind.collection);
        let message = format!("{name} exists with another spec; update it, or choose another id");
        let (code, facts) = (Code::AlreadyExists, [("name", name.as_str())]);
        broken(
            create(kind, id, spec),
            code,
            &message,
            "OBJECT_EXISTS",
            &facts,
        )
    };
    let gateways = |more: &[&'static str]| {
        let all = [&["10.1.0.1/24"], more].concat();
        svi("vrf-red", "net-blue", &all)
    };
    hold(vec![
        exists(VRF, "vrf-red", vrf(Some(5002))),
        exists(VRF, "vrf-red", vrf(None)),
        exists(LOGICAL_BRIDGE, "net-blue", bridge(7, Some(10100))),
        exists(LOGICAL_BRIDGE, "net-blue", bridge(100, None)),
        exists(BRIDGE_PORT, "port-1", access(2, "net-blue")),
        exists(BRIDGE_PORT, "port-1", access(1, "net-pink")),
        exists(BRIDGE_PORT, "port-1", trunk(1, &["net-blue"])),
        exists(SVI, "svi-blue", gateways(&[])),
        exists(SVI, "svi-blue", gateways(&["fd00::1/64", "10.9.0.1/24"])),
    ])
    .await;
}
