//! Every rule of the API, each with the exact code, fields and message, over gRPC and over HTTP.
//! No refusal changes anything.

use std::sync::Arc;

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    calls::{BRIDGE_PORT, Call, Kind, LOGICAL_BRIDGE, SVI, VRF},
    face::{Face, Refusal},
    rig::Rig,
    world::{access, bridge, bytes, create, everything, mac, prefix, svi, trunk, vrf, with},
};

/// A refused call.
struct Case {
    call: Call,
    refusal: Refusal,
    /// Whether HTTP can say it: a path has room for canonical names alone.
    http: bool,
}

/// A field is wrong in itself: the message is made of the violations.
fn invalid(call: Call, violations: &[(&str, &str)]) -> Case {
    let told: Vec<_> = violations
        .iter()
        .map(|(field, problem)| format!("{field}: {problem}"))
        .collect();
    let owned = |(field, problem): &(&str, &str)| ((*field).to_owned(), (*problem).to_owned());
    Case {
        call,
        refusal: Refusal {
            code: Code::InvalidArgument,
            message: told.join("; "),
            fields: violations.iter().map(owned).collect(),
            info: None,
        },
        http: true,
    }
}

/// A rule between objects is broken.
fn broken(call: Call, code: Code, message: &str, reason: &str, facts: &[(&str, &str)]) -> Case {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let refusal = Refusal {
        code,
        message: message.to_owned(),
        fields: Vec::new(),
        info: Some((reason.to_owned(), facts.iter().map(owned).collect())),
    };
    Case {
        call,
        refusal,
        http: true,
    }
}

/// A value that another object has.
fn taken(call: Call, field: &str, value: &str, holder: &str) -> Case {
    let problem = format!("{value} is in use by {holder}");
    let message = format!("{field}: {problem}; choose another");
    let facts = [("field", field), ("value", value), ("holder", holder)];
    let mut case = broken(
        call,
        Code::FailedPrecondition,
        &message,
        "VALUE_IN_USE",
        &facts,
    );
    case.refusal.fields = vec![(field.to_owned(), problem)];
    case
}

/// A reference to nothing.
fn dangling(call: Call, field: &str, name: &str) -> Case {
    let problem = format!("{name} does not exist");
    let message = format!("{field}: {problem}; create it first");
    let facts = [("field", field), ("name", name)];
    let (code, reason) = (Code::FailedPrecondition, "REFERENCE_NOT_FOUND");
    let mut case = broken(call, code, &message, reason, &facts);
    case.refusal.fields = vec![(field.to_owned(), problem)];
    case
}

fn not_found(call: Call, name: &str) -> Case {
    let message = format!("{name} does not exist");
    broken(
        call,
        Code::NotFound,
        &message,
        "OBJECT_NOT_FOUND",
        &[("name", name)],
    )
}

fn in_use(call: Call, name: &str, referrers: &str) -> Case {
    let message = format!("{name} is in use by {referrers}; delete or change them first");
    let facts = [("name", name), ("referrers", referrers)];
    broken(
        call,
        Code::FailedPrecondition,
        &message,
        "OBJECT_IN_USE",
        &facts,
    )
}

fn update(kind: Kind, name: &str, spec: Value, mask: &str) -> Call {
    Call::Update {
        kind,
        name: name.to_owned(),
        spec,
        mask: (!mask.is_empty()).then(|| mask.to_owned()),
        allow_missing: false,
    }
}

fn get(kind: Kind, name: &str) -> Call {
    Call::Get(kind, name.to_owned())
}

fn delete(kind: Kind, name: &str) -> Call {
    Call::Delete(kind, name.to_owned(), false)
}

/// The case over gRPC alone.
fn grpc_only(case: Case) -> Case {
    Case {
        http: false,
        ..case
    }
}

async fn hold(cases: Vec<Case>) {
    hold_beside(Vec::new(), cases).await;
}

