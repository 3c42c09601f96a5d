//! Links: what the kernel says of them, and the one message that moves a device to
//! another namespace with its new name, MTU and MAC and brings it up.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable,
    NetlinkHeader,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, LinkMode, LinkXdp, Prop},
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use super::socket::{Request, Rtnl, RtnlError};

/// What the plugin wants to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index, in the namespace it was read in.
    pub index: IfIndex,
    /// Its name; the kernel allows more than [`IfName`] does. What is no UTF-8 comes as replacement
    /// characters.
    pub name: String,
    /// Alternative names (altnames): to the kernel any bytes, by which alone it finds them again.
    pub alt_names: Vec<OsString>,
    /// Its Ethernet address; `None` for links that have none, or a zero one.
    pub mac: Option<Mac>,
    /// Bytes of payload per frame.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its other flags that can be set.
    pub flags: SetFlags,
    /// Carrier.
    pub lower_up: bool,
    /// Packets that its queue takes; `None`: not known.
    pub txqlen: Option<u32>,
    /// The group of devices that it is in; `None`: not known.
    pub group: Option<u32>,
    /// `ifalias`.
    pub alias: Option<String>,
    /// The bus address of the device behind it (`IFLA_PARENT_DEV_NAME`), which for a
    /// VF is its PCI address. Unlike the name, no pod can change it.
    pub parent: Option<String>,
    /// The device of the same namespace that it stands on, as a VLAN or a macvlan does.
    pub lower: Option<IfIndex>,
    /// The XDP programs on it.
    pub xdp: XdpModes,
}

/// Where XDP programs are attached to a link: the kernel's generic code, its driver, its hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpModes(u32);

impl XdpModes {
    /// By the attribute that tells the program, the flag of `linux/if_link.h` that stands for where it
    /// is.
    const BY_PROGRAM: [(u16, u32); 3] = [
        (IFLA_XDP_DRV_PROG_ID, XDP_FLAGS_DRV_MODE),
        (IFLA_XDP_SKB_PROG_ID, XDP_FLAGS_SKB_MODE),
        (IFLA_XDP_HW_PROG_ID, XDP_FLAGS_HW_MODE),
    ];

    fn read(nested: &[u8]) -> Self {
        let programs = attributes(nested).filter_map(|(kind, _)| {
            let mut known = Self::BY_PROGRAM.iter();
            known.find_map(|(program, flag)| (*program == kind).then_some(flag))
        });
        Self(programs.fold(0, |modes, flag| modes | flag))
    }

    fn flags(self) -> impl Iterator<Item = u32> {
        let all = Self::BY_PROGRAM.into_iter().map(|(_, flag)| flag);
        all.filter(move |flag| self.0 & flag != 0)
    }
}

/// The flags of a link, besides `UP`, that whoever configures it can set (`__dev_change_flags()`,
/// net/core/dev.c), by their numbers in `linux/if.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetFlags(LinkFlags);

impl SetFlags {
    const ALL: LinkFlags = LinkFlags::Debug
        .union(LinkFlags::Notrailers)
        .union(LinkFlags::Noarp)
        .union(LinkFlags::Promisc)
        .union(LinkFlags::Allmulti)
        .union(LinkFlags::Multicast)
        .union(LinkFlags::Portsel)
        .union(LinkFlags::Automedia)
        .union(LinkFlags::Dynamic);

    /// Those that an Ethernet device has from the start (`ether_setup()`).
    pub const ETHERNET: Self = Self(LinkFlags::Multicast);

    /// Those among all flags of a link.
    #[must_use]
    pub const fn among(bits: u32) -> Self {
        Self(LinkFlags::from_bits_retain(bits).intersection(Self::ALL))
    }

    /// As a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0.bits()
    }
}

/// A link in the kernel's own layout. The general decoder refuses a whole message for one name that
/// is no UTF-8, and such a name is anybody's to give who owns the link.
#[derive(Debug)]
pub(super) struct RawLinkMessage(pub Option<LinkFacts>);

impl NetlinkDeserializable for RawLinkMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        const RTM_NEWLINK: u16 = 16;
        let is_link = header.message_type == RTM_NEWLINK;
        Ok(Self(is_link.then(|| LinkFacts::read(payload)).flatten()))
    }
}

// Of `linux/if_link.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_HW_MODE: u32 = 1 << 3;

