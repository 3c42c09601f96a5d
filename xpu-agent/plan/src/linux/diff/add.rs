//! What comes and what changes, what is depended on first.

use std::{borrow::Cow, collections::BTreeSet};

use xpu_model::{IfName, VlanId, Vni};

use super::{remaining::or_empty, shared};
use crate::{
    linux::{
        Action, Family, LinkKind, NewLink, Observed, Step,
        desired::{ComesUp, Desired, IPV6_MIN_MTU, WantedLink},
        link::VlanEntry,
        observed::Link,
        range::{self, Range, VniRange},
    },
    ownership::{self, Mark},
};

/// What the node itself needs in each family that does not have it yet.
fn node(
    remaining: &Observed,
    there: &BTreeSet<Family>,
    action: fn(Family) -> Action,
) -> impl Iterator<Item = Step> {
    Family::of_kernel(!remaining.no_ipv6)
        .filter(|family| !there.contains(family))
        .map(move |family| Step::new(action(family), Mark::Node))
}

/// Additions and changes over `remaining`, in order.
pub(super) fn steps(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    // Isolation before there is anything to isolate.
    let is_ours_to_order = |step: &Step| match &step.action {
        Action::PutVrfFirst(family) => !remaining.rules_in_way.contains(family),
        _ => true,
    };
    let keeps_the_node = |step: &Step| match &step.action {
        Action::Forward(Family::V6) => remaining.routes_at_stake().next().is_none(),
        _ => true,
    };
    let mut steps: Vec<Step> = node(remaining, &remaining.vrf_first, Action::PutVrfFirst)
        .filter(is_ours_to_order)
        .chain(node(remaining, &remaining.forwarding, Action::Forward).filter(keeps_the_node))
        .collect();
    steps.extend(created(desired, remaining, |kind| {
        matches!(kind, LinkKind::Bridge(_) | LinkKind::Vrf(_))
    }));
    // A Vrf's table has its end before anything is looked up in it.
    for (route, owner) in desired
        .routes
        .iter()
        .filter(|(route, _)| !remaining.routes.contains(route))
    {
        steps.push(Step::new(Action::AddRoute(*route), owner.clone()));
    }
    // A bridge gets its MTU before the VLAN devices on it, which may not exceed it.
    steps.extend(changed(desired, remaining, |kind| {
        matches!(kind, LinkKind::Bridge(_))
    }));
    steps.extend(created(desired, remaining, |kind| {
        matches!(kind, LinkKind::Vxlan(_) | LinkKind::Vlan { .. })
    }));
    steps.extend(changed(desired, remaining, |kind| {
        !matches!(kind, LinkKind::Bridge(_))
    }));
    steps.extend(tuned(desired, remaining));
    steps.extend(enslaved(desired, remaining));
    steps.extend(vlans(desired, remaining));
    steps.extend(vnis(desired, remaining));
    steps.extend(tunnels(desired, remaining));
    steps.extend(up(desired, remaining, ComesUp::WithPorts));
    steps.extend(addresses(desired, remaining));
    for (entry, owner) in desired
        .fdb
        .iter()
        .filter(|(entry, _)| !remaining.fdb.contains(entry))
    {
        steps.push(Step::new(Action::AddFdb(*entry), owner.clone()));
    }
    steps.extend(up(desired, remaining, ComesUp::Last));
    steps
}

/// A sentinel that is to move is made at its new place before removals take the old one: at no
/// time may a VXLAN device be without a mapping. `remaining` gets what is made here.
pub(super) fn sentinels(desired: &Desired, remaining: &mut Cow<'_, Observed>) -> Vec<Step> {
    let mut steps = Vec::new();
    for device in [ownership::l2_vxlan(), ownership::l3_vxlan()] {
        if !remaining.vlans.contains_key(&device) || remaining.ours(&device).is_none() {
            continue;
        }
        let wanted = desired.vlans.get(&device).into_iter().flatten();
        let sentinel = wanted
            .into_iter()
            .find(|(_, (_, owner))| *owner == Mark::Node);
        let Some((vlan, (entry, _))) = sentinel else {
            continue;
        };
        let Some(vni) = entry.tunnel else { continue };
        let found = or_empty(remaining.vlans.get(&device)).into_owned();
        let is_free =
            !found.contains_key(vlan) && !found.values().any(|entry| entry.tunnel == Some(vni));
        if !is_free {
            continue;
        }
        let vlans = Range::one(*vlan);
        let vnis = Range::one(vni);
        let add = Action::AddVlans {
            device: device.clone(),
            vlans,
            pvid: false,
        };
        let map = Action::AddTunnels {
            device: device.clone(),
            vlans,
            vnis,
        };
        steps.extend([add, map].map(|action| Step::new(action, Mark::Node)));
        remaining
            .to_mut()
            .vlans
            .entry(device)
            .or_default()
            .insert(*vlan, *entry);
    }
    steps
}