/// With more objects beside the usual ones.
async fn hold_beside(more: Vec<Call>, cases: Vec<Case>) {
    let rig = Rig::start().await;
    for call in everything().into_iter().chain(more) {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let before = rig.store.intent();
    for case in cases {
        let faces = [Face::Grpc, Face::Http];
        for face in faces.into_iter().take(if case.http { 2 } else { 1 }) {
            let answer = face.call(&rig, &case.call).await;
            let refusal = answer.expect_err(&format!("{face:?} took {:?}", case.call));
            assert_eq!(refusal, case.refusal, "{face:?} {:?}", case.call);
        }
    }
    assert!(Arc::ptr_eq(&before, &rig.store.intent()), "a refusal wrote");
}

const ID_RULE: &str = "use 4 to 63 of a-z, 0-9 and `-`, a letter first, no `-` last";

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
async fn bridge_ports() {
    let new = |spec| create(BRIDGE_PORT, "port-new", spec);
    let with_mac = |bytes: &[u8]| {
        let mac = crate::world::bytes(bytes);
        new(with(access(2, "net-blue"), json!({"macAddress": mac})))
    };
    let (field, bridges) = (
        "bridge_port.spec.mac_address",
        "bridge_port.spec.logical_bridges",
    );
    let mac_1 = "02:00:00:00:00:01";
    hold(vec![
        invalid(with_mac(&[]), &[(field, "is required: 6 bytes, unicast")]),
        invalid(
            with_mac(&[0; 6]),
            &[(field, "the MAC address is all zero; give the interface's own address")],
        ),
        invalid(
            with_mac(&[1, 0, 0x5e, 0, 0, 1]),
            &[(
                field,
                "01:00:5e:00:00:01 is a multicast or broadcast address; an interface needs a \
                 unicast one",
            )],
        ),
        invalid(
            with_mac(&[2; 5]),
            &[(
                field,
                r"`\x02\x02\x02\x02\x02 (5 bytes)` is no MAC address; write six bytes as aa:bb:cc:dd:ee:ff",
            )],
        ),
        invalid(
            with_mac(b"02-00-00-00-00-01"),
            &[(
                field,
                "`02-00-00-00-00-01` is no MAC address; write six bytes as aa:bb:cc:dd:ee:ff",
            )],
        ),
        taken(new(access(1, "net-blue")), field, mac_1, "bridgePorts/port-1"),
        taken(new(trunk(1, &["net-pink", "net-blue"])), field, mac_1, "bridgePorts/port-1"),
        // A transparent trunk is in every LogicalBridge.
        taken(new(trunk(1, &[])), field, mac_1, "bridgePorts/port-1"),
        dangling(new(access(2, "net-none")), bridges, "logicalBridges/net-none"),
        dangling(new(trunk(2, &["net-blue", "net-none"])), bridges, "logicalBridges/net-none"),
        invalid(
            new(access(2, "svis/net-blue")),
            &[(
                "bridge_port.spec.logical_bridges[0]",
                "`svis/net-blue` is no name of a LogicalBridge; write logicalBridges/{id} or the \
                 bare id",
            )],
        ),
        invalid(
            new(with(access(2, "net-blue"), json!({"logicalBridges": []}))),
            &[(bridges, "an access port has exactly one, not 0")],
        ),
        invalid(
            new(with(access(2, "net-blue"), json!({"logicalBridges": ["net-blue", "net-pink"]}))),
            &[(bridges, "an access port has exactly one, not 2")],
        ),
        invalid(
            new(with(access(2, "net-blue"), json!({"ptype": null}))),
            &[(
                "bridge_port.spec.ptype",
                "0 is no type; give BRIDGE_PORT_TYPE_ACCESS or _TRUNK",
            )],
        ),
        invalid(
            new(json!({"macAddress": mac(2), "ptype": 7, "logicalBridges": ["", "x"]})),
            &[
                (
                    "bridge_port.spec.logical_bridges[0]",
                    "is required: the name of a LogicalBridge",
                ),
                (
                    "bridge_port.spec.logical_bridges[1]",
                    &format!("`x` is no valid id; {ID_RULE}"),
                ),
                (
                    "bridge_port.spec.ptype",
                    "7 is no type; give BRIDGE_PORT_TYPE_ACCESS or _TRUNK",
                ),
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn svis() {
    let new = |spec| create(SVI, "svi-new", spec);
    let fine = || svi("vrf-red", "net-pink", &["10.2.0.1/24"]);
    let (gateways, remote_as) = ("svi.spec.gw_ip_prefix", "svi.spec.remote_as");
    hold(vec![
        dangling(
            new(svi("vrf-none", "net-pink", &["10.2.0.1/24"])),
            "svi.spec.vrf",
            "vrfs/vrf-none",
        ),
        dangling(
            new(svi("vrf-red", "net-none", &["10.2.0.1/24"])),
            "svi.spec.logical_bridge",
            "logicalBridges/net-none",
        ),
        taken(
            new(svi("vrf-red", "net-blue", &["10.2.0.1/24"])),
            "svi.spec.logical_bridge",
            "logicalBridges/net-blue",
            "svis/svi-blue",
        ),
        taken(
            new(svi(
                "vrf-red",
                "net-pink",
                &["10.2.0.1/24", "10.1.0.200/30"],
            )),
            gateways,
            "10.1.0.200/30",
            "svis/svi-blue",
        ),
        taken(
            new(svi("vrf-red", "net-pink", &["fd00::2/48"])),
            gateways,
            "fd00::2/48",
            "svis/svi-blue",
        ),
        invalid(
            new(json!({})),
            &[
                ("svi.spec.vrf", "is required: the name of a Vrf"),
                (
                    "svi.spec.logical_bridge",
                    "is required: the name of a LogicalBridge",
                ),
                ("svi.spec.mac_address", "is required: 6 bytes, unicast"),
                (gateways, "is required: at least one gateway address"),
            ],
        ),
        invalid(
            new(svi("vrf-red", "net-pink", &["10.2.0.1/24", "10.2.0.1/16"])),
            &[("svi.spec.gw_ip_prefix[1]", "10.2.0.1 is given twice")],
        ),
        invalid(
            new(with(
                fine(),
                json!({"gwIpPrefix": [prefix("10.2.0.1/24"), {}]}),
            )),
            &[("svi.spec.gw_ip_prefix[1]", "addr is required")],
        ),
        invalid(
            new(with(fine(), json!({"macAddress": bytes(&[0xff; 6])}))),
            &[(
                "svi.spec.mac_address",
                "ff:ff:ff:ff:ff:ff is a multicast or broadcast address; an interface needs a \
                 unicast one",
            )],
        ),
        invalid(
            new(with(fine(), json!({"enableBgp": true}))),
            &[(remote_as, "is required with enable_bgp: 1 to 4294967295")],
        ),
        invalid(
            new(with(fine(), json!({"remoteAs": 65001}))),
            &[(remote_as, "65001 is given without enable_bgp; set both")],
        ),
    ])
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

#[tokio::test]
async fn pages() {
    let foreign = "is none of this collection's; start without a token";
    let list = |size, token: &str| Call::List(VRF, size, token.to_owned());
    let mut cases = vec![
        invalid(
            list(-1, ""),
            &[("page_size", "-1 is negative; give 0 to 250")],
        ),
        invalid(
            list(i32::MIN, ""),
            &[("page_size", "-2147483648 is negative; give 0 to 250")],
        ),
    ];
    // The second is a true token of another collection: `svis/svi-blue`.
    for token in ["junk", "737669732f7376692d626c7565", "\u{e9}", "%"] {
        cases.push(invalid(list(1, token), &[("page_token", foreign)]));
    }
    hold(cases).await;
}

/// A page of referrers would not fit in an error: the first are told, and how many more.
#[tokio::test]
async fn long_lists_in_errors_are_cut() {
    let rig = Rig::start().await;
    Face::Grpc
        .call(&rig, &create(LOGICAL_BRIDGE, "net-blue", bridge(1, None)))
        .await
        .unwrap();
    for number in 0..12 {
        let call = create(
            BRIDGE_PORT,
            &format!("port-{number:02}"),
            access(number, "net-blue"),
        );
        // 02:00:00:00:00:00 is an address like any other.
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let many: Vec<_> = (0..5_000).map(|number| format!("X{number}")).collect();
    let wrong =
        json!({"macAddress": mac(99), "ptype": "BRIDGE_PORT_TYPE_TRUNK", "logicalBridges": many});
    for face in [Face::Grpc, Face::Http] {
        let refused = face
            .call(&rig, &delete(LOGICAL_BRIDGE, "net-blue"))
            .await
            .unwrap_err();
        assert!(
            refused.message.contains("bridgePorts/port-09 and 2 more;"),
            "{}",
            refused.message
        );
        let refused = face
            .call(&rig, &create(BRIDGE_PORT, "port-99", wrong.clone()))
            .await
            .unwrap_err();
        assert_eq!(refused.fields.len(), 20);
        assert!(
            refused.message.ends_with("; and 4980 more"),
            "{}",
            refused.message
        );
    }
}

/// Names that are longer as they travel than as they stand.
#[tokio::test]
async fn an_error_with_long_texts_arrives() {
    let rig = Rig::start().await;
    for letter in ["\u{200b}", "\u{20ac}", "%"] {
        let many: Vec<_> = (0..30)
            .map(|number| format!("{}{number}", letter.repeat(100)))
            .collect();
        let wrong = json!({
            "macAddress": mac(99), "ptype": "BRIDGE_PORT_TYPE_TRUNK", "logicalBridges": many,
        });
        let call = create(BRIDGE_PORT, "port-99", wrong);
        for face in [Face::Grpc, Face::Http] {
            let refused = face.call(&rig, &call).await.unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{letter:?}");
            let (field, _) = &refused.fields[0];
            assert_eq!(field, "bridge_port.spec.logical_bridges[0]");
            let more = format!("; and {} more", 30 - refused.fields.len());
            assert!(refused.message.ends_with(&more), "{}", refused.message);
        }
    }
}
