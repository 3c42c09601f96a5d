//! The gateways' entries on the tenant bridge. Each is asked for by itself, since a dump of the
//! tenants' FDB takes the kernel time quadratic in its size; so what is known is kept until an
//! event says that it may have changed.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use nix::errno::Errno;
use xpu_model::{IfIndex, Mac, VlanId};
use xpu_plan::linux::FdbEntry;

use crate::sync::{Rtnl, RtnlError};

/// Entries that are remembered one by one; of more it is simpler to ask for all anew.
const MOST: usize = 8192;

/// What events told of the entries that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Any may have changed.
    all: bool,
    /// These may have changed.
    entries: BTreeSet<FdbEntry>,
}

impl Moved {
    /// Nothing is known any more.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            all: true,
            entries: BTreeSet::new(),
        }
    }

    /// Takes note of an event, as the kernel sent it.
    pub(super) fn note(&mut self, datagram: &[u8]) {
        let kind = datagram.get(4..6);
        let kind = kind.map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if !matches!(kind, Some(libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH)) {
            return;
        }
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) {
            Ok(NetlinkMessage {
                payload:
                    NetlinkPayload::InnerMessage(
                        RouteNetlinkMessage::NewNeighbour(message)
                        | RouteNetlinkMessage::DelNeighbour(message),
                    ),
                ..
            }) => self.entries.extend(entry(&message)),
            _ => self.all = true,
        }
        if self.entries.len() > MOST {
            *self = Self::all();
        }
    }
}

/// The entry that a message is of; none without a VLAN, as ours are not.
fn entry(message: &NeighbourMessage) -> Option<FdbEntry> {
    let (mut mac, mut vlan) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                let octets = <[u8; 6]>::try_from(bytes.as_slice()).ok()?;
                mac = Some(Mac::try_from(octets).ok()?);
            }
            NeighbourAttribute::Vlan(id) => vlan = VlanId::try_from(u32::from(*id)).ok(),
            _ => {}
        }
    }
    Some(FdbEntry {
        vlan: vlan?,
        mac: mac?,
    })
}

/// What is known of the entries on a bridge.
#[derive(Debug, Default)]
pub(super) struct Known {
    bridge: Option<IfIndex>,
    /// Whether each stood when it was asked for last.
    seen: BTreeMap<FdbEntry, bool>,
    /// The entries about which no event has come since: their answer still holds.
    sure: BTreeSet<FdbEntry>,
}

impl Known {
    /// Forgets the answers that may have changed, so that they are asked for anew.
    pub(super) fn forget(&mut self, moved: &Moved) {
        if moved.all {
            self.sure.clear();
        }
        for entry in &moved.entries {
            self.sure.remove(entry);
        }
    }

    /// Which of the entries stand on the bridge of that index; `ask` is called for those whose
    /// answer is not known. An entry that was found once is looked for until it has gone, even if
    /// it is not among `named` any more.
    pub(super) fn look(
        &mut self,
        bridge: IfIndex,
        named: &BTreeSet<FdbEntry>,
        mut ask: impl FnMut(&FdbEntry) -> Result<bool, RtnlError>,
    ) -> Result<BTreeSet<FdbEntry>, RtnlError> {
        if self.bridge != Some(bridge) {
            *self = Self {
                bridge: Some(bridge),
                ..Self::default()
            };
        }
        let stood = self.seen.iter().filter(|(_, stood)| **stood);
        let mut wanted: BTreeSet<FdbEntry> = stood.map(|(entry, _)| *entry).collect();
        wanted.extend(named);
        for entry in &wanted {
            if !self.sure.contains(entry) {
                self.seen.insert(*entry, ask(entry)?);
                self.sure.insert(*entry);
            }
        }
        self.seen.retain(|entry, _| wanted.contains(entry));
        self.sure.retain(|entry| wanted.contains(entry));
        let standing = self.seen.iter().filter(|(_, stands)| **stands);
        Ok(standing.map(|(entry, _)| *entry).collect())
    }
}

