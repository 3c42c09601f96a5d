//! One blocking `NETLINK_ROUTE` socket: batches with an acknowledgement for each
//! message, dumps, and the kernel's own words for a refusal (extended ACK).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

mod answer;
mod several;

use answer::{Answer, Kind, answers};
pub(super) use several::Question;

/// Room for one datagram of objects. The largest single answer is that of a PF with 256 VFs,
/// statistics left out: some 40 KiB. Untouched pages cost nothing.
const BUFFER: usize = 256 * 1024;

/// Room for one acknowledgement: without a copy of the request, with an explanation.
const ACK: usize = 4096;

/// How many requests one system call sends. Their answers wait in the socket's receive buffer, each
/// in memory of its own that is far larger than itself (`skb->truesize`): a few hundred fill what
/// `net.core.rmem_default` gives, and the kernel drops the others (`ENOBUFS`).
const BATCH: usize = 64;

/// How often a dump is asked for that something changed under. Each takes the kernel milliseconds;
/// a node on which one does not get through meanwhile is asked again by whoever observes.
const DUMPS: usize = 8;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnlError {
    /// There is no socket to be had.
    #[error("can't open a netlink socket")]
    Open(#[source] io::Error),
    /// Sending or reading failed: the request may or may not have run.
    #[error("{what}: the netlink socket failed")]
    Transport {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{what}{}", said(reason.as_deref()))]
    Refused {
        /// What was asked.
        what: String,
        /// The error number.
        #[source]
        errno: Errno,
        /// The kernel's explanation, where it gave one.
        reason: Option<String>,
    },
    /// What was asked for kept changing while the kernel listed it (`NLM_F_DUMP_INTR`), so that
    /// things may be missing or be there twice.
    #[error("{what}: it changed during each of {DUMPS} dumps")]
    Unsteady {
        /// What was asked.
        what: String,
    },
    /// The answer can't be read.
    #[error("{what}: the kernel's answer can't be decoded ({detail})")]
    Malformed {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl RtnlError {
    /// The error number of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Open(_)
            | Self::Transport { .. }
            | Self::Unsteady { .. }
            | Self::Malformed { .. } => None,
        }
    }
}

fn said(reason: Option<&str>) -> String {
    reason
        .map(|text| format!(" (kernel: {text})"))
        .unwrap_or_default()
}

/// One change to ask for, with the words that name it in an error.
#[derive(Debug, Clone)]
pub struct Request<M = RouteNetlinkMessage> {
    /// What this does, as in `add 10.0.0.2/24 to net1`.
    pub what: String,
    /// The message.
    pub message: M,
    /// Flags beside REQUEST and ACK, as `NLM_F_CREATE | NLM_F_EXCL`.
    pub flags: u16,
}

/// The socket.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`RtnlError::Open`].
    pub fn open() -> Result<Self, RtnlError> {
        let socket = Socket::new(NETLINK_ROUTE).map_err(RtnlError::Open)?;
        // Acknowledgements without a copy of the request, and with a reason.
        socket.set_cap_ack(true).map_err(RtnlError::Open)?;
        socket.set_ext_ack(true).map_err(RtnlError::Open)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; ACK],
        })
    }

    /// Sends all requests, as many as the socket has room for the answers to in one system call,
    /// and reads an answer for each. The kernel works through all of them, also past one that it
    /// refuses.
    ///
    /// # Errors
    /// The first refusal, by order of the requests.
    pub fn apply<M: NetlinkSerializable + Clone>(
        &mut self,
        requests: &[Request<M>],
    ) -> Result<(), RtnlError> {
        self.apply_each(requests)?.into_iter().collect()
    }

    /// Like [`Self::apply`], with the kernel's verdict on each request, in their order.
    ///
    /// # Errors
    /// Only where the socket failed; then nobody knows how far the kernel came.
    pub fn apply_each<M: NetlinkSerializable + Clone>(
        &mut self,
        requests: &[Request<M>],
    ) -> Result<Vec<Result<(), RtnlError>>, RtnlError> {
        let mut verdicts = Vec::with_capacity(requests.len());
        for some in requests.chunks(BATCH) {
            verdicts.extend(self.apply_batch(some)?);
        }
        Ok(verdicts)
    }

    /// The kernel's verdicts on requests that go in one system call.
    fn apply_batch<M: NetlinkSerializable + Clone>(
        &mut self,
        requests: &[Request<M>],
    ) -> Result<Vec<Result<(), RtnlError>>, RtnlError> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        let start = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in requests {
            self.append(
                &mut bytes,
                request.message.clone(),
                NLM_F_ACK | request.flags,
            );
        }
        self.send(&bytes, &first.what)?;
        let mut verdicts: Vec<Option<Result<(), RtnlError>>> = Vec::new();
        verdicts.resize_with(requests.len(), || None);
        let mut open = requests.len();
        while open > 0 {
            for answer in self.receive::<RouteNetlinkMessage>(&first.what)? {
                let Some(at) = answer
                    .sequence
                    .checked_sub(start)
                    .and_then(|n| usize::try_from(n).ok())
                else {
                    continue; // an answer to an earlier call that gave up
                };
                let (Kind::Ack(verdict), Some(request)) = (answer.kind, requests.get(at)) else {
                    continue;
                };
                open -= 1;
                verdicts[at] = Some(verdict.map_err(|(errno, reason)| RtnlError::Refused {
                    what: request.what.clone(),
                    errno,
                    reason,
                }));
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Asks for one object or, with `dump`, for all of a kind.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer that can't be read.
    pub fn get(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
        dump: bool,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        self.get_as(what, message, dump)
    }

    /// Like [`Self::get`], for messages that are read as `A`. A dump that something changed under
    /// is asked for again.
    ///
    /// # Errors
    /// The kernel's refusal, an answer that can't be read, or [`RtnlError::Unsteady`].
    pub fn get_as<M: NetlinkSerializable + Clone, A: NetlinkDeserializable>(
        &mut self,
        what: &str,
        message: M,
        dump: bool,
    ) -> Result<Vec<A>, RtnlError> {
        if self.buffer.len() < BUFFER {
            self.buffer = vec![0; BUFFER];
        }
        steady(what, || self.ask(what, message.clone(), dump))
    }

    /// Asks once; none if the answer is of several states.
    fn ask<M: NetlinkSerializable, A: NetlinkDeserializable>(
        &mut self,
        what: &str,
        message: M,
        dump: bool,
    ) -> Result<Option<Vec<A>>, RtnlError> {
        let mut bytes = Vec::new();
        let flags = if dump { NLM_F_DUMP } else { NLM_F_ACK };
        self.append(&mut bytes, message, flags);
        let sequence = self.sequence;
        self.send(&bytes, what)?;
        let mut found = Vec::new();
        let mut is_torn = false;
        loop {
            for answer in self.receive(what)? {
                if answer.sequence != sequence {
                    continue;
                }
                is_torn |= answer.is_torn;
                match answer.kind {
                    Kind::Object(object) => found.push(*object),
                    // A list of something that isn't there, as of a routing table, ends with an
                    // error, and is empty.
                    Kind::Done(_) | Kind::Ack(Ok(())) => return Ok((!is_torn).then_some(found)),
                    Kind::Ack(Err((errno, reason))) => {
                        return Err(RtnlError::Refused {
                            what: what.to_owned(),
                            errno,
                            reason,
                        });
                    }
                }
            }
        }
    }

    /// Lets the kernel filter dumps by what the request says (`NETLINK_GET_STRICT_CHK`).
    ///
    /// # Errors
    /// [`RtnlError::Open`] on a kernel before 4.20.
    pub fn strict(&self) -> Result<(), RtnlError> {
        self.socket
            .set_netlink_get_strict_chk(true)
            .map_err(RtnlError::Open)
    }

    fn append<M: NetlinkSerializable>(&mut self, bytes: &mut Vec<u8>, message: M, flags: u16) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let start = bytes.len();
        // Messages in one datagram start at multiples of four (NLMSG_ALIGNTO).
        bytes.resize(start + packet.buffer_len().next_multiple_of(4), 0);
        packet.serialize(&mut bytes[start..start + packet.buffer_len()]);
    }

    fn send(&self, bytes: &[u8], what: &str) -> Result<(), RtnlError> {
        let sent = self.socket.send(bytes, 0);
        sent.map(drop).map_err(|source| RtnlError::Transport {
            what: what.to_owned(),
            source,
        })
    }

    fn receive<A: NetlinkDeserializable>(
        &mut self,
        what: &str,
    ) -> Result<Vec<Answer<A>>, RtnlError> {
        let read = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let source = errno.into();
                    return Err(RtnlError::Transport {
                        what: what.to_owned(),
                        source,
                    });
                }
                Ok(read) => break read,
            }
        };
        answers(&self.buffer[..read]).map_err(|detail| RtnlError::Malformed {
            what: what.to_owned(),
            detail,
        })
    }
}

/// The first answer that is of one state.
fn steady<T>(
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>, RtnlError>,
) -> Result<T, RtnlError> {
    for _ in 0..DUMPS {
        if let Some(found) = ask()? {
            return Ok(found);
        }
    }
    Err(RtnlError::Unsteady {
        what: what.to_owned(),
    })
}

impl AsFd for Rtnl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_dump_is_repeated_and_not_for_ever() {
        let mut asked = 0;
        let found = steady("list", || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(found.unwrap(), 3);
        asked = 0;
        let error = steady("list the links", || {
            asked += 1;
            Ok(None::<()>)
        });
        let result = error.unwrap_err().to_string();
        assert_eq!(result, "list the links: it changed during each of 8 dumps");
        assert_eq!(asked, DUMPS);
    }
}
