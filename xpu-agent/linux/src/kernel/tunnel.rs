//! `RTM_NEWTUNNEL`, `RTM_DELTUNNEL` and `RTM_GETTUNNEL`: which VNIs a VXLAN device with a VNI
//! filter admits (`linux/if_link.h`, `struct tunnel_msg` and `VXLAN_VNIFILTER_*`). The netlink
//! crates do not have these messages.

use netlink_packet_core::{
    NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use xpu_model::IfIndex;

use crate::sync::attribute::{HEADER as ATTRIBUTE, TYPE_MASK};

const RTM_NEWTUNNEL: u16 = 120;
const RTM_DELTUNNEL: u16 = 121;
const RTM_GETTUNNEL: u16 = 122;

/// `struct tunnel_msg`: family, flags, two reserved bytes, ifindex.
const HEADER: usize = 8;
pub(super) const PF_BRIDGE: u8 = 7;

const VXLAN_VNIFILTER_ENTRY: u16 = 1;
const VXLAN_VNIFILTER_ENTRY_START: u16 = 1;
const VXLAN_VNIFILTER_ENTRY_END: u16 = 2;

/// `NLA_F_NESTED` (`linux/netlink.h`).
const NESTED: u16 = 1 << 15;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    New,
    Delete,
}

/// One message: a device and runs of VNIs, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TunnelMessage {
    pub(super) verb: Verb,
    /// None: of every device.
    pub(super) device: Option<IfIndex>,
    pub(super) vnis: Vec<(u32, u32)>,
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a message of type {kind} is no tunnel message: {problem}")]
pub(super) struct TunnelError {
    kind: u16,
    problem: &'static str,
}

impl TunnelMessage {
    fn entry_len(start: u32, end: u32) -> usize {
        let numbers = if start == end { 1 } else { 2 };
        ATTRIBUTE + numbers * (ATTRIBUTE + 4)
    }
}

impl NetlinkSerializable for TunnelMessage {
    fn message_type(&self) -> u16 {
        match self.verb {
            Verb::Get => RTM_GETTUNNEL,
            Verb::New => RTM_NEWTUNNEL,
            Verb::Delete => RTM_DELTUNNEL,
        }
    }

    fn buffer_len(&self) -> usize {
        let entries = self
            .vnis
            .iter()
            .map(|(start, end)| Self::entry_len(*start, *end));
        HEADER + entries.sum::<usize>()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let mut bytes = Vec::with_capacity(self.buffer_len());
        bytes.extend([PF_BRIDGE, 0, 0, 0]);
        bytes.extend(self.device.map_or(0, IfIndex::get).to_ne_bytes());
        for &(start, end) in &self.vnis {
            attribute(
                &mut bytes,
                VXLAN_VNIFILTER_ENTRY | NESTED,
                Self::entry_len(start, end),
            );
            attribute(&mut bytes, VXLAN_VNIFILTER_ENTRY_START, ATTRIBUTE + 4);
            bytes.extend(start.to_ne_bytes());
            if start != end {
                attribute(&mut bytes, VXLAN_VNIFILTER_ENTRY_END, ATTRIBUTE + 4);
                bytes.extend(end.to_ne_bytes());
            }
        }
        buffer.copy_from_slice(&bytes);
    }
}

/// Writes an attribute's header; `length` counts it in, and is far below 2^16.
fn attribute(bytes: &mut Vec<u8>, kind: u16, length: usize) {
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
}

impl NetlinkDeserializable for TunnelMessage {
    type Error = TunnelError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, TunnelError> {
        let kind = header.message_type;
        let bad = |problem| TunnelError { kind, problem };
        let verb = match kind {
            RTM_NEWTUNNEL => Verb::New,
            RTM_DELTUNNEL => Verb::Delete,
            _ => return Err(bad("unknown type")),
        };
        let (head, attributes) = payload
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| bad("too short"))?;
        let device = IfIndex::new(u32::from_ne_bytes([head[4], head[5], head[6], head[7]]));
        let mut vnis = Vec::new();
        for entry in NlasIterator::new(attributes) {
            let entry = entry.map_err(|_| bad("a cut attribute"))?;
            if entry.kind() & TYPE_MASK == VXLAN_VNIFILTER_ENTRY {
                vnis.push(range(entry.value()).ok_or_else(|| bad("an entry without a VNI"))?);
            }
        }
        Ok(Self { verb, device, vnis })
    }
}

fn range(entry: &[u8]) -> Option<(u32, u32)> {
    let (mut start, mut end) = (None, None);
    for attribute in NlasIterator::new(entry) {
        let attribute = attribute.ok()?;
        let number = || attribute.value().try_into().ok().map(u32::from_ne_bytes);
        match attribute.kind() & TYPE_MASK {
            VXLAN_VNIFILTER_ENTRY_START => start = number(),
            VXLAN_VNIFILTER_ENTRY_END => end = number(),
            _ => {}
        }
    }
    start.map(|start| (start, end.unwrap_or(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &TunnelMessage) -> Vec<u8> {
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        buffer
    }

    fn read(payload: &[u8]) -> Result<TunnelMessage, TunnelError> {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWTUNNEL;
        TunnelMessage::deserialize(&header, payload)
    }

    fn message(vnis: &[(u32, u32)]) -> TunnelMessage {
        TunnelMessage {
            verb: Verb::New,
            device: IfIndex::new(5),
            vnis: vnis.to_vec(),
        }
    }

    /// `bridge vni add dev vxlan0 vni 10100`, for ifindex 5, as the uAPI header lays it out.
    #[test]
    fn one_vni_is_laid_out_as_the_uapi_says() {
        let expected = [
            7, 0, 0, 0, 5, 0, 0, 0, // tunnel_msg
            12, 0, 1, 0x80, // VXLAN_VNIFILTER_ENTRY, nested
            8, 0, 1, 0, 0x74, 0x27, 0, 0, // START 10100
        ];
        assert_eq!(bytes(&message(&[(10_100, 10_100)])), expected);
    }

    #[test]
    fn what_is_written_reads_back() {
        let message = message(&[(1, 1), (10, 4000), (0xff_ffff, 0xff_ffff)]);
        assert_eq!(read(&bytes(&message)).unwrap(), message);
    }

    #[test]
    fn cut_messages_are_refused_or_shorter() {
        let whole = bytes(&message(&[(1, 1), (10, 4000)]));
        for cut in 0..whole.len() {
            if let Ok(read) = read(&whole[..cut]) {
                assert!(read.vnis.len() < 2, "{cut}");
            }
        }
    }
}
