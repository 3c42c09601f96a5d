//! Addresses and routes of one device, as requests.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
        RouteScope, RouteType,
    },
};
use xpu_model::{IfAddr, IfIndex, Prefix};

use super::socket::Request;

/// How a new IPv6 address treats duplicate address detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dad {
    /// Usable at once, checked beside (RFC 4429). Takes effect only where the
    /// device's `optimistic_dad` is set.
    Optimistic,
    /// Usable once checked, about a second later.
    Plain,
}

/// Adds an address. One that is there already is an error: it isn't ours.
#[must_use]
pub fn add_address(index: IfIndex, addr: IfAddr, dad: Dad, what: String) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index.get();
    message.header.prefix_len = addr.len();
    match addr.addr() {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            message
                .attributes
                .push(AddressAttribute::Local(IpAddr::V4(v4)));
            // The kernel adds no broadcast address by itself; RFC 3021 wants none at /31.
            if addr.len() < 31 {
                let hosts = u32::MAX
                    .checked_shr(u32::from(addr.len()))
                    .unwrap_or_default();
                let broadcast = (u32::from(v4) | hosts).into();
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(broadcast));
            }
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            if dad == Dad::Optimistic {
                let flags = AddressFlags::Optimistic;
                message.attributes.push(AddressAttribute::Flags(flags));
            }
        }
    }
    message
        .attributes
        .push(AddressAttribute::Address(addr.addr()));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Request {
        what,
        message: RouteNetlinkMessage::NewAddress(message),
        flags,
    }
}

/// Takes an address away.
#[must_use]
pub fn del_address(index: IfIndex, addr: IfAddr, what: String) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index.get();
    message.header.prefix_len = addr.len();
    let own = match addr.addr() {
        addr @ IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            // Without the other end's, which an address may have as well.
            AddressAttribute::Local(addr)
        }
        addr @ IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            AddressAttribute::Address(addr)
        }
    };
    message.attributes.push(own);
    Request {
        what,
        message: RouteNetlinkMessage::DelAddress(message),
        flags: 0,
    }
}

/// A route by one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Prefix,
    /// By whom; `None`: on the link itself.
    pub via: Option<IpAddr>,
    /// `RTA_PRIORITY`, the metric.
    pub priority: Option<u32>,
    /// `RTA_TABLE`; `None`: main.
    pub table: Option<u32>,
    /// `rtm_scope`; `None`: link without a gateway, else universe.
    pub scope: Option<u8>,
    /// Path MTU.
    pub mtu: Option<u32>,
    /// Advertised TCP segment size.
    pub advmss: Option<u32>,
}

/// Adds a route. One of the same destination and metric that is there already is an error, whoever
/// set it.
#[must_use]
pub fn add_route(index: IfIndex, route: &Route, what: String) -> Request {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.destination_prefix_length = route.to.len();
    header.address_family = match route.to.addr() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    header.table = match route.table {
        None => RouteHeader::RT_TABLE_MAIN,
        Some(table) => u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
    };
    // What a CNI plugin sets at the runtime's behest counts as the administrator's.
    header.protocol = RouteProtocol::Static;
    header.scope = match (route.scope, route.via) {
        (Some(scope), _) => scope.into(),
        (None, None) => RouteScope::Link,
        (None, Some(_)) => RouteScope::Universe,
    };
    header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(route_address(route.to.addr())));
    attributes.extend(
        route
            .via
            .map(|via| RouteAttribute::Gateway(route_address(via))),
    );
    attributes.push(RouteAttribute::Oif(index.get()));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    attributes.extend(route.table.map(RouteAttribute::Table));
    let metrics: Vec<_> = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    // Without REPLACE, which would take a route of another device with the same destination.
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Request {
        what,
        message: RouteNetlinkMessage::NewRoute(message),
        flags,
    }
}

fn route_address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broadcast_of(text: &str) -> Option<std::net::Ipv4Addr> {
        let index = IfIndex::new(1).unwrap();
        let request = add_address(index, text.parse().unwrap(), Dad::Plain, String::new());
        let RouteNetlinkMessage::NewAddress(message) = request.message else {
            panic!()
        };
        message
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Broadcast(addr) => Some(addr),
                _ => None,
            })
    }

    #[test]
    fn broadcast_is_the_subnets_last_address() {
        assert_eq!(broadcast_of("10.1.2.3/24"), Some([10, 1, 2, 255].into()));
        assert_eq!(broadcast_of("10.1.2.1/30"), Some([10, 1, 2, 3].into()));
        assert_eq!(broadcast_of("10.1.2.2/31"), None);
        assert_eq!(broadcast_of("10.1.2.3/32"), None);
        assert_eq!(broadcast_of("fd00::1/64"), None);
    }
}
