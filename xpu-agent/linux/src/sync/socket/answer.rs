//! What the kernel answers: objects, ends of dumps, and verdicts with their reasons.

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload,
};
use nix::errno::Errno;

use crate::sync::{attribute::attributes, link::scrub::scrub};

/// Bytes of the `nlmsghdr` that every message, and every error's copy, starts with.
const HEADER: usize = 16;

/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`: the refusal in words.
const ERROR_TEXT: u16 = 1;

/// One message that the kernel sent.
pub(super) struct Answer<A> {
    pub sequence: u32,
    /// The dump it belongs to was interrupted by a change.
    pub is_torn: bool,
    pub kind: Kind<A>,
}

/// What it says.
pub(super) enum Kind<A> {
    Object(Box<A>),
    Done(Verdict),
    Ack(Verdict),
}

/// What the kernel says of a request: nothing, or an error number and perhaps why.
pub(super) type Verdict = Result<(), (Errno, Option<String>)>;

/// The messages of one datagram.
///
/// # Errors
/// What can't be read, in words.
pub(super) fn answers<A: NetlinkDeserializable>(
    mut datagram: &[u8],
) -> Result<Vec<Answer<A>>, String> {
    let mut found = Vec::new();
    while datagram.len() >= HEADER {
        let buffer = NetlinkBuffer::new_checked(datagram).map_err(|error| error.to_string())?;
        let length = usize::try_from(buffer.length()).map_err(|error| error.to_string())?;
        let kind = match buffer.message_type() {
            NLMSG_DONE => Kind::Done(end(buffer.payload())),
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
pub(super) fn verdict(payload: &[u8]) -> Result<Verdict, String> {
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

/// Reads the end of a dump: the error number negated, and what explains it.
pub(super) fn end(payload: &[u8]) -> Verdict {
    match payload.split_first_chunk() {
        Some((code, rest)) if i32::from_ne_bytes(*code) < 0 => {
            let code = i32::from_ne_bytes(*code).saturating_neg();
            Err((Errno::from_raw(code), explanation(rest)))
        }
        _ => Ok(()),
    }
}

pub(super) fn explanation(bytes: &[u8]) -> Option<String> {
    let (_, value) = attributes(bytes).find(|(kind, _)| *kind == ERROR_TEXT)?;
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::RouteNetlinkMessage;

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
    fn a_list_may_end_with_an_error() {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        assert_eq!(end(&payload), Err((Errno::EINVAL, None)));
        payload.extend(attribute(ERROR_TEXT, b"no such namespace\0"));
        let told = Some("no such namespace".to_owned());
        assert_eq!(end(&payload), Err((Errno::EINVAL, told)));
        assert_eq!((end(&[0; 4]), end(&[])), (Ok(()), Ok(())));
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
    fn a_cut_datagram_is_an_error_or_nothing() {
        let whole: Vec<u8> = [&32_u32.to_ne_bytes()[..], &[0; 28]].concat();
        for cut in 0..whole.len() {
            let result = answers::<RouteNetlinkMessage>(&whole[..cut]);
            assert!(result.is_err() || cut < HEADER, "{cut}");
        }
    }
}
