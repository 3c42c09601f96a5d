//! Texts of a link that are no UTF-8. The kernel takes any bytes there, from whoever owns the link;
//! the general decoder wants UTF-8 and would refuse a whole dump for one such link.

use super::number::*;
use crate::sync::attribute::change_each;

/// Bytes of the `nlmsghdr` before the link's own header.
const NLMSGHDR: usize = 16;

/// The first message of a datagram; if it is a link's, with every byte beyond ASCII in names and
/// alias replaced by `?`.
pub(in crate::sync) fn scrub(datagram: &[u8], length: usize) -> Vec<u8> {
    let mut message = datagram.get(..length).unwrap_or(datagram).to_vec();
    let kind = message.get(4..6).and_then(|kind| kind.first_chunk());
    let is_link = kind.copied().map(u16::from_ne_bytes) == Some(RTM_NEWLINK);
    if is_link && let Some(attributes) = message.get_mut(NLMSGHDR + IFINFOMSG..) {
        scrub_texts(attributes);
    }
    message
}

fn scrub_texts(attributes: &mut [u8]) {
    change_each(attributes, |kind, value| match kind {
        IFLA_IFNAME | IFLA_IFALIAS | IFLA_ALT_IFNAME => {
            let beyond = value.iter_mut().filter(|byte| !byte.is_ascii());
            beyond.for_each(|byte| *byte = b'?');
        }
        IFLA_PROP_LIST => scrub_texts(value),
        _ => {}
    });
}
