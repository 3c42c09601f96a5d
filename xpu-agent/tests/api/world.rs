//! Specs as JSON, and one object of each kind.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::calls::{BRIDGE_PORT, Call, Kind, LOGICAL_BRIDGE, SVI, VRF};

/// `10.0.0.1/24` as an `IPPrefix`.
pub fn prefix(text: &str) -> Value {
    let (addr, len) = text.split_once('/').unwrap();
    let len: i32 = len.parse().unwrap();
    match addr.parse().unwrap() {
        IpAddr::V4(v4) => json!({
            "addr": {"af": "IP_AF_INET", "v4Addr": v4.to_bits()}, "len": len,
        }),
        IpAddr::V6(v6) => json!({
            "addr": {"af": "IP_AF_INET6", "v6Addr": bytes(&v6.octets())}, "len": len,
        }),
    }
}

/// Bytes as JSON has them.
pub fn bytes(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// The MAC 02:00:00:00:00:`last`.
pub fn mac(last: u8) -> String {
    bytes(&[2, 0, 0, 0, 0, last])
}

pub fn vrf(vni: Option<u32>) -> Value {
    json!({"vni": vni, "loopbackIpPrefix": prefix("10.0.0.1/32")})
}

pub fn bridge(vlan: u32, vni: Option<u32>) -> Value {
    json!({"vlanId": vlan, "vni": vni})
}

pub fn access(last: u8, bridge: &str) -> Value {
    json!({
        "macAddress": mac(last), "ptype": "BRIDGE_PORT_TYPE_ACCESS", "logicalBridges": [bridge],
    })
}

pub fn trunk(last: u8, bridges: &[&str]) -> Value {
    json!({
        "macAddress": mac(last), "ptype": "BRIDGE_PORT_TYPE_TRUNK", "logicalBridges": bridges,
    })
}

pub fn svi(vrf: &str, bridge: &str, gateways: &[&str]) -> Value {
    let gateways: Vec<_> = gateways.iter().map(|it| prefix(it)).collect();
    json!({"vrf": vrf, "logicalBridge": bridge, "macAddress": mac(0xfe), "gwIpPrefix": gateways})
}

/// The spec with some fields set to other values; null takes one away.
pub fn with(mut spec: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

pub fn create(kind: Kind, id: &str, spec: Value) -> Call {
    Call::Create(kind, id.to_owned(), spec)
}

/// `vrf-red`, `net-blue` (VLAN 100, VNI 10100), `net-pink` (VLAN 101), `port-1` (access, in
/// net-blue), `svi-blue` (10.1.0.1/24 and fd00::1/64, in vrf-red).
pub fn everything() -> Vec<Call> {
    vec![
        create(VRF, "vrf-red", vrf(Some(5001))),
        create(LOGICAL_BRIDGE, "net-blue", bridge(100, Some(10100))),
        create(LOGICAL_BRIDGE, "net-pink", bridge(101, None)),
        create(BRIDGE_PORT, "port-1", access(1, "net-blue")),
        create(
            SVI,
            "svi-blue",
            svi("vrf-red", "net-blue", &["10.1.0.1/24", "fd00::1/64"]),
        ),
    ]
}
