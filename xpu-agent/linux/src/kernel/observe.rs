//! Reading the kernel into [`Observed`]. One dump each of links, bridge VLANs, VNIs, addresses
//! and our routes; FDB entries are [`super::fdb`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use xpu_model::{IfIndex, IfName, VlanId, Vni};
use xpu_plan::{
    linux::{Family, Link, LinkKind, Observed, Probes, UnreachableDefault, link::VlanEntry},
    ownership::{ROUTE_PROTOCOL, tenant_bridge},
};

use super::{
    Indexes, advertised,
    decode::{self, Names},
    fdb::{self, Known},
    request,
    rules::{self, Others},
    sysctl,
    tunnel::{TunnelMessage, Verb},
    vlandb::{GetVlans, Vlans},
};
use crate::sync::{Rtnl, RtnlError};

/// Why the kernel's state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A netlink request failed.
    #[error(transparent)]
    Netlink(#[from] RtnlError),
    /// A setting cannot be read.
    #[error("can't read net settings below /proc/sys")]
    Settings(#[source] io::Error),
}

/// The devices of the namespace.
pub(super) struct Devices {
    pub(super) names: Names,
    /// Without addresses.
    pub(super) links: BTreeMap<IfName, Link>,
    /// How long the tenant bridge keeps an address that it does not hear.
    pub(super) ageing: Option<Duration>,
    /// The indexes of those that take router advertisements only while the node does not forward.
    pub(super) accept_ra_as_host: BTreeSet<u32>,
}

/// Everything but what [`observe_each`] asks for.
pub(super) fn observe(rtnl: &mut Rtnl, devices: Devices) -> Result<Observed, ObserveError> {
    let has_ipv6 = sysctl::has_ipv6().map_err(ObserveError::Settings)?;
    let may_begin =
        has_ipv6 && !sysctl::is_forwarded(Family::V6).map_err(ObserveError::Settings)?;
    let advertised = if may_begin {
        advertised::devices(rtnl, &devices)?
    } else {
        BTreeSet::new()
    };
    let Devices {
        names, mut links, ..
    } = devices;
    addresses(rtnl, &names, &mut links)?;
    let (mut forwarding, mut vrf_first) = (BTreeSet::new(), BTreeSet::new());
    let mut own_rules = BTreeSet::new();
    let (mut rules_in_way, mut rules_beside) = (BTreeSet::new(), BTreeSet::new());
    for family in Family::of_kernel(has_ipv6) {
        if sysctl::is_forwarded(family).map_err(ObserveError::Settings)? {
            forwarding.insert(family);
        }
        let order = rules::order(rtnl, family)?;
        if order.is_vrf_first {
            vrf_first.insert(family);
        }
        if order.has_ours {
            own_rules.insert(family);
        }
        match order.others {
            Others::Apart => false,
            Others::Beside => rules_beside.insert(family),
            Others::InWay => rules_in_way.insert(family),
        };
    }
    Ok(Observed {
        vlans: vlans(rtnl, &names)?,
        vnis: vnis(rtnl, &names, &links)?,
        routes: routes(rtnl, has_ipv6)?,
        fdb: BTreeSet::new(),
        links,
        forwarding,
        vrf_first,
        own_rules,
        rules_in_way,
        rules_beside,
        no_ipv6: !has_ipv6,
        no_untracked_na: !sysctl::has_untracked_na().map_err(ObserveError::Settings)?,
        rp_strict: sysctl::is_reverse_path_strict().map_err(ObserveError::Settings)?,
        advertised,
        routed: BTreeSet::new(),
    })
}

/// What is asked for one by one.
pub(super) fn observe_each(
    rtnl: &mut Rtnl,
    indexes: &Indexes,
    known: &mut Known,
    probes: &Probes,
    mut observed: Observed,
) -> Result<Observed, ObserveError> {
    let bridge = tenant_bridge();
    if let (Some(_), Some(index)) = (observed.ours(&bridge), indexes.get(&bridge)) {
        observed.fdb = known.look(*index, &probes.fdb, |entry| fdb::ask(rtnl, *index, entry))?;
    }
    for netdev in &probes.netdevs {
        if let Some(index) = indexes.get(netdev)
            && has_routes(rtnl, netdev, *index, observed.no_ipv6)?
        {
            observed.routed.insert(netdev.clone());
        }
    }
    Ok(observed)
}

/// Whether somebody routes by a netdev. Those of the kernel's own go with its addresses.
fn has_routes(
    rtnl: &mut Rtnl,
    netdev: &IfName,
    index: IfIndex,
    no_ipv6: bool,
) -> Result<bool, RtnlError> {
    for family in Family::of_kernel(!no_ipv6) {
        let mut message = RouteMessage::default();
        message.header.address_family = request::address_family(family);
        message.attributes = vec![RouteAttribute::Oif(index.get())];
        let what = format!("list the {family} routes by {netdev}");
        let found = rtnl.get(&what, RouteNetlinkMessage::GetRoute(message), true)?;
        let given = |message: &RouteNetlinkMessage| {
            matches!(message, RouteNetlinkMessage::NewRoute(route)
                if route.header.protocol != RouteProtocol::Kernel)
        };
        if found.iter().any(given) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The devices of the calling thread's network namespace, without addresses.
///
/// # Errors
/// [`RtnlError`] when the kernel refuses, or its answer can't be read.
pub fn links() -> Result<BTreeMap<IfName, Link>, RtnlError> {
    let mut rtnl = Rtnl::open()?;
    rtnl.strict()?;
    Ok(devices(&mut rtnl)?.links)
}

/// Every device.
pub(super) fn devices(rtnl: &mut Rtnl) -> Result<Devices, RtnlError> {
    let messages = link_messages(rtnl)?;
    let names: Names = messages
        .iter()
        .filter_map(|message| Some((message.header.index, decode::name(message)?)))
        .collect();
    let ageing = messages.iter().find_map(decode::ageing);
    let accept_ra_as_host = messages
        .iter()
        .filter(|it| advertised::accepts_ra_as_host(it));
    let accept_ra_as_host = accept_ra_as_host
        .map(|message| message.header.index)
        .collect();
    let links = messages
        .into_iter()
        .filter_map(|message| Some((decode::name(&message)?, decode::link(message, &names))));
    Ok(Devices {
        links: links.collect(),
        names,
        ageing,
        accept_ra_as_host,
    })
}

fn link_messages(rtnl: &mut Rtnl) -> Result<Vec<LinkMessage>, RtnlError> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    dump_links(rtnl, "list the links", message)
}

fn dump_links(
    rtnl: &mut Rtnl,
    what: &str,
    message: LinkMessage,
) -> Result<Vec<LinkMessage>, RtnlError> {
    let found = rtnl.get(what, RouteNetlinkMessage::GetLink(message), true)?;
    let links = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    });
    Ok(links.collect())
}

