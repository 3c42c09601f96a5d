//! Actions as netlink requests. Each is the message that `ip` or `bridge` would send; nothing is
//! decided here. `rtnetlink`'s builders make them; its connection sends one message at a time and
//! waits for each answer, so that is [`crate::sync`]'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        AfSpecBridge, AfSpecInet6, AfSpecUnspec, BridgeVlanInfoFlags, BridgeVlanTunnelInfo,
        In6AddrGenMode, InfoKind, LinkAttribute, LinkMessage,
    },
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteMessage, RouteProtocol, RouteType},
};
use nix::errno::Errno;
use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkBridgeVlan, LinkMessageBuilder, LinkUnspec, LinkVlan, LinkVrf,
    LinkVxlan, RouteMessageBuilder,
};
use xpu_model::{IfAddr, IfIndex, Mac, TableId};
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

/// Whether something is added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// What becomes of VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VlanChange {
    /// Added, or changed to tagged.
    Add,
    /// Added, or changed to the one that untagged frames belong to.
    AddPvid,
    Remove,
}

/// Whose VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VlansOf {
    /// The bridge's own (`bridge vlan … self`).
    BridgeItself,
    /// A port's.
    Port,
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

/// Sets a device up.
pub(super) fn set_up(index: IfIndex) -> Packet {
    let message = LinkUnspec::new_with_index(index.get()).up().build();
    route(RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets a device down, with attributes changed in the same message, before.
pub(super) fn set_down(index: IfIndex, attributes: Vec<LinkAttribute>) -> Packet {
    let mut message = LinkUnspec::new_with_index(index.get()).down().build();
    message.attributes = attributes;
    route(RouteNetlinkMessage::SetLink(message), 0)
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
    let name = new.name.as_str();
    let message = match &new.kind {
        LinkKind::Bridge(params) => {
            let kind = LinkMessageBuilder::<LinkBridge>::new(name);
            placed(bridge(kind, *params), new, index, parent, master)
        }
        LinkKind::Vxlan(params) => {
            let kind = LinkMessageBuilder::<LinkVxlan>::new(name);
            placed(vxlan(kind, *params), new, index, parent, master)
        }
        LinkKind::Vrf(table) => {
            let kind = LinkMessageBuilder::<LinkVrf>::new(name).table_id(table.get());
            placed(kind, new, index, parent, master)
        }
        LinkKind::Vlan { vlan, .. } => {
            let kind = LinkMessageBuilder::<LinkVlan>::new(name).id(vlan.get());
            placed(kind, new, index, parent, master)
        }
        LinkKind::Other(_) => return None,
    };
    let message = RouteNetlinkMessage::NewLink(message);
    Some(route(message, NLM_F_CREATE | NLM_F_EXCL))
}

/// The attributes that a device of any kind is created with.
fn placed<K>(
    kind: LinkMessageBuilder<K>,
    new: &NewLink,
    index: IfIndex,
    parent: Option<IfIndex>,
    master: Option<IfIndex>,
) -> LinkMessage {
    let mut message = kind.index(index.get());
    if let Some(mtu) = new.mtu.map(u32::from) {
        // See `mark`: this one is there to be changed.
        message = message.mtu(if is_bridge(new) { mtu - 1 } else { mtu });
    }
    if let Some(mac) = new.mac {
        message = message.address(mac.octets().to_vec());
    }
    if let Some(parent) = parent {
        message = message.link(parent.get());
    }
    if let Some(master) = master {
        message = message.controller(master.get());
    }
    message.build()
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

fn bridge(
    kind: LinkMessageBuilder<LinkBridge>,
    params: BridgeParams,
) -> LinkMessageBuilder<LinkBridge> {
    let BridgeParams {
        vlan_filtering,
        default_pvid,
        mcast_snooping,
    } = params;
    kind.vlan_filtering(vlan_filtering)
        .vlan_default_pvid(default_pvid)
        .mcast_snooping(mcast_snooping)
}

fn vxlan(
    kind: LinkMessageBuilder<LinkVxlan>,
    params: VxlanParams,
) -> LinkMessageBuilder<LinkVxlan> {
    let VxlanParams {
        local,
        port,
        external,
        vnifilter,
        learning,
    } = params;
    let kind = kind
        .collect_metadata(external)
        .vnifilter(vnifilter)
        .learning(learning)
        .port(port);
    match local {
        Some(IpAddr::V4(address)) => kind.local(address),
        Some(IpAddr::V6(address)) => kind.local6(address),
        None => kind,
    }
}

/// Changes parameters of a bridge (`RTM_NEWLINK` of one that exists).
pub(super) fn set_bridge(index: IfIndex, params: BridgeParams) -> Packet {
    let kind = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge);
    let message = bridge(kind, params).index(index.get()).build();
    route(RouteNetlinkMessage::NewLink(message), 0)
}

/// Changes what a bridge does at a port (`RTM_NEWLINK` of one that exists).
pub(super) fn set_port(index: IfIndex, flags: PortFlags) -> Packet {
    let PortFlags {
        vlan_tunnel,
        learning,
        neigh_suppress,
    } = flags;
    let message = LinkBridgePort::new(index.get())
        .vlan_tunnel(vlan_tunnel)
        .learning(learning)
        .neigh_suppress(neigh_suppress)
        .build();
    route(RouteNetlinkMessage::NewLink(message), 0)
}

/// Adds or removes VLANs of a bridge or of a port.
pub(super) fn vlans(index: IfIndex, of: VlansOf, vlans: VlanRange, change: VlanChange) -> Packet {
    let (flags, change) = match change {
        VlanChange::Add => (BridgeVlanInfoFlags::empty(), Change::Add),
        VlanChange::AddPvid => (
            BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
            Change::Add,
        ),
        VlanChange::Remove => (BridgeVlanInfoFlags::empty(), Change::Remove),
    };
    let vid = |vlan: u32| u16::try_from(vlan).unwrap_or(0);
    let mut message = LinkBridgeVlan::new(index.get());
    if of == VlansOf::BridgeItself {
        message = message.bridge_self();
    }
    message = if vlans.is_one() {
        message.vlan(vid(vlans.first()), flags)
    } else {
        message
            .vlan_range_start(vid(vlans.first()), flags)
            .vlan_range_end(vid(vlans.last()), flags)
    };
    bridge_vlans(message, change)
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
    let message = LinkBridgeVlan::new(index.get());
    let message = if vlans.is_one() {
        message.append_af_spec(info(vlans.first(), ids.0, BridgeVlanInfoFlags::empty()))
    } else {
        message
            .append_af_spec(info(vlans.first(), ids.0, BridgeVlanInfoFlags::RangeBegin))
            .append_af_spec(info(vlans.last(), ids.1, BridgeVlanInfoFlags::RangeEnd))
    };
    let change = match vnis {
        Some(_) => Change::Add,
        None => Change::Remove,
    };
    bridge_vlans(message, change)
}

fn bridge_vlans(message: LinkMessageBuilder<LinkBridgeVlan>, change: Change) -> Packet {
    let message = message.build();
    let message = match change {
        Change::Add => RouteNetlinkMessage::SetLink(message),
        Change::Remove => RouteNetlinkMessage::DelLink(message),
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

pub(super) fn address(index: IfIndex, addr: IfAddr, change: Change) -> Packet {
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
    match change {
        Change::Add => route(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
        Change::Remove => route(RouteNetlinkMessage::DelAddress(message), 0),
    }
}

/// The static entry that makes frames to a gateway the node's own.
pub(super) fn fdb(bridge: IfIndex, entry: FdbEntry, change: Change) -> Packet {
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
    match change {
        Change::Add => route(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
        Change::Remove => route(RouteNetlinkMessage::DelNeighbour(message), 0),
    }
}

pub(super) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The default route that keeps a Vrf's packets from falling through into other tables.
pub(super) fn unreachable(default: UnreachableDefault, change: Change) -> Packet {
    let UnreachableDefault { table, family } = default;
    let message = match family {
        Family::V4 => no_route(RouteMessageBuilder::<Ipv4Addr>::new(), table),
        Family::V6 => no_route(RouteMessageBuilder::<Ipv6Addr>::new(), table),
    };
    match change {
        Change::Add => route(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
        Change::Remove => route(RouteNetlinkMessage::DelRoute(message), 0),
    }
}

fn no_route<A>(route: RouteMessageBuilder<A>, table: TableId) -> RouteMessage {
    route
        .table_id(table.get())
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL))
        .kind(RouteType::Unreachable)
        .priority(UNREACHABLE_METRIC)
        .build()
}
