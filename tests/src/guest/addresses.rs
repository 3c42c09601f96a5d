//! Who is who in the lab's network. `tests/topology/` has the foreign side's own words for it.
//!
//! ```text
//!  pods ── VFs ══ wires ══ reps ── xpu ──── spine ──── leaf2 ─┬─ h-blue    VLAN 100, VNI 10100
//!                                 AS 65001  AS 65000  AS 65002├─ h-silent  VLAN 100, never speaks first
//!                                 VTEP                VTEP    ├─ h-green   VLAN 200, VNI 10200, no gateway
//!                                 10.255.0.1          10.255.0.2 ─ h-ext   172.16.9.0/24 by type-5 only
//! ```

/// AS number of the spine.
pub const SPINE_ASN: u32 = 65000;
/// AS number of the xPU.
pub const XPU_ASN: u32 = 65001;
/// AS number of the foreign leaf.
pub const LEAF2_ASN: u32 = 65002;

/// The xPU's VTEP, on its loopback.
pub const XPU_VTEP: &str = "10.255.0.1";
/// The foreign leaf's VTEP.
pub const LEAF2_VTEP: &str = "10.255.0.2";

/// The xPU's end of the link to the spine, /31, on the interface `up0`.
pub const XPU_UPLINK: &str = "10.254.1.0";
/// The spine's end of the link to the xPU: the xPU's BGP peer.
pub const SPINE_TO_XPU: &str = "10.254.1.1";
/// The foreign leaf's end of its link to the spine.
pub const LEAF2_UPLINK: &str = "10.254.2.0";
/// The spine's end of the link to the foreign leaf.
pub const SPINE_TO_LEAF2: &str = "10.254.2.1";

/// Bytes that a packet of the underlay may have.
pub const UNDERLAY_MTU: u16 = 9000;

/// VLAN of the stretched network "blue" on the foreign leaf.
pub const BLUE_VLAN: u16 = 100;
/// L2VNI of "blue".
pub const BLUE_VNI: u32 = 10100;
/// L3VNI of the VRF that "blue" is in.
pub const BLUE_L3VNI: u32 = 50100;
/// The foreign leaf's router MAC on that L3VNI.
pub const LEAF2_RMAC: &str = "02:00:00:02:50:01";
/// The gateway's MAC in "blue", the same on every leaf.
pub const BLUE_GATEWAY_MAC: &str = "02:00:5e:00:01:00";
/// The gateway of "blue", the same on every leaf: IPv4 in a /24.
pub const BLUE_GATEWAY_V4: &str = "10.100.0.1";
/// The gateway of "blue": IPv6 in a /64.
pub const BLUE_GATEWAY_V6: &str = "fd00:100::1";
/// VLAN of the stretched network "green" on the foreign leaf.
pub const GREEN_VLAN: u16 = 200;
/// L2VNI of "green", which has no gateway on the foreign leaf.
pub const GREEN_VNI: u32 = 10200;

/// A host behind the foreign leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its namespace.
    pub name: &'static str,
    /// Its MAC.
    pub mac: &'static str,
    /// Its IPv4 address, in a /24.
    pub v4: &'static str,
    /// Its IPv6 address, in a /64.
    pub v6: Option<&'static str>,
    /// Its gateways.
    pub gateways: &'static [&'static str],
}

/// In "blue".
pub const H_BLUE: Host = Host {
    name: "h-blue",
    mac: "02:00:00:22:00:01",
    v4: "10.100.0.22",
    v6: Some("fd00:100::22"),
    gateways: &[BLUE_GATEWAY_V4, BLUE_GATEWAY_V6],
};

/// In "blue"; sends nothing before it is asked, so that no leaf knows where it is.
pub const H_SILENT: Host = Host {
    name: "h-silent",
    mac: "02:00:00:22:00:02",
    v4: "10.100.0.33",
    v6: None,
    gateways: &[BLUE_GATEWAY_V4],
};

/// In "green".
pub const H_GREEN: Host = Host {
    name: "h-green",
    mac: "02:00:00:22:00:03",
    v4: "10.200.0.22",
    v6: Some("fd00:200::22"),
    gateways: &[],
};

/// Behind a routed port of the foreign leaf, in the VRF of "blue": reached by type-5 routes only.
pub const H_EXT: Host = Host {
    name: "h-ext",
    mac: "02:00:00:22:00:04",
    v4: "172.16.9.22",
    v6: Some("fd00:9::22"),
    gateways: &["172.16.9.1", "fd00:9::1"],
};

/// The IPv4 network of [`H_EXT`], as its type-5 route has it.
pub const EXT_V4_PREFIX: &str = "172.16.9.0/24";
/// The IPv6 network of [`H_EXT`].
pub const EXT_V6_PREFIX: &str = "fd00:9::/64";
