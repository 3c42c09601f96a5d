//! What goes, dependants first.

use std::collections::BTreeSet;

use xpu_model::IfName;

use super::{Accounts, Gone, shared};
use crate::{
    linux::{
        Action, FdbEntry, LinkKind, Observed, Step,
        desired::Desired,
        observed::Link,
        range::{self, Range},
    },
    ownership::{self, Mark},
};

/// Removals, in order. `remaining` is what they leave of `observed`, so VLANs and addresses of a
/// device that goes are not removed one by one.
pub(super) fn steps(
    desired: &Desired,
    observed: &Observed,
    remaining: &Observed,
    gone: &Gone,
    accounts: &Accounts<'_>,
) -> Vec<Step> {
    // A gateway's device says which entry goes with it, so the entry goes first: what an agent that
    // is killed in between leaves behind is found again.
    let mut steps = fdb(desired, remaining, accounts);
    let vlan_device = |kind: &LinkKind| matches!(kind, LinkKind::Vlan { .. });
    steps.extend(links(observed, gone, vlan_device));
    steps.extend(tunnels(desired, remaining, accounts));
    let (vxlan, others): (Vec<_>, Vec<_>) = vlans(desired, remaining, accounts)
        .into_iter()
        .partition(|(device, _)| {
            [ownership::L2_VXLAN, ownership::L3_VXLAN].contains(&device.as_str())
        });
    steps.extend(vxlan.into_iter().map(|(_, step)| step));
    steps.extend(vnis(desired, remaining, accounts));
    steps.extend(others.into_iter().map(|(_, step)| step));
    steps.extend(addresses(desired, remaining, accounts));
    steps.extend(ports(desired, remaining, accounts));
    steps.extend(links(observed, gone, |kind| {
        matches!(kind, LinkKind::Vxlan(_))
    }));
    for route in remaining
        .routes
        .difference(&desired.routes.keys().copied().collect())
    {
        let owners = accounts.of_table(route.table);
        steps.push(Step {
            action: Action::RemoveRoute(*route),
            owners,
        });
    }
    steps.extend(links(observed, gone, |kind| {
        !matches!(
            kind,
            LinkKind::Vlan { .. } | LinkKind::Vxlan(_) | LinkKind::Bridge(_)
        )
    }));
    steps.extend(links(observed, gone, |kind| {
        matches!(kind, LinkKind::Bridge(_))
    }));
    steps
}

fn links(observed: &Observed, gone: &Gone, of: impl Fn(&LinkKind) -> bool) -> Vec<Step> {
    let goes = |(name, link): &(&IfName, &Link)| gone.contains(*name) && of(&link.kind);
    observed
        .all_ours()
        .filter(goes)
        .map(|(name, link)| {
            let owners = link.mark.clone().into_iter().collect();
            Step {
                action: Action::RemoveLink {
                    device: name.clone(),
                },
                owners,
            }
        })
        .collect()
}

/// Entries go while their VLAN is there: without it the kernel refuses. Where it has gone
/// already it is lent for the occasion.
fn fdb(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<Step> {
    let bridge = ownership::tenant_bridge();
    let present = |entry: &FdbEntry| {
        remaining
            .vlans
            .get(&bridge)
            .is_some_and(|vlans| vlans.contains_key(&entry.vlan))
    };
    let mut steps = Vec::new();
    for entry in remaining
        .fdb
        .iter()
        .filter(|entry| !desired.fdb.contains_key(entry))
    {
        let owners = accounts.of_gateway(entry.vlan);
        let vlans = Range::one(entry.vlan);
        let device = bridge.clone();
        let lend = Action::AddVlans {
            device: device.clone(),
            vlans,
            pvid: false,
        };
        let actions = if present(entry) {
            vec![Action::RemoveFdb(*entry)]
        } else {
            vec![
                lend,
                Action::RemoveFdb(*entry),
                Action::RemoveVlans { device, vlans },
            ]
        };
        steps.extend(actions.into_iter().map(|action| Step {
            action,
            owners: owners.clone(),
        }));
    }
    steps
}

/// Mappings whose VLAN stays with another VNI or with none: the kernel does not remap in place.
fn tunnels(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vlans {
        let found = super::remaining::or_empty(remaining.vlans.get(device));
        let stale = found.iter().filter_map(|(vlan, entry)| {
            let (wanted, _) = wanted.get(vlan)?;
            let stale = entry.tunnel.is_some() && entry.tunnel != wanted.tunnel;
            stale.then(|| (*vlan, accounts.of_vlan(device, *vlan)))
        });
        for run in range::runs(stale, |_, _| true) {
            let device = device.clone();
            steps.push(shared(run, |vlans| Action::RemoveTunnels { device, vlans }));
        }
    }
    steps
}

/// VLANs on our bridges, our VXLAN devices, and the netdevs that stay ports.
fn vlans(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<(IfName, Step)> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vlans {
        let found = super::remaining::or_empty(remaining.vlans.get(device));
        let unwanted = found
            .keys()
            .filter(|vlan| !wanted.contains_key(vlan))
            .map(|vlan| (*vlan, accounts.of_vlan(device, *vlan)));
        for run in range::runs(unwanted, |_, _| true) {
            let step = shared(run, |vlans| Action::RemoveVlans {
                device: device.clone(),
                vlans,
            });
            steps.push((device.clone(), step));
        }
    }
    steps
}

fn vnis(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, wanted) in &desired.vnis {
        let found = remaining.vnis.get(device).into_iter().flatten();
        let unwanted = found
            .filter(|vni| !wanted.contains_key(vni))
            .map(|vni| (*vni, accounts.of_vni(*vni)));
        for run in range::runs(unwanted, |_, _| true) {
            let device = device.clone();
            steps.push(shared(run, |vnis| Action::RemoveVnis { device, vnis }));
        }
    }
    steps
}

fn addresses(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, link) in remaining.all_ours() {
        let Some(wanted) = desired.links.get(device) else {
            continue;
        };
        for addr in link.addresses.difference(&wanted.addresses) {
            let action = Action::RemoveAddress {
                device: device.clone(),
                addr: *addr,
            };
            steps.push(Step {
                action,
                owners: accounts.of_device(device),
            });
        }
    }
    steps
}

fn ports(desired: &Desired, remaining: &Observed, accounts: &Accounts<'_>) -> Vec<Step> {
    let leaving = remaining
        .tenant_ports()
        .filter(|(device, _)| !desired.ports.contains_key(*device));
    let step = |(device, _): (&IfName, &Link)| {
        let owners: BTreeSet<Mark> = accounts.of_port(device);
        Step {
            action: Action::ReleasePort {
                device: device.clone(),
            },
            owners,
        }
    };
    leaving.map(step).collect()
}
