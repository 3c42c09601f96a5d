//! Which values no two objects may have, as the agent's rules have it (`xpu_model::rules`). Pure.
//!
//! Nothing is refused by this. It only says what must be given up before another can take it.

use xpu_model::Vni;

use crate::manifest::{BridgePortText, PortType, Spec, SviText};

/// A value that both want and only one can have: `vlanId 100`.
pub fn contested(one: &Spec, other: &Spec) -> Option<String> {
    match (one, other) {
        (Spec::LogicalBridge(one), Spec::LogicalBridge(other)) if one.vlan_id == other.vlan_id => {
            Some(format!("vlanId {}", one.vlan_id))
        }
        (Spec::BridgePort(one), Spec::BridgePort(other)) => {
            let same = one.mac_address == other.mac_address && share_a_bridge(one, other);
            same.then(|| format!("macAddress {}", one.mac_address.0))
        }
        (Spec::Svi(one), Spec::Svi(other)) => contested_gateway(one, other),
        // LogicalBridges and Vrfs have theirs from one space.
        _ => match (vni(one), vni(other)) {
            (Some(one), Some(other)) if one == other => Some(format!("vni {one}")),
            _ => None,
        },
    }
}

const fn vni(spec: &Spec) -> Option<Vni> {
    match spec {
        Spec::Vrf(vrf) => vrf.vni,
        Spec::LogicalBridge(bridge) => bridge.vni,
        Spec::BridgePort(_) | Spec::Svi(_) => None,
    }
}

/// Whether there is a LogicalBridge that both carry.
fn share_a_bridge(one: &BridgePortText, other: &BridgePortText) -> bool {
    let all =
        |port: &BridgePortText| port.ptype == PortType::Trunk && port.logical_bridges.is_empty();
    let carries = |id| other.logical_bridges.contains(id);
    all(one) || all(other) || one.logical_bridges.iter().any(carries)
}

/// A LogicalBridge has one Svi; the subnets of a Vrf are disjoint.
fn contested_gateway(one: &SviText, other: &SviText) -> Option<String> {
    if one.logical_bridge == other.logical_bridge {
        return Some(format!("logicalBridge {}", one.logical_bridge));
    }
    if one.vrf != other.vrf {
        return None;
    }
    let theirs = || other.gw_ip_prefix.iter().map(|gateway| gateway.0.subnet());
    let overlaps = |subnet: xpu_model::Prefix| theirs().any(|their| their.overlaps(subnet));
    let mut ours = one.gw_ip_prefix.iter().map(|gateway| gateway.0.subnet());
    ours.find(|subnet| overlaps(*subnet))
        .map(|subnet| format!("gwIpPrefix {subnet}"))
}
