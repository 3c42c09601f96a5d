//! A move into the pod that the kernel refused since a name is taken.

use std::{ffi::OsString, os::fd::AsFd};

use xpu_linux::{
    sync::{
        LinkFacts, Rtnl, RtnlError,
        link::{self, Change, drop_alt_name},
    },
    sysfs::PciAddr,
    vf,
};
use xpu_model::{IfIndex, IfName};

use crate::{
    device::{change_in_place, is_gone, taken_by},
    error::Error,
    host::Host,
    journal::JournalError,
    sandbox::Sandbox,
};

/// What a further try came to.
#[derive(Debug)]
pub struct Again {
    /// The kernel's answer to it.
    pub moved: Result<(), RtnlError>,
    /// The alternative names that the VF had before some were taken from it.
    pub names: Vec<OsString>,
}

/// Where the VF is: at home, or in the pod under the name that it had at home, since the kernel moves
/// before it renames. Gives what it is there, and whether that is in the pod.
fn find(
    host: &Host,
    home: &mut Rtnl,
    pod: &mut Sandbox,
    (pci, index): (&PciAddr, IfIndex),
) -> Result<Option<(LinkFacts, bool)>, RtnlError> {
    let link = match link::one(home, index) {
        Err(error) if is_gone(&error) => None,
        link => link?,
    };
    if let Some(link) = link.filter(|link| (host.proof)(&host.sysfs, link, pci)) {
        return Ok(Some((link, false)));
    }
    let link = vf::find(&host.sysfs, &mut pod.rtnl, pci, host.proof)?;
    Ok(link.map(|link| (link, true)))
}

/// Takes the alternative names from the VF that are in the way of its move, and tries that again;
/// before that, `keep` notes all of them. `None`: there are none such.
///
/// `name` is the VF's at home; `change` makes it what it is to be in the pod, and `what` says so.
///
/// # Errors
/// The kernel's refusal to tell of the VF, or `keep`'s.
pub fn try_again(
    host: &Host,
    home: &mut Rtnl,
    pod: &mut Sandbox,
    (pci, name): (&PciAddr, &IfName),
    (change, what): (&Change<'_>, String),
    keep: impl FnOnce(Vec<OsString>) -> Result<(), JournalError>,
) -> Result<Option<Again>, Error> {
    let Some((link, in_pod)) = find(host, home, pod, (pci, change.index))? else {
        return Ok(None);
    };
    let mut drops = if in_pod {
        Vec::new()
    } else {
        taken_by(&pod.rtnl, &link.alt_names)
    };
    // The kernel takes a device's alternative name for one that is taken, also for that device.
    let is_own = |own: &&OsString| change.name.is_some_and(|name| **own == *name.as_str());
    let own = link.alt_names.iter().find(is_own);
    drops.extend(own.filter(|own| !drops.contains(own)).cloned());
    if drops.is_empty() {
        return Ok(None);
    }
    let arrived = match change.name {
        // Since its arrival the pod may have given it names.
        Some(wanted) if in_pod => pod.arrival_of(link.index, [name, wanted]),
        _ => None,
    };
    let names = arrived.map_or_else(|| link.alt_names.clone(), |arrived| arrived.alt_names);
    host.checkpoint("names");
    keep(names.clone())?;
    host.checkpoint("names");
    let drops = drops.iter().map(|name| drop_alt_name(link.index, name));
    let moved = if in_pod {
        let drops = Vec::from_iter(drops);
        pod.rtnl.apply(&drops).and_then(|()| {
            host.checkpoint("rename");
            let index = link.index;
            let renames = Change { index, ..*change };
            change_in_place(&renames, what, || link.up, |all| pod.rtnl.apply(all))
        })
    } else {
        let moves = Change {
            netns: Some(pod.ns.as_fd()),
            ..*change
        };
        home.apply(&Vec::from_iter(drops.chain([moves.request(what)])))
    };
    Ok(Some(Again { moved, names }))
}
