//! What becomes of a device that is made, joins another, gets an MTU or goes.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{IfName, Mtu};

use super::{FRESH_IPV6, IPV6_MIN_MTU, Kernel, Refused};
use crate::{
    linux::{
        Link, LinkKind, NewLink, Setting,
        link::{PortFlags, Settings},
    },
    ownership,
};

impl Kernel {
    pub(super) fn create(&mut self, new: &NewLink) -> Result<(), Refused> {
        ensure!(!self.0.links.contains_key(&new.name), "EEXIST");
        let mtu = new.mtu.map_or(65_575, u32::from);
        if let LinkKind::Vlan { parent, vlan } = &new.kind {
            let parent = self.0.links.get(parent.as_ref().ok_or("no parent")?);
            ensure!(
                parent.is_some_and(|parent| mtu <= parent.mtu),
                "no parent, or ERANGE"
            );
            let twin = |link: &Link| link.kind == new.kind;
            ensure!(
                !self.0.links.values().any(twin),
                "EEXIST: VLAN {vlan} has a device"
            );
        }
        let mut link = Link {
            kind: new.kind.clone(),
            mark: Some(new.mark.clone()),
            mac: new.mac,
            mtu,
            up: false,
            carrier: false,
            master: None,
            port: None,
            addr_gen_none: true,
            settings: Settings::from([
                (Setting::ArpAccept, 0),
                (Setting::RpFilter, 2),
                (Setting::PromoteSecondaries, 0),
            ]),
            addresses: BTreeSet::new(),
        };
        if mtu >= IPV6_MIN_MTU && !self.0.no_ipv6 {
            link.settings.extend(FRESH_IPV6);
        }
        self.0.links.insert(new.name.clone(), link);
        match &new.kind {
            LinkKind::Bridge(params) => {
                assert_eq!(params.default_pvid, 0);
                self.0.vlans.insert(new.name.clone(), BTreeMap::new());
            }
            LinkKind::Vxlan(params) if params.vnifilter => {
                self.0.vnis.insert(new.name.clone(), BTreeSet::new());
            }
            _ => {}
        }
        match &new.master {
            Some(master) => self.join(&new.name, master),
            None => Ok(()),
        }
    }

    /// The device becomes a port of a bridge or an interface of a VRF.
    pub(in crate::linux::tests) fn join(
        &mut self,
        device: &IfName,
        master: &IfName,
    ) -> Result<(), Refused> {
        let kind = self
            .0
            .links
            .get(master)
            .ok_or("ENODEV: no such master")?
            .kind
            .clone();
        self.leave(device);
        let link = self.link(device)?;
        link.master = Some(master.clone());
        match kind {
            LinkKind::Bridge(_) => {
                link.port = Some(PortFlags {
                    vlan_tunnel: false,
                    learning: true,
                    neigh_suppress: false,
                });
                self.0.vlans.insert(device.clone(), BTreeMap::new());
            }
            LinkKind::Vrf(_) => link.addresses.retain(|addr| addr.addr().is_ipv4()),
            kind => return Err(format!("EINVAL: {kind:?} has no slaves")),
        }
        Ok(())
    }

    pub(in crate::linux::tests) fn leave(&mut self, device: &IfName) {
        if let Some(link) = self.0.links.get_mut(device) {
            if link.port.take().is_some() {
                self.0.vlans.remove(device);
            }
            if link.master.take().is_some() {
                link.addresses.retain(|addr| addr.addr().is_ipv4());
            }
        }
    }

    pub(super) fn remove(&mut self, device: &IfName) -> Result<(), Refused> {
        self.ours(device)?;
        let above = |link: &Link| matches!(&link.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent == device);
        ensure!(
            !self.0.links.values().any(above),
            "a VLAN device still stands on it"
        );
        let slaves: Vec<IfName> = self
            .0
            .links
            .iter()
            .filter(|(_, link)| link.master.as_ref() == Some(device))
            .map(|(name, _)| name.clone())
            .collect();
        slaves.iter().for_each(|slave| self.leave(slave));
        self.0.links.remove(device);
        self.0.vlans.remove(device);
        self.0.vnis.remove(device);
        if device.as_str() == ownership::TENANT_BRIDGE {
            self.0.fdb.clear();
        }
        Ok(())
    }

    pub(super) fn enslave(&mut self, device: &IfName) -> Result<(), Refused> {
        let bridge = ownership::tenant_bridge();
        self.ours(&bridge)?;
        let link = self.link(device)?;
        ensure!(!link.is_ours(), "one of our own devices as a port");
        ensure!(link.master.is_none(), "taken from its master");
        ensure!(link.addresses.is_empty(), "the node is cut off");
        self.join(device, &bridge)
    }

    pub(super) fn release(&mut self, device: &IfName) -> Result<(), Refused> {
        let bridge = ownership::tenant_bridge();
        let link = self.link(device)?;
        ensure!(link.master.as_ref() == Some(&bridge), "not a port of ours");
        link.up = false;
        self.leave(device);
        Ok(())
    }

    pub(super) fn set_master(&mut self, device: &IfName, master: &IfName) -> Result<(), Refused> {
        let link = self.ours(device)?;
        ensure!(link.master.as_ref() != Some(master), "there already");
        self.ours(master)?;
        self.join(device, master)
    }

    pub(super) fn set_mtu(&mut self, device: &IfName, mtu: Mtu) -> Result<(), Refused> {
        let mtu = u32::from(mtu);
        let kind = self.ours(device)?.kind.clone();
        if let LinkKind::Vlan {
            parent: Some(parent),
            ..
        } = kind
        {
            let parent = self.link(&parent)?.mtu;
            ensure!(mtu <= parent, "ERANGE: above its parent's {parent}");
        }
        let on_it = |link: &Link| matches!(&link.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent == device);
        for (name, link) in &mut self.0.links {
            if name == device || (on_it(link) && link.mtu > mtu) {
                if link.mtu < IPV6_MIN_MTU && mtu >= IPV6_MIN_MTU && !self.0.no_ipv6 {
                    link.settings.extend(FRESH_IPV6);
                    link.addr_gen_none = false;
                }
                link.mtu = mtu;
                if mtu < IPV6_MIN_MTU {
                    for (setting, _) in FRESH_IPV6 {
                        link.settings.remove(&setting);
                    }
                    link.addresses.retain(|addr| addr.addr().is_ipv4());
                }
            }
        }
        Ok(())
    }
}
