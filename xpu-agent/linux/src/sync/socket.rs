//! One blocking `NETLINK_ROUTE` socket: batches with an acknowledgement for each
//! message, dumps, and the kernel's own words for a refusal (extended ACK).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use super::{attribute::attributes, link::scrub::scrub};

/// Room for one datagram of objects. The largest single answer is that of a PF with 256 VFs,
/// statistics left out: some 40 KiB. Untouched pages cost nothing.
const BUFFER: usize = 256 * 1024;

/// Room for one acknowledgement: without a copy of the request, with an explanation.
const ACK: usize = 4096;

/// Bytes of the `nlmsghdr` that every message, and every error's copy, starts with.
const HEADER: usize = 16;

/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`: the refusal in words.
const ERROR_TEXT: u16 = 1;

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

    /// Sends all requests in one system call and reads an answer for each. The kernel
    /// works through all of them, also past one that it refuses.
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
                    Kind::Done | Kind::Ack(Ok(())) => return Ok((!is_torn).then_some(found)),
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

struct Answer<A> {
    sequence: u32,
    /// The dump it belongs to was interrupted by a change.
    is_torn: bool,
    kind: Kind<A>,
}

enum Kind<A> {
    Object(Box<A>),
    Done,
    Ack(Result<(), (Errno, Option<String>)>),
}

fn answers<A: NetlinkDeserializable>(mut datagram: &[u8]) -> Result<Vec<Answer<A>>, String> {
    let mut found = Vec::new();
    while datagram.len() >= HEADER {
        let buffer = NetlinkBuffer::new_checked(datagram).map_err(|error| error.to_string())?;
        let length = usize::try_from(buffer.length()).map_err(|error| error.to_string())?;
        let kind = match buffer.message_type() {
            NLMSG_DONE => Kind::Done,
            NLMSG_ERROR => Kind::Ack(verdict(buffer.payload())?),
            _ => {
                let message = NetlinkMessage::<A>::deserialize(datagram)
                    .or_else(|_| NetlinkMessage::<A>::deserialize(&scrub(datagram, length)));
                match message.map_err(|error| error.to_string())?.payload {
                    NetlinkPayload::InnerMessage(object) => Kind::Object(Box::new(object)),
                    _ => {
                        return Err(format!(
                            "unexpected message of type {}",
                            buffer.message_type()
                        ));
                    }
                }
            }
        };
        found.push(Answer {
            sequence: buffer.sequence_number(),
            is_torn: buffer.flags() & NLM_F_DUMP_INTR != 0,
            kind,
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(found)
}

/// Reads an `nlmsgerr`: the error number negated, the request's header, then (with
/// `NETLINK_CAP_ACK` and `NETLINK_EXT_ACK`) the attributes that explain it.
fn verdict(payload: &[u8]) -> Result<Result<(), (Errno, Option<String>)>, String> {
    let (code, rest) = payload
        .split_first_chunk::<4>()
        .ok_or("short error message")?;
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(Ok(()));
    }
    let reason = rest.get(HEADER..).and_then(explanation);
    Ok(Err((Errno::from_raw(code.saturating_neg()), reason)))
}

fn explanation(bytes: &[u8]) -> Option<String> {
    let (_, value) = attributes(bytes).find(|(kind, _)| *kind == ERROR_TEXT)?;
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut payload = (-17_i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend(attribute(2, &7_u32.to_ne_bytes()));
        payload.extend(attribute(ERROR_TEXT, b"name taken\0"));
        let result = verdict(&payload).unwrap();
        assert_eq!(result, Err((Errno::EEXIST, Some("name taken".to_owned()))));
    }

    #[test]
    fn broken_attributes_end_the_search_quietly() {
        for attributes in [
            &[][..],
            &[1],
            &[0, 0, 1, 0],
            &[200, 0, 1, 0, 5],
            &[3, 0, 1, 0],
        ] {
            assert_eq!(explanation(attributes), None, "{attributes:?}");
        }
    }

    /// `RTM_NEWLINK` or `NLMSG_DONE`, with flags.
    fn message(kind: u16, flags: u16) -> Vec<u8> {
        let length = if kind == NLMSG_DONE { 20_u32 } else { 32 };
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(usize::try_from(length).unwrap(), 0);
        bytes
    }

    #[test]
    fn a_dump_that_something_changed_under_is_known_by_any_of_its_messages() {
        for (link, done) in [(0, 0), (NLM_F_DUMP_INTR, 0), (0, NLM_F_DUMP_INTR)] {
            let bytes = [message(16, 2 | link), message(NLMSG_DONE, 2 | done)].concat();
            let result = answers::<RouteNetlinkMessage>(&bytes).unwrap();
            assert_eq!(result.len(), 2);
            let torn = result.iter().any(|answer| answer.is_torn);
            assert_eq!(torn, (link | done) != 0);
        }
    }

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

    #[test]
    fn a_cut_datagram_is_an_error_or_nothing() {
        let whole: Vec<u8> = [&32_u32.to_ne_bytes()[..], &[0; 28]].concat();
        for cut in 0..whole.len() {
            let result = answers::<RouteNetlinkMessage>(&whole[..cut]);
            assert!(result.is_err() || cut < HEADER, "{cut}");
        }
    }
}
