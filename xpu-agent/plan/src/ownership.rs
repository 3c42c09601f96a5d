//! What is ours: the one place that knows how the agent recognises what it made.
//!
//! The two mistakes are not alike. Not recognising our own leaks a device or a route; taking
//! someone else's for ours destroys their network. So everything is judged by marks that only
//! this agent leaves, and a bare name never proves anything: a device called `br-tenant`
//! without the mark is foreign, is never touched, and whatever needs it says so in its status.
//!
//! - A device is ours when its `ifalias` is a [`Mark`] and it is of a kind that the agent makes
//!   with that mark. The alias alone proves nothing: a pod can write one on its VF, which then
//!   comes home with it.
//! - A netdev of a port is ours to put and take while it is a port of our tenant bridge; its
//!   name, MAC, alias and MTU stay its owner's.
//! - VLANs, VNIs, tunnel mappings and addresses on our devices, and VLANs on the ports of our
//!   bridges, are ours.
//! - A route is ours when it is an unreachable default of [`UNREACHABLE_METRIC`] that carries
//!   [`ROUTE_PROTOCOL`].
//! - The rule of the VRFs at [`VRF_RULE`] that says it is the kernel's is ours: the kernel puts its
//!   own elsewhere. That of the table `local`, which it comes before, is the one thing of the
//!   node's that moves.
//! - A static FDB entry is ours when it stands on our bridge for an Svi's MAC and VLAN.

use std::{fmt, str::FromStr};

use xpu_model::{IfName, Kind, ObjectKey, VlanId};

use crate::linux::LinkKind;

/// The bridge of the tenants' VLANs.
pub const TENANT_BRIDGE: &str = "br-tenant";
/// The bridge whose VLANs stand for L3VNIs.
pub const L3_BRIDGE: &str = "br-l3";
/// The VXLAN device of the L2VNIs, a port of [`TENANT_BRIDGE`].
pub const L2_VXLAN: &str = "vxlan";
/// The VXLAN device of the L3VNIs, a port of [`L3_BRIDGE`].
pub const L3_VXLAN: &str = "vxl3";

/// The `rtm_protocol` of every route the agent makes: `RTPROT_REDIRECT`, since zebra does not read
/// such routes. It must not: one that it reads between `vrf X` in its configuration and the VRF's
/// device gets the default VRF's id, is not found when the kernel takes it away, and crashes zebra
/// when the VRF goes (seen with FRR 10.3).
///
/// The numbers up to `RTPROT_STATIC` have a meaning for the kernel (`linux/rtnetlink.h`); this
/// one's is to show routes by, and the redirects that it hears of are exceptions to routes and
/// stand in no table. A BIRD whose kernel protocol has a Vrf's table deletes such routes.
pub const ROUTE_PROTOCOL: u8 = 1;

/// The metric of the unreachable default route in each Vrf: so high that every route FRR installs
/// is preferred (kernel documentation, networking/vrf.rst).
pub const UNREACHABLE_METRIC: u32 = 4_278_198_272;

/// The priority of the agent's rule of the VRFs (`l3mdev`): the first there is, and that of the
/// kernel's rule of the node's own addresses, which is put behind it. Its protocol is the kernel's,
/// since network managers delete the rules of others.
pub const VRF_RULE: u32 = 0;

/// The protocol number of the two rules that earlier agents made; neither the kernel's nor FRR's.
pub const OLDER_RULE_PROTOCOL: u8 = 88;

/// Where those agents put the rule of the node's own addresses: behind that of the VRFs, which
/// they made where the kernel does.
pub const OLDER_LOCAL_RULE: u32 = 1001;

const PREFIX: &str = "xpu:";
const NODE: &str = "node";

/// The mark in a device's `ifalias`: `xpu:node`, or `xpu:` and the object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Belongs to the node: the bridges and their VXLAN devices.
    Node,
    /// Belongs to an object.
    Object(ObjectKey),
}

/// An alias that is not the agent's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the alias is not a mark of this agent")]
pub struct NotAMark;