fn created(desired: &Desired, remaining: &Observed, of: impl Fn(&LinkKind) -> bool) -> Vec<Step> {
    let missing = |(name, link): &(&IfName, &WantedLink)| {
        of(&link.kind) && !remaining.links.contains_key(*name)
    };
    let step = |(name, link): (&IfName, &WantedLink)| {
        let new = NewLink {
            name: name.clone(),
            mark: link.owner.clone(),
            kind: link.kind.clone(),
            mtu: link.mtu,
            mac: link.mac,
            master: link.master.clone(),
        };
        Step::new(Action::CreateLink(new), link.owner.clone())
    };
    desired.links.iter().filter(missing).map(step).collect()
}

/// Changes in place of devices that are there, and the port flags of those that come.
fn changed(desired: &Desired, remaining: &Observed, of: impl Fn(&LinkKind) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, wanted) in desired.links.iter().filter(|(_, link)| of(&link.kind)) {
        let found = remaining.ours(name);
        let mut actions = match found {
            Some(found) => differences(name, wanted, found, remaining.no_ipv6),
            None => Vec::new(),
        };
        let port = found.and_then(|found| found.port);
        if let Some(flags) = wanted.port.filter(|flags| port != Some(*flags)) {
            actions.push(Action::SetPort {
                device: name.clone(),
                flags,
            });
        }
        steps.extend(
            actions
                .into_iter()
                .map(|action| Step::new(action, wanted.owner.clone())),
        );
    }
    steps
}

fn differences(name: &IfName, wanted: &WantedLink, found: &Link, no_ipv6: bool) -> Vec<Action> {
    let device = || name.clone();
    let mut actions = Vec::new();
    if let (LinkKind::Bridge(params), true) = (&wanted.kind, wanted.kind != found.kind) {
        actions.push(Action::SetBridge {
            device: device(),
            params: *params,
        });
    }
    if let Some(mac) = wanted.mac.filter(|mac| found.mac != Some(*mac)) {
        actions.push(Action::SetMac {
            device: device(),
            mac,
        });
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| found.mtu != u32::from(*mtu)) {
        actions.push(Action::SetMtu {
            device: device(),
            mtu,
        });
    }
    if let Some(master) = wanted
        .master
        .clone()
        .filter(|master| found.master.as_ref() != Some(master))
    {
        actions.push(Action::SetMaster {
            device: device(),
            master,
        });
    }
    if wanted.master.is_none() && found.master.is_some() {
        actions.push(Action::LeaveMaster { device: device() });
    }
    if !found.addr_gen_none || (!no_ipv6 && gets_ipv6(wanted, found)) {
        actions.push(Action::SetAddrGenNone { device: device() });
    }
    actions
}

/// Whether a device that was too small for IPv6 gets it with its new MTU, all settings anew.
fn gets_ipv6(wanted: &WantedLink, found: &Link) -> bool {
    let least = u32::from(IPV6_MIN_MTU);
    found.mtu < least && wanted.mtu.is_some_and(|mtu| u32::from(mtu) >= least)
}

fn tuned(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, wanted) in &desired.links {
        let found = remaining.ours(name);
        for (setting, value) in &wanted.settings {
            // A device that is there and lacks a setting has no IPv6; it can't be set.
            let differs = found.is_none_or(|found| match found.settings.get(setting) {
                Some(now) => now != value,
                None => !remaining.no_ipv6 && gets_ipv6(wanted, found),
            });
            if differs {
                let action = Action::Tune {
                    device: name.clone(),
                    setting: *setting,
                    value: *value,
                };
                steps.push(Step::new(action, wanted.owner.clone()));
            }
        }
    }
    steps
}

