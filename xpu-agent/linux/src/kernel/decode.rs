//! The kernel's messages of devices, addresses and routes as the planner's types. Pure: nothing is
//! asked here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use netlink_packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort,
        InfoData, InfoKind, InfoPortData, InfoVlan, InfoVrf, InfoVxlan, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use xpu_model::{IfAddr, IfName, Mac, TableId, VlanId};
use xpu_plan::{
    linux::{
        Link, LinkKind, Setting,
        link::{BridgeParams, PortFlags, Settings, VxlanParams},
    },
    ownership::{ROUTE_PROTOCOL, TENANT_BRIDGE, UNREACHABLE_METRIC},
};

/// Device names by index; a name that [`IfName`] refuses belongs to nobody we know.
pub(super) type Names = BTreeMap<u32, IfName>;

/// Its name, if it is one that a device of ours, or a port, could have.
pub(super) fn name(message: &LinkMessage) -> Option<IfName> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => name.parse().ok(),
            _ => None,
        })
}

/// A device, without its addresses.
pub(super) fn link(message: LinkMessage, names: &Names) -> Link {
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
                        link.settings
                            .insert(Setting::PromoteSecondaries, conf.promote_secondaries);
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

/// How long the tenant bridge, if that is what the message is of, keeps what it does not hear; the
/// kernel tells it in hundredths of a second.
pub(super) fn ageing(message: &LinkMessage) -> Option<Duration> {
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

/// An address, if it is a unicast one.
pub(super) fn address(message: &AddressMessage) -> Option<IfAddr> {
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

/// The table of an unreachable default route of ours.
pub(super) fn unreachable_default(message: &RouteMessage) -> Option<TableId> {
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
