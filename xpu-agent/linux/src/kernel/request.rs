//! Actions as netlink requests. Each is the message that `ip` or `bridge` would send; nothing is
//! decided here.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        AfSpecBridge, AfSpecInet6, AfSpecUnspec, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags,
        BridgeVlanTunnelInfo, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
        InfoPortData, InfoPortKind, InfoVlan, InfoVrf, InfoVxlan, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use nix::errno::Errno;
use xpu_model::{IfAddr, IfIndex, Mac};
use xpu_plan::{
    linux::{
        Family, FdbEntry, LinkKind, NewLink, UnreachableDefault, VlanRange, VniRange,
        link::{BridgeParams, PortFlags, VxlanParams},
    },
    ownership::{ROUTE_PROTOCOL, UNREACHABLE_METRIC},
};

use super::tunnel::{TunnelMessage, Verb};
use crate::sync::RtnlError;

/// What the agent sends.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Route(Box<RouteNetlinkMessage>),
    Tunnel(TunnelMessage),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(message) => message.message_type(),
            Self::Tunnel(message) => message.message_type(),
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(message) => NetlinkSerializable::buffer_len(message.as_ref()),
            Self::Tunnel(message) => message.buffer_len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(message) => message.serialize(buffer),
            Self::Tunnel(message) => message.serialize(buffer),
        }
    }
}

/// A message and its flags beside REQUEST and ACK.
pub(super) type Packet = (Message, u16);

fn route(message: RouteNetlinkMessage, flags: u16) -> Packet {
    (Message::Route(Box::new(message)), flags)
}

fn link(index: IfIndex, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    message.attributes = attributes;
    message
}

/// Changes attributes of a device (`RTM_SETLINK`).
pub(super) fn set(index: IfIndex, attributes: Vec<LinkAttribute>) -> Packet {
    route(RouteNetlinkMessage::SetLink(link(index, attributes)), 0)
}

/// Sets a device up or down, with attributes changed in the same message, before.
pub(super) fn set_up(index: IfIndex, up: bool, attributes: Vec<LinkAttribute>) -> Packet {
    let mut message = link(index, attributes);
    message.header.change_mask = LinkFlags::Up;
    if up {
        message.header.flags = LinkFlags::Up;
    }
    route(RouteNetlinkMessage::SetLink(message), 0)
}

/// Changes parameters of a device's kind, or of it as a port (`RTM_NEWLINK` of one that exists).
fn change(index: IfIndex, infos: Vec<LinkInfo>) -> Packet {
    route(
        RouteNetlinkMessage::NewLink(link(index, vec![LinkAttribute::LinkInfo(infos)])),
        0,
    )
}

pub(super) fn delete(index: IfIndex) -> Packet {
    route(RouteNetlinkMessage::DelLink(link(index, Vec::new())), 0)
}

/// Makes a device under an index that the caller chose. The kernel takes no alias and no address
/// generation mode in this message, so [`mark`] goes behind it in the same datagram. Both name
/// the device by that index: a foreign device that has taken the name meanwhile is not touched.
pub(super) fn create(
    new: &NewLink,
    index: IfIndex,
    parent: Option<IfIndex>,
    master: Option<IfIndex>,
) -> Option<Packet> {
    let info = match &new.kind {
        LinkKind::Bridge(params) => {
            vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(bridge(*params))),
            ]
        }
        LinkKind::Vxlan(params) => {
            vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vxlan(*params))),
            ]
        }
        LinkKind::Vrf(table) => {
            let data = vec![InfoVrf::TableId(table.get())];
            vec![
                LinkInfo::Kind(InfoKind::Vrf),
                LinkInfo::Data(InfoData::Vrf(data)),
            ]
        }
        LinkKind::Vlan { vlan, .. } => {
            let data = vec![InfoVlan::Id(vlan.get())];
            vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(data)),
            ]
        }
        LinkKind::Other(_) => return None,
    };
    let mut message = link(index, vec![LinkAttribute::IfName(new.name.to_string())]);
    if let Some(mtu) = new.mtu {
        let short = if is_bridge(new) {
            u32::from(mtu) - 1
        } else {
            u32::from(mtu)
        };
        message.attributes.push(LinkAttribute::Mtu(short));
    }
    if let Some(mac) = new.mac {
        message
            .attributes
            .push(LinkAttribute::Address(mac.octets().to_vec()));
    }
    if let Some(parent) = parent {
        message.attributes.push(LinkAttribute::Link(parent.get()));
    }
    if let Some(master) = master {
        message
            .attributes
            .push(LinkAttribute::Controller(master.get()));
    }
    message.attributes.push(LinkAttribute::LinkInfo(info));
    Some(route(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    ))
}

