//! A model of the kernel: does what an action asks, or refuses it as the kernel does. It also
//! refuses what the kernel would allow and the agent must never do.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{IfAddr, IfName, VlanId, Vni};

use super::named;
use crate::{
    linux::{
        Action, Family, Inputs, Link, LinkKind, LinuxPlan, Observed, Probes, Setting,
        link::{VlanEntry, VxlanParams},
        plan,
        range::VlanRange,
    },
    ownership,
};

/// What went wrong, as text for a failing test.
pub(super) type Refused = String;

const IPV6_MIN_MTU: u32 = 1280;

/// What a device with IPv6 begins with: neither on nor off, so that nobody counts on a node's
/// defaults.
pub(super) const FRESH_IPV6: [(Setting, i32); 3] = [
    (Setting::DisableIpv6, 2),
    (Setting::AcceptUntrackedNa, 0),
    (Setting::AcceptRa, 1),
];

/// The kernel's state; of FDB entries it has all, an observation only those probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel(pub Observed);

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

mod devices;

impl Kernel {
    /// What an observation for `inputs` sees.
    pub(super) fn observe(&self, inputs: &Inputs<'_>) -> Observed {
        let probes = Probes::new(inputs, &self.0.links);
        let mut observed = self.0.clone();
        observed.fdb.retain(|entry| probes.fdb.contains(entry));
        observed
    }

    /// One pass; every action has to succeed.
    pub(super) fn pass(&mut self, inputs: &Inputs<'_>) -> Result<LinuxPlan, Refused> {
        let plan = plan(inputs, &self.observe(inputs));
        self.apply(&plan).map(|()| plan)
    }

    /// Applies a plan; every action has to succeed.
    pub(super) fn apply(&mut self, plan: &LinuxPlan) -> Result<(), Refused> {
        for step in &plan.steps {
            assert!(!step.owners.is_empty(), "nobody's: {}", step.action);
            self.action(&step.action).map_err(|why| {
                let steps: Vec<_> = plan
                    .steps
                    .iter()
                    .map(|step| step.action.to_string())
                    .collect();
                format!("{}: {why}\nin {steps:#?}", step.action)
            })?;
        }
        Ok(())
    }

    fn action(&mut self, action: &Action) -> Result<(), Refused> {
        let mapped = [ownership::L2_VXLAN, ownership::L3_VXLAN].map(|name| self.is_mapped(name));
        match action {
            Action::Forward(family) => {
                ensure!(self.has(*family), "ENOENT: no IPv6");
                let stays = *family == Family::V4 || self.0.advertised.is_empty();
                ensure!(stays, "the node is cut off");
                ensure!(self.0.forwarding.insert(*family), "forwarded already");
            }
            Action::PutVrfFirst(family) => {
                ensure!(self.has(*family), "EAFNOSUPPORT");
                let in_way = self.0.rules_in_way.contains(family);
                ensure!(!in_way, "behind a rule that is somebody's");
                ensure!(self.0.vrf_first.insert(*family), "first already");
                self.0.own_rules.insert(*family);
            }
            Action::PutLocalFirst(family) => {
                ensure!(self.0.own_rules.remove(family), "none of ours");
                self.0.vrf_first.remove(family);
            }
            Action::CreateLink(new) => self.create(new)?,
            Action::RemoveLink { device } => self.remove(device)?,
            Action::EnslavePort { device } => self.enslave(device)?,
            Action::ReleasePort { device } => self.release(device)?,
            Action::SetUp { device } => {
                let needs = self.l3_needs(device);
                ensure!(!self.port_is_taken(device), "EADDRINUSE");
                let link = self.link(device)?;
                ensure!(!link.up, "up already");
                link.up = true;
                ensure!(needs, "up before its VLAN is mapped");
            }
            Action::SetAddrGenNone { device } => {
                let link = self.link(device)?;
                let v6 = link.settings.contains_key(&Setting::DisableIpv6);
                ensure!(v6, "EAFNOSUPPORT: no IPv6 here");
                ensure!(!link.addr_gen_none, "as asked already");
                link.addr_gen_none = true;
            }
            Action::AddVlans {
                device,
                vlans,
                pvid,
            } => self.add_vlans(device, *vlans, *pvid)?,
            Action::RemoveVlans { device, vlans } => {
                let entries = self.vlans(device)?;
                for vlan in vlans.numbers() {
                    ensure!(entries.remove(&vlan).is_some(), "ENOENT {vlan}");
                }
            }
            Action::AddFdb(entry) => {
                ensure!(self.bridge_has(entry.vlan), "EINVAL: no such VLAN");
                ensure!(self.0.fdb.insert(*entry), "there already");
            }
            Action::RemoveFdb(entry) => {
                ensure!(self.bridge_has(entry.vlan), "EINVAL: no such VLAN");
                ensure!(self.0.fdb.remove(entry), "ENOENT");
            }
            Action::AddRoute(route) => {
                ensure!(self.has(route.family), "EAFNOSUPPORT");
                ensure!(self.0.routes.insert(*route), "EEXIST");
            }
            Action::RemoveRoute(route) => ensure!(self.0.routes.remove(route), "ESRCH"),
            _ => self.change(action)?,
        }
        for (name, before) in [ownership::L2_VXLAN, ownership::L3_VXLAN]
            .into_iter()
            .zip(mapped)
        {
            let lives = self.0.links.contains_key(&named(name));
            ensure!(
                !before || !lives || self.is_mapped(name),
                "{name} lost its last mapping"
            );
        }
        Ok(())
    }