impl LinkFacts {
    /// Reads a `struct ifinfomsg` and the attributes behind it.
    fn read(payload: &[u8]) -> Option<Self> {
        const HEADER: usize = 16;
        let number = |bytes: &[u8]| bytes.first_chunk().copied().map(u32::from_ne_bytes);
        let text = |bytes: &[u8]| String::from_utf8_lossy(until_nul(bytes)).into_owned();
        let flags = number(payload.get(8..HEADER)?)?;
        let has = |flag| LinkFlags::from_bits_retain(flags).contains(flag);
        let mut facts = Self {
            index: IfIndex::new(number(payload.get(4..HEADER)?)?)?,
            name: String::new(),
            alt_names: Vec::new(),
            mac: None,
            mtu: 0,
            up: has(LinkFlags::Up),
            flags: SetFlags::among(flags),
            lower_up: has(LinkFlags::LowerUp),
            txqlen: None,
            group: None,
            alias: None,
            parent: None,
            lower: None,
            xdp: XdpModes::default(),
        };
        let mut lower_is_elsewhere = false;
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                IFLA_ADDRESS => {
                    let octets = <[u8; 6]>::try_from(value).ok();
                    facts.mac = octets.and_then(|octets| Mac::try_from(octets).ok());
                }
                IFLA_IFNAME => facts.name = text(value),
                IFLA_MTU => facts.mtu = number(value)?,
                IFLA_TXQLEN => facts.txqlen = number(value),
                IFLA_IFALIAS => facts.alias = Some(text(value)),
                IFLA_GROUP => facts.group = number(value),
                IFLA_PROP_LIST => {
                    let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                    let names = names.map(|(_, name)| OsString::from_vec(until_nul(name).to_vec()));
                    facts.alt_names.extend(names);
                }
                IFLA_PARENT_DEV_NAME => facts.parent = Some(text(value)),
                IFLA_LINK => facts.lower = number(value).and_then(IfIndex::new),
                IFLA_LINK_NETNSID => lower_is_elsewhere = true,
                IFLA_XDP => facts.xdp = XdpModes::read(value),
                _ => {}
            }
        }
        // An index of another namespace says nothing here.
        if lower_is_elsewhere {
            facts.lower = None;
        }
        Some(facts)
    }
}

/// Attributes by their types. What is cut off ends them.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const TYPE_MASK: u16 = 0x3fff;

    std::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Every link of the socket's namespace. Takes RTNL: for a pod's few links, not for
/// a host's many.
///
/// # Errors
/// The kernel's refusal.
pub fn links(rtnl: &mut Rtnl) -> Result<Vec<LinkFacts>, RtnlError> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let message = RouteNetlinkMessage::GetLink(message);
    let found = rtnl.get_as::<_, RawLinkMessage>("list the links", message, true)?;
    Ok(found.into_iter().filter_map(|message| message.0).collect())
}

/// One link. Takes RTNL, and makes the kernel look at the link's carrier at once (since 6.8), which
/// it does by itself once a second for all links; before that a link with carrier may not send yet,
/// and a bridge doesn't forward for it (`net/core/link_watch.c`).
///
/// # Errors
/// The kernel's refusal, as where there is no such link.
pub fn one(rtnl: &mut Rtnl, index: IfIndex) -> Result<Option<LinkFacts>, RtnlError> {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    let mask = vec![LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    let what = format!("look at link {index}");
    let message = RouteNetlinkMessage::GetLink(message);
    let found = rtnl.get_as::<_, RawLinkMessage>(&what, message, false)?;
    Ok(found.into_iter().find_map(|message| message.0))
}

/// The alternative names of one link. Takes RTNL.
///
/// # Errors
/// The kernel's refusal, as where there is no such link.
pub fn alt_names(rtnl: &mut Rtnl, index: IfIndex) -> Result<Vec<OsString>, RtnlError> {
    Ok(one(rtnl, index)?
        .map(|facts| facts.alt_names)
        .unwrap_or_default())
}

/// A change to one link, sent as one message: the kernel works through it in the
/// order namespace, MAC, MTU, group, name, alias, broadcast address, flags with up or down, queue,
/// link mode (`do_setlink()`).
#[derive(Debug)]
pub struct Change<'a> {
    /// The link, by its index where it is now.
    pub index: IfIndex,
    /// Its new namespace.
    pub netns: Option<BorrowedFd<'a>>,
    /// Its new name.
    pub name: Option<&'a IfName>,
    /// Its new address.
    pub mac: Option<Mac>,
    /// Its new MTU.
    pub mtu: Option<Mtu>,
    /// Its new alias; an empty one takes it away.
    pub alias: Option<&'a str>,
    /// Up or down.
    pub up: Option<bool>,
    /// Its other flags that can be set: these, and none beside them.
    pub flags: Option<SetFlags>,
    /// Packets that its queue takes.
    pub txqlen: Option<u32>,
    /// The group of devices that it is in.
    pub group: Option<u32>,
    /// Broadcast address and link mode (whether it may be operational) as every Ethernet device has
    /// them from the start.
    pub plain: bool,
}

