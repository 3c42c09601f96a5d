//! What this kernel can do, asked without changing anything.
//!
//! A kind of device is asked for by an `RTM_NEWLINK` that its driver must refuse, for it lacks
//! what the driver requires. A kernel without the driver says `EOPNOTSUPP` instead, after it has
//! tried to load the module, as for a real request; who may not make devices here gets `EPERM`.
//! What a driver brings along is asked for by a dump that only it answers.

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
};
use nix::errno::Errno;

use super::{
    tunnel::{TunnelMessage, Verb},
    vlandb::{GetVlans, Vlans},
};
use crate::sync::{Request, Rtnl, RtnlError};

/// What the agent needs of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `CONFIG_BRIDGE`.
    Bridge,
    /// `CONFIG_BRIDGE_VLAN_FILTERING`.
    VlanFiltering,
    /// `CONFIG_VLAN_8021Q`.
    Vlan,
    /// `CONFIG_NET_VRF`.
    Vrf,
    /// `CONFIG_VXLAN`.
    Vxlan,
    /// VXLAN devices with a VNI filter: kernel 5.18.
    VniFilter,
}

/// What the kernel says of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Available,
    /// It does not have it.
    Missing,
    /// The caller may not ask: `CAP_NET_ADMIN` over this network namespace is missing.
    Forbidden,
    /// Something else; the kernel's words.
    Unclear(String),
}

impl Feature {
    /// All, each behind those that it needs.
    pub const ALL: [Self; 6] = [
        Self::Bridge,
        Self::VlanFiltering,
        Self::Vlan,
        Self::Vrf,
        Self::Vxlan,
        Self::VniFilter,
    ];

    /// Asks the kernel of the socket's network namespace.
    pub fn ask(self, rtnl: &mut Rtnl) -> Answer {
        match self {
            // A MAC of three bytes.
            Self::Bridge => device(
                rtnl,
                InfoKind::Bridge,
                vec![LinkAttribute::Address(vec![0; 3])],
            ),
            // The others require data of their own.
            Self::Vlan => device(rtnl, InfoKind::Vlan, Vec::new()),
            Self::Vrf => device(rtnl, InfoKind::Vrf, Vec::new()),
            Self::Vxlan => device(rtnl, InfoKind::Vxlan, Vec::new()),
            Self::VlanFiltering => {
                let what = "list the VLANs of bridges";
                dumped(rtnl.get_as::<_, Vlans>(what, GetVlans, true))
            }
            Self::VniFilter => {
                let message = TunnelMessage {
                    verb: Verb::Get,
                    device: None,
                    vnis: Vec::new(),
                };
                let what = "list the VNIs of VXLAN devices";
                dumped(rtnl.get_as::<_, TunnelMessage>(what, message, true))
            }
        }
    }
}

fn device(rtnl: &mut Rtnl, kind: InfoKind, mut attributes: Vec<LinkAttribute>) -> Answer {
    let what = format!("ask for devices of kind {kind}");
    attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    let request = Request {
        what,
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE,
    };
    match rtnl.apply(&[request]) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => Answer::Available,
        answer => refused(answer),
    }
}

fn dumped<T>(answer: Result<Vec<T>, RtnlError>) -> Answer {
    match answer {
        Ok(_) => Answer::Available,
        Err(error) => refused(Err(error)),
    }
}

fn refused(answer: Result<(), RtnlError>) -> Answer {
    match answer {
        Ok(()) => Answer::Unclear("it took a request that it must refuse".to_owned()),
        Err(error) => match error.errno() {
            Some(Errno::EOPNOTSUPP) => Answer::Missing,
            Some(Errno::EPERM) => Answer::Forbidden,
            _ => Answer::Unclear(error.to_string()),
        },
    }
}
