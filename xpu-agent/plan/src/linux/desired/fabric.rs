//! The node's own devices: two bridges, and a single VXLAN device on each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use xpu_model::{IfAddr, IfName, LogicalBridgeSpec, Spec, VlanId, Vni};

use super::{Builder, ComesUp, Hold, LinkKind, Observed, VlanEntry, WantedLink};
use crate::{
    linux::{
        link::{BridgeParams, PortFlags, Setting, Settings, VxlanParams},
        vxlan_port,
    },
    ownership::{self, Mark},
};

impl Builder<'_> {
    /// The bridges always; the VXLAN devices where there is a VTEP.
    pub(super) fn fabric(&mut self) {
        use ownership::{l2_vxlan, l3_bridge, l3_vxlan, tenant_bridge};
        for (bridge, vxlan) in [(tenant_bridge(), l2_vxlan()), (l3_bridge(), l3_vxlan())] {
            let link = WantedLink {
                mtu: Some(self.mtu),
                settings: self.no_ip(),
                ..WantedLink::new(Mark::Node, LinkKind::Bridge(BridgeParams::OURS))
            };
            if let Err(hold) = self.link(bridge.clone(), link) {
                self.hold(Mark::Node, hold);
                continue;
            }
            self.out.vlans.entry(bridge.clone()).or_default();
            if let Some(vtep) = self.vtep {
                self.vxlan(vxlan, bridge, vtep);
            }
        }
    }

    fn vxlan(&mut self, name: IfName, bridge: IfName, vtep: IpAddr) {
        let port = self.require_port(&name);
        // One that works where it is stays there until the configuration's port is free.
        let kept = match &port {
            Ok(()) => None,
            Err(_) => self.observed.ours(&name).and_then(vxlan_port::open),
        };
        let params = VxlanParams::ours(vtep, kept.unwrap_or(self.inputs.node.vxlan_port));
        let link = WantedLink {
            mtu: Some(self.mtu),
            master: Some(bridge),
            port: Some(PortFlags::VXLAN),
            settings: self.no_ip(),
            comes_up: match port {
                Err(_) if kept.is_none() => ComesUp::Held,
                _ => ComesUp::WithPorts,
            },
            ..WantedLink::new(Mark::Node, LinkKind::Vxlan(params))
        };
        match self.link(name.clone(), link) {
            Err(hold) => self.hold(Mark::Node, hold),
            Ok(()) => {
                if let Err(hold) = port {
                    self.hold(Mark::Node, hold);
                }
                self.out.vlans.entry(name.clone()).or_default();
                self.out.vnis.entry(name).or_default();
            }
        }
    }

    pub(super) fn logical_bridges(&mut self) {
        let device = ownership::l2_vxlan();
        let tenant = ownership::tenant_bridge();
        let intent = self.inputs.intent;
        for bridge in intent.live::<LogicalBridgeSpec>() {
            let owner = Mark::Object(LogicalBridgeSpec::key(&bridge.id));
            if !self.out.links.contains_key(&tenant) {
                self.hold(owner, Hold::ForeignDevice(tenant.clone()));
                continue;
            }
            let Some(vni) = bridge.spec.vni else { continue };
            let place = self.require_vxlan_for(&device, vni, bridge.spec.vtep);
            match place.and_then(|()| self.require_vni_released(vni)) {
                Ok(()) => {
                    self.tunnel(&device, bridge.spec.vlan, vni, &owner);
                    if let Err(hold) = self.require_packets(&device) {
                        self.hold(owner, hold);
                    }
                }
                Err(hold) => self.hold(owner, hold),
            }
        }
    }

    /// Bridges and VXLAN devices carry frames and have no addresses. With IPv6 on, every device
    /// that joins makes the kernel walk them all.
    fn no_ip(&self) -> Settings {
        let off = self.has_ipv6().then_some((Setting::DisableIpv6, 1));
        off.into_iter().collect()
    }

    /// Fails if an object with this VNI and VTEP can't have its place on `device`.
    pub(super) fn require_vxlan_for(
        &self,
        device: &IfName,
        vni: Vni,
        vtep: Option<IfAddr>,
    ) -> Result<(), Hold> {
        let wanted = vtep.map(IfAddr::addr).or(self.inputs.node.vtep);
        let (Some(wanted), Some(used)) = (wanted, self.vtep) else {
            return Err(Hold::NoVtep(vni));
        };
        if wanted != used {
            return Err(self.vtep_hold().unwrap_or(Hold::OtherVtep { wanted, used }));
        }
        if !self.out.links.contains_key(device) {
            return Err(self.fabric_hold(device));
        }
        Ok(())
    }

    /// What a VTEP that no object brings any more is still there for; another comes in its place
    /// once FRR has let go.
    fn vtep_hold(&self) -> Option<Hold> {
        let is_wanted = |used: IpAddr| self.inputs.intent.vteps().any(|vtep| vtep == used);
        if self.inputs.node.vtep.is_some() || self.vtep.is_none_or(is_wanted) {
            return None;
        }
        let (vni, vrf) = self.kept.first_key_value()?;
        Some(Hold::FrrHolds {
            vrf: vrf.clone(),
            vni: *vni,
        })
    }

    /// Fails if the VXLAN device `device` can have no packets: the node has not got the VTEP's
    /// address, from which the kernel then sends nothing, or somebody has the UDP port.
    pub(super) fn require_packets(&self, device: &IfName) -> Result<(), Hold> {
        match self.vtep {
            Some(vtep) if !self.has_vtep => Err(Hold::VtepAbsent(vtep)),
            _ => self.require_port(device),
        }
    }

    /// Fails if the kernel would refuse to set `device` up, since somebody's has the UDP port.
    fn require_port(&self, device: &IfName) -> Result<(), Hold> {
        let port = self.inputs.node.vxlan_port;
        match vxlan_port::holder(&self.observed.links, device, port) {
            Some(holder) => Err(Hold::VxlanPort {
                port,
                device: holder.clone(),
            }),
            None => Ok(()),
        }
    }

    /// One mapping per VXLAN device that stays as long as the device: zebra does not notice
    /// the last mapping going, and would keep its VNI for ever. The VNI is not admitted, so
    /// nothing is received on it, and no port has the VLAN, so nothing is sent.
    pub(super) fn sentinels(&mut self) {
        let intent = self.inputs.intent;
        let l2 = intent
            .logical_bridges
            .values()
            .map(|lb| lb.spec.vlan)
            .collect();
        let l3 = intent
            .vrfs
            .values()
            .map(|vrf| vrf.allocation.l3_vlan)
            .collect();
        let bridges = intent.logical_bridges.values().filter_map(|lb| lb.spec.vni);
        let vrfs = intent.vrfs.values().filter_map(|vrf| vrf.spec.vni);
        let kept = self.kept.keys().copied();
        let vnis: BTreeSet<Vni> = bridges.chain(vrfs).chain(kept).collect();
        let places = [
            (0, ownership::l2_vxlan(), l2),
            (1, ownership::l3_vxlan(), l3),
        ];
        for (place, device, vlans) in places {
            if !self.out.links.contains_key(&device) {
                continue;
            }
            // With all 4094 VLANs in use there is a mapping that stays anyway.
            if let Some((vlan, vni)) = self.sentinel(&device, place, &vlans, &vnis) {
                let entry = VlanEntry {
                    tunnel: Some(vni),
                    ..VlanEntry::default()
                };
                self.vlan(&device, vlan, entry, &Mark::Node);
            }
        }
    }

    /// The sentinel that is there if nobody needs its numbers, else the highest place that is
    /// free in the intent and on the device: a new one can be made before the old one goes.
    fn sentinel(
        &self,
        device: &IfName,
        place: u32,
        vlans: &BTreeSet<VlanId>,
        vnis: &BTreeSet<Vni>,
    ) -> Option<(VlanId, Vni)> {
        let found = self
            .observed
            .ours(device)
            .and_then(|_| self.observed.vlans.get(device));
        let mapped: BTreeMap<VlanId, Option<Vni>> = found
            .into_iter()
            .flatten()
            .map(|(vlan, entry)| (*vlan, entry.tunnel))
            .collect();
        let places = || {
            let unused = |(vlan, vni): &(VlanId, Vni)| !vlans.contains(vlan) && !vnis.contains(vni);
            let vlans = (1..=4094)
                .rev()
                .filter_map(|vlan| VlanId::try_from(vlan).ok());
            vlans
                .filter_map(move |vlan| Some((vlan, sentinel_vni(vlan, place)?)))
                .filter(unused)
        };
        let stands = |(vlan, vni): &(VlanId, Vni)| mapped.get(vlan) == Some(&Some(*vni));
        let taken: BTreeSet<Vni> = mapped.values().copied().flatten().collect();
        let is_free =
            |(vlan, vni): &(VlanId, Vni)| !mapped.contains_key(vlan) && !taken.contains(vni);
        places().find(stands).or_else(|| places().find(is_free))
    }
}

/// The VNI of a sentinel at a VLAN: different for each VLAN and device, from the highest down.
fn sentinel_vni(vlan: VlanId, place: u32) -> Option<Vni> {
    let down = 2 * u32::from(4094 - vlan.get()) + place;
    Vni::try_from(Vni::MAX.get() - down).ok()
}

/// The VTEP that our VXLAN devices stand at now. Where one's name is somebody else's, it is the
/// other's.
pub(super) fn vtep_in_use(observed: &Observed) -> Option<IpAddr> {
    let devices = [ownership::l2_vxlan(), ownership::l3_vxlan()];
    devices
        .iter()
        .find_map(|device| match observed.ours(device)?.kind {
            LinkKind::Vxlan(VxlanParams { local, .. }) => local,
            _ => None,
        })
}
