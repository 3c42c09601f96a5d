//! What is changed on the way home, and what follows from the kernel's answer. Pure.

use std::os::fd::AsFd;

use nix::errno::Errno;
use xpu_linux::{
    netns::NetNs,
    sync::link::{Change, SetFlags},
};
use xpu_model::IfName;

use crate::{
    device::{MacBy, netdev::Current, other_mtu},
    journal::Netdev,
};

/// What makes a netdev what it was: only what differs. `to` is its home's namespace where it is not
/// there yet.
pub fn plan_home<'a>(
    current: &Current,
    to: Option<&'a NetNs>,
    origin: &'a Netdev,
    name: &'a IfName,
    mac_by: MacBy,
) -> Change<'a> {
    let other_mac = current.mac != Some(origin.mac);
    // A move takes the device down.
    let up = current.up && to.is_none();
    let resets = mac_by == MacBy::Reset && other_mac;
    let wants_up = origin.up || resets;
    // Some drivers don't reset when they come up, but do when the MTU changes; the next round puts
    // that back.
    let wanted_mtu = if resets {
        other_mtu(origin.mtu)
    } else {
        origin.mtu
    };
    let flags = origin.flags.map_or(SetFlags::ETHERNET, SetFlags::among);
    let differs = |was: Option<u32>, is: Option<u32>| was.filter(|_| is.is_some() && is != was);
    let mut change = Change {
        netns: to.map(AsFd::as_fd),
        name: (current.name != name.as_str()).then_some(name),
        mac: (other_mac && mac_by == MacBy::Message).then_some(origin.mac),
        mtu: (current.mtu != u32::from(wanted_mtu)).then_some(wanted_mtu),
        // Programs of the host may take an alias for their own word.
        alias: (current.alias != origin.alias).then(|| origin.alias.as_deref().unwrap_or_default()),
        up: (up != wants_up).then_some(wants_up),
        flags: (current.flags != flags).then_some(flags),
        txqlen: differs(origin.txqlen, current.txqlen),
        group: differs(origin.group, current.group),
        ..Change::of(current.index)
    };
    // Where a change is sent anyway; without RTNL nobody tells whether it is needed.
    change.plain = !change.is_empty();
    change
}

/// What follows the kernel's answer to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is home.
    Done,
    /// It is home, but has another MAC and keeps that.
    KeepsMac,
    /// Look where and what it is, and change what still differs.
    Again(MacBy),
    /// One of its names is taken at home; without that one, again.
    Rename,
    /// Only a look tells whether it was the MAC that was refused.
    LookForMac,
    /// It can't be brought home now.
    Fail,
}

/// What was sent, for [`next`].
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Whether the netdev was in the pod then.
    pub in_pod: bool,
    /// Whether its MAC was right then.
    pub had_mac: bool,
    /// Whether it was told its MAC.
    pub tells_mac: bool,
    /// How it was to get its MAC.
    pub mac_by: MacBy,
}

/// What follows the kernel's answer to a change, if it was empty as if it was accepted. A refusal
/// comes with its errno.
pub fn next(sent: Sent, answer: Result<(), Option<Errno>>) -> Next {
    match (answer, sent.mac_by) {
        // What had it in the pod lets go of it at the move, and a bond gives back what it had
        // found, whatever the message says: only another look tells.
        (Ok(()), mac_by) if sent.in_pod => Next::Again(mac_by),
        (Ok(()), MacBy::Message) => Next::Done,
        (Ok(()), MacBy::Reset) => Next::Again(MacBy::Nobody),
        (Ok(()), MacBy::Nobody) if sent.had_mac => Next::Done,
        (Ok(()), MacBy::Nobody) => Next::KeepsMac,
        (Err(Some(Errno::EADDRNOTAVAIL)), MacBy::Message) => Next::Again(MacBy::Reset),
        (Err(Some(Errno::EEXIST)), _) => Next::Rename,
        // Drivers refuse a MAC with various errnos. `do_setlink()` then stops half-way: moved, not
        // yet renamed.
        (Err(_), MacBy::Message) if sent.tells_mac => Next::LookForMac,
        // One that can't reset goes without.
        (Err(_), MacBy::Reset) => Next::Again(MacBy::Nobody),
        (Err(_), _) => Next::Fail,
    }
}
