//! Links: what the kernel says of them, and the one message that moves a device to
//! another namespace with its new name, MTU and MAC and brings it up.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, Prop},
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use super::socket::{Request, Rtnl, RtnlError};

/// What the plugin wants to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index, in the namespace it was read in.
    pub index: IfIndex,
    /// Its name; the kernel allows more than [`IfName`] does.
    pub name: String,
    /// Further names.
    pub alt_names: Vec<String>,
    /// Its Ethernet address; `None` for links that have none, or a zero one.
    pub mac: Option<Mac>,
    /// Bytes of payload per frame.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Carrier.
    pub lower_up: bool,
    /// `ifalias`.
    pub alias: Option<String>,
    /// The bus address of the device behind it (`IFLA_PARENT_DEV_NAME`), which for a
    /// VF is its PCI address. Unlike the name, no pod can change it.
    pub parent: Option<String>,
}

impl LinkFacts {
    pub(super) fn from_message(message: LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut facts = Self {
            index: IfIndex::new(message.header.index)?,
            name: String::new(),
            alt_names: Vec::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            lower_up: flags.contains(LinkFlags::LowerUp),
            alias: None,
            parent: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => facts.name = name,
                LinkAttribute::Address(bytes) => {
                    facts.mac = <[u8; 6]>::try_from(bytes)
                        .ok()
                        .and_then(|b| Mac::try_from(b).ok());
                }
                LinkAttribute::Mtu(mtu) => facts.mtu = mtu,
                LinkAttribute::IfAlias(alias) => facts.alias = Some(alias),
                LinkAttribute::ParentDevName(parent) => facts.parent = Some(parent),
                LinkAttribute::PropList(properties) => {
                    facts
                        .alt_names
                        .extend(properties.into_iter().filter_map(|p| match p {
                            Prop::AltIfName(name) => Some(name),
                            _ => None,
                        }));
                }
                _ => {}
            }
        }
        Some(facts)
    }
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
    let found = rtnl.get(
        "list the links",
        RouteNetlinkMessage::GetLink(message),
        true,
    )?;
    let facts = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => LinkFacts::from_message(link),
        _ => None,
    });
    Ok(facts.collect())
}

/// The further names of one link. Takes RTNL.
///
/// # Errors
/// The kernel's refusal, as where there is no such link.
pub fn alt_names(rtnl: &mut Rtnl, index: IfIndex) -> Result<Vec<String>, RtnlError> {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    let mask = vec![LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    let what = format!("read the names of link {index}");
    let found = rtnl.get(&what, RouteNetlinkMessage::GetLink(message), false)?;
    let facts = found.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => LinkFacts::from_message(link),
        _ => None,
    });
    Ok(facts.map(|facts| facts.alt_names).unwrap_or_default())
}

/// A change to one link, sent as one message: the kernel works through it in the
/// order namespace, MAC, MTU, name, up or down (`do_setlink()`).
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
        } = self;
        let same = netns.is_none() && name.is_none() && alias.is_none();
        same && mac.is_none() && mtu.is_none() && up.is_none()
    }

    /// The message. `RTM_NEWLINK` with an index is a change of an existing link.
    #[must_use]
    pub fn request(&self, what: String) -> Request {
        let mut message = LinkMessage::default();
        message.header.index = self.index.get();
        if let Some(up) = self.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
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
        Request {
            what,
            message: RouteNetlinkMessage::NewLink(message),
            flags: 0,
        }
    }
}

/// Takes further names from a link.
#[must_use]
pub fn drop_alt_names(index: IfIndex, names: Vec<String>) -> Request {
    let what = format!("take the names {} from link {index}", names.join(", "));
    Request {
        what,
        message: RouteNetlinkMessage::DelLinkProp(properties(index, names)),
        flags: 0,
    }
}

/// Gives a further name to a link.
#[must_use]
pub fn add_alt_name(index: IfIndex, name: String) -> Request {
    let what = format!("give the name {name} to link {index}");
    Request {
        what,
        message: RouteNetlinkMessage::NewLinkProp(properties(index, vec![name])),
        // As `ip link property add` has it; the kernel asks for both.
        flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND,
    }
}

fn properties(index: IfIndex, names: Vec<String>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    let properties = names.into_iter().map(Prop::AltIfName).collect();
    message.attributes.push(LinkAttribute::PropList(properties));
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
}