/// Whether the kernel has an entry on the bridge.
pub(super) fn ask(rtnl: &mut Rtnl, bridge: IfIndex, entry: &FdbEntry) -> Result<bool, RtnlError> {
    let what = format!("look for {} in VLAN {}", entry.mac, entry.vlan);
    match rtnl.get(&what, question(bridge, entry), false) {
        Ok(answers) => Ok(answers.iter().any(is_permanent)),
        // The bridge, too, may have gone since; the event of that starts another pass.
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn question(bridge: IfIndex, entry: &FdbEntry) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = bridge.get();
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(entry.mac.octets().to_vec()),
        NeighbourAttribute::Vlan(entry.vlan.get()),
    ];
    RouteNetlinkMessage::GetNeighbour(message)
}

fn is_permanent(message: &RouteNetlinkMessage) -> bool {
    matches!(message, RouteNetlinkMessage::NewNeighbour(found)
        if found.header.state == NeighbourState::Permanent)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;

    use super::*;

    const BRIDGE: IfIndex = match IfIndex::new(7) {
        Some(index) => index,
        None => unreachable!(),
    };

    fn gateway(vlan: u32) -> FdbEntry {
        FdbEntry {
            vlan: vlan.try_into().unwrap(),
            mac: "02:00:5e:00:00:10".parse().unwrap(),
        }
    }

    /// Which entries are asked for, and which stand, on a bridge that has those of even VLANs.
    fn look(known: &mut Known, named: &BTreeSet<FdbEntry>) -> (Vec<FdbEntry>, usize) {
        let mut asked = Vec::new();
        let standing = known.look(BRIDGE, named, |entry| {
            asked.push(*entry);
            Ok(entry.vlan.get() % 2 == 0)
        });
        (asked, standing.unwrap().len())
    }

    fn event(entry: FdbEntry, gone: bool) -> Vec<u8> {
        let RouteNetlinkMessage::GetNeighbour(message) = question(BRIDGE, &entry) else {
            unreachable!()
        };
        let message = if gone {
            RouteNetlinkMessage::DelNeighbour(message)
        } else {
            RouteNetlinkMessage::NewNeighbour(message)
        };
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), message.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn only_what_may_have_changed_is_asked_for() {
        let mut known = Known::default();
        let mut named: BTreeSet<FdbEntry> = (1..=1000).map(gateway).collect();
        assert_eq!(look(&mut known, &named).0.len(), 1000);
        known.forget(&Moved::default());
        assert_eq!(look(&mut known, &named), (vec![], 500));

        named.insert(gateway(2000));
        assert_eq!(look(&mut known, &named), (vec![gateway(2000)], 501));

        for gone in [false, true] {
            let mut moved = Moved::default();
            moved.note(&event(gateway(10), gone));
            known.forget(&moved);
            assert_eq!(look(&mut known, &named), (vec![gateway(10)], 501));
        }
        known.forget(&Moved::all());
        assert_eq!(look(&mut known, &named).0.len(), 1001);
    }

    #[test]
    fn what_cannot_be_read_may_be_anything_and_other_events_are_nothing() {
        let mut moved = Moved::default();
        let whole = event(gateway(10), true);
        moved.note(&whole[..whole.len() - 5]);
        assert_eq!(moved, Moved::all());

        let mut moved = Moved::default();
        let mut link = whole;
        link[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        moved.note(&link);
        moved.note(&[]);
        assert_eq!(moved, Moved::default());
    }

    #[test]
    fn what_stands_is_looked_for_until_it_has_gone() {
        let mut known = Known::default();
        look(&mut known, &BTreeSet::from([gateway(2), gateway(3)]));
        let nobody = BTreeSet::new();
        assert_eq!(look(&mut known, &nobody), (vec![], 1));
        known.forget(&Moved::all());
        let standing = known.look(BRIDGE, &nobody, |entry| {
            assert_eq!(*entry, gateway(2));
            Ok(false)
        });
        assert!(standing.unwrap().is_empty());
        known.forget(&Moved::all());
        assert_eq!(look(&mut known, &nobody), (vec![], 0));
    }

    #[test]
    fn another_bridge_of_the_name_is_asked_anew() {
        let mut known = Known::default();
        let named = BTreeSet::from([gateway(2)]);
        look(&mut known, &named);
        let other = IfIndex::new(8).unwrap();
        let standing = known.look(other, &named, |_| Ok(false));
        assert!(standing.unwrap().is_empty());
    }
}
