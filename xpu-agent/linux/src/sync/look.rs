//! What addresses and routes a namespace has: the other direction of [`super::address`].

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
        RouteType,
    },
};
use xpu_model::{IfAddr, IfIndex, Prefix};

use super::{
    address::Route,
    socket::{Rtnl, RtnlError},
};

/// An address as a device has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The address.
    pub addr: IfAddr,
    /// What duplicate address detection says of it.
    pub dad: DadState,
}

/// What duplicate address detection says (RFC 4862); IPv4 has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DadState {
    /// It can be used; it may still be looked at (RFC 4429).
    Usable,
    /// It can't be used before it was looked at.
    Tentative,
    /// Somebody else has it, so it can't be used.
    Failed,
}

/// A route as the namespace has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The route.
    pub route: Route,
    /// The device that it leaves by.
    pub by: Option<IfIndex>,
}

/// The addresses of one device.
///
/// # Errors
/// The kernel's refusal.
pub fn addresses(rtnl: &mut Rtnl, index: IfIndex) -> Result<Vec<Assigned>, RtnlError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let found = rtnl.get("list the addresses", request, true)?;
    let addresses = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(value) if value.header.index == index.get() => {
            address(&value)
        }
        _ => None,
    });
    Ok(addresses.collect())
}

fn address(message: &AddressMessage) -> Option<Assigned> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            // With a peer, `Address` is the peer's.
            AddressAttribute::Local(addr) => own = Some(*addr),
            AddressAttribute::Address(addr) => own = own.or(Some(*addr)),
            _ => {}
        }
    }
    let addr = IfAddr::new(own?, message.header.prefix_len.into()).ok()?;
    // These flags are among those that the header has room for.
    let has = |flag| message.header.flags.contains(flag);
    let dad = if has(AddressHeaderFlags::Dadfailed) {
        DadState::Failed
    } else if has(AddressHeaderFlags::Tentative) && !has(AddressHeaderFlags::Optimistic) {
        DadState::Tentative
    } else {
        DadState::Usable
    };
    Some(Assigned { addr, dad })
}

/// The unicast routes of the namespace, in every table and by every device. One with
/// several next hops counts as several.
///
/// # Errors
/// The kernel's refusal.
pub fn routes(rtnl: &mut Rtnl) -> Result<Vec<Installed>, RtnlError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let found = rtnl.get("list the routes", request, true)?;
    let routes = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(value) => Some(each_hop(&value)),
        _ => None,
    });
    Ok(routes.flatten().collect())
}

fn each_hop(message: &RouteMessage) -> Vec<Installed> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => "0.0.0.0",
        AddressFamily::Inet6 => "::",
        _ => return Vec::new(),
    };
    if header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut to = any.parse::<IpAddr>().ok();
    let mut table = u32::from(header.table);
    let (mut priority, mut mtu, mut advmss) = (None, None, None);
    let (mut hops, mut by) = (Vec::new(), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(value) => to = addr(value),
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Priority(value) => priority = Some(*value),
            RouteAttribute::Oif(value) => by = IfIndex::new(*value),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(value) => mtu = Some(*value),
                        RouteMetric::Advmss(value) => advmss = Some(*value),
                        _ => {}
                    }
                }
            }
            RouteAttribute::MultiPath(value) => {
                let hop =
                    |hop: &RouteNextHop| (via(&hop.attributes), IfIndex::new(hop.interface_index));
                hops.extend(value.iter().map(hop));
            }
            _ => {}
        }
    }
    if hops.is_empty() {
        hops.push((via(&message.attributes), by));
    }
    let length = header.destination_prefix_length;
    // The default route's address is none that a device could have.
    let Some(to) = to.and_then(|to| format!("{to}/{length}").parse::<Prefix>().ok()) else {
        return Vec::new();
    };
    let installed = |(via, by)| Installed {
        route: Route {
            to,
            via,
            priority,
            table: (table != u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(table),
            scope: Some(header.scope.into()),
            mtu,
            advmss,
        },
        by,
    };
    hops.into_iter().map(installed).collect()
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(value) => addr(value),
        _ => None,
    })
}

fn addr(value: &RouteAddress) -> Option<IpAddr> {
    match value {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::address::add_route;

    #[test]
    fn a_route_reads_back_as_it_was_asked_for() {
        for (to, via, table) in [
            ("0.0.0.0/0", Some("10.1.2.1"), None),
            ("::/0", Some("fe80::1"), Some(1000)),
            ("10.8.0.0/16", None, Some(7)),
        ] {
            let route = Route {
                to: to.parse().unwrap(),
                via: via.map(|via| via.parse().unwrap()),
                priority: Some(9),
                table,
                scope: Some(0),
                mtu: Some(1400),
                advmss: Some(1300),
            };
            let by = IfIndex::new(7);
            let request = add_route(by.unwrap(), &route, String::new());
            let RouteNetlinkMessage::NewRoute(message) = request.message else {
                panic!()
            };
            assert_eq!(each_hop(&message), [Installed { route, by }]);
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_told_from_one_that_can() {
        use AddressHeaderFlags as Flags;

        let permanent = Flags::Permanent;
        for (flags, dad) in [
            (permanent, DadState::Usable),
            (permanent | Flags::Tentative, DadState::Tentative),
            (
                permanent | Flags::Tentative | Flags::Optimistic,
                DadState::Usable,
            ),
            (
                permanent | Flags::Tentative | Flags::Dadfailed,
                DadState::Failed,
            ),
        ] {
            let mut message = AddressMessage::default();
            message.header.prefix_len = 64;
            message.header.flags = flags;
            let addr = "fd00::3".parse().unwrap();
            message.attributes = vec![AddressAttribute::Address(addr)];
            let addr = "fd00::3/64".parse().unwrap();
            assert_eq!(address(&message), Some(Assigned { addr, dad }), "{flags:?}");
        }
    }

    #[test]
    fn loopback_has_its_addresses() {
        let mut rtnl = Rtnl::open().unwrap();
        // 127.0.0.1 is no address for an interface of ours, so none is told.
        assert_eq!(addresses(&mut rtnl, IfIndex::new(1).unwrap()).unwrap(), []);
        routes(&mut rtnl).unwrap();
    }
}