impl<'a> Change<'a> {
    /// No change to `index`.
    #[must_use]
    pub fn of(index: IfIndex) -> Self {
        Self {
            index,
            netns: None,
            name: None,
            mac: None,
            mtu: None,
            alias: None,
            up: None,
            flags: None,
            txqlen: None,
            group: None,
            plain: false,
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            index: _,
            netns,
            name,
            mac,
            mtu,
            alias,
            up,
            flags,
            txqlen,
            group,
            plain,
        } = self;
        let same = netns.is_none() && name.is_none() && alias.is_none();
        let same = same && mac.is_none() && mtu.is_none() && up.is_none();
        same && flags.is_none() && txqlen.is_none() && group.is_none() && !plain
    }

    /// The message. `RTM_NEWLINK` with an index is a change of an existing link.
    #[must_use]
    pub fn request(&self, what: String) -> Request {
        let mut message = LinkMessage::default();
        message.header.index = self.index.get();
        let header = &mut message.header;
        if let Some(up) = self.up {
            header.change_mask |= LinkFlags::Up;
            header.flags.set(LinkFlags::Up, up);
        }
        if let Some(flags) = self.flags {
            header.change_mask |= SetFlags::ALL;
            header.flags |= flags.0;
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.netns.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
        attributes.extend(
            self.name
                .map(|name| LinkAttribute::IfName(name.as_str().to_owned())),
        );
        attributes.extend(
            self.mac
                .map(|mac| LinkAttribute::Address(mac.octets().to_vec())),
        );
        attributes.extend(self.mtu.map(|mtu| LinkAttribute::Mtu(u32::from(mtu))));
        attributes.extend(
            self.alias
                .map(|alias| LinkAttribute::IfAlias(alias.to_owned())),
        );
        attributes.extend(self.txqlen.map(LinkAttribute::TxQueueLen));
        attributes.extend(self.group.map(LinkAttribute::Group));
        if self.plain {
            attributes.push(LinkAttribute::Broadcast(vec![0xff; 6]));
            attributes.push(LinkAttribute::Mode(LinkMode::Default));
        }
        Request {
            what,
            message: RouteNetlinkMessage::NewLink(message),
            flags: 0,
        }
    }
}

/// Deletes all links of a group of devices, which are of software, at once: the kernel waits once for
/// all of them, not for each.
#[must_use]
pub fn delete_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request {
        what: format!("delete the devices of group {group}"),
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
    }
}

/// Takes the XDP programs from a link, one to a message.
pub fn without_xdp(link: &LinkFacts) -> impl Iterator<Item = Request> {
    link.xdp.flags().map(|flag| {
        let mut message = LinkMessage::default();
        message.header.index = link.index.get();
        let none = vec![LinkXdp::Fd(-1), LinkXdp::Flags(flag)];
        message.attributes.push(LinkAttribute::Xdp(none));
        Request {
            what: format!("take the XDP program from {}", link.name),
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        }
    })
}

/// Takes an alternative name from a link. One to a message: the kernel stops at the first of a list that
/// it doesn't find.
#[must_use]
pub fn drop_alt_name(index: IfIndex, name: &OsStr) -> Request {
    Request {
        what: format!("take the name {} from link {index}", name.display()),
        message: RouteNetlinkMessage::DelLinkProp(property(index, name)),
        flags: 0,
    }
}

/// Gives an alternative name to a link.
#[must_use]
pub fn add_alt_name(index: IfIndex, name: &OsStr) -> Request {
    Request {
        what: format!("give the name {} to link {index}", name.display()),
        message: RouteNetlinkMessage::NewLinkProp(property(index, name)),
        // As `ip link property add` has it; the kernel asks for both.
        flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND,
    }
}

