//! Netlink messages, read from the very bytes that went into the kernel (`linux/netlink.h`,
//! `linux/rtnetlink.h`, `linux/if_link.h`): no code of the product's, and no codec that it uses, has a
//! part in this.

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_ALT_IFNAME: u16 = 53;
const IFF_UP: u32 = 1;

/// A netlink message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// Whether it changes a link.
    #[must_use]
    pub fn changes_link(&self) -> bool {
        matches!(self.kind, RTM_NEWLINK | RTM_SETLINK)
    }

    /// Whether it moves a link to another namespace.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.changes_link() && (self.has(IFLA_NET_NS_FD) || self.has(IFLA_NET_NS_PID))
    }

    /// Whether it brings a link up (`Some(true)`) or down; `None`: neither.
    #[must_use]
    pub fn brings(&self) -> Option<bool> {
        let word = |at: usize| {
            let bytes = self.body.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        // struct ifinfomsg: family, padding, type, index, flags, change mask.
        let (flags, mask) = (word(8)?, word(12)?);
        (self.changes_link() && mask & IFF_UP != 0).then_some(flags & IFF_UP != 0)
    }

    /// Whether it asks for a link by a name, which takes RTNL.
    #[must_use]
    pub fn asks_by_name(&self) -> bool {
        self.kind == RTM_GETLINK
            && self.flags & NLM_F_DUMP == 0
            && (self.has(IFLA_IFNAME) || self.has(IFLA_ALT_IFNAME))
    }

    /// Whether it lists links: what that costs grows with their number.
    #[must_use]
    pub fn lists_links(&self) -> bool {
        self.kind == RTM_GETLINK && self.flags & NLM_F_DUMP != 0
    }

    /// Whether it renames, sets the MTU and the MAC, in this order.
    #[must_use]
    pub fn sets(&self) -> [bool; 3] {
        [IFLA_IFNAME, IFLA_MTU, IFLA_ADDRESS].map(|kind| self.changes_link() && self.has(kind))
    }

    fn has(&self, wanted: u16) -> bool {
        let mut rest = self.body.get(16..).unwrap_or_default();
        while let Some(&[a, b, c, d]) = rest.first_chunk() {
            if u16::from_ne_bytes([c, d]) & 0x3fff == wanted {
                return true;
            }
            let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        false
    }
}

/// The messages of a datagram.
#[must_use]
pub fn messages(mut datagram: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence number, port.
    while let Some(header) = datagram.first_chunk::<16>() {
        let [a, b, c, d, k, l, f, g, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]);
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(16);
        found.push(Message {
            kind: u16::from_ne_bytes([k, l]),
            flags: u16::from_ne_bytes([f, g]),
            body: datagram.get(16..length).unwrap_or_default().to_vec(),
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_by_name_and_a_link_taken_down_are_seen() {
        let header = |kind: u16, flags: u16, length: u32| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(flags.to_ne_bytes());
            bytes.extend([0; 8]);
            bytes
        };
        let mut asks = header(RTM_GETLINK, 5, 40);
        asks.extend([0; 16]);
        asks.extend([8, 0, 3, 0, b'v', b'f', b'0', 0]);
        let mut down = header(RTM_NEWLINK, 5, 32);
        down.extend([0; 12]);
        down.extend(IFF_UP.to_ne_bytes());
        let told = messages(&[asks, down].concat());
        assert!(told[0].asks_by_name());
        assert_eq!((told[1].brings(), told[1].moves()), (Some(false), false));
        assert_eq!(messages(&[1, 2, 3]), []);
    }
}
