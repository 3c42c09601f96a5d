//! `RTM_GETVLAN`: the VLANs of bridges and ports, with their tunnels (`linux/if_bridge.h`,
//! `struct br_vlan_msg` and `BRIDGE_VLANDB_*`, kernel 5.7). The netlink crates do not have it.
//!
//! The older way, `RTM_GETLINK` with `RTEXT_FILTER_BRVLAN`, puts all of a port's VLANs into one
//! attribute. Some 2000 mappings that make no ranges exceed its 64 KiB, and the kernel then sends
//! it with a length that wrapped around. This dump is cut into messages.

use netlink_packet_core::{
    NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use xpu_model::{VlanId, Vni};
use xpu_plan::linux::link::VlanEntry;

use super::tunnel::PF_BRIDGE;
use crate::sync::attribute::TYPE_MASK;

const RTM_NEWVLAN: u16 = 112;
const RTM_GETVLAN: u16 = 114;

/// `struct br_vlan_msg`: family, three reserved bytes, ifindex.
const HEADER: usize = 8;

const BRIDGE_VLANDB_ENTRY: u16 = 1;
const BRIDGE_VLANDB_ENTRY_INFO: u16 = 1;
const BRIDGE_VLANDB_ENTRY_RANGE: u16 = 2;
const BRIDGE_VLANDB_ENTRY_TUNNEL_INFO: u16 = 4;
const BRIDGE_VLANDB_TINFO_ID: u16 = 1;

const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;

/// Asks for the VLANs of every bridge and port.
#[derive(Clone, Copy, Debug)]
pub(super) struct GetVlans;

impl NetlinkSerializable for GetVlans {
    fn message_type(&self) -> u16 {
        RTM_GETVLAN
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        buffer[0] = PF_BRIDGE;
    }
}

/// Some of the VLANs of one bridge or port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vlans {
    pub(super) device: u32,
    pub(super) entries: Vec<(VlanId, VlanEntry)>,
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a message of type {kind} is no VLAN message: {problem}")]
pub(super) struct VlansError {
    kind: u16,
    problem: &'static str,
}

impl NetlinkDeserializable for Vlans {
    type Error = VlansError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, VlansError> {
        let kind = header.message_type;
        let bad = |problem| VlansError { kind, problem };
        if kind != RTM_NEWVLAN {
            return Err(bad("unknown type"));
        }
        let (head, attributes) = payload
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| bad("too short"))?;
        let mut entries = Vec::new();
        for entry in NlasIterator::new(attributes) {
            let entry = entry.map_err(|_| bad("a cut attribute"))?;
            if entry.kind() & TYPE_MASK == BRIDGE_VLANDB_ENTRY {
                read(entry.value(), &mut entries).ok_or_else(|| bad("an entry without a VLAN"))?;
            }
        }
        Ok(Self {
            device: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            entries,
        })
    }
}

/// Reads an entry, which stands for a run of VLANs that are alike, with VNIs counted on.
fn read(entry: &[u8], entries: &mut Vec<(VlanId, VlanEntry)>) -> Option<()> {
    let (mut info, mut last, mut tunnel) = (None, None, None);
    for attribute in NlasIterator::new(entry) {
        let attribute = attribute.ok()?;
        match attribute.kind() & TYPE_MASK {
            BRIDGE_VLANDB_ENTRY_INFO => info = Some(attribute.value().try_into().ok()?),
            BRIDGE_VLANDB_ENTRY_RANGE => {
                last = Some(u16::from_ne_bytes(attribute.value().try_into().ok()?));
            }
            BRIDGE_VLANDB_ENTRY_TUNNEL_INFO => tunnel = tunnel_id(attribute.value()),
            _ => {}
        }
    }
    let [flags @ .., a, b]: [u8; 4] = info?;
    let (flags, first) = (u16::from_ne_bytes(flags), u16::from_ne_bytes([a, b]));
    for (offset, vlan) in (first..=last.unwrap_or(first)).enumerate() {
        // The kernel has no others.
        let Ok(vlan) = VlanId::try_from(u32::from(vlan)) else {
            continue;
        };
        let vni = tunnel.and_then(|id: u32| id.checked_add(u32::try_from(offset).ok()?));
        let entry = VlanEntry {
            pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
            untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
            tunnel: vni.and_then(|vni| Vni::try_from(vni).ok()),
        };
        entries.push((vlan, entry));
    }
    Some(())
}

fn tunnel_id(info: &[u8]) -> Option<u32> {
    NlasIterator::new(info)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() & TYPE_MASK == BRIDGE_VLANDB_TINFO_ID)
        .and_then(|attribute| Some(u32::from_ne_bytes(attribute.value().try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VLANs 10 and 11, mapped to 1010 and 1011, and an untagged PVID 20, of ifindex 5, as the
    /// uAPI header lays them out.
    const ANSWER: [u8; 56] = [
        7, 0, 0, 0, 5, 0, 0, 0, // br_vlan_msg
        32, 0, 1, 0x80, // BRIDGE_VLANDB_ENTRY, nested
        8, 0, 1, 0, 0, 0, 10, 0, // INFO: no flags, VLAN 10
        6, 0, 2, 0, 11, 0, 0, 0, // RANGE: up to 11, padding
        12, 0, 4, 0x80, 8, 0, 1, 0, 0xf2, 3, 0, 0, // TUNNEL_INFO { ID 1010 }
        12, 0, 1, 0x80, // BRIDGE_VLANDB_ENTRY, nested
        8, 0, 1, 0, 6, 0, 20, 0, // INFO: PVID, untagged, VLAN 20
        4, 0, 9, 0, // an attribute of a newer kernel
    ];

    fn parse(payload: &[u8]) -> Result<Vlans, VlansError> {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWVLAN;
        Vlans::deserialize(&header, payload)
    }

    #[test]
    fn runs_are_counted_out() {
        let read = parse(&ANSWER).unwrap();
        assert_eq!(read.device, 5);
        let found: Vec<_> = read
            .entries
            .iter()
            .map(|(vlan, it)| (vlan.get(), it.pvid, it.untagged, it.tunnel.map(Vni::get)))
            .collect();
        let expected = [
            (10, false, false, Some(1010)),
            (11, false, false, Some(1011)),
            (20, true, true, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn cut_answers_are_refused_or_shorter() {
        for cut in 0..ANSWER.len() - 4 {
            if let Ok(read) = parse(&ANSWER[..cut]) {
                assert!(read.entries.len() < 3, "{cut}");
            }
        }
    }
}
