//! Default routes that the kernel has from router advertisements. When it begins to forward IPv6
//! it forgets those of devices with `accept_ra` 1, and takes no more
//! (`rt6_purge_dflt_routers`, `ipv6_accept_ra`).

use std::collections::BTreeSet;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteProtocol},
};
use xpu_model::IfName;
use xpu_plan::linux::Family;

use super::{
    ObserveError,
    observe::{self, Devices},
    sysctl,
};
use crate::sync::{Rtnl, RtnlError};

/// Whether a device takes advertisements only as long as the node does not forward.
pub(super) fn accepts_ra_as_host(message: &LinkMessage) -> bool {
    let specs = message.attributes.iter().filter_map(|it| match it {
        LinkAttribute::AfSpecUnspec(specs) => Some(specs),
        _ => None,
    });
    let inet6 = specs.flatten().filter_map(|it| match it {
        AfSpecUnspec::Inet6(parts) => Some(parts),
        _ => None,
    });
    let mut parts = inet6.flatten();
    parts.any(|it| matches!(it, AfSpecInet6::DevConf(conf) if conf.accept_ra == 1))
}

/// The devices of which the kernel would forget a default route.
pub(super) fn devices(rtnl: &mut Rtnl, devices: &Devices) -> Result<BTreeSet<IfName>, RtnlError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.protocol = RouteProtocol::Ra;
    let message = RouteNetlinkMessage::GetRoute(message);
    let found = rtnl.get("list the advertised routes", message, true)?;
    let by = found.iter().filter_map(device);
    let hosts = by.filter(|index| devices.accept_ra_as_host.contains(index));
    Ok(hosts
        .filter_map(|index| devices.names.get(&index).cloned())
        .collect())
}

/// The device of an advertised default route.
fn device(message: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(route) = message else {
        return None;
    };
    let header = &route.header;
    if header.protocol != RouteProtocol::Ra || header.destination_prefix_length != 0 {
        return None;
    }
    route.attributes.iter().find_map(|it| match it {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// The devices by which the node loses its IPv6 default route when IPv6 is forwarded; none where it
/// is, or where there is no IPv6.
///
/// # Errors
/// [`ObserveError`] when the kernel refuses, or its answer can't be read.
pub fn routes_at_stake() -> Result<BTreeSet<IfName>, ObserveError> {
    let has_ipv6 = sysctl::has_ipv6().map_err(ObserveError::Settings)?;
    if !has_ipv6 || sysctl::is_forwarded(Family::V6).map_err(ObserveError::Settings)? {
        return Ok(BTreeSet::new());
    }
    let mut rtnl = Rtnl::open()?;
    rtnl.strict()?;
    let found = observe::devices(&mut rtnl)?;
    let mut at_stake = devices(&mut rtnl, &found)?;
    at_stake.retain(|name| !found.links.get(name).is_some_and(|link| link.is_ours()));
    Ok(at_stake)
}
