//! Namespaces that the socket's knows by a number (`linux/net_namespace.h`), and what they have.
//!
//! A namespace numbers another when a device goes there, or when it tells of a device that is tied
//! to one there. Such a number is good for looking into that namespace, and for deleting there,
//! without being in it (`IFLA_TARGET_NETNSID`).

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
};
use nix::errno::Errno;
use xpu_model::IfIndex;

use super::{
    attribute::attributes,
    link::{self, LinkFacts, RawLinkMessage},
    socket::{Question, Request, Rtnl, RtnlError},
};

const RTM_NEWNSID: u16 = 88;
/// Bytes of `struct rtgenmsg`, and those that align what follows.
const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_CURRENT_NSID: u16 = 5;

/// The number that one namespace has for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NsId(i32);

impl NsId {
    /// The namespace of that number; `None`: it has none (`NETNSA_NSID_NOT_ASSIGNED`).
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let number = value.first_chunk().copied().map(i32::from_ne_bytes)?;
        (number >= 0).then_some(Self(number))
    }

    #[cfg(test)]
    pub(super) fn of(number: i32) -> Self {
        Self(number)
    }
}

/// What is told of the socket's namespace, or of one that it knows.
#[derive(Debug)]
enum Told {
    Link(LinkFacts),
    /// A namespace, by its number where it was asked for and by the socket's own.
    Peer {
        nsid: Option<NsId>,
        here: Option<NsId>,
    },
    Other,
}

impl NetlinkDeserializable for Told {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.message_type == RTM_NEWNSID {
            let told = payload.get(RTGENMSG..).unwrap_or_default();
            let of = |kind| {
                let (_, value) = attributes(told).find(|(it, _)| *it == kind)?;
                NsId::read(value)
            };
            return Ok(Self::Peer {
                nsid: of(NETNSA_NSID),
                here: of(NETNSA_CURRENT_NSID),
            });
        }
        let link = RawLinkMessage::deserialize(header, payload)?;
        Ok(link.0.map_or(Self::Other, Self::Link))
    }
}

/// Every link of the socket's namespace, and the namespaces that it knows beside `home`. One system
/// call asks for both. As [`link::links`], for a pod's few links.
///
/// # Errors
/// The kernel's refusal.
pub fn links_and_peers(
    rtnl: &mut Rtnl,
    home: BorrowedFd<'_>,
) -> Result<(Vec<LinkFacts>, Vec<NsId>), RtnlError> {
    let questions = [
        Question {
            what: "look up the host's namespace",
            message: RouteNetlinkMessage::GetNsId(nsid(vec![of_fd(home)])),
            dump: false,
        },
        known(),
        Question {
            what: "list the links",
            message: link::all(),
            dump: true,
        },
    ];
    let mut answers = rtnl.get_each::<Told>(&questions)?.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Ok(Vec::new()));
    let (home, peers, links) = (next()?, next()?, next()?);
    let home = Vec::from_iter(nsids(home));
    let peers = nsids(peers).filter(|peer| !home.contains(peer));
    let peers = Vec::from_iter(peers);
    let links = links.into_iter().filter_map(|told| match told {
        Told::Link(link) => Some(link),
        _ => None,
    });
    Ok((links.collect(), peers))
}

/// The namespaces that the socket's knows.
///
/// # Errors
/// The kernel's refusal.
pub fn peers(rtnl: &mut Rtnl) -> Result<Vec<NsId>, RtnlError> {
    Ok(nsids(rtnl.get_one(known())?).collect())
}

/// The number that the socket's namespace has for an open one, its own among them. It is given one
/// where it has none.
///
/// # Errors
/// The kernel's refusal.
pub fn number_of(rtnl: &mut Rtnl, netns: BorrowedFd<'_>) -> Result<NsId, RtnlError> {
    let what = "number a namespace";
    let any = NsidAttribute::Id(-1);
    let number = Request {
        what: what.to_owned(),
        message: RouteNetlinkMessage::NewNsId(nsid(vec![of_fd(netns), any])),
        flags: 0,
    };
    match rtnl.apply(&[number]) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {}
        numbered => numbered?,
    }
    let found = rtnl.get_one(Question {
        what,
        message: RouteNetlinkMessage::GetNsId(nsid(vec![of_fd(netns)])),
        dump: false,
    })?;
    nsids(found).next().ok_or_else(|| RtnlError::Malformed {
        what: what.to_owned(),
        detail: "no number".to_owned(),
    })
}

