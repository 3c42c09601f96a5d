//! What the kernel says of a link, read in its own layout: the general decoder refuses a whole
//! message for one name that is no UTF-8, and such a name is anybody's to give who owns the link.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::link::LinkFlags;
use xpu_model::{IfIndex, Mac};

use super::number::*;
use crate::sync::{attribute::attributes, peers::NsId};

/// What the plugin wants to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index, in the namespace it was read in.
    pub index: IfIndex,
    /// Its name; the kernel allows more than [`xpu_model::IfName`] does. What is no UTF-8 comes as
    /// replacement characters.
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
    /// How many want to hear all of its frames: sockets, devices on it, and its flag for that.
    pub promiscuity: u32,
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
    /// The device that it stands on, as a VLAN or a macvlan does.
    pub lower: Option<Lower>,
    /// The XDP programs on it.
    pub xdp: XdpPrograms,
}

/// The device that another stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lower {
    /// Its index, in its own namespace.
    pub index: IfIndex,
    /// Its namespace, as the socket's knows it; `None`: the same as that of what stands on it.
    pub netns: Option<NsId>,
}

/// The XDP programs of a link, by where they are attached: its driver, the kernel's generic code,
/// its hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpPrograms([Option<u32>; 3]);

impl XdpPrograms {
    /// By the attribute that tells a program's id, the flag of `linux/if_link.h` that stands for
    /// where it is.
    const PLACES: [(u16, u32); 3] = [
        (IFLA_XDP_DRV_PROG_ID, XDP_FLAGS_DRV_MODE),
        (IFLA_XDP_SKB_PROG_ID, XDP_FLAGS_SKB_MODE),
        (IFLA_XDP_HW_PROG_ID, XDP_FLAGS_HW_MODE),
    ];

    fn read(nested: &[u8]) -> Self {
        Self(Self::PLACES.map(|(told_by, _)| {
            let (_, id) = attributes(nested).find(|(kind, _)| *kind == told_by)?;
            id.first_chunk().copied().map(u32::from_ne_bytes)
        }))
    }

    /// The programs' ids, each with the flag for where it is.
    pub fn each(self) -> impl Iterator<Item = (u32, u32)> {
        let each = Self::PLACES.into_iter().zip(self.0);
        each.filter_map(|((_, flag), id)| Some((id?, flag)))
    }
}

/// The flags of a link, besides `UP`, that whoever configures it can set (`__dev_change_flags()`,
/// net/core/dev.c), by their numbers in `linux/if.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetFlags(pub(super) LinkFlags);

impl SetFlags {
    pub(super) const ALL: LinkFlags = LinkFlags::Debug
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

    /// Whether all frames are wanted.
    #[must_use]
    pub const fn promiscuous(self) -> bool {
        self.0.contains(LinkFlags::Promisc)
    }

    /// As a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0.bits()
    }
}

/// A message that may be of a link.
#[derive(Debug)]
pub(in crate::sync) struct RawLinkMessage(pub Option<LinkFacts>);

impl NetlinkDeserializable for RawLinkMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let is_link = header.message_type == RTM_NEWLINK;
        Ok(Self(is_link.then(|| LinkFacts::read(payload)).flatten()))
    }
}

impl LinkFacts {
    /// Reads a `struct ifinfomsg` and the attributes behind it.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.first_chunk().copied().map(u32::from_ne_bytes);
        let text = |bytes: &[u8]| String::from_utf8_lossy(until_nul(bytes)).into_owned();
        let flags = number(payload.get(8..IFINFOMSG)?)?;
        let has = |flag| LinkFlags::from_bits_retain(flags).contains(flag);
        let mut facts = Self {
            index: IfIndex::new(number(payload.get(4..IFINFOMSG)?)?)?,
            name: String::new(),
            alt_names: Vec::new(),
            mac: None,
            mtu: 0,
            up: has(LinkFlags::Up),
            flags: SetFlags::among(flags),
            promiscuity: 0,
            lower_up: has(LinkFlags::LowerUp),
            txqlen: None,
            group: None,
            alias: None,
            parent: None,
            lower: None,
            xdp: XdpPrograms::default(),
        };
        let mut lower_netns = None;
        for (kind, value) in attributes(payload.get(IFINFOMSG..)?) {
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
                IFLA_PROMISCUITY => facts.promiscuity = number(value)?,
                IFLA_PROP_LIST => {
                    let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                    let names = names.map(|(_, name)| OsString::from_vec(until_nul(name).to_vec()));
                    facts.alt_names.extend(names);
                }
                IFLA_PARENT_DEV_NAME => facts.parent = Some(text(value)),
                IFLA_LINK => {
                    let index = number(value).and_then(IfIndex::new);
                    facts.lower = index.map(|index| Lower { index, netns: None });
                }
                IFLA_LINK_NETNSID => lower_netns = NsId::read(value),
                IFLA_XDP => facts.xdp = XdpPrograms::read(value),
                _ => {}
            }
        }
        if let Some(lower) = &mut facts.lower {
            lower.netns = lower_netns;
        }
        Some(facts)
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage, Prop};

    use super::*;

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
