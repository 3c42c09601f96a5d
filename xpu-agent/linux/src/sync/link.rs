//! Links: what the kernel says of them, and the one message that moves a device to
//! another namespace with its new name, MTU and MAC and brings it up.

mod facts;
mod number;
pub(super) mod scrub;

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, LinkMode, LinkXdp, Prop},
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use super::socket::{Request, Rtnl, RtnlError};
pub(super) use facts::RawLinkMessage;
pub use facts::{LinkFacts, Lower, SetFlags, XdpPrograms};
use number::IFLA_ALT_IFNAME;

/// Every link of the socket's namespace. Takes RTNL: for a pod's few links, not for
/// a host's many.
///
/// # Errors
/// The kernel's refusal.
pub fn links(rtnl: &mut Rtnl) -> Result<Vec<LinkFacts>, RtnlError> {
    let found = rtnl.get_as::<_, RawLinkMessage>("list the links", all(), true)?;
    Ok(found.into_iter().filter_map(|message| message.0).collect())
}

/// What asks for every link of the socket's namespace.
pub(super) fn all() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    let mask = vec![LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    RouteNetlinkMessage::GetLink(message)
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

/// Deletes all links of a group of devices, which are of software, at once: the kernel waits once
/// for all of them, not for each.
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

/// Takes the XDP programs from a link, one to a message, in their order.
pub fn without_xdp(link: &LinkFacts) -> impl Iterator<Item = Request> {
    link.xdp.each().map(|(_, flag)| {
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

/// Takes an alternative name from a link. One to a message: the kernel stops at the first of a list
/// that it doesn't find.
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
    use crate::sync::peers::NsId;

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
        let index = IfIndex::new(9).unwrap();
        assert_eq!(facts.lower, Some(Lower { index, netns: None }));
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
        // An index of another namespace says nothing without that.
        message.attributes.push(LinkAttribute::LinkNetNsId(3));
        let netns = Some(NsId::of(3));
        assert_eq!(read(&message).lower, Some(Lower { index, netns }));
    }
}