fn addresses(
    rtnl: &mut Rtnl,
    names: &Names,
    links: &mut BTreeMap<IfName, Link>,
) -> Result<(), RtnlError> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for found in rtnl.get("list the addresses", message, true)? {
        let RouteNetlinkMessage::NewAddress(found) = found else {
            continue;
        };
        let link = names
            .get(&found.header.index)
            .and_then(|name| links.get_mut(name));
        if let (Some(link), Some(address)) = (link, decode::address(&found)) {
            link.addresses.insert(address);
        }
    }
    Ok(())
}

fn vlans(
    rtnl: &mut Rtnl,
    names: &Names,
) -> Result<BTreeMap<IfName, BTreeMap<VlanId, VlanEntry>>, RtnlError> {
    let mut vlans: BTreeMap<IfName, BTreeMap<VlanId, VlanEntry>> = BTreeMap::new();
    for Vlans { device, entries } in rtnl.get_as("list the bridges' VLANs", GetVlans, true)? {
        if let Some(name) = names.get(&device) {
            vlans.entry(name.clone()).or_default().extend(entries);
        }
    }
    Ok(vlans)
}

fn vnis(
    rtnl: &mut Rtnl,
    names: &Names,
    links: &BTreeMap<IfName, Link>,
) -> Result<BTreeMap<IfName, BTreeSet<Vni>>, RtnlError> {
    let filters = |link: &Link| matches!(link.kind, LinkKind::Vxlan(vxlan) if vxlan.vnifilter);
    let mut vnis: BTreeMap<IfName, BTreeSet<Vni>> = links
        .iter()
        .filter(|(_, link)| filters(link))
        .map(|(name, _)| (name.clone(), BTreeSet::new()))
        .collect();
    if vnis.is_empty() {
        // A kernel in which nobody used VXLAN yet does not know the message.
        return Ok(vnis);
    }
    let all = TunnelMessage {
        verb: Verb::Get,
        device: None,
        vnis: Vec::new(),
    };
    for found in rtnl.get_as::<_, TunnelMessage>("list the VNI filters", all, true)? {
        let name = found.device.and_then(|index| names.get(&index.get()));
        let Some(admitted) = name.and_then(|name| vnis.get_mut(name)) else {
            continue;
        };
        for (start, end) in found.vnis {
            admitted.extend((start..=end).filter_map(|vni| Vni::try_from(vni).ok()));
        }
    }
    Ok(vnis)
}

/// Our unreachable default routes; the kernel filters by protocol and type.
fn routes(rtnl: &mut Rtnl, has_ipv6: bool) -> Result<BTreeSet<UnreachableDefault>, RtnlError> {
    let mut routes = BTreeSet::new();
    for family in Family::of_kernel(has_ipv6) {
        let mut message = RouteMessage::default();
        message.header.address_family = request::address_family(family);
        message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        message.header.kind = RouteType::Unreachable;
        let what = format!("list our {family} routes");
        for found in rtnl.get(&what, RouteNetlinkMessage::GetRoute(message), true)? {
            if let RouteNetlinkMessage::NewRoute(found) = found
                && let Some(table) = decode::unreachable_default(&found)
            {
                routes.insert(UnreachableDefault { table, family });
            }
        }
    }
    Ok(routes)
}
