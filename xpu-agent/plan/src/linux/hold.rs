//! Why something is not planned although it was asked for.

use std::{fmt, net::IpAddr, num::NonZeroU16};

use xpu_model::{IfAddr, IfName, Mac, Mtu, ObjectKey, TableId, Vni, status::State};

/// Something that stands in an object's way. What can be done for it all the same is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A device that is not ours has the name we need.
    ForeignDevice(IfName),
    /// A VRF device that is not ours has the routing table.
    ForeignTable {
        /// The table.
        table: TableId,
        /// The device.
        device: IfName,
    },
    /// Another object that this one needs is not available.
    DependsOn(ObjectKey),
    /// A VNI, and no VTEP.
    NoVtep(Vni),
    /// Another VTEP than the node's.
    OtherVtep {
        /// The object's.
        wanted: IpAddr,
        /// The one in use.
        used: IpAddr,
    },
    /// No device of the node has the VTEP's address.
    VtepAbsent(IpAddr),
    /// Somebody's VXLAN device has the UDP port.
    VxlanPort {
        /// The port.
        port: NonZeroU16,
        /// The device.
        device: IfName,
    },
    /// An IPv6 gateway on links too small for IPv6.
    MtuBelowIpv6(Mtu),
    /// An IPv6 address on a kernel without IPv6.
    NoIpv6(IfAddr),
    /// An IPv6 gateway on a node that would lose its default route by this device if it forwarded
    /// IPv6.
    Ipv6NotForwarded(IfName),
    /// FRR doesn't know the L3VNI yet.
    Frr {
        /// The Vrf's name in FRR.
        vrf: IfName,
        /// The L3VNI.
        vni: Vni,
    },
    /// FRR may still work with an L3VNI that its Vrf no longer has.
    FrrHolds {
        /// The Vrf's name in FRR.
        vrf: IfName,
        /// The L3VNI.
        vni: Vni,
    },
    /// FRR may still have the deleted Vrf.
    FrrUses(IfName),
    /// The port's netdev isn't there yet.
    NetdevMissing(IfName),
    /// The node's settings name no netdev for the port.
    NetdevUnknown(Mac),
    /// Another port has the netdev.
    NetdevTaken {
        /// The netdev.
        device: IfName,
        /// Who has it.
        by: ObjectKey,
    },
    /// The netdev is one of the agent's own devices.
    NetdevOurs(IfName),
    /// The node itself uses the netdev.
    NetdevInUse {
        /// The netdev.
        device: IfName,
        /// What for.
        by: NodeUse,
    },
    /// The netdev belongs to a bridge, bond or VRF that is not ours.
    NetdevEnslaved {
        /// The netdev.
        device: IfName,
        /// Its master.
        master: IfName,
    },
}

/// How a netdev shows that the node uses it, so that making it a port would cut the node off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeUse {
    /// It has an address.
    Address(IfAddr),
    /// Routes go by it.
    Routes,
    /// It is the master of a device.
    MasterOf(IfName),
    /// A VLAN device stands on it.
    Below(IfName),
    /// It is a bridge, a VRF or a VXLAN device.
    Kind(&'static str),
    /// The configuration's BGP has a peer on it.
    BgpPeer,
}

impl fmt::Display for NodeUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => write!(f, "has the address {addr}"),
            Self::Routes => f.write_str("has routes"),
            Self::MasterOf(device) => write!(f, "is the master of {device}"),
            Self::Below(device) => write!(f, "carries the VLAN device {device}"),
            Self::Kind(kind) => write!(f, "is a {kind}"),
            Self::BgpPeer => f.write_str("has a peer of bgp.peers on it"),
        }
    }
}

impl Hold {
    /// Whether it goes away by itself, so that the object waits rather than fails.
    #[must_use]
    pub const fn is_wait(&self) -> bool {
        matches!(
            self,
            Self::Frr { .. } | Self::FrrHolds { .. } | Self::FrrUses(_) | Self::NetdevMissing(_)
        )
    }

