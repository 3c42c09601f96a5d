//! Who has the UDP port that our VXLAN devices need.
//!
//! A VXLAN device opens its sockets when it is set up. Devices of one port share them if they
//! receive in the same way, whatever their addresses (`vxlan_find_sock`); else the later one gets
//! EADDRINUSE. Ours share with devices of a VNI filter alone.

use std::{collections::BTreeMap, num::NonZeroU16};

use xpu_model::IfName;

use super::{
    link::{LinkKind, VxlanParams},
    observed::Link,
};

/// Somebody's VXLAN device for which the kernel would not set our VXLAN device `ours` up at `port`;
/// none if it is up there.
#[must_use]
pub fn holder<'a>(
    links: &'a BTreeMap<IfName, Link>,
    ours: &IfName,
    port: NonZeroU16,
) -> Option<&'a IfName> {
    let ours = links.get(ours).filter(|link| link.is_ours());
    if ours.and_then(open) == Some(port) {
        return None;
    }
    let has_port = |link: &Link| match link.kind {
        LinkKind::Vxlan(vxlan) => vxlan.port == port.get() && !shares(vxlan),
        _ => false,
    };
    let mut holders = links.iter();
    let holder = holders.find(|(_, link)| link.up && !link.is_ours() && has_port(link));
    holder.map(|(name, _)| name)
}

/// The port at which a VXLAN device receives; none if it is down.
pub(super) fn open(link: &Link) -> Option<NonZeroU16> {
    match link.kind {
        LinkKind::Vxlan(vxlan) if link.up => NonZeroU16::new(vxlan.port),
        _ => None,
    }
}

/// Whether a device receives as ours do.
const fn shares(vxlan: VxlanParams) -> bool {
    vxlan.external && vxlan.vnifilter
}