const fn is_bridge(new: &NewLink) -> bool {
    matches!(new.kind, LinkKind::Bridge(_))
}

/// Gives the device just made our mark. A bridge gets its MTU here: one that was never *changed*
/// is no setting, and the bridge follows the smallest of its ports instead
/// (`br_mtu_auto_adjust`).
pub(super) fn mark(new: &NewLink, index: IfIndex) -> Packet {
    let mut attributes = vec![LinkAttribute::IfAlias(new.mark.to_string())];
    if let Some(mtu) = new.mtu.filter(|_| is_bridge(new)) {
        attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
    }
    set(index, attributes)
}

/// Keeps a device from making an IPv6 link-local address. In a message of its own, for the kernel
/// refuses all of it where the device has no IPv6; see [`is_without_ipv6`].
pub(super) fn addr_gen_none(index: IfIndex) -> Packet {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    set(index, vec![spec])
}

/// Whether a refusal says that what it was about isn't there any more.
pub(super) fn is_gone(error: &RtnlError) -> bool {
    let gone = [
        Errno::ENODEV,
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::EADDRNOTAVAIL,
    ];
    error.errno().is_some_and(|errno| gone.contains(&errno))
}

/// Whether a refusal of [`addr_gen_none`] says that there is nothing to keep the device from.
pub(super) fn is_without_ipv6(message: &Message, errno: Errno) -> bool {
    let Message::Route(message) = message else {
        return false;
    };
    let RouteNetlinkMessage::SetLink(message) = message.as_ref() else {
        return false;
    };
    errno == Errno::EAFNOSUPPORT
        && matches!(
            message.attributes.as_slice(),
            [LinkAttribute::AfSpecUnspec(_)]
        )
}

fn bridge(params: BridgeParams) -> Vec<InfoBridge> {
    let BridgeParams {
        vlan_filtering,
        default_pvid,
        mcast_snooping,
    } = params;
    vec![
        InfoBridge::VlanFiltering(vlan_filtering),
        InfoBridge::VlanDefaultPvid(default_pvid),
        InfoBridge::MulticastSnooping(mcast_snooping),
    ]
}

fn vxlan(params: VxlanParams) -> Vec<InfoVxlan> {
    let VxlanParams {
        local,
        port,
        external,
        vnifilter,
        learning,
    } = params;
    let mut data = vec![
        InfoVxlan::CollectMetadata(external),
        InfoVxlan::Vnifilter(vnifilter),
        InfoVxlan::Learning(learning),
        InfoVxlan::Port(port),
    ];
    match local {
        Some(IpAddr::V4(address)) => data.push(InfoVxlan::Local(address)),
        Some(IpAddr::V6(address)) => data.push(InfoVxlan::Local6(address)),
        None => {}
    }
    data
}

pub(super) fn set_bridge(index: IfIndex, params: BridgeParams) -> Packet {
    let data = InfoData::Bridge(bridge(params));
    change(
        index,
        vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)],
    )
}

pub(super) fn set_port(index: IfIndex, flags: PortFlags) -> Packet {
    let PortFlags {
        vlan_tunnel,
        learning,
        neigh_suppress,
    } = flags;
    let data = InfoPortData::BridgePort(vec![
        InfoBridgePort::VlanTunnel(vlan_tunnel),
        InfoBridgePort::Learning(learning),
        InfoBridgePort::NeighSupress(neigh_suppress),
    ]);
    change(
        index,
        vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(data),
        ],
    )
}

