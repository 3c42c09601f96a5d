//! Vrfs with their L3VNIs, and Svis.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use xpu_model::{
    IfAddr, IfName, LogicalBridgeSpec, Object, ObjectKey, Spec, SviSpec, TableId, Vni, VrfSpec,
};

use super::{
    Builder, ComesUp, FdbEntry, Hold, LinkKind, UnreachableDefault, VlanEntry, WantedLink,
    leaving::{is_made, mapped},
};
use crate::{
    linux::link::{Family, Setting, Settings},
    ownership::{self, Mark},
};

impl Builder<'_> {
    pub(super) fn vrfs(&mut self) {
        let intent = self.inputs.intent;
        for vrf in intent.vrfs.values() {
            let owner = Mark::Object(vrf.key());
            let done = if vrf.deleting {
                self.leaving_vrf(vrf, &owner)
            } else {
                self.vrf(vrf, &owner)
            };
            if let Err(hold) = done {
                self.hold(owner, hold);
            }
        }
    }

    fn vrf(&mut self, vrf: &Object<VrfSpec>, owner: &Mark) -> Result<(), Hold> {
        let allocation = &vrf.allocation;
        // Nothing is made in somebody's table; what was there before him is not taken down.
        let holder = match self.foreign_holder(allocation.table) {
            Some(hold) if !is_made(vrf, self.observed) => return Err(hold),
            holder => holder,
        };
        self.vrf_device(vrf, owner)?;
        self.leaving_l3vni(vrf, owner)?;
        if let Some(vni) = vrf.spec.vni {
            let device = ownership::l3_device(allocation.l3_vlan);
            if let Some(hold) = holder.clone().filter(|_| !self.has_device(&device, owner)) {
                return Err(hold);
            }
            let l3vni = self.l3vni(vrf, vni, owner);
            holder.clone().map_or(l3vni, Err)?;
        }
        holder.map_or(Ok(()), Err)?;
        match self.loopback(vrf) {
            Some(_) => Ok(()),
            None => Err(Hold::NoIpv6(vrf.spec.loopback)),
        }
    }

    /// The Vrf's loopback address, if this kernel can have it.
    fn loopback(&self, vrf: &Object<VrfSpec>) -> Option<IfAddr> {
        let no_ipv6 = self.observed.no_ipv6;
        Some(vrf.spec.loopback).filter(|addr| addr.addr().is_ipv4() || !no_ipv6)
    }

    /// The Vrf's device, its loopback address, and no way out of its table into another.
    pub(super) fn vrf_device(&mut self, vrf: &Object<VrfSpec>, owner: &Mark) -> Result<(), Hold> {
        let allocation = &vrf.allocation;
        let table = allocation.table;
        let no_ipv6 = self.observed.no_ipv6;
        let link = WantedLink {
            addresses: self.loopback(vrf).into_iter().collect(),
            settings: (!no_ipv6).then_some(IPV6_ON).into_iter().collect(),
            ..WantedLink::new(owner.clone(), LinkKind::Vrf(table))
        };
        self.link(allocation.device.clone(), link)?;
        for family in Family::of_kernel(!no_ipv6) {
            self.out
                .routes
                .insert(UnreachableDefault { table, family }, owner.clone());
        }
        Ok(())
    }

    /// Somebody's VRF device with this table.
    fn foreign_holder(&self, table: TableId) -> Option<Hold> {
        let device = *self.foreign_tables.get(&table)?;
        Some(Hold::ForeignTable {
            table,
            device: device.clone(),
        })
    }

    /// Whether an object has this device already.
    pub(super) fn has_device(&self, device: &IfName, owner: &Mark) -> bool {
        let ours = self.observed.ours(device);
        ours.is_some_and(|link| link.mark.as_ref() == Some(owner))
    }

    /// The L3VNI: a VLAN of the L3 bridge mapped to it, and the VLAN's device in the Vrf.
    fn l3vni(&mut self, vrf: &Object<VrfSpec>, vni: Vni, owner: &Mark) -> Result<(), Hold> {
        let vxlan = ownership::l3_vxlan();
        let bridge = ownership::l3_bridge();
        self.require_vxlan_for(&vxlan, vni, vrf.spec.vtep)?;
        self.require_vni_released(vni)?;
        let allocation = &vrf.allocation;
        let vlan = allocation.l3_vlan;
        let waits = !self.inputs.frr.is_ready(&vrf.id, vni);
        let hold = Hold::Frr {
            vrf: allocation.device.clone(),
            vni,
        };
        if waits && mapped(vlan, self.observed) != Some(vni) {
            return Err(hold);
        }
        self.l3_device(vrf, owner)?;
        self.vlan(&bridge, vlan, VlanEntry::default(), owner);
        self.tunnel(&vxlan, vlan, vni, owner);
        // What exists is kept while FRR is silent, and the object still says what it waits for.
        if waits {
            Err(hold)
        } else {
            self.require_packets(&vxlan)
        }
    }

    /// The device of the L3VNI's VLAN, in the Vrf.
    pub(super) fn l3_device(&mut self, vrf: &Object<VrfSpec>, owner: &Mark) -> Result<(), Hold> {
        let allocation = &vrf.allocation;
        let vlan = allocation.l3_vlan;
        let kind = LinkKind::Vlan {
            parent: Some(ownership::l3_bridge()),
            vlan,
        };
        let link = WantedLink {
            mtu: Some(self.mtu),
            mac: Some(allocation.router_mac),
            master: Some(allocation.device.clone()),
            settings: self.routed([(Setting::RpFilter, 0)]),
            comes_up: ComesUp::Last,
            ..WantedLink::new(owner.clone(), kind)
        };
        self.link(ownership::l3_device(vlan), link)
    }

    pub(super) fn svis(&mut self) {
        let intent = self.inputs.intent;
        for svi in intent.live::<SviSpec>() {
            let owner = Mark::Object(svi.key());
            if let Err(hold) = self.svi(svi, &owner) {
                self.hold(owner, hold);
            }
        }
    }

    /// The gateway's device, its VLAN on the bridge itself, and the entry without which frames
    /// for the gateway would be flooded.
    fn svi(&mut self, svi: &Object<SviSpec>, owner: &Mark) -> Result<(), Hold> {
        let spec = &svi.spec;
        let needs = |key: ObjectKey| Hold::DependsOn(key);
        let intent = self.inputs.intent;
        let vrf = intent
            .get::<VrfSpec>(&spec.vrf)
            .ok_or_else(|| needs(VrfSpec::key(&spec.vrf)))?;
        let bridge = intent
            .get::<LogicalBridgeSpec>(&spec.logical_bridge)
            .ok_or_else(|| needs(LogicalBridgeSpec::key(&spec.logical_bridge)))?;
        let master = vrf.allocation.device.clone();
        if !self.out.links.contains_key(&master) {
            return Err(needs(vrf.key()));
        }
        let tenant = ownership::tenant_bridge();
        if !self.out.links.contains_key(&tenant) {
            return Err(self.fabric_hold(&tenant));
        }
        let vlan = bridge.spec.vlan;
        let device = ownership::svi_device(vlan);
        // Its Vrf's own device may be there from before.
        let holder = self.foreign_holder(vrf.allocation.table);
        if let Some(hold) = holder.filter(|_| !self.has_device(&device, owner)) {
            return Err(hold);
        }
        let (addresses, without) = self.gateways(&spec.gateways);
        let link = WantedLink {
            mtu: Some(self.mtu),
            mac: Some(spec.mac),
            master: Some(master),
            settings: self.gateway_settings(),
            addresses,
            ..WantedLink::new(
                owner.clone(),
                LinkKind::Vlan {
                    parent: Some(tenant.clone()),
                    vlan,
                },
            )
        };
        self.link(device, link)?;
        self.vlan(&tenant, vlan, VlanEntry::default(), owner);
        self.out.fdb.insert(
            FdbEntry {
                vlan,
                mac: spec.mac,
            },
            owner.clone(),
        );
        match without {
            None => self.require_forwarding(&spec.gateways),
            Some(addr) if self.observed.no_ipv6 => Err(Hold::NoIpv6(addr)),
            Some(_) => Err(Hold::MtuBelowIpv6(self.mtu)),
        }
    }

    /// Fails if the node does not forward what these gateways are asked to.
    fn require_forwarding(&self, gateways: &[IfAddr]) -> Result<(), Hold> {
        let is_ipv6 = gateways.iter().any(|addr| addr.addr().is_ipv6());
        let mut at_stake = self.observed.routes_at_stake().filter(|_| is_ipv6);
        at_stake
            .next()
            .map_or(Ok(()), |device| Err(Hold::Ipv6NotForwarded(device.clone())))
    }

    /// The addresses of a gateway's device, and one that needs IPv6 where there is none.
    fn gateways(&self, gateways: &[IfAddr]) -> (BTreeSet<IfAddr>, Option<IfAddr>) {
        let fits = |addr: &IfAddr| addr.addr().is_ipv4() || self.has_ipv6();
        let mut addresses: BTreeSet<IfAddr> = gateways.iter().copied().filter(fits).collect();
        if self.has_ipv6() {
            // Without a link-local address the kernel has no source for neighbour
            // solicitations, and IPv6 to hosts not yet known fails.
            addresses.extend(link_local());
        }
        (addresses, gateways.iter().copied().find(|addr| !fits(addr)))
    }

    /// Hosts that announce themselves become neighbours, so that a silent host behind another
    /// node's gateway of the same address is found. A gateway that goes takes no other of its subnet
    /// along.
    fn gateway_settings(&self) -> Settings {
        let mut settings = self.routed([
            (Setting::ArpAccept, 1),
            (Setting::RpFilter, 0),
            (Setting::PromoteSecondaries, 1),
        ]);
        if self.has_ipv6() && !self.observed.no_untracked_na {
            settings.insert(Setting::AcceptUntrackedNa, 2);
        }
        settings
    }

    /// Settings of a device at the tenants' MTU that routes both families, and takes no routes from
    /// a tenant who calls himself a router: a node that doesn't forward IPv6 yet would.
    fn routed<const N: usize>(&self, settings: [(Setting, i32); N]) -> Settings {
        let ipv6 = self.has_ipv6().then_some([IPV6_ON, (Setting::AcceptRa, 0)]);
        settings
            .into_iter()
            .chain(ipv6.into_iter().flatten())
            .collect()
    }
}

/// Said, since a node may have IPv6 off by default (`net.ipv6.conf.default.disable_ipv6`). An
/// L3VNI's device needs it too: IPv6 routes go by an IPv4 VTEP in IPv6 form.
const IPV6_ON: (Setting, i32) = (Setting::DisableIpv6, 0);

/// `fe80::1/64`, the anycast gateway's link-local address on every node.
fn link_local() -> Option<IfAddr> {
    let addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    IfAddr::new(IpAddr::V6(addr), 64).ok()
}