/// The namespaces that a peer knows, by the numbers that the socket's has for them; `None`: it has
/// none. Needs [`Rtnl::strict`].
///
/// # Errors
/// The kernel's refusal, as where the peer is gone.
pub fn peers_of(rtnl: &mut Rtnl, peer: NsId) -> Result<Vec<Option<NsId>>, RtnlError> {
    let peer = nsid(vec![NsidAttribute::TargetNsid(peer.0)]);
    let found = rtnl.get_one(Question {
        what: "list what a namespace knows",
        message: RouteNetlinkMessage::GetNsId(peer),
        dump: true,
    })?;
    let here = found.into_iter().filter_map(|told| match told {
        Told::Peer { here, .. } => Some(here),
        _ => None,
    });
    Ok(here.collect())
}

/// Every link of a peer. The namespaces of what they stand on are told by the numbers that the
/// socket's namespace has for them. Needs [`Rtnl::strict`].
///
/// # Errors
/// The kernel's refusal, as where the peer is gone.
pub fn links_of(rtnl: &mut Rtnl, peer: NsId) -> Result<Vec<LinkFacts>, RtnlError> {
    let mut message = LinkMessage::default();
    // Also called `IFLA_IF_NETNSID`.
    message.attributes = vec![
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        LinkAttribute::IfNetnsId(peer.0),
    ];
    let found = rtnl.get_one::<RawLinkMessage>(Question {
        what: "list a namespace's links",
        message: RouteNetlinkMessage::GetLink(message),
        dump: true,
    })?;
    Ok(found.into_iter().filter_map(|message| message.0).collect())
}

/// Deletes a link of a peer, which is of software.
#[must_use]
pub fn delete(peer: NsId, index: IfIndex) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index.get();
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfNetnsId(peer.0));
    Request {
        what: format!("delete link {index} of the pod's namespace {}", peer.0),
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
    }
}

/// Asks for the namespaces that the socket's knows.
fn known() -> Question {
    Question {
        what: "list the known namespaces",
        message: RouteNetlinkMessage::GetNsId(nsid(Vec::new())),
        dump: true,
    }
}

fn of_fd(netns: BorrowedFd<'_>) -> NsidAttribute {
    NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned())
}

fn nsid(attributes: Vec<NsidAttribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn nsids(told: Vec<Told>) -> impl Iterator<Item = NsId> {
    told.into_iter().filter_map(|told| match told {
        Told::Peer { nsid, .. } => nsid,
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use nix::sched::{CloneFlags, unshare};
    use std::os::fd::AsFd;

    #[test]
    fn a_namespace_is_told_by_its_numbers_or_by_none() {
        let attribute = |kind: u16, number: i32| {
            let head = [8_u16, kind].map(u16::to_ne_bytes).concat();
            [head, number.to_ne_bytes().to_vec()].concat()
        };
        let told = [
            vec![0; RTGENMSG],
            attribute(NETNSA_NSID, 3),
            attribute(NETNSA_CURRENT_NSID, -1),
        ];
        let told = told.concat();
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWNSID;
        let read = Told::deserialize(&header, &told).unwrap();
        assert!(
            matches!(
                read,
                Told::Peer {
                    nsid: Some(NsId(3)),
                    here: None
                }
            ),
            "{read:?}"
        );
        for cut in 0..told.len() {
            let _no_panic = Told::deserialize(&header, &told[..cut]);
        }
    }

    #[test]
    fn a_new_namespace_knows_nobody_until_it_is_asked_to() {
        let home = NetNs::current().unwrap();
        let looked = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut rtnl = Rtnl::open().unwrap();
            let (links, known) = links_and_peers(&mut rtnl, home.as_fd()).unwrap();
            assert_eq!(known, []);
            // Modules may put devices of their own into each namespace.
            assert!(links.iter().any(|link| link.name == "lo"), "{links:?}");
            let own = NetNs::current().unwrap();
            let numbers = [&home, &own, &home].map(|it| number_of(&mut rtnl, it.as_fd()).unwrap());
            assert!(numbers[0] != numbers[1] && numbers[0] == numbers[2]);
            let (_, known) = links_and_peers(&mut rtnl, home.as_fd()).unwrap();
            assert_eq!(known, [numbers[1]], "the host's is left out");
            rtnl.strict().unwrap();
            let inside = links_of(&mut rtnl, numbers[1]).unwrap();
            assert_eq!(inside.len(), links.len());
            let knows = peers_of(&mut rtnl, numbers[1]).unwrap();
            assert_eq!(knows.len(), 2, "{knows:?}");
            let gone = links_of(&mut rtnl, NsId(7)).unwrap_err();
            assert_eq!(gone.errno(), Some(Errno::EINVAL), "{gone}");
        });
        looked.join().unwrap();
    }
}
