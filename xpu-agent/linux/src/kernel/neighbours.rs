//! Neighbours on our gateways that have been silent for a while: told by event, asked anew.
//!
//! A bridge forgets an address that it has not heard for its ageing time, and FRR then withdraws
//! the host's type-2 routes, though the host is only silent. The kernel says when a neighbour has
//! become stale; setting it to `NUD_PROBE` makes the kernel itself ask it, by ARP or a neighbour
//! solicitation, and the host's answer keeps the bridge's entry alive.

use std::{collections::BTreeSet, io, net::IpAddr, os::fd::AsRawFd, sync::Arc, time::Duration};

use netlink_packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use netlink_sys::Socket;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use xpu_model::IfIndex;

use super::{FollowCounts, FollowError, Linux, events::EventSocket, filter, request::is_gone};
use crate::sync::{Request, RtnlError};

/// `RTNLGRP_NEIGH` of `linux/rtnetlink.h`.
const GROUP: u32 = 3;
/// Ticks of the kernel's clock as it tells them (`USER_HZ`), in a second.
const TICKS: u64 = 100;

/// A neighbour of this node, by where it is and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The device that it is behind.
    pub device: IfIndex,
    /// Its address.
    pub addr: IpAddr,
}

/// A neighbour that the kernel has not heard of for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Which.
    pub neighbour: Neighbour,
    /// How long ago it was last known to be there.
    pub silent: Duration,
}

/// Follows the neighbours of a network namespace as they become stale.
#[derive(Debug)]
pub struct StaleNeighbours {
    socket: EventSocket,
    counts: Arc<FollowCounts>,
}

impl StaleNeighbours {
    /// Subscribes; the kernel passes on nothing but neighbours that are stale and not FRR's. What
    /// is read is counted with what other followers read.
    ///
    /// # Errors
    /// [`FollowError`] when there is no socket to be had.
    pub fn new(counts: Arc<FollowCounts>) -> Result<Self, FollowError> {
        let socket = EventSocket::open(&[GROUP], filter::attach_stale)?;
        Ok(Self { socket, counts })
    }

    /// The next neighbour that has become stale; none: some events were lost. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn next(&mut self) -> Result<Option<Stale>, FollowError> {
        loop {
            match self
                .socket
                .read(|socket| read(socket, &self.counts))
                .await?
            {
                Read::Stale(stale) => return Ok(Some(stale)),
                Read::Lost => return Ok(None),
                Read::Other => {}
            }
        }
    }
}

enum Read {
    Stale(Stale),
    Other,
    Lost,
}

/// One event; the kernel sends each as a datagram of its own.
fn read(socket: &Socket, counts: &FollowCounts) -> io::Result<Read> {
    let mut buffer = [0; 4096];
    let size = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(size) => {
            counts.read();
            size
        }
        Err(Errno::ENOBUFS) => {
            counts.lost();
            return Ok(Read::Lost);
        }
        Err(Errno::EINTR) => return Ok(Read::Other),
        Err(errno) => return Err(errno.into()),
    };
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..size]) else {
        return Ok(Read::Other);
    };
    Ok(match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
            stale(&found).map_or(Read::Other, Read::Stale)
        }
        _ => Read::Other,
    })
}

/// The neighbour, if it is stale and nobody told the kernel of it from outside.
fn stale(message: &NeighbourMessage) -> Option<Stale> {
    let header = &message.header;
    let is_local = !header.flags.contains(NeighbourFlags::ExtLearned);
    if header.state != NeighbourState::Stale || !is_local {
        return None;
    }
    let addr = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })?;
    let ticks = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::CacheInfo(info) => Some(u64::from(info.confirmed)),
            _ => None,
        });
    Some(Stale {
        neighbour: Neighbour {
            device: IfIndex::new(header.ifindex)?,
            addr,
        },
        silent: Duration::from_millis(ticks.unwrap_or(0) * 1000 / TICKS),
    })
}

fn ask(neighbour: Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = neighbour.device.get();
    let (family, address) = match neighbour.addr {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}

impl Linux {
    /// The stale neighbours behind our gateways: one dump, for the start and where events were
    /// lost.
    ///
    /// # Errors
    /// [`RtnlError`].
    pub async fn stale_neighbours(&self) -> Result<Vec<Stale>, RtnlError> {
        self.blocking(|inner| {
            let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
            let found = inner.rtnl.get("list the neighbours", all, true)?;
            let stale = found.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(found) => stale(found),
                _ => None,
            });
            Ok(stale
                .filter(|it| inner.gateways.devices.contains(&it.neighbour.device))
                .collect())
        })
        .await
    }

    /// How long the tenant bridge keeps an address that it does not hear, if a device is that of
    /// one of our gateways.
    pub async fn ageing_behind(&self, device: IfIndex) -> Option<Duration> {
        self.blocking(move |inner| {
            let Gateways { devices, ageing } = &inner.gateways;
            ageing.filter(|_| devices.contains(&device))
        })
        .await
    }

    /// Makes the kernel ask those of the neighbours that are stale still; answers with how many.
    ///
    /// # Errors
    /// [`RtnlError`], by the first that can't be asked.
    pub async fn probe_neighbours(&self, neighbours: Vec<Neighbour>) -> Result<usize, RtnlError> {
        self.blocking(move |inner| {
            let mut requests = Vec::new();
            for neighbour in neighbours {
                let what = format!("look for the neighbour {}", neighbour.addr);
                let message = RouteNetlinkMessage::GetNeighbour(ask(neighbour));
                let found = match inner.rtnl.get(&what, message, false) {
                    Err(error) if is_gone(&error) => continue,
                    found => found?,
                };
                // One that FRR has told of meanwhile is behind another node.
                let is_stale = |message: &RouteNetlinkMessage| {
                    matches!(message, RouteNetlinkMessage::NewNeighbour(found)
                        if stale(found).is_some())
                };
                if found.iter().any(is_stale) {
                    let mut message = ask(neighbour);
                    message.header.state = NeighbourState::Probe;
                    requests.push(Request {
                        what: format!("ask the neighbour {}", neighbour.addr),
                        message: RouteNetlinkMessage::NewNeighbour(message),
                        flags: NLM_F_REPLACE,
                    });
                }
            }
            for verdict in inner.rtnl.apply_each(&requests)? {
                match verdict {
                    Err(error) if is_gone(&error) => {}
                    verdict => verdict?,
                }
            }
            Ok(requests.len())
        })
        .await
    }
}

/// What of the last observation says which neighbours are behind our gateways.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// The gateways' devices.
    pub(super) devices: BTreeSet<IfIndex>,
    /// The tenant bridge's ageing time.
    pub(super) ageing: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

    use super::*;
    use crate::kernel::alone::{alone, ip};

    /// In a network namespace of its own, with a queue for a message or two.
    #[test]
    fn neighbours_that_the_kernel_lost_are_counted() {
        alone(async {
            ip("link add behind type bridge");
            ip("link set behind up");
            let counts: Arc<FollowCounts> = Arc::default();
            let mut events = StaleNeighbours::new(counts.clone()).unwrap();
            setsockopt(&events.socket, RcvBuf, &1).unwrap();
            for last in 1..=20 {
                ip(&format!(
                    "neigh add 192.0.2.{last} lladdr 02:00:00:00:00:{last:02} dev behind nud stale"
                ));
            }
            while events.next().await.unwrap().is_some() {}
            assert_eq!(counts.overruns(), 1, "{counts:?}");
        });
    }
}