impl Mark {
    /// Whether the agent makes devices of this kind with this mark.
    #[must_use]
    pub const fn fits(&self, kind: &LinkKind) -> bool {
        match self {
            Self::Node => matches!(kind, LinkKind::Bridge(_) | LinkKind::Vxlan(_)),
            Self::Object(key) => match key.kind {
                Kind::Vrf => matches!(kind, LinkKind::Vrf(_) | LinkKind::Vlan { .. }),
                Kind::Svi => matches!(kind, LinkKind::Vlan { .. }),
                Kind::LogicalBridge | Kind::BridgePort => false,
            },
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => write!(f, "{PREFIX}{NODE}"),
            Self::Object(key) => write!(f, "{PREFIX}{key}"),
        }
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    /// Reads exactly what [`fmt::Display`] writes; anything else is a foreigner's alias.
    fn from_str(alias: &str) -> Result<Self, NotAMark> {
        let body = alias.strip_prefix(PREFIX).ok_or(NotAMark)?;
        if body == NODE {
            return Ok(Self::Node);
        }
        let key = body.parse().map_err(|_| NotAMark)?;
        Ok(Self::Object(key))
    }
}

/// [`TENANT_BRIDGE`].
#[must_use]
pub fn tenant_bridge() -> IfName {
    fixed(TENANT_BRIDGE)
}

/// [`L3_BRIDGE`].
#[must_use]
pub fn l3_bridge() -> IfName {
    fixed(L3_BRIDGE)
}

/// [`L2_VXLAN`].
#[must_use]
pub fn l2_vxlan() -> IfName {
    fixed(L2_VXLAN)
}

/// [`L3_VXLAN`].
#[must_use]
pub fn l3_vxlan() -> IfName {
    fixed(L3_VXLAN)
}

/// The gateway device of a VLAN on [`TENANT_BRIDGE`].
#[must_use]
pub fn svi_device(vlan: VlanId) -> IfName {
    fixed(&format!("svi-{vlan}"))
}

/// The L3VNI's routing device of a VLAN on [`L3_BRIDGE`].
#[must_use]
pub fn l3_device(vlan: VlanId) -> IfName {
    fixed(&format!("l3-{vlan}"))
}

/// Whether the agent keeps the name for devices of its own, there or not.
#[must_use]
pub fn is_reserved(name: &IfName) -> bool {
    let name = name.as_str();
    [TENANT_BRIDGE, L3_BRIDGE, L2_VXLAN, L3_VXLAN].contains(&name)
        || name.starts_with("svi-")
        || name.starts_with("l3-")
}

/// One of this module's own names, all short ASCII.
fn fixed(name: &str) -> IfName {
    name.parse()
        .unwrap_or_else(|_| unreachable!("`{name}` is a device name by construction"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back() {
        let key = ObjectKey::parse(Kind::LogicalBridge, "blue").unwrap();
        for mark in [Mark::Node, Mark::Object(key)] {
            assert_eq!(mark.to_string().parse(), Ok(mark));
        }
    }

    #[rstest::rstest]
    #[case("")]
    #[case("uplink to leaf 1")]
    #[case("xpu:")]
    #[case("xpu:nodes")]
    #[case("xpu:vrfs/")]
    #[case("xpu:vrfs/Blue")]
    #[case("xpu:ports/blue")]
    #[case(" xpu:node")]
    #[case("xpu:vrfs/blue ")]
    #[case("xpu:vrfs/blue/red1")]
    fn a_foreign_alias_is_no_mark(#[case] alias: &str) {
        assert_eq!(alias.parse::<Mark>(), Err(NotAMark), "{alias}");
    }

    /// The files that are installed for network managers name our devices, and no others.
    #[test]
    fn network_managers_are_told_of_our_devices() {
        let networkd = include_str!("../../../netconf-examples/systemd/05-xpu-agent.network");
        let names = |line: &'static str| line.strip_prefix("Name=").map(|it| it.split(' '));
        let networkd: Vec<_> = networkd.lines().filter_map(names).flatten().collect();
        let manager = include_str!("../../../netconf-examples/networkmanager/xpu-agent.conf");
        let names = |line: &'static str| line.strip_prefix("unmanaged-devices+=");
        let devices = manager
            .lines()
            .filter_map(names)
            .flat_map(|it| it.split(';'));
        let manager: Vec<_> = devices
            .map(|it| it.strip_prefix("interface-name:").unwrap())
            .collect();
        let fits = |pattern: &&str, name: &IfName| match pattern.strip_suffix('*') {
            Some(start) => name.as_str().starts_with(start),
            None => name.as_str() == *pattern,
        };
        let fixed = [tenant_bridge(), l3_bridge(), l2_vxlan(), l3_vxlan()];
        let of_vlans = [svi_device(VlanId::MAX), l3_device(VlanId::MIN)];
        let theirs = ["lo", "eth0", "up0", "br-lan", "vxlan.calico"].map(|it| it.parse().unwrap());
        for patterns in [networkd, manager] {
            for name in fixed.iter().chain(&of_vlans) {
                let told = patterns.iter().any(|it| fits(it, name));
                assert!(told, "{name} is not in {patterns:?}");
            }
            for name in &theirs {
                let told = patterns.iter().any(|it| fits(it, name));
                assert!(!told, "{name} is in {patterns:?}");
            }
        }
    }

    #[test]
    fn what_is_ours_has_a_device_name() {
        for name in [tenant_bridge(), l3_bridge(), l2_vxlan(), l3_vxlan()] {
            assert!(is_reserved(&name), "{name}");
        }
        assert_eq!(svi_device(VlanId::MAX).as_str(), "svi-4094");
        assert_eq!(l3_device(VlanId::MIN).as_str(), "l3-1");
    }
}