fn enslaved(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let bridge = ownership::tenant_bridge();
    let mut steps = Vec::new();
    for (device, port) in &desired.ports {
        let Some(link) = remaining.links.get(device) else {
            continue;
        };
        let owner = || Mark::Object(port.clone());
        if !link.addr_gen_none {
            let action = Action::SetAddrGenNone {
                device: device.clone(),
            };
            steps.push(Step::new(action, owner()));
        }
        if link.master.as_ref() != Some(&bridge) {
            steps.push(Step::new(
                Action::EnslavePort {
                    device: device.clone(),
                },
                owner(),
            ));
        }
    }
    steps
}

fn vlans(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vlans {
        let found = or_empty(remaining.vlans.get(device));
        let same = |vlan: &VlanId, entry: &VlanEntry| {
            found
                .get(vlan)
                .is_some_and(|now| now.pvid == entry.pvid && now.untagged == entry.untagged)
        };
        let missing = wanted
            .iter()
            .filter(|(vlan, (entry, _))| !same(vlan, entry));
        for pvid in [false, true] {
            let of = missing.clone().filter(|(_, (entry, _))| entry.pvid == pvid);
            let pairs = of.map(|(vlan, (_, owner))| (*vlan, BTreeSet::from([owner.clone()])));
            for run in range::runs(pairs, |_, _| !pvid) {
                let device = device.clone();
                steps.push(shared(run, |vlans| Action::AddVlans {
                    device,
                    vlans,
                    pvid,
                }));
            }
        }
    }
    steps
}

fn vnis(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vnis {
        let found = remaining.vnis.get(device);
        let missing = wanted
            .iter()
            .filter(|(vni, _)| !found.is_some_and(|found| found.contains(vni)))
            .map(|(vni, owner)| (*vni, BTreeSet::from([owner.clone()])));
        for run in range::runs(missing, |_, _| true) {
            let device = device.clone();
            steps.push(shared(run, |vnis| Action::AddVnis { device, vnis }));
        }
    }
    steps
}

/// Mappings, those whose VLANs and VNIs both count up by one in one action.
fn tunnels(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vlans {
        let found = or_empty(remaining.vlans.get(device));
        let missing = wanted.iter().filter_map(|(vlan, (entry, owner))| {
            let vni = entry.tunnel?;
            let now = found.get(vlan).and_then(|entry| entry.tunnel);
            (now != Some(vni)).then(|| (*vlan, (vni, owner.clone())))
        });
        let next = |a: &(Vni, Mark), b: &(Vni, Mark)| a.0.get() + 1 == b.0.get();
        for (vlans, pairs) in range::runs(missing, next) {
            let (numbers, owners): (Vec<Vni>, BTreeSet<Mark>) = pairs.into_iter().unzip();
            let vnis: Vec<(VniRange, _)> =
                range::runs(numbers.into_iter().map(|vni| (vni, ())), |(), ()| true);
            let Some((vnis, _)) = vnis.into_iter().next() else {
                continue;
            };
            let device = device.clone();
            steps.push(Step {
                action: Action::AddTunnels {
                    device,
                    vlans,
                    vnis,
                },
                owners,
            });
        }
    }
    steps
}

/// Sets up what comes up at one of the two times.
fn up(desired: &Desired, remaining: &Observed, when: ComesUp) -> Vec<Step> {
    let down = |name: &IfName| remaining.links.get(name).is_none_or(|link| !link.up);
    let links = desired
        .links
        .iter()
        .filter(|(_, link)| link.comes_up == when)
        .map(|(name, link)| (name, link.owner.clone()));
    let ports = desired.ports.iter().filter(|_| when == ComesUp::WithPorts);
    let ports = ports.map(|(name, key)| (name, Mark::Object(key.clone())));
    links
        .chain(ports)
        .filter(|(name, _)| down(name))
        .map(|(name, owner)| {
            Step::new(
                Action::SetUp {
                    device: name.clone(),
                },
                owner,
            )
        })
        .collect()
}

fn addresses(desired: &Desired, remaining: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, wanted) in &desired.links {
        let found = remaining.ours(name);
        for addr in &wanted.addresses {
            if !found.is_some_and(|found| found.addresses.contains(addr)) {
                let action = Action::AddAddress {
                    device: name.clone(),
                    addr: *addr,
                };
                steps.push(Step::new(action, wanted.owner.clone()));
            }
        }
    }
    steps
}
