//! What drivers refuse that no card's does which can be emulated: a request leaves the process as
//! another, which the kernel answers as such a driver would.
//!
//! `XPU_TESTBED_NO_VF_MAC`: the PF gives VFs no address. The kernel answers for a driver without
//! `ndo_set_vf_mac` (`do_setvfinfo`, net/core/rtnetlink.c): EOPNOTSUPP; and in the same way, for the
//! same reason, for a VF's GUID on a card that is no InfiniBand one.
//!
//! `XPU_TESTBED_KEEPS_MAC`: the VF takes no address but its PF's. Its driver answers EADDRNOTAVAIL
//! (`igbvf_set_mac`); so does every driver for one that is of a group.

use std::{env, sync::LazyLock};

const RTM_NEWLINK: u16 = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_IB_NODE_GUID: u16 = 10;
/// `struct nlmsghdr` and, behind it, `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE: usize = 4;

/// What is made of an attribute.
type Change = fn(&mut [u8]);

/// By the variable that asks for it, the attribute that the path of types leads to, and what is made
/// of it.
const CHANGES: [(&str, &[u16], Change); 2] = [
    (
        "XPU_TESTBED_NO_VF_MAC",
        &[IFLA_VFINFO_LIST, IFLA_VF_INFO, IFLA_VF_MAC],
        |attribute| attribute[2..4].copy_from_slice(&IFLA_VF_IB_NODE_GUID.to_ne_bytes()),
    ),
    ("XPU_TESTBED_KEEPS_MAC", &[IFLA_ADDRESS], |attribute| {
        if let Some(first) = attribute.get_mut(ATTRIBUTE) {
            *first |= 1;
        }
    }),
];

/// The datagram as it leaves the process, if not as it is.
pub fn instead(bytes: &[u8]) -> Option<Vec<u8>> {
    static ON: LazyLock<Vec<(&[u16], Change)>> = LazyLock::new(|| {
        let asked = |key: &&str| env::var_os(key).is_some();
        let on = CHANGES.into_iter().filter(|(key, ..)| asked(key));
        on.map(|(_, path, change)| (path, change)).collect()
    });
    if ON.is_empty() {
        return None;
    }
    let mut told = bytes.to_vec();
    for (path, change) in ON.iter() {
        messages(&mut told, path, *change);
    }
    Some(told)
}

/// Changes netlink messages in one datagram. What is of another protocol has no such beginning.
fn messages(mut bytes: &mut [u8], path: &[u16], change: Change) {
    while let Some(&[a, b, c, d, e, f]) = bytes.first_chunk() {
        let length = u32::from_ne_bytes([a, b, c, d]).try_into().unwrap_or(0);
        let Some(message) = bytes.get_mut(..length).filter(|it| it.len() >= HEADER) else {
            return;
        };
        if u16::from_ne_bytes([e, f]) == RTM_NEWLINK
            && let Some(attributes) = message.get_mut(HEADER + LINK..)
        {
            inside(attributes, path, change);
        }
        let next = length.next_multiple_of(4).min(bytes.len());
        bytes = &mut bytes[next..];
    }
}

/// Changes the attributes that the path of types leads to.
fn inside(mut attributes: &mut [u8], path: &[u16], change: Change) {
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
                [] => change(&mut attributes[..length]),
                _ => inside(&mut attributes[ATTRIBUTE..length], deeper, change),
            }
        }
        let next = length.next_multiple_of(4).min(attributes.len());
        attributes = &mut attributes[next..];
    }
}
