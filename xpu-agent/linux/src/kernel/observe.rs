//! Reading the kernel into [`Observed`]. One dump each of links, bridge VLANs, VNIs, addresses
//! and our routes; FDB entries are [`super::fdb`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Duration,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort,
        InfoData, InfoKind, InfoPortData, InfoVlan, InfoVrf, InfoVxlan, LinkAttribute,
        LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    },
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use xpu_model::{IfAddr, IfIndex, IfName, Mac, TableId, VlanId, Vni};
use xpu_plan::{
    linux::{
        Family, Link, LinkKind, Observed, Probes, Setting, UnreachableDefault,
        link::{BridgeParams, PortFlags, Settings, VlanEntry, VxlanParams},
    },
    ownership::{ROUTE_PROTOCOL, TENANT_BRIDGE, UNREACHABLE_METRIC, tenant_bridge},
};

use super::{
    Indexes, advertised,
    fdb::{self, Known},
    request, rules, sysctl,
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

/// Device names by index; a name that [`IfName`] refuses belongs to nobody we know.
pub(super) type Names = BTreeMap<u32, IfName>;

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
    let (mut local_moved, mut rules_in_way) = (BTreeSet::new(), BTreeMap::new());
    for family in families(has_ipv6) {
        if sysctl::is_forwarded(family).map_err(ObserveError::Settings)? {
            forwarding.insert(family);
        }
        let order = rules::order(rtnl, family)?;
        if order.is_vrf_first {
            vrf_first.insert(family);
        }
        if order.is_local_moved {
            local_moved.insert(family);
        }
        if let Some(rule) = order.in_the_way {
            rules_in_way.insert(family, rule);
        }
    }
    Ok(Observed {
        vlans: vlans(rtnl, &names)?,
        vnis: vnis(rtnl, &names, &links)?,
        routes: routes(rtnl, has_ipv6)?,
        fdb: BTreeSet::new(),
        links,
        forwarding,
        vrf_first,
        local_moved,
        rules_in_way,
        no_ipv6: !has_ipv6,
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
    for family in families(!no_ipv6) {
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

/// The families that the kernel has. It answers about one that it lacks with all of them.
fn families(has_ipv6: bool) -> impl Iterator<Item = Family> {
    let has = move |family: &Family| *family == Family::V4 || has_ipv6;
    Family::ALL.into_iter().filter(has)
}

/// Every device.
pub(super) fn devices(rtnl: &mut Rtnl) -> Result<Devices, RtnlError> {
    let messages = links(rtnl)?;
    let names: Names = messages
        .iter()
        .filter_map(|message| Some((message.header.index, name(message)?)))
        .collect();
    let ageing = messages.iter().find_map(ageing);
    let accept_ra_as_host = messages
        .iter()
        .filter(|it| advertised::accepts_ra_as_host(it));
    let accept_ra_as_host = accept_ra_as_host
        .map(|message| message.header.index)
        .collect();
    let links = messages
        .into_iter()
        .filter_map(|message| Some((name(&message)?, link(message, &names))));
    Ok(Devices {
        links: links.collect(),
        names,
        ageing,
        accept_ra_as_host,
    })
}

/// How long the tenant bridge, if that is what the message is of, keeps what it does not hear; the
/// kernel tells it in hundredths of a second.
fn ageing(message: &LinkMessage) -> Option<Duration> {
    if name(message)?.as_str() != TENANT_BRIDGE {
        return None;
    }
    let infos = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })?;
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(parameters)) => {
            parameters.iter().find_map(|parameter| match parameter {
                InfoBridge::AgeingTime(time) => Some(Duration::from_millis(u64::from(*time) * 10)),
                _ => None,
            })
        }
        _ => None,
    })
}

fn links(rtnl: &mut Rtnl) -> Result<Vec<LinkMessage>, RtnlError> {
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

fn name(message: &LinkMessage) -> Option<IfName> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => name.parse().ok(),
            _ => None,
        })
}

fn link(message: LinkMessage, names: &Names) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        kind: LinkKind::Other(String::new()),
        mark: None,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        master: None,
        port: None,
        // Without IPv6 there is nothing to say, and nothing made.
        addr_gen_none: true,
        settings: Settings::new(),
        addresses: BTreeSet::new(),
    };
    let (mut parent, mut infos) = (None, Vec::new());
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => link.mark = alias.parse().ok(),
            LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.master = names.get(&index).cloned(),
            LinkAttribute::Link(index) => parent = names.get(&index).cloned(),
            LinkAttribute::LinkInfo(found) => infos = found,
            LinkAttribute::AfSpecUnspec(specs) => settings(&specs, &mut link),
            _ => {}
        }
    }
    for info in &infos {
        match info {
            LinkInfo::Kind(kind) if matches!(link.kind, LinkKind::Other(_)) => {
                link.kind = LinkKind::Other(kind.to_string());
            }
            LinkInfo::Data(data) => {
                link.kind = kind(&infos, data, parent.clone());
            }
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                link.port = Some(port_flags(port));
            }
            _ => {}
        }
    }
    link
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes)
        .ok()
        .and_then(|octets| Mac::try_from(octets).ok())
}