    /// How an object stands for which nothing else is left to do. Refused, which ends a call's
    /// wait, where only another spec, another configuration or an operator mends it; an event
    /// starts the pass that finds it mended. What may pass in a moment is an error, so that the
    /// call waits for it: a map of ports that is just being read, an address that the boot is about
    /// to set, whoever lets go of a netdev. So is what the kernel tells nobody of (routes,
    /// `accept_ra`).
    #[must_use]
    pub fn state(&self) -> State {
        let reason = self.to_string();
        match self {
            Self::Frr { .. }
            | Self::FrrHolds { .. }
            | Self::FrrUses(_)
            | Self::NetdevMissing(_) => State::Pending(reason),
            Self::NetdevUnknown(_)
            | Self::NetdevInUse { .. }
            | Self::NetdevEnslaved { .. }
            | Self::VtepAbsent(_)
            | Self::Ipv6NotForwarded(_) => State::Error(reason),
            Self::ForeignDevice(_)
            | Self::ForeignTable { .. }
            | Self::DependsOn(_)
            | Self::NoVtep(_)
            | Self::OtherVtep { .. }
            | Self::VxlanPort { .. }
            | Self::MtuBelowIpv6(_)
            | Self::NoIpv6(_)
            | Self::NetdevTaken { .. }
            | Self::NetdevOurs(_) => State::Refused(reason),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignDevice(device) => write!(
                f,
                "a device {device} exists that this agent did not make; rename or delete it"
            ),
            Self::ForeignTable { table, device } => write!(
                f,
                "routing table {table} belongs to the VRF device {device}, which this agent did \
                 not make; delete it, or change the range of tables in the configuration"
            ),
            Self::DependsOn(key) => write!(f, "{key} is not available; see its status"),
            Self::NoVtep(vni) => write!(
                f,
                "VNI {vni} needs a local VTEP; set underlay.vtep in the agent's configuration, \
                 or the object's vtep_ip_prefix"
            ),
            Self::OtherVtep { wanted, used } => write!(
                f,
                "VTEP {wanted} differs from this node's, {used}; one VTEP per node is supported \
                 today"
            ),
            Self::VtepAbsent(vtep) => {
                let length = if vtep.is_ipv4() { 32 } else { 128 };
                write!(
                    f,
                    "no device of this node has the VTEP's address {vtep}; add it (`ip addr add \
                     {vtep}/{length} dev lo`), or correct the VTEP"
                )
            }
            Self::VxlanPort { port, device } => write!(
                f,
                "the VXLAN device {device}, which this agent did not make, has UDP port {port}; \
                 give it another, or set underlay.vxlan_port to another on all nodes of the fabric"
            ),
            Self::NoIpv6(addr) => write!(
                f,
                "{addr} is not available: this kernel has no IPv6; start it without ipv6.disable=1"
            ),
            Self::Ipv6NotForwarded(device) => write!(
                f,
                "this node does not forward IPv6, or it would lose its default route by {device}; \
                 `sysctl net.ipv6.conf.{device}.accept_ra=2` keeps that"
            ),
            Self::MtuBelowIpv6(mtu) => write!(
                f,
                "the tenants' MTU is {mtu}, and IPv6 needs 1280; raise underlay.mtu"
            ),
            Self::Frr { vrf, vni } => {
                write!(f, "waits for FRR to know vrf {vrf} with vni {vni}")
            }
            Self::FrrHolds { vrf, vni } => {
                write!(f, "waits for FRR to let go of vni {vni} of vrf {vrf}")
            }
            Self::FrrUses(vrf) => write!(f, "waits for FRR to let go of vrf {vrf}"),
            Self::NetdevMissing(device) => write!(f, "netdev {device} isn't there yet"),
            Self::NetdevUnknown(mac) => write!(
                f,
                "no netdev is known for this port; its id is no device name, or the \
                 configuration's ports have neither its id nor {mac}"
            ),
            Self::NetdevTaken { device, by } => {
                write!(f, "netdev {device} is {by}'s; give each port its own")
            }
            Self::NetdevOurs(device) => {
                write!(
                    f,
                    "{device} is one of the agent's own devices and can't be a port"
                )
            }
            Self::NetdevInUse { device, by } => write!(
                f,
                "netdev {device} is in use by the node: it {by}; name the port's own netdev, or \
                 free this one"
            ),
            Self::NetdevEnslaved { device, master } => write!(
                f,
                "netdev {device} belongs to {master}, which is not this agent's; release it first"
            ),
        }
    }
}
