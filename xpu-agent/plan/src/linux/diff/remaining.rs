//! What the removals leave: the state that additions are planned against.

use std::{borrow::Cow, collections::BTreeMap};

use super::{super::LinkKind, Gone};
use crate::{
    linux::{
        desired::{Desired, WantedLink},
        observed::{Link, Observed},
    },
    ownership,
};

/// Our devices that nobody wants any more, those that have to be made anew, and those that
/// stand on one of them.
pub(super) fn gone(desired: &Desired, observed: &Observed) -> Gone {
    let unwanted = |(name, link): &(_, &Link)| {
        !desired
            .links
            .get(*name)
            .is_some_and(|wanted| can_become(link, wanted))
    };
    let mut gone: Gone = observed
        .all_ours()
        .filter(unwanted)
        .map(|(name, _)| name.clone())
        .collect();
    let on_gone = |link: &Link| match &link.kind {
        LinkKind::Vlan {
            parent: Some(parent),
            ..
        } => gone.contains(parent),
        _ => false,
    };
    let above: Gone = observed
        .all_ours()
        .filter(|(_, link)| on_gone(link))
        .map(|(name, _)| name.clone())
        .collect();
    gone.extend(above);
    gone
}

/// Whether changes in place can make the device what is wanted.
fn can_become(found: &Link, wanted: &WantedLink) -> bool {
    let kind = match (&found.kind, &wanted.kind) {
        (LinkKind::Bridge(_), LinkKind::Bridge(_)) => true,
        (found, wanted) => found == wanted,
    };
    kind && found.mark.as_ref() == Some(&wanted.owner)
}

/// The observation without what goes, and without what changing a master takes away.
pub(super) fn after_removals<'a>(
    desired: &Desired,
    observed: &'a Observed,
    gone: &Gone,
) -> Cow<'a, Observed> {
    let moves = |name, link: &Link| {
        desired
            .links
            .get(name)
            .is_some_and(|wanted| wanted.master != link.master)
    };
    let moving: Gone = observed
        .all_ours()
        .filter(|(name, link)| !gone.contains(*name) && moves(*name, link))
        .map(|(name, _)| name.clone())
        .collect();
    if gone.is_empty() && moving.is_empty() {
        return Cow::Borrowed(observed);
    }
    let mut remaining = observed.clone();
    remaining.links.retain(|name, _| !gone.contains(name));
    // With its bridge a port loses its VLANs; what a bridge has in itself stays.
    let is_port = |name: &_| observed.ours(name).is_some_and(|link| link.port.is_some());
    remaining.vlans.retain(|name, _| {
        let loses = moving.contains(name) && is_port(name);
        !gone.contains(name) && !loses
    });
    remaining.vnis.retain(|name, _| !gone.contains(name));
    for (name, link) in &mut remaining.links {
        if link
            .master
            .as_ref()
            .is_some_and(|master| gone.contains(master))
        {
            link.master = None;
            link.port = None;
            link.addresses.retain(|addr| addr.addr().is_ipv4());
            remaining.vlans.remove(name);
        }
        if moving.contains(name) {
            link.port = None;
            link.addresses.retain(|addr| addr.addr().is_ipv4());
        }
    }
    if gone.contains(&ownership::tenant_bridge()) {
        remaining.fdb.clear();
    }
    Cow::Owned(remaining)
}

/// An empty map to compare with where a device has no entry.
pub(super) fn or_empty<K, V>(map: Option<&BTreeMap<K, V>>) -> Cow<'_, BTreeMap<K, V>>
where
    K: Clone + Ord,
    V: Clone,
{
    map.map_or_else(|| Cow::Owned(BTreeMap::new()), Cow::Borrowed)
}