fn kind(infos: &[LinkInfo], data: &InfoData, parent: Option<IfName>) -> LinkKind {
    let other = || {
        let name = infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(InfoKind::to_string(kind)),
            _ => None,
        });
        LinkKind::Other(name.unwrap_or_default())
    };
    match data {
        InfoData::Bridge(parameters) => LinkKind::Bridge(bridge(parameters)),
        InfoData::Vxlan(parameters) => LinkKind::Vxlan(vxlan(parameters)),
        InfoData::Vrf(parameters) => {
            let table = parameters.iter().find_map(|parameter| match parameter {
                InfoVrf::TableId(table) => TableId::try_from(*table).ok(),
                _ => None,
            });
            table.map_or_else(other, LinkKind::Vrf)
        }
        InfoData::Vlan(parameters) => {
            let vlan = parameters.iter().find_map(|parameter| match parameter {
                InfoVlan::Id(vlan) => VlanId::try_from(u32::from(*vlan)).ok(),
                _ => None,
            });
            vlan.map_or_else(other, |vlan| LinkKind::Vlan { parent, vlan })
        }
        _ => other(),
    }
}

fn bridge(parameters: &[InfoBridge]) -> BridgeParams {
    // What the kernel does not say is what it does by default.
    let mut bridge = BridgeParams {
        vlan_filtering: false,
        default_pvid: 1,
        mcast_snooping: true,
    };
    for parameter in parameters {
        match parameter {
            InfoBridge::VlanFiltering(on) => bridge.vlan_filtering = *on,
            InfoBridge::VlanDefaultPvid(vlan) => bridge.default_pvid = *vlan,
            InfoBridge::MulticastSnooping(on) => bridge.mcast_snooping = *on,
            _ => {}
        }
    }
    bridge
}

fn vxlan(parameters: &[InfoVxlan]) -> VxlanParams {
    let mut vxlan = VxlanParams {
        local: None,
        port: 0,
        external: false,
        vnifilter: false,
        learning: false,
    };
    for parameter in parameters {
        match parameter {
            InfoVxlan::Local(address) if !address.is_unspecified() => {
                vxlan.local = Some(IpAddr::V4(*address));
            }
            InfoVxlan::Local6(address) if !address.is_unspecified() => {
                vxlan.local = Some(IpAddr::V6(*address));
            }
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::CollectMetadata(on) => vxlan.external = *on,
            InfoVxlan::Vnifilter(on) => vxlan.vnifilter = *on,
            InfoVxlan::Learning(on) => vxlan.learning = *on,
            _ => {}
        }
    }
    vxlan
}

fn port_flags(parameters: &[InfoBridgePort]) -> PortFlags {
    let mut flags = PortFlags {
        vlan_tunnel: false,
        learning: false,
        neigh_suppress: false,
    };
    for parameter in parameters {
        match parameter {
            InfoBridgePort::VlanTunnel(on) => flags.vlan_tunnel = *on,
            InfoBridgePort::Learning(on) => flags.learning = *on,
            InfoBridgePort::NeighSupress(on) => flags.neigh_suppress = *on,
            _ => {}
        }
    }
    flags
}

/// The settings come with the link, as the arrays behind `/proc/sys/net/…/conf`.
fn settings(specs: &[AfSpecUnspec], link: &mut Link) {
    for spec in specs {
        match spec {
            AfSpecUnspec::Inet(inet) => {
                for part in inet {
                    if let AfSpecInet::DevConf(conf) = part {
                        link.settings.insert(Setting::ArpAccept, conf.arp_accept);
                        link.settings.insert(Setting::RpFilter, conf.rp_filter);
                    }
                }
            }
            AfSpecUnspec::Inet6(inet6) => {
                for part in inet6 {
                    match part {
                        AfSpecInet6::DevConf(conf) => {
                            link.settings
                                .insert(Setting::DisableIpv6, conf.disable_ipv6);
                            link.settings
                                .insert(Setting::AcceptUntrackedNa, conf.accept_untracked_na);
                            link.settings.insert(Setting::AcceptRa, conf.accept_ra);
                        }
                        AfSpecInet6::AddrGenMode(mode) => {
                            link.addr_gen_none = *mode == In6AddrGenMode::None;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
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
        if let (Some(link), Some(address)) = (link, address(&found)) {
            link.addresses.insert(address);
        }
    }
    Ok(())
}

fn address(message: &AddressMessage) -> Option<IfAddr> {
    // IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, else the same.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    let address = || {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    };
    IfAddr::new(
        local.or_else(address)?,
        i64::from(message.header.prefix_len),
    )
    .ok()
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
    for family in families(has_ipv6) {
        let mut message = RouteMessage::default();
        message.header.address_family = request::address_family(family);
        message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        message.header.kind = RouteType::Unreachable;
        let what = format!("list our {family} routes");
        for found in rtnl.get(&what, RouteNetlinkMessage::GetRoute(message), true)? {
            if let RouteNetlinkMessage::NewRoute(found) = found
                && let Some(table) = unreachable_default(&found)
            {
                routes.insert(UnreachableDefault { table, family });
            }
        }
    }
    Ok(routes)
}

fn unreachable_default(message: &RouteMessage) -> Option<TableId> {
    let header = &message.header;
    let ours = header.protocol == RouteProtocol::from(ROUTE_PROTOCOL)
        && header.kind == RouteType::Unreachable
        && header.destination_prefix_length == 0;
    let metric = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    (ours && metric == Some(UNREACHABLE_METRIC))
        .then(|| TableId::try_from(table.unwrap_or_else(|| u32::from(header.table))).ok())
        .flatten()
}
