//! The comparable form of a device, the same for what is wanted and what is observed.

use std::{collections::BTreeMap, fmt, net::IpAddr, num::NonZeroU16};

use xpu_model::{IfName, TableId, VlanId};

/// What a device is, with the parameters that make it that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge; its parameters can be changed while it lives.
    Bridge(BridgeParams),
    /// A VXLAN device; it has to be made again to change its parameters.
    Vxlan(VxlanParams),
    /// A VRF device of a routing table.
    Vrf(TableId),
    /// An 802.1Q device on `parent`; none: the parent is in another namespace.
    Vlan {
        /// The device below.
        parent: Option<IfName>,
        /// The tag.
        vlan: VlanId,
    },
    /// Any other kind, never ours; the text is the kernel's name for it, empty for hardware.
    Other(String),
}

/// A bridge's parameters (kernel `IFLA_BR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeParams {
    /// The bridge looks at VLAN tags.
    pub vlan_filtering: bool,
    /// The VLAN a new port gets untagged; 0 for none.
    pub default_pvid: u16,
    /// IGMP and MLD are snooped.
    pub mcast_snooping: bool,
}

impl BridgeParams {
    /// How both of our bridges are.
    pub const OURS: Self = Self {
        vlan_filtering: true,
        default_pvid: 0,
        mcast_snooping: false,
    };
}

/// A VXLAN device's parameters (kernel `IFLA_VXLAN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanParams {
    /// The local VTEP's address.
    pub local: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// Takes the VNI from the packet's metadata: one device for all VNIs.
    pub external: bool,
    /// Admits only the VNIs it was told of.
    pub vnifilter: bool,
    /// Learns MAC addresses from packets.
    pub learning: bool,
}

impl VxlanParams {
    /// A single VXLAN device of ours at a VTEP.
    #[must_use]
    pub const fn ours(local: IpAddr, port: NonZeroU16) -> Self {
        Self {
            local: Some(local),
            port: port.get(),
            external: true,
            vnifilter: true,
            learning: false,
        }
    }
}

/// How a bridge treats one of its ports (kernel `IFLA_BRPORT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFlags {
    /// VLANs of this port are mapped to VNIs.
    pub vlan_tunnel: bool,
    /// The bridge learns MAC addresses from it.
    pub learning: bool,
    /// The bridge answers ARP and ND for hosts behind it.
    pub neigh_suppress: bool,
}

impl PortFlags {
    /// How our VXLAN devices are ports: FRR is what learns.
    pub const VXLAN: Self = Self {
        vlan_tunnel: true,
        learning: false,
        neigh_suppress: true,
    };
}

/// A setting of one device under `/proc/sys/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// `ipv6/conf/…/disable_ipv6`.
    DisableIpv6,
    /// `ipv4/conf/…/arp_accept`: gratuitous ARP makes a neighbour.
    ArpAccept,
    /// `ipv4/conf/…/rp_filter`.
    RpFilter,
    /// `ipv4/conf/…/promote_secondaries`: with the first address of a subnet its others do not go.
    PromoteSecondaries,
    /// `ipv6/conf/…/accept_untracked_na`: an unsolicited NA makes a neighbour (kernel 5.19).
    AcceptUntrackedNa,
    /// `ipv6/conf/…/accept_ra`: a router's advertisement makes addresses and routes.
    AcceptRa,
}

impl Setting {
    /// The directory and the file, around the device's name.
    #[must_use]
    pub const fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::DisableIpv6 => ("ipv6", "disable_ipv6"),
            Self::ArpAccept => ("ipv4", "arp_accept"),
            Self::RpFilter => ("ipv4", "rp_filter"),
            Self::PromoteSecondaries => ("ipv4", "promote_secondaries"),
            Self::AcceptUntrackedNa => ("ipv6", "accept_untracked_na"),
            Self::AcceptRa => ("ipv6", "accept_ra"),
        }
    }
}

/// An IP address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The families that a kernel with or without IPv6 has. Asked about one that it lacks, it
    /// answers with all of them.
    pub fn of_kernel(has_ipv6: bool) -> impl Iterator<Item = Self> {
        let has = move |family: &Self| *family == Self::V4 || has_ipv6;
        Self::ALL.into_iter().filter(has)
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Settings of a device with the value each has or should have.
pub type Settings = BTreeMap<Setting, i32>;

/// One VLAN of a bridge or of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanEntry {
    /// Untagged frames belong to it.
    pub pvid: bool,
    /// Its frames leave untagged.
    pub untagged: bool,
    /// The VNI it is mapped to.
    pub tunnel: Option<xpu_model::Vni>,
}
