//! What a pod's owner, or the kernel on behalf of what the pod has made, does between two requests
//! of the plugin.
//!
//! `XPU_TESTBED_AFTER=kind arguments…` runs `ip` with the arguments each time that a datagram with
//! a request of that kind was sent: `move` for a device that goes to another namespace, `names` for
//! alternative names that are taken from one, `look` for a list of all devices.

use std::{
    env,
    process::{Command, Stdio},
    sync::OnceLock,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELLINKPROP: u16 = 109;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_NET_NS_FD: u16 = 28;
/// `struct nlmsghdr` and, behind it, `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK: usize = 16;

/// Does what is to be done after these bytes, if anything.
pub fn after(bytes: &[u8]) {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| env::var("XPU_TESTBED_AFTER").ok());
    let Some((kind, arguments)) = asked.as_deref().and_then(|asked| asked.split_once(' ')) else {
        return;
    };
    let is_it = |message: &[u8]| match message.get(4..6) {
        Some(told) if told == RTM_NEWLINK.to_ne_bytes() => kind == "move" && moves(message),
        Some(told) if told == RTM_GETLINK.to_ne_bytes() => kind == "look" && dumps(message),
        Some(told) if told == RTM_NEWADDR.to_ne_bytes() => kind == "address",
        Some(told) => told == RTM_DELLINKPROP.to_ne_bytes() && kind == "names",
        None => false,
    };
    if parts(bytes, 4).any(is_it) {
        let mut ip = Command::new("ip");
        let done = ip.args(arguments.split(' ')).stdout(Stdio::null()).status();
        eprintln!("ip {arguments}: {done:?}");
    }
}

fn dumps(message: &[u8]) -> bool {
    let flags = message.get(6..8).and_then(|flags| flags.try_into().ok());
    flags.is_some_and(|flags| u16::from_ne_bytes(flags) & NLM_F_DUMP == NLM_F_DUMP)
}

fn moves(message: &[u8]) -> bool {
    let attributes = message.get(HEADER + LINK..).unwrap_or_default();
    parts(attributes, 2).any(|it| it.get(2..4) == Some(&IFLA_NET_NS_FD.to_ne_bytes()[..]))
}

/// Messages or attributes, each of which begins with its length in `size` bytes.
fn parts(mut bytes: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = match (size, bytes) {
            (2, &[a, b, ..]) => u16::from_ne_bytes([a, b]).into(),
            (4, &[a, b, c, d, ..]) => u32::from_ne_bytes([a, b, c, d]),
            _ => return None,
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length > size)?;
        let part = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    })
}
