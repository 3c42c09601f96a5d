//! A PF whose driver gives VFs no address, on a card whose driver does.
//!
//! The kernel answers for a driver without `ndo_set_vf_mac` (`do_setvfinfo`, net/core/rtnetlink.c):
//! EOPNOTSUPP. No card that can be emulated has such a driver. With `XPU_TESTBED_NO_VF_MAC` set, a
//! request for a VF's address leaves the process as one for its GUID, which the kernel answers in
//! the same way, and for the same reason, where the card is no InfiniBand one.

use std::{env, sync::OnceLock};

const RTM_NEWLINK: u16 = 16;
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_IB_NODE_GUID: u16 = 10;
/// `struct nlmsghdr` and, behind it, `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE: usize = 4;

/// The datagram as it leaves the process, if not as it is.
pub fn instead(bytes: &[u8]) -> Option<Vec<u8>> {
    static ON: OnceLock<bool> = OnceLock::new();
    if !*ON.get_or_init(|| env::var_os("XPU_TESTBED_NO_VF_MAC").is_some()) {
        return None;
    }
    let mut told = bytes.to_vec();
    messages(&mut told);
    Some(told)
}

/// Netlink messages in one datagram. What is of another protocol has no such beginning.
fn messages(mut bytes: &mut [u8]) {
    while let Some(&[a, b, c, d, e, f]) = bytes.first_chunk() {
        let length = u32::from_ne_bytes([a, b, c, d]).try_into().unwrap_or(0);
        let Some(message) = bytes.get_mut(..length).filter(|it| it.len() >= HEADER) else {
            return;
        };
        if u16::from_ne_bytes([e, f]) == RTM_NEWLINK
            && let Some(attributes) = message.get_mut(HEADER + LINK..)
        {
            inside(attributes, &[IFLA_VFINFO_LIST, IFLA_VF_INFO, IFLA_VF_MAC]);
        }
        let next = length.next_multiple_of(4).min(bytes.len());
        bytes = &mut bytes[next..];
    }
}

/// Makes a GUID of the attributes that the path of types leads to.
fn inside(mut attributes: &mut [u8], path: &[u16]) {
    const TYPE_MASK: u16 = 0x3fff;

    while let Some(&[a, b, c, d]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if length < ATTRIBUTE || length > attributes.len() {
            return;
        }
        if let [kind, deeper @ ..] = path
            && u16::from_ne_bytes([c, d]) & TYPE_MASK == *kind
        {
            match deeper {
                [] => attributes[2..4].copy_from_slice(&IFLA_VF_IB_NODE_GUID.to_ne_bytes()),
                _ => inside(&mut attributes[ATTRIBUTE..length], deeper),
            }
        }
        let next = length.next_multiple_of(4).min(attributes.len());
        attributes = &mut attributes[next..];
    }
}
