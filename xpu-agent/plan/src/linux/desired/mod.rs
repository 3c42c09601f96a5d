//! What the kernel should have for an intent.
//!
//! Looks at the observation only for what the intent can't say: foreign devices and routing tables
//! in the way, which netdevs of ports are there and who uses them, the VTEP in use and whether the
//! node has its address, whether the kernel has IPv6, mappings that must stay, and what is
//! there of a Vrf that FRR has not let go of.

mod fabric;
mod leaving;
mod port;
mod routed;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use xpu_model::{IfAddr, IfName, Mac, Mtu, Node, ObjectKey, TableId, VlanId, Vni};

use super::{
    FdbEntry, Hold, Inputs, LinkKind, Observed, UnreachableDefault,
    link::{PortFlags, Settings, VlanEntry},
};
use crate::ownership::{self, Mark};

/// The least MTU at which a link has IPv6 (RFC 8200 section 5).
pub(super) const IPV6_MIN_MTU: u16 = 1280;

/// Everything that should be there, by where it is, with whose it is.
#[derive(Debug, Default)]
pub(super) struct Desired {
    pub links: BTreeMap<IfName, WantedLink>,
    pub ports: BTreeMap<IfName, ObjectKey>,
    pub vlans: BTreeMap<IfName, BTreeMap<VlanId, (VlanEntry, Mark)>>,
    pub vnis: BTreeMap<IfName, BTreeMap<Vni, Mark>>,
    pub fdb: BTreeMap<FdbEntry, Mark>,
    pub routes: BTreeMap<UnreachableDefault, Mark>,
    pub holds: BTreeMap<Mark, Hold>,
}

/// When a device comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComesUp {
    /// As soon as its VLANs, VNIs and mappings are there, like ports.
    WithPorts,
    /// After everything else: FRR takes an L3VNI's device for ready when it is up.
    Last,
    /// Not while a hold says so.
    Held,
}

/// A device that should be there.
#[derive(Debug)]
pub(super) struct WantedLink {
    pub owner: Mark,
    pub kind: LinkKind,
    pub mtu: Option<Mtu>,
    pub mac: Option<Mac>,
    pub master: Option<IfName>,
    pub port: Option<PortFlags>,
    pub settings: Settings,
    pub addresses: BTreeSet<IfAddr>,
    pub comes_up: ComesUp,
}

impl WantedLink {
    fn new(owner: Mark, kind: LinkKind) -> Self {
        Self {
            owner,
            kind,
            mtu: None,
            mac: None,
            master: None,
            port: None,
            settings: Settings::new(),
            addresses: BTreeSet::new(),
            comes_up: ComesUp::WithPorts,
        }
    }
}

/// Fills a [`Desired`], kind by kind.
struct Builder<'a> {
    inputs: &'a Inputs<'a>,
    observed: &'a Observed,
    vtep: Option<IpAddr>,
    /// The node has the VTEP's address.
    has_vtep: bool,
    /// Somebody's VRF devices, by their table; of two with one table the first by name.
    foreign_tables: BTreeMap<TableId, &'a IfName>,
    mtu: Mtu,
    /// The L3VNIs that stay until FRR has let go of them, by the device of the Vrf that had each.
    kept: BTreeMap<Vni, IfName>,
    out: Desired,
}

impl Desired {
    pub fn new(inputs: &Inputs<'_>, observed: &Observed) -> Self {
        let vtep = vtep(inputs, observed);
        let mut builder = Builder {
            inputs,
            observed,
            vtep,
            has_vtep: vtep.is_some_and(|vtep| has_address(observed, vtep)),
            foreign_tables: foreign_tables(observed),
            mtu: mtu(inputs, vtep),
            kept: leaving::kept(inputs, observed),
            out: Self::default(),
        };
        builder.fabric();
        builder.vrfs();
        builder.logical_bridges();
        builder.svis();
        builder.ports();
        builder.sentinels();
        builder.out
    }
}

/// The tenants' MTU at the VTEP in use.
pub(super) fn mtu(inputs: &Inputs<'_>, vtep: Option<IpAddr>) -> Mtu {
    if inputs.node.vtep == vtep {
        inputs.node.overlay_mtu()
    } else {
        Node {
            vtep,
            ..inputs.node.clone()
        }
        .overlay_mtu()
    }
}

/// The one VTEP of the node. Beside what [`Intent::vtep`](xpu_model::Intent::vtep) chooses, the one
/// in use stays while an L3VNI stays on it for FRR.
pub(super) fn vtep(inputs: &Inputs<'_>, observed: &Observed) -> Option<IpAddr> {
    let in_use = fabric::vtep_in_use(observed);
    if inputs.node.vtep.is_none() && in_use.is_some() && !leaving::kept(inputs, observed).is_empty()
    {
        return in_use;
    }
    inputs.intent.vtep(inputs.node.vtep, in_use)
}

fn has_address(observed: &Observed, wanted: IpAddr) -> bool {
    let links = observed.links.values();
    let mut addresses = links.flat_map(|link| &link.addresses);
    addresses.any(|addr| addr.addr() == wanted)
}

fn foreign_tables(observed: &Observed) -> BTreeMap<TableId, &IfName> {
    let mut tables = BTreeMap::new();
    for (name, link) in &observed.links {
        if let (LinkKind::Vrf(table), false) = (&link.kind, link.is_ours()) {
            tables.entry(*table).or_insert(name);
        }
    }
    tables
}

impl Builder<'_> {
    /// Holds an object; the first reason stands.
    fn hold(&mut self, owner: Mark, hold: Hold) {
        self.out.holds.entry(owner).or_insert(hold);
    }

    /// Plans a device, unless a foreign one has its name.
    fn link(&mut self, name: IfName, link: WantedLink) -> Result<(), Hold> {
        if self
            .observed
            .links
            .get(&name)
            .is_some_and(|found| !found.is_ours())
        {
            return Err(Hold::ForeignDevice(name));
        }
        self.out.links.insert(name, link);
        Ok(())
    }

    fn vlan(&mut self, device: &IfName, vlan: VlanId, entry: VlanEntry, owner: &Mark) {
        let vlans = self.out.vlans.entry(device.clone()).or_default();
        vlans.insert(vlan, (entry, owner.clone()));
    }

    /// Maps a VLAN to a VNI on a VXLAN device and admits the VNI.
    fn tunnel(&mut self, device: &IfName, vlan: VlanId, vni: Vni, owner: &Mark) {
        let entry = VlanEntry {
            tunnel: Some(vni),
            ..VlanEntry::default()
        };
        self.vlan(device, vlan, entry, owner);
        self.out
            .vnis
            .entry(device.clone())
            .or_default()
            .insert(vni, owner.clone());
    }

    /// Whether a device at the tenants' MTU has IPv6.
    fn has_ipv6(&self) -> bool {
        !self.observed.no_ipv6 && self.mtu.get() >= IPV6_MIN_MTU
    }

    /// Why a device of the node's is not among those planned: it, or the bridge it belongs to,
    /// is somebody else's.
    fn fabric_hold(&self, device: &IfName) -> Hold {
        let bridge = if device.as_str() == ownership::L3_VXLAN {
            ownership::l3_bridge()
        } else {
            ownership::tenant_bridge()
        };
        let missing = |name: &IfName| !self.out.links.contains_key(name);
        Hold::ForeignDevice(if missing(&bridge) {
            bridge
        } else {
            device.clone()
        })
    }
}
