//! The part of the kernel's state that the planner compares with, ours and foreign alike.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{BridgePortSpec, IfAddr, IfName, Mac, TableId, VlanId, Vni};

use super::{
    Inputs,
    link::{Family, LinkKind, PortFlags, Settings, VlanEntry},
};
use crate::ownership::{self, Mark};

/// What an observation found in the agent's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every device.
    pub links: BTreeMap<IfName, Link>,
    /// The VLANs of every bridge that filters by VLAN, and of every port of one.
    pub vlans: BTreeMap<IfName, BTreeMap<VlanId, VlanEntry>>,
    /// The VNIs that each VXLAN device with a VNI filter admits.
    pub vnis: BTreeMap<IfName, BTreeSet<Vni>>,
    /// The unreachable default routes of ours.
    pub routes: BTreeSet<UnreachableDefault>,
    /// Which of the [`Probes`]' entries stand on the tenant bridge.
    pub fdb: BTreeSet<FdbEntry>,
    /// The families that are forwarded.
    pub forwarding: BTreeSet<Family>,
    /// The families whose rules ask a VRF's table before the node's own addresses, with nothing
    /// left of an older agent's order.
    pub vrf_first: BTreeSet<Family>,
    /// The families that have a rule of ours, or of an older agent's.
    pub own_rules: BTreeSet<Family>,
    /// The families whose rules can't be ordered: somebody's rule at the kernel's first priority
    /// would come before the node's own addresses, or the kernel would delete it in place of its
    /// own.
    pub rules_in_way: BTreeSet<Family>,
    /// The families with somebody's rule at the kernel's first priority, behind ours; it needs
    /// none to be there.
    pub rules_beside: BTreeSet<Family>,
    /// The kernel has no IPv6 (`ipv6.disable=1`).
    pub no_ipv6: bool,
    /// The kernel has no `accept_untracked_na` (before 5.19): a host that announces itself by an
    /// unsolicited NA is a neighbour only once it is asked.
    pub no_untracked_na: bool,
    /// Every device filters strictly by the reverse path (`net.ipv4.conf.all.rp_filter` is 1), ours
    /// that are not to do so too.
    pub rp_strict: bool,
    /// The devices with a default route that the kernel has from router advertisements and forgets
    /// when it begins to forward IPv6, for their `accept_ra` is 1; looked for until it does.
    pub advertised: BTreeSet<IfName>,
    /// Which of the [`Probes`]' netdevs have routes that somebody gave them.
    pub routed: BTreeSet<IfName>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// The mark in its alias; proof of ours only with the right kind, see [`Link::is_ours`].
    pub mark: Option<Mark>,
    /// Its Ethernet address; none if it has none that one interface can own.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Set up by an administrator (`IFF_UP`).
    pub up: bool,
    /// Has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// The device it is enslaved to.
    pub master: Option<IfName>,
    /// How its bridge treats it, if it is a port of one.
    pub port: Option<PortFlags>,
    /// Makes no IPv6 link-local address by itself (`addrgenmode none`, or no IPv6 on it at all).
    pub addr_gen_none: bool,
    /// The settings it has; one that needs IPv6 is absent where the device has none.
    pub settings: Settings,
    /// The unicast addresses on it.
    pub addresses: BTreeSet<IfAddr>,
}

/// An unreachable default route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnreachableDefault {
    /// The routing table.
    pub table: TableId,
    /// The family.
    pub family: Family,
}

/// A static entry on the tenant bridge itself: frames to `mac` in `vlan` are for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// The VLAN.
    pub vlan: VlanId,
    /// The Svi's address.
    pub mac: Mac,
}

/// What to ask the kernel for one by one, because dumping all of it is not affordable: the FDB
/// of the tenant bridge takes time quadratic in its size to dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Entries of live and deleted Svis.
    pub fdb: BTreeSet<FdbEntry>,
    /// Netdevs that are to become ports of the tenant bridge.
    pub netdevs: BTreeSet<IfName>,
}

impl Probes {
    /// The entries that may exist for the intent's Svis and for the gateway devices found, and the
    /// netdevs that may become ports.
    #[must_use]
    pub fn new(inputs: &Inputs<'_>, links: &BTreeMap<IfName, Link>) -> Self {
        let intent = inputs.intent;
        let asked = intent.svis.values().filter_map(|svi| {
            let bridge = intent.logical_bridges.get(&svi.spec.logical_bridge)?;
            Some(FdbEntry {
                vlan: bridge.spec.vlan,
                mac: svi.spec.mac,
            })
        });
        let found = links
            .iter()
            .filter_map(|(name, link)| link.as_gateway(name));
        let tenant = ownership::tenant_bridge();
        let joins = |name: &IfName| {
            let link = links.get(name);
            link.is_some_and(|link| !link.is_ours() && link.master.as_ref() != Some(&tenant))
        };
        let netdevs = intent
            .live::<BridgePortSpec>()
            .filter_map(|port| inputs.node.ports.resolve(&port.id, port.spec.mac))
            .filter(joins);
        Self {
            fdb: asked.chain(found).collect(),
            netdevs: netdevs.collect(),
        }
    }
}

impl Link {
    /// Whether the agent made the device.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.fits(&self.kind))
    }

    /// Whether the device, of that name, is an Svi's.
    #[must_use]
    pub fn is_gateway(&self, name: &IfName) -> bool {
        self.as_gateway(name).is_some()
    }

    /// The FDB entry that goes with it, if it is an Svi's device of ours.
    pub(super) fn as_gateway(&self, name: &IfName) -> Option<FdbEntry> {
        match &self.kind {
            LinkKind::Vlan {
                parent: Some(parent),
                vlan,
            } if self.is_ours()
                && parent.as_str() == ownership::TENANT_BRIDGE
                && *name == ownership::svi_device(*vlan) =>
            {
                Some(FdbEntry {
                    vlan: *vlan,
                    mac: self.mac?,
                })
            }
            _ => None,
        }
    }
}

impl Observed {
    /// The devices by which the node would lose its IPv6 default route if IPv6 were forwarded. What
    /// is advertised on one of ours is a tenant's word.
    pub fn routes_at_stake(&self) -> impl Iterator<Item = &IfName> {
        let is_on = self.forwarding.contains(&Family::V6);
        let advertised = self.advertised.iter();
        advertised.filter(move |device| !is_on && self.ours(device).is_none())
    }

    /// Our device of that name; a foreign one of the same name is none.
    #[must_use]
    pub fn ours(&self, name: &IfName) -> Option<&Link> {
        self.links.get(name).filter(|link| link.is_ours())
    }

    /// The devices that are ours.
    pub fn all_ours(&self) -> impl Iterator<Item = (&IfName, &Link)> {
        self.links.iter().filter(|(_, link)| link.is_ours())
    }

    /// The netdevs that are ports of our tenant bridge, our own VXLAN device left out.
    pub fn tenant_ports(&self) -> impl Iterator<Item = (&IfName, &Link)> {
        let bridge = ownership::tenant_bridge();
        let held = self.ours(&bridge).is_some();
        self.links.iter().filter(move |(_, link)| {
            held && !link.is_ours() && link.master.as_ref() == Some(&bridge)
        })
    }
}
