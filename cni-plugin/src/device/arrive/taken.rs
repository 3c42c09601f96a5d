//! A move into the pod that the kernel refused since a name is taken.

use std::{ffi::OsString, os::fd::AsFd};

use xpu_linux::{
    sync::{
        LinkFacts, Rtnl, RtnlError,
        link::{self, Change, drop_alt_name},
    },
    vf,
};

use super::AtHome;
use crate::{
    device::{change_in_place, is_gone, netdev::taken_by},
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

/// Where a move that was refused has left the VF, and what it is there.
enum Left {
    /// At home: it was refused as a whole.
    AtHome(LinkFacts),
    /// In the pod, under the name that it had at home: the kernel moves before it renames.
    InPod(LinkFacts),
}

/// Looks for a VF whose move was refused; `None`: it has no netdev in either place.
fn find(
    host: &Host,
    home: &mut Rtnl,
    pod: &mut Sandbox,
    vf: AtHome<'_>,
) -> Result<Option<Left>, RtnlError> {
    let link = match link::one(home, vf.index) {
        Err(error) if is_gone(&error) => None,
        link => link?,
    };
    if let Some(link) = link.filter(|link| (host.proof)(&host.sysfs, link, vf.pci)) {
        return Ok(Some(Left::AtHome(link)));
    }
    let link = vf::find(&host.sysfs, &mut pod.rtnl, vf.pci, host.proof)?;
    Ok(link.map(Left::InPod))
}

/// Takes the alternative names from the VF that are in the way of its move, and tries that again;
/// before that, `keep` notes all of them. `None`: there are none such.
///
/// `change` makes the VF what it is to be in the pod, and `what` says so.
///
/// # Errors
/// The kernel's refusal to tell of the VF, or `keep`'s.
pub fn try_again(
    host: &Host,
    home: &mut Rtnl,
    pod: &mut Sandbox,
    vf: AtHome<'_>,
    change: &Change<'_>,
    what: String,
    keep: impl FnOnce(Vec<OsString>) -> Result<(), JournalError>,
) -> Result<Option<Again>, Error> {
    let Some(left) = find(host, home, pod, vf)? else {
        return Ok(None);
    };
    let (link, mut drops) = match &left {
        Left::AtHome(link) => (link, taken_by(&pod.rtnl, &link.alt_names)),
        Left::InPod(link) => (link, Vec::new()),
    };
    // The kernel takes a device's alternative name for one that is taken, also for that device.
    let is_own = |own: &&OsString| change.name.is_some_and(|name| **own == *name.as_str());
    let own = link.alt_names.iter().find(is_own);
    drops.extend(own.filter(|own| !drops.contains(own)).cloned());
    if drops.is_empty() {
        return Ok(None);
    }
    let arrived = match (&left, change.name) {
        // Since its arrival the pod may have given it names.
        (Left::InPod(_), Some(wanted)) => pod.arrival_of(link.index, [&vf.netdev.name, wanted]),
        _ => None,
    };
    let names = arrived.map_or_else(|| link.alt_names.clone(), |arrived| arrived.alt_names);
    host.checkpoint("names");
    keep(names.clone())?;
    host.checkpoint("names");
    let drops = drops.iter().map(|name| drop_alt_name(link.index, name));
    let drops = Vec::from_iter(drops);
    let moved = match &left {
        Left::InPod(link) => pod.rtnl.apply(&drops).and_then(|()| {
            host.checkpoint("rename");
            let index = link.index;
            let renames = Change { index, ..*change };
            change_in_place(&renames, what, || link.up, |all| pod.rtnl.apply(all))
        }),
        Left::AtHome(_) => {
            let moves = Change {
                netns: Some(pod.ns.as_fd()),
                ..*change
            };
            let moves = moves.request(what);
            home.apply(&Vec::from_iter(drops.into_iter().chain([moves])))
        }
    };
    Ok(Some(Again { moved, names }))
}
