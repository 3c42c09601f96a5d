//! What planners know of the node beside the intent: its place in the underlay and how ports
//! are found. Comes from the agent's configuration; only how ports are found may change while it
//! runs, where a file says so.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
};

use crate::{
    ifname::IfName,
    mac::Mac,
    name::Id,
    number::{Asn, Mtu},
};

/// The UDP port of VXLAN (RFC 7348 section 5), which a node has unless it is told another.
pub const VXLAN_PORT: NonZeroU16 = match NonZeroU16::new(4789) {
    Some(port) => port,
    None => unreachable!(),
};

/// The node's settings, as planners see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The default local VTEP; none: objects with a VNI need their own.
    pub vtep: Option<IpAddr>,
    /// The underlay's MTU in bytes.
    pub underlay_mtu: Mtu,
    /// The UDP port of VXLAN: where the node receives it, and where it sends it to.
    pub vxlan_port: NonZeroU16,
    /// How the netdev of a BridgePort is found.
    pub ports: PortResolver,
    /// The base BGP instance to configure; none: the operator's own is used and only read.
    pub bgp: Option<BgpBase>,
    /// How L2VNIs and L3VNIs get their route targets.
    pub route_targets: RouteTargets,
}

impl Node {
    /// The tenants' MTU: the underlay's less what VXLAN adds.
    #[must_use]
    pub fn overlay_mtu(&self) -> Mtu {
        let mtu = u32::from(self.underlay_mtu.get()).saturating_sub(vxlan_overhead(self.vtep));
        Mtu::try_from(mtu).unwrap_or(Mtu::MIN)
    }
}

/// What VXLAN adds to a tenant's packet, in bytes (RFC 7348): the inner Ethernet header 14, VXLAN
/// 8, UDP 8 and the outer IP header, 20 or 40 by the VTEP's family. Without a VTEP it is IPv4's.
#[must_use]
pub const fn vxlan_overhead(vtep: Option<IpAddr>) -> u32 {
    match vtep {
        Some(IpAddr::V6(_)) => 70,
        Some(IpAddr::V4(_)) | None => 50,
    }
}

/// How the netdev that carries a BridgePort's VF is found on the xPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortResolver {
    /// The netdev whose name is the port's id.
    Name,
    /// A table of the configuration, or of a file that it names; an entry by id wins over one by
    /// MAC.
    Map {
        /// Netdevs by the VF's MAC.
        by_mac: BTreeMap<Mac, IfName>,
        /// Netdevs by the port's id.
        by_id: BTreeMap<Id, IfName>,
    },
}

impl PortResolver {
    /// The netdev of a port, if there is one for it.
    #[must_use]
    pub fn resolve(&self, id: &Id, mac: Mac) -> Option<IfName> {
        match self {
            Self::Name => id.as_str().parse().ok(),
            Self::Map { by_mac, by_id } => by_id.get(id).or_else(|| by_mac.get(&mac)).cloned(),
        }
    }
}

/// The base BGP instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpBase {
    /// This node's AS.
    pub asn: Asn,
    /// The BGP identifier (RFC 4271 section 4.2).
    pub router_id: Ipv4Addr,
    /// The underlay's peers.
    pub peers: Vec<BgpPeer>,
    /// Keepalive and hold time in seconds; none: FRR's defaults (60 and 180, or 3 and 9 in its
    /// datacenter profile).
    pub timers: Option<BgpTimers>,
}

/// One underlay peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPeer {
    /// Where it is.
    pub at: PeerAddress,
    /// Its AS.
    pub remote_as: RemoteAs,
    /// Whether BFD (RFC 5880) watches the session.
    pub bfd: bool,
}

/// How a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// By address.
    Ip(IpAddr),
    /// By link: the neighbour on it (RFC 5549, "unnumbered").
    Interface(IfName),
}

/// The AS expected of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAs {
    /// Any other than ours (eBGP).
    External,
    /// Ours (iBGP).
    Internal,
    /// This one.
    Is(Asn),
}

/// BGP timers in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BgpTimers {
    /// Between keepalives.
    pub keepalive: u16,
    /// Without a word, until the session is dropped.
    pub hold: u16,
}

/// How VNIs get their route targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteTargets {
    /// FRR's automatic ones, which match across AS numbers (RFC 8365 section 5.1.2.1).
    #[default]
    Auto,
    /// `ASN:VNI` on every node: the AS is the configured one.
    Fixed(Asn),
}