fn property(index: IfIndex, name: &OsStr) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    let name = [name.as_bytes(), &[0]].concat();
    let name = Prop::Other(DefaultNla::new(IFLA_ALT_IFNAME, name));
    let list = LinkAttribute::PropList(vec![name]);
    message.attributes.push(list);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_without_content_is_empty_and_any_content_is_not() {
        let index = IfIndex::new(7).unwrap();
        assert!(Change::of(index).is_empty());
        assert!(
            !Change {
                up: Some(false),
                ..Change::of(index)
            }
            .is_empty()
        );
        let name = "net1".parse().unwrap();
        assert!(
            !Change {
                flags: Some(SetFlags::ETHERNET),
                ..Change::of(index)
            }
            .is_empty()
        );
        assert!(
            !Change {
                name: Some(&name),
                ..Change::of(index)
            }
            .is_empty()
        );
    }

    #[test]
    fn down_is_asked_for_by_mask_not_by_absence() {
        let index = IfIndex::new(7).unwrap();
        let down = Change {
            up: Some(false),
            ..Change::of(index)
        }
        .request(String::new());
        let RouteNetlinkMessage::NewLink(link) = down.message else {
            panic!("{down:?}")
        };
        assert_eq!(
            (link.header.flags, link.header.change_mask),
            (LinkFlags::empty(), LinkFlags::Up)
        );
    }

    #[test]
    fn flags_are_set_as_a_whole_beside_up() {
        let request = Change {
            flags: Some(SetFlags::among(u32::MAX)),
            ..Change::of(IfIndex::new(7).unwrap())
        }
        .request(String::new());
        let RouteNetlinkMessage::NewLink(link) = request.message else {
            panic!("{request:?}")
        };
        assert_eq!(link.header.flags, SetFlags::ALL);
        assert_eq!(link.header.change_mask, SetFlags::ALL);
        assert!(!SetFlags::ALL.intersects(LinkFlags::Up | LinkFlags::LowerUp));
    }

    #[test]
    fn each_xdp_program_of_a_link_is_taken_where_it_is() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        let programs = vec![LinkXdp::SkbProgId(5), LinkXdp::HwProgId(6)];
        message.attributes = vec![LinkAttribute::Xdp(programs), LinkAttribute::Link(9)];
        let read = |message: &LinkMessage| {
            use netlink_packet_core::Emitable;
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            LinkFacts::read(&bytes).unwrap()
        };
        let facts = read(&message);
        assert_eq!(facts.lower, IfIndex::new(9));
        let taken = without_xdp(&facts).map(|request| match request.message {
            RouteNetlinkMessage::SetLink(link) => link.attributes,
            other => panic!("{other:?}"),
        });
        let none = |flag| {
            vec![LinkAttribute::Xdp(vec![
                LinkXdp::Fd(-1),
                LinkXdp::Flags(flag),
            ])]
        };
        assert_eq!(Vec::from_iter(taken), [none(2), none(8)]);
        // An index of another namespace is none here.
        message.attributes.push(LinkAttribute::LinkNetNsId(3));
        assert_eq!(read(&message).lower, None);
    }

    #[test]
    fn a_link_is_read_whatever_the_bytes_of_its_names() {
        use netlink_packet_core::Emitable;

        let name = |bytes: &[u8]| Prop::Other(DefaultNla::new(IFLA_ALT_IFNAME, bytes.to_vec()));
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::Promisc;
        message.attributes = vec![
            LinkAttribute::Other(DefaultNla::new(IFLA_IFNAME, b"\xffx\0".to_vec())),
            LinkAttribute::TxQueueLen(55),
            LinkAttribute::Group(5),
            LinkAttribute::PropList(vec![name(b"\xff\xfe\0"), name(b"rack7\0")]),
            LinkAttribute::Mtu(1400),
        ];
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let facts = LinkFacts::read(&bytes).unwrap();
        assert_eq!((facts.name.as_str(), facts.mtu), ("\u{fffd}x", 1400));
        let names = [&b"\xff\xfe"[..], b"rack7"].map(OsStr::from_bytes);
        assert_eq!(facts.alt_names, names);
        assert_eq!((facts.txqlen, facts.group), (Some(55), Some(5)));
        assert!(facts.up && facts.flags == SetFlags::among(0x100));
        for cut in 0..bytes.len() {
            let _no_panic = LinkFacts::read(&bytes[..cut]);
        }
    }
}
