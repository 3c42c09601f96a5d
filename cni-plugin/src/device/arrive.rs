//! How a VF goes into the pod: one message moves it, names it, sets what is asked for and brings it up.
//!
//! The kernel does these one after the other and stops where it is refused, so a VF whose name or
//! setting is refused may be in the pod already: what was refused is found out by looking ([`taken`] for
//! a name that is another's).

use std::{ffi::OsString, os::fd::AsFd};

use nix::errno::Errno;
use xpu_linux::{
    sync::{
        Rtnl, RtnlError, ioctl,
        link::{Change, SetFlags},
    },
    sysfs::PciAddr,
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use super::{MacBy, change_in_place, other_mtu};
use crate::{
    error::Error,
    host::Host,
    journal::{JournalError, Netdev},
    pf,
    sandbox::{Sandbox, is_taken},
};

mod taken;

use taken::try_again;

/// A VF at home that is to go into the pod.
#[derive(Debug, Clone, Copy)]
pub struct AtHome<'a> {
    /// Its PCI address.
    pub pci: &'a PciAddr,
    /// What it is.
    pub netdev: &'a Netdev,
    /// Its index.
    pub index: IfIndex,
}

/// What the pod's interface is to be.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// Its MAC.
    pub mac: Mac,
    /// Whether that was asked for, rather than found at home.
    pub is_mac_asked: bool,
    /// How it comes to that.
    pub mac_by: MacBy,
    /// Its MTU, where one is asked for.
    pub mtu: Option<Mtu>,
}

/// A VF in the pod.
#[derive(Debug)]
pub struct Arrived {
    /// Its index there.
    pub index: IfIndex,
    /// Its MTU.
    pub mtu: u32,
    /// Its MAC. Where none was asked for it is another than it had at home if its PF was told one
    /// since its driver read that: such a driver takes it at coming up, and no other after that.
    pub mac: Mac,
    /// The alternative names it came with; `None`: its arrival was not heard.
    pub alt_names: Option<Vec<OsString>>,
}

/// Moves the VF into the pod, renamed, with MTU and MAC, and up: one message, before which two
/// others reset a VF that takes its MAC so. Alternative names of the VF that are in the way, since the
/// pod has them already or the interface is to be called so, are taken from it; before that, `keep`
/// notes all of them.
///
/// # Errors
/// The kernel's refusal, or `keep`'s.
pub fn move_in(
    host: &Host,
    home: &mut Rtnl,
    pod: &mut Sandbox,
    vf: AtHome<'_>,
    wanted: &Wanted<'_>,
    keep: impl FnOnce(Vec<OsString>) -> Result<(), JournalError>,
) -> Result<Arrived, Error> {
    let Wanted {
        name,
        mac,
        mac_by,
        mtu,
        ..
    } = wanted;
    let AtHome { netdev, index, .. } = vf;
    if *mac_by == MacBy::Reset {
        reset_to_pf_mac(host, home, netdev, *mac)?;
    }
    let renames = Change {
        name: Some(*name),
        mac: (*mac_by == MacBy::Message).then_some(*mac),
        mtu: *mtu,
        up: Some(true),
        // Whatever flags the host or the last pod gave it, this pod's is a plain Ethernet device.
        flags: Some(SetFlags::ETHERNET),
        plain: true,
        ..Change::of(index)
    };
    let moves = Change {
        netns: Some(pod.ns.as_fd()),
        ..renames
    };
    let what = format!("move {} into the pod as {name}", netdev.name);
    // A move takes it down; there is none if the pod is the host.
    let is_up = || netdev.up && pod.is_own();
    let mut moved = change_in_place(&moves, what.clone(), is_up, |all| home.apply(all));
    let mut known = None;
    if moved.as_ref().is_err_and(is_taken)
        && let Some(again) = try_again(host, home, pod, vf, &renames, what, keep)?
    {
        moved = again.moved;
        known = Some(again.names);
    }
    moved.map_err(|error| refused(home, pod, netdev, wanted, error))?;
    let vanished = |source| Error::Io {
        what: format!("read {name} in the pod"),
        source,
    };
    // The index may have changed with the namespace.
    let index = ioctl::index_of_known(&pod.rtnl, name).map_err(vanished)?;
    let has = ioctl::mac(&pod.rtnl, name).map_err(vanished)?;
    let mac = match has {
        Some(has) if has == *mac => has,
        has => set_mac(host, pod, netdev, index, wanted, has)?,
    };
    let mtu = ioctl::mtu(&pod.rtnl, name).map_err(vanished)?;
    // The kernel tells of the arrival before it renames.
    let names = [&netdev.name, *name];
    let arrival = || pod.arrival_of(index, names).map(|facts| facts.alt_names);
    Ok(Arrived {
        index,
        mtu,
        mac,
        alt_names: known.or_else(arrival),
    })
}