    /// Actions on one device of ours.
    fn change(&mut self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::AddTunnels {
                device,
                vlans,
                vnis,
            } => {
                let pairs: Vec<_> = vlans.numbers().zip(vnis.numbers()).collect();
                ensure!(
                    vlans.numbers().count() == vnis.numbers().count(),
                    "EINVAL: lengths"
                );
                self.ours(device)?;
                self.add_tunnels(device, &pairs)
            }
            Action::RemoveTunnels { device, vlans } => {
                self.ours(device)?;
                let entries = self.vlans(device)?;
                for vlan in vlans.numbers() {
                    let entry = entries.get_mut(&vlan).and_then(|entry| entry.tunnel.take());
                    ensure!(entry.is_some(), "ENOENT {vlan}");
                }
                Ok(())
            }
            Action::AddVnis { device, vnis } => {
                self.ours(device)?;
                for vni in vnis.numbers() {
                    let taken = self.0.vnis.values().any(|vnis| vnis.contains(&vni));
                    ensure!(!taken, "EEXIST {vni}");
                    self.vnis(device)?.insert(vni);
                }
                Ok(())
            }
            Action::RemoveVnis { device, vnis } => {
                self.ours(device)?;
                for vni in vnis.numbers() {
                    ensure!(self.vnis(device)?.remove(&vni), "ENOENT {vni}");
                }
                Ok(())
            }
            Action::LeaveMaster { device } => {
                ensure!(self.ours(device)?.master.is_some(), "no master to leave");
                self.leave(device);
                Ok(())
            }
            Action::SetMaster { device, master } => self.set_master(device, master),
            Action::SetMtu { device, mtu } => self.set_mtu(device, *mtu),
            Action::AddAddress { device, addr } => {
                let link = self.ours(device)?;
                let v6 = link.settings.get(&Setting::DisableIpv6) == Some(&0);
                ensure!(addr.addr().is_ipv4() || v6, "EACCES: no IPv6 here");
                ensure!(link.addresses.insert(*addr), "EEXIST");
                Ok(())
            }
            Action::RemoveAddress { device, addr } => {
                let link = self.ours(device)?;
                ensure!(link.addresses.remove(addr), "EADDRNOTAVAIL");
                // The others are secondary ones: as if that had been the first.
                if addr.addr().is_ipv4()
                    && link.settings.get(&Setting::PromoteSecondaries) == Some(&0)
                {
                    link.addresses
                        .retain(|other| other.subnet() != addr.subnet());
                }
                Ok(())
            }
            Action::Tune {
                device,
                setting,
                value,
            } => {
                // Whoever reads the settings finds a number for it even so.
                let missing = self.0.no_untracked_na && *setting == Setting::AcceptUntrackedNa;
                ensure!(!missing, "ENOENT: {setting:?}");
                let now = self.ours(device)?.settings.get_mut(setting);
                let now = now.ok_or("ENOENT")?;
                ensure!(now != value, "as asked already");
                *now = *value;
                Ok(())
            }
            Action::SetBridge { device, params } => {
                let link = self.ours(device)?;
                ensure!(matches!(link.kind, LinkKind::Bridge(_)), "EOPNOTSUPP");
                link.kind = LinkKind::Bridge(*params);
                Ok(())
            }
            Action::SetMac { device, mac } => {
                self.ours(device)?.mac = Some(*mac);
                Ok(())
            }
            Action::SetPort { device, flags } => {
                let link = self.ours(device)?;
                ensure!(
                    link.port.is_some_and(|now| now != *flags),
                    "no port, or as asked already"
                );
                link.port = Some(*flags);
                Ok(())
            }
            _ => Err("not a change of one device".to_owned()),
        }
    }

    /// Whether a VXLAN device that receives in another way has the device's UDP port.
    fn port_is_taken(&self, device: &IfName) -> bool {
        let link = self.0.links.get(device);
        let Some(LinkKind::Vxlan(asked)) = link.map(|link| &link.kind) else {
            return false;
        };
        let receives = |vxlan: &VxlanParams| (vxlan.external, vxlan.vnifilter);
        let mut up = self.0.links.values().filter(|link| link.up);
        up.any(|link| match &link.kind {
            LinkKind::Vxlan(vxlan) => {
                vxlan.port == asked.port && receives(vxlan) != receives(asked)
            }
            _ => false,
        })
    }

    fn has(&self, family: Family) -> bool {
        family == Family::V4 || !self.0.no_ipv6
    }

    fn add_vlans(&mut self, device: &IfName, vlans: VlanRange, pvid: bool) -> Result<(), Refused> {
        let entries = self.vlans(device)?;
        for vlan in vlans.numbers() {
            if pvid {
                entries.values_mut().for_each(|entry| entry.pvid = false);
            }
            let tunnel = entries.get(&vlan).and_then(|entry| entry.tunnel);
            let entry = VlanEntry {
                pvid,
                untagged: pvid,
                tunnel,
            };
            ensure!(
                entries.insert(vlan, entry) != Some(entry),
                "{vlan} is there already"
            );
        }
        Ok(())
    }

    fn add_tunnels(&mut self, device: &IfName, pairs: &[(VlanId, Vni)]) -> Result<(), Refused> {
        let flags = self.link(device)?.port.ok_or("EINVAL: no port")?;
        ensure!(flags.vlan_tunnel, "EINVAL: vlan_tunnel is off");
        let entries = self.vlans(device)?;
        for (vlan, vni) in pairs {
            let taken = entries.values().any(|entry| entry.tunnel == Some(*vni));
            ensure!(!taken, "EEXIST: {vni} is mapped");
            let entry = entries.get_mut(vlan).ok_or("EINVAL: no such VLAN")?;
            ensure!(entry.tunnel.is_none(), "EEXIST: {vlan} is mapped");
            entry.tunnel = Some(*vni);
        }
        Ok(())
    }

    fn link(&mut self, device: &IfName) -> Result<&mut Link, Refused> {
        self.0
            .links
            .get_mut(device)
            .ok_or_else(|| format!("ENODEV {device}"))
    }

    fn ours(&mut self, device: &IfName) -> Result<&mut Link, Refused> {
        let link = self.link(device)?;
        ensure!(link.is_ours(), "{device} is not ours");
        Ok(link)
    }

    /// The VLANs of our bridges and of their ports; nobody else's are to be touched.
    fn vlans(&mut self, device: &IfName) -> Result<&mut BTreeMap<VlanId, VlanEntry>, Refused> {
        let link = self.link(device)?;
        let on_ours = link.master.as_ref().is_some_and(|master| {
            [ownership::TENANT_BRIDGE, ownership::L3_BRIDGE].contains(&master.as_str())
        });
        ensure!(link.is_ours() || on_ours, "{device}'s VLANs are not ours");
        self.0
            .vlans
            .get_mut(device)
            .ok_or_else(|| format!("EOPNOTSUPP: {device} has no VLANs"))
    }

    fn vnis(&mut self, device: &IfName) -> Result<&mut BTreeSet<Vni>, Refused> {
        self.0
            .vnis
            .get_mut(device)
            .ok_or_else(|| format!("EOPNOTSUPP: {device} has no filter"))
    }

    fn bridge_has(&self, vlan: VlanId) -> bool {
        let vlans = self.0.vlans.get(&ownership::tenant_bridge());
        vlans.is_some_and(|vlans| vlans.contains_key(&vlan))
    }

    fn is_mapped(&self, device: &str) -> bool {
        let vlans = self.0.vlans.get(&named(device));
        vlans.is_some_and(|vlans| vlans.values().any(|entry| entry.tunnel.is_some()))
    }

    /// An L3VNI's device comes up after its VLAN is mapped.
    fn l3_needs(&self, device: &IfName) -> bool {
        let Some(vlan) = device
            .as_str()
            .strip_prefix("l3-")
            .and_then(|vlan| vlan.parse().ok())
        else {
            return true;
        };
        let vlan = u32::try_into(vlan);
        let vlans = self.0.vlans.get(&ownership::l3_vxlan());
        vlan.is_ok_and(|vlan: VlanId| {
            vlans
                .and_then(|vlans| vlans.get(&vlan))
                .is_some_and(|entry| entry.tunnel.is_some())
        })
    }

    /// Everything that is not ours, for showing that it stays as it was. A netdev that was a
    /// port keeps that it is down and without a link-local address; all else of it is its owner's.
    pub(super) fn foreign(&self) -> Observed {
        let tenant = ownership::tenant_bridge();
        let mut foreign = self.0.clone();
        let ports: BTreeSet<IfName> = self
            .0
            .links
            .iter()
            .filter(|(_, link)| !link.is_ours() && link.master.as_ref() == Some(&tenant))
            .map(|(name, _)| name.clone())
            .collect();
        foreign.links.retain(|_, link| !link.is_ours());
        let links = foreign.links.clone();
        foreign
            .vlans
            .retain(|name, _| links.contains_key(name) && !ports.contains(name));
        foreign.vnis.retain(|name, _| links.contains_key(name));
        foreign.routes.clear();
        foreign.fdb.clear();
        foreign.forwarding.clear();
        foreign.vrf_first.clear();
        foreign.own_rules.clear();
        foreign.rules_in_way.clear();
        foreign.rules_beside.clear();
        foreign
    }

    /// What is ours, for comparing two ways to the same intent. Sentinels may stand anywhere.
    pub(super) fn ours_only(&self) -> Observed {
        let tenant = ownership::tenant_bridge();
        let mut ours = self.0.clone();
        ours.links
            .retain(|_, link| link.is_ours() || link.master.as_ref() == Some(&tenant));
        let links = ours.links.clone();
        ours.vlans.retain(|name, _| links.contains_key(name));
        ours.vnis.retain(|name, _| links.contains_key(name));
        for (name, vnis) in &ours.vnis {
            let admitted = |entry: &VlanEntry| entry.tunnel.is_none_or(|vni| vnis.contains(&vni));
            ours.vlans
                .entry(name.clone())
                .or_default()
                .retain(|_, entry| admitted(entry));
        }
        ours
    }

    /// Addresses of a device, for tests of single cases.
    pub(super) fn addresses(&self, device: &str) -> Vec<IfAddr> {
        self.0.links[&named(device)]
            .addresses
            .iter()
            .copied()
            .collect()
    }
}