/// Adds or removes VLANs of a bridge (`itself`) or of a port.
pub(super) fn vlans(
    index: IfIndex,
    itself: bool,
    vlans: VlanRange,
    pvid: bool,
    add: bool,
) -> Packet {
    let mut flags = BridgeVlanInfoFlags::empty();
    if pvid {
        flags |= BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    }
    let info = |vlan: u32, range| {
        let vid = u16::try_from(vlan).unwrap_or(0);
        AfSpecBridge::VlanInfo(BridgeVlanInfo {
            flags: flags | range,
            vid,
        })
    };
    let mut specs = if itself {
        vec![AfSpecBridge::Flags(BridgeFlag::LowerDev)]
    } else {
        Vec::new()
    };
    if vlans.is_one() {
        specs.push(info(vlans.first(), BridgeVlanInfoFlags::empty()));
    } else {
        specs.push(info(vlans.first(), BridgeVlanInfoFlags::RangeBegin));
        specs.push(info(vlans.last(), BridgeVlanInfoFlags::RangeEnd));
    }
    bridge_link(index, specs, add)
}

/// Maps VLANs to VNIs, or unmaps them; to unmap, the kernel wants a range of VNIs as long as
/// that of the VLANs and does not look at it further.
pub(super) fn tunnels(index: IfIndex, vlans: VlanRange, vnis: Option<VniRange>) -> Packet {
    let ids = vnis.map_or((vlans.first(), vlans.last()), |vnis| {
        (vnis.first(), vnis.last())
    });
    let info = |vlan: u32, id, flags| {
        let vid = u16::try_from(vlan).unwrap_or(0);
        AfSpecBridge::VlanTunnelInfo(vec![
            BridgeVlanTunnelInfo::Id(id),
            BridgeVlanTunnelInfo::Vid(vid),
            BridgeVlanTunnelInfo::Flags(flags),
        ])
    };
    let specs = if vlans.is_one() {
        vec![info(vlans.first(), ids.0, BridgeVlanInfoFlags::empty())]
    } else {
        vec![
            info(vlans.first(), ids.0, BridgeVlanInfoFlags::RangeBegin),
            info(vlans.last(), ids.1, BridgeVlanInfoFlags::RangeEnd),
        ]
    };
    bridge_link(index, specs, vnis.is_some())
}

fn bridge_link(index: IfIndex, specs: Vec<AfSpecBridge>, add: bool) -> Packet {
    let mut message = link(index, vec![LinkAttribute::AfSpecBridge(specs)]);
    message.header.interface_family = AddressFamily::Bridge;
    let message = if add {
        RouteNetlinkMessage::SetLink(message)
    } else {
        RouteNetlinkMessage::DelLink(message)
    };
    route(message, 0)
}

pub(super) fn vnis(index: IfIndex, vnis: VniRange, verb: Verb) -> Packet {
    let vnis = vec![(vnis.first(), vnis.last())];
    (
        Message::Tunnel(TunnelMessage {
            verb,
            device: Some(index),
            vnis,
        }),
        0,
    )
}

pub(super) fn address(index: IfIndex, addr: IfAddr, add: bool) -> Packet {
    let mut message = AddressMessage::default();
    message.header.index = index.get();
    message.header.prefix_len = addr.len();
    message
        .attributes
        .push(AddressAttribute::Local(addr.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(addr.addr()));
    match addr.addr() {
        IpAddr::V4(_) => message.header.family = AddressFamily::Inet,
        IpAddr::V6(v6) => {
            message.header.family = AddressFamily::Inet6;
            // Gateways are anycast: duplicate address detection would find the other nodes.
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            if v6.is_unicast_link_local() {
                message.header.scope = AddressScope::Link;
            }
        }
    }
    if add {
        route(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    } else {
        route(RouteNetlinkMessage::DelAddress(message), 0)
    }
}

/// The static entry that makes frames to a gateway the node's own.
pub(super) fn fdb(bridge: IfIndex, entry: FdbEntry, add: bool) -> Packet {
    let FdbEntry { vlan, mac } = entry;
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = bridge.get();
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(Mac::octets(mac).to_vec()),
        NeighbourAttribute::Vlan(vlan.get()),
    ];
    if add {
        route(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    } else {
        route(RouteNetlinkMessage::DelNeighbour(message), 0)
    }
}

pub(super) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The default route that keeps a Vrf's packets from falling through into other tables.
pub(super) fn unreachable(default: UnreachableDefault, add: bool) -> Packet {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(default.family);
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unreachable;
    message.attributes = vec![
        RouteAttribute::Table(default.table.get()),
        RouteAttribute::Priority(UNREACHABLE_METRIC),
    ];
    if add {
        route(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    } else {
        route(RouteNetlinkMessage::DelRoute(message), 0)
    }
}