/// Makes a VF at home take the MAC that its PF gives it. A changed MTU resets every driver that
/// needs it, since some look at that MAC only when they reset, and not at coming up; the MTU that
/// it had comes right after.
///
/// # Errors
/// [`Error::Io`] when the netdev is gone. That a driver refuses the MTU is none: the MAC is looked at
/// again in the pod.
fn reset_to_pf_mac(host: &Host, home: &mut Rtnl, netdev: &Netdev, mac: Mac) -> Result<(), Error> {
    let Netdev { name, mtu, .. } = netdev;
    let vanished = |source| Error::Io {
        what: format!("read {name}"),
        source,
    };
    if ioctl::mac(home, name).map_err(vanished)? == Some(mac) {
        return Ok(());
    }
    let index = ioctl::index_of_known(home, name).map_err(vanished)?;
    let request = |mtu| {
        let change = Change {
            mtu: Some(mtu),
            ..Change::of(index)
        };
        change.request(format!("reset {name} by an MTU of {mtu}"))
    };
    // Not every driver takes every MTU, nor needs it: some take the MAC when they come up.
    let _refused = home.apply_each(&[request(other_mtu(*mtu)), request(*mtu)])?;
    host.checkpoint("reset");
    Ok(())
}

/// Tells a VF in the pod its MAC. It `has` another there: its driver has taken none from the PF, or
/// one that nobody has asked for. Gives the one that it has then.
fn set_mac(
    host: &Host,
    pod: &mut Sandbox,
    netdev: &Netdev,
    index: IfIndex,
    wanted: &Wanted<'_>,
    has: Option<Mac>,
) -> Result<Mac, Error> {
    let Wanted { name, mac, .. } = *wanted;
    host.checkpoint("mac");
    let change = Change {
        mac: Some(mac),
        ..Change::of(index)
    };
    let request = change.request(format!("set the MAC of {name} to {mac}"));
    match (pod.rtnl.apply(&[request]), has) {
        (Ok(()), _) => Ok(mac),
        (Err(error), _) if wanted.is_mac_asked => Err(not_for(netdev, "mac", mac, &error)),
        // What its driver gives nobody else, no pod gave it either: it is its PF's.
        (Err(error), Some(has)) if is_drivers(&error) => Ok(has),
        (Err(error), _) => Err(error.into()),
    }
}

/// Finds out what of a move was refused. The kernel moves first, then sets MAC, MTU and name in
/// this order, and stops where it fails.
fn refused(
    home: &Rtnl,
    pod: &Sandbox,
    netdev: &Netdev,
    wanted: &Wanted<'_>,
    error: RtnlError,
) -> Error {
    // Made since the pod was looked at.
    if is_taken(&error) && pod.index_of(wanted.name).is_some() {
        return name_taken(wanted.name);
    }
    let is_home = ioctl::index(home, &netdev.name).is_ok();
    let names = [wanted.name, &netdev.name];
    let name = names.into_iter().find(|name| pod.index_of(name).is_some());
    let Some(name) = name.filter(|_| !is_home) else {
        return error.into();
    };
    let mac = wanted.mac;
    if wanted.mac_by == MacBy::Message
        && ioctl::mac(&pod.rtnl, name).is_ok_and(|has| has != Some(mac))
    {
        return not_for(netdev, "mac", mac, &error);
    }
    match wanted.mtu {
        Some(mtu) if ioctl::mtu(&pod.rtnl, name).is_ok_and(|has| has != u32::from(mtu)) => {
            not_for(netdev, "mtu", mtu, &error)
        }
        _ => error.into(),
    }
}

/// That the pod has an interface of the name that the VF is to have.
#[must_use]
pub fn name_taken(name: &IfName) -> Error {
    Error::Device(format!(
        "the pod has an interface {name} already; give this attachment another name, or end that one"
    ))
}

/// Whether it is the VF's driver that takes no other MAC, and not its state that keeps it from it,
/// which a pod may have brought about.
fn is_drivers(error: &RtnlError) -> bool {
    let errno = error.errno();
    errno.is_some_and(|errno| !matches!(errno, Errno::EBUSY | Errno::ENODEV))
}

/// A setting that the VF itself refuses.
fn not_for(netdev: &Netdev, key: &'static str, value: impl ToString, error: &RtnlError) -> Error {
    Error::Setting {
        key,
        value: value.to_string(),
        whom: format!("the VF {}", netdev.name),
        reason: pf::answer(error),
    }
}
