//! `[bgp]`

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use xpu_model::{
    Asn, IfName,
    node::{BgpBase, BgpPeer, BgpTimers, PeerAddress, RemoteAs},
};

use super::error::{ConfigError, value};

/// `[bgp]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpConfig {
    /// This node's AS number.
    pub asn: u32,
    /// The BGP identifier; without it the VTEP's address, if that is IPv4.
    pub router_id: Option<Ipv4Addr>,
    /// The peers.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
    /// Seconds between keepalives; set together with `hold`.
    pub keepalive: Option<u16>,
    /// Seconds of silence until a session is dropped; set together with `keepalive`.
    pub hold: Option<u16>,
    /// Route targets: automatic, or `asn:vni`.
    #[serde(default)]
    pub route_targets: RouteTargetsConfig,
}

/// `bgp.route_targets`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTargetsConfig {
    /// FRR's own, which match across AS numbers.
    #[default]
    Auto,
    /// `bgp.asn:vni`.
    AsnVni,
}

/// `[[bgp.peers]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// The peer's address; or `interface`.
    pub address: Option<IpAddr>,
    /// The link on which the only neighbour is the peer; or `address`.
    pub interface: Option<IfName>,
    /// `"external"`, `"internal"`, or a number.
    #[serde(default = "external")]
    pub remote_as: RemoteAsConfig,
    /// Watch the session by BFD.
    #[serde(default)]
    pub bfd: bool,
}

/// `bgp.peers.remote_as`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RemoteAsConfig {
    /// The peer's AS.
    Number(u32),
    /// `external` or `internal`.
    Word(String),
}

fn external() -> RemoteAsConfig {
    RemoteAsConfig::Word("external".to_owned())
}

impl BgpConfig {
    pub(super) fn base(&self, vtep: Option<IpAddr>) -> Result<BgpBase, ConfigError> {
        let router_id = match (self.router_id, vtep) {
            (Some(id), _) | (None, Some(IpAddr::V4(id))) => id,
            (None, _) => {
                return Err(value(
                    "bgp.router_id",
                    "is needed, for there is no IPv4 VTEP",
                ));
            }
        };
        let timers = match (self.keepalive, self.hold) {
            (None, None) => None,
            (Some(_), None) => return Err(value("bgp.hold", "is not set; keepalive needs it")),
            (None, Some(_)) => return Err(value("bgp.keepalive", "is not set; hold needs it")),
            (_, Some(hold @ ..3)) => {
                return Err(value(
                    "bgp.hold",
                    format!("{hold} is too short; set 3 or more"),
                ));
            }
            // bgpd sends keepalives at a third of the hold time at the latest, whatever it is told.
            (Some(keepalive), Some(hold)) if keepalive > hold / 3 => {
                let most = hold / 3;
                let problem = format!(
                    "{keepalive} is more than a third of bgp.hold, {hold}; set {most} or less"
                );
                return Err(value("bgp.keepalive", problem));
            }
            (Some(keepalive), Some(hold)) => Some(BgpTimers { keepalive, hold }),
        };
        for (index, peer) in self.peers.iter().enumerate() {
            let twice =
                |it: &&PeerConfig| (&it.address, &it.interface) == (&peer.address, &peer.interface);
            if let Some(named) = peer.named()
                && self.peers[..index].iter().any(|it| twice(&it))
            {
                let problem = format!("{named} is a peer already");
                return Err(value(&format!("bgp.peers[{index}]"), problem));
            }
        }
        let asn = Asn::try_from(self.asn).map_err(|error| value("bgp.asn", error))?;
        let peers = self.peers.iter().enumerate().map(|(index, peer)| {
            peer.peer()
                .map_err(|problem| value(&format!("bgp.peers[{index}]"), problem))
        });
        Ok(BgpBase {
            asn,
            router_id,
            peers: peers.collect::<Result<_, _>>()?,
            timers,
        })
    }
}

impl PeerConfig {
    /// What the peer is called, for messages.
    fn named(&self) -> Option<String> {
        let address = self.address.map(|it| it.to_string());
        address.or_else(|| self.interface.as_ref().map(ToString::to_string))
    }

    fn peer(&self) -> Result<BgpPeer, String> {
        let at = match (&self.address, &self.interface) {
            (Some(address), None) => PeerAddress::Ip(*address),
            (None, Some(interface)) => PeerAddress::Interface(interface.clone()),
            _ => return Err("set either address or interface".to_owned()),
        };
        let remote_as = match &self.remote_as {
            RemoteAsConfig::Number(asn) => {
                RemoteAs::Is(Asn::try_from(*asn).map_err(|error| error.to_string())?)
            }
            RemoteAsConfig::Word(word) => match word.as_str() {
                "external" => RemoteAs::External,
                "internal" => RemoteAs::Internal,
                _ => {
                    return Err(format!(
                        "remote_as `{word}`: external, internal or a number"
                    ));
                }
            },
        };
        Ok(BgpPeer {
            at,
            remote_as,
            bfd: self.bfd,
        })
    }
}
