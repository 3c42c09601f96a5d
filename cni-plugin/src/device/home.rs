//! How a VF comes home: it is looked for, changed, and looked at again until it is what it was.
//!
//! What a look shows and the kernel's answers decide on the next round ([`plan`]). A driver may
//! refuse the one setting that only it can make, the MAC, so that is tried in several ways, each
//! once ([`MacBy`]):
//!
//! | MAC by | what is sent | accepted | refused |
//! |---|---|---|---|
//! | message | all that differs | home | `EADDRNOTAVAIL`, or home with another MAC: by reset |
//! | reset | the rest, up, another MTU | by nobody | by nobody |
//! | nobody | MTU and state as they were | home, with a remark if the MAC is another | failed |
//!
//! What was accepted in the pod is looked at once more at home. If a name is taken there, the VF is
//! looked for again, since the kernel moves before it renames; the name goes from the VF where it is
//! an alternative one of its own, or gives way to a fallback name, and the round is repeated. Any
//! other refusal ends it.

use std::{ffi::OsString, os::fd::AsFd};

use xpu_linux::{
    netns::NetNs,
    sync::{Rtnl, RtnlError, link::alt_names},
    sysfs::PciAddr,
    vf::PodSide,
};
use xpu_model::{IfIndex, IfName};

use super::{
    MacBy, change_in_place, is_gone,
    netdev::{Current, taken_by},
};
use crate::{error::Error, host::Host, journal::Netdev, sandbox::Sandbox};

mod away;
mod free;
pub(super) mod locate;
mod names;
mod plan;
mod programs;
mod remarks;
mod send;
mod uppers;

pub use away::Away;
use free::ToFree;
use locate::{Located, Look, locate};
use plan::{Next, Sent, next, plan_home};

/// How often a VF is looked at and changed on its way home. The longest honest way (a name and
/// alternative names that are taken, a MAC that only a reset brings, a last look) takes half of
/// these; but a pod that gives the VF a name as often as it is taken would keep the node's one turn
/// at RTNL for ever.
const ROUNDS: u32 = 16;

/// Whether a VF was in its pod's hands, wherever it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasInPod {
    /// Its pod is the host: what is attached to it is the host's.
    No,
    /// Its move had begun. One that has another name than at home was moved.
    Maybe,
    /// It was moved there.
    Yes,
}

impl WasInPod {
    /// The same of a VF that is seen at home.
    fn tells(self, current: &Current, origin: &Netdev) -> bool {
        match self {
            Self::No => false,
            Self::Maybe => current.name != origin.name.as_str(),
            Self::Yes => true,
        }
    }
}

/// Waits until a VF whose pod's namespace is gone is home again.
///
/// # Errors
/// [`Error::NotHome`] when that takes too long; the kernel's refusals.
pub fn await_return(host: &Host, home: &mut Rtnl, pci: &PciAddr) -> Result<(), Error> {
    locate(host, home, None, pci).map(drop)
}

/// Brings the VF home, wherever it is, and makes it what it was. Gives remarks where something
/// kept it from that.
///
/// # Errors
/// [`Error::NotHome`] when its namespace is gone but it hasn't come back yet, its netdev is nowhere, or
/// others change it as often as it is put right; the kernel's refusals.
pub fn send_home(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
    origin: &Netdev,
    was_in_pod: WasInPod,
) -> Result<Vec<String>, Error> {
    let ns = NetNs::current()?;
    let mut way = WayHome {
        host,
        home,
        ns: &ns,
        pod,
        pci,
        origin,
        was_in_pod,
        looks_inside: true,
        to_free: ToFree::ALL,
        alt_names: None,
        remarks: Vec::new(),
    };
    if let Some(index) = way.bring_home()?
        && let Err(error) = way.restore_names(index)
    {
        way.remarks.push(remarks::other_names(pci, origin, &error));
    }
    Ok(way.remarks)
}

/// A VF on its way home, and what became known of it.
struct WayHome<'a> {
    host: &'a Host,
    home: &'a mut Rtnl,
    /// The host's namespace, which is ours.
    ns: &'a NetNs,
    pod: Option<&'a mut Sandbox>,
    pci: &'a PciAddr,
    origin: &'a Netdev,
    was_in_pod: WasInPod,
    /// Whether the namespaces that the pod knows are still to be looked into while it is there: once,
    /// all of the node may be waiting.
    looks_inside: bool,
    /// What of the pod's is still to be taken from it at home.
    to_free: ToFree,
    /// The alternative names that it has at home, as far as they were looked at.
    alt_names: Option<Vec<OsString>>,
    /// What of the pod's stayed, and what couldn't be made as it was.
    remarks: Vec<String>,
}

impl WayHome<'_> {
    /// All but the alternative names. Gives the VF's index at home; `None`: it has no netdev any
    /// more, so there is nothing to bring.
    fn bring_home(&mut self) -> Result<Option<IfIndex>, Error> {
        let mut mac_by = MacBy::Message;
        let mut name = self.origin.name.clone();
        for _ in 0..ROUNDS {
            let located = match self.locate()? {
                Look::Found(located) => located,
                Look::Vanished => continue,
                Look::NoNetdev => return Ok(None),
            };
            let current = located.current();
            let in_pod = located.is_in_pod();
            if !in_pod && self.free_at_home(&current)? {
                continue;
            }
            let change = plan_home(
                &current,
                in_pod.then_some(self.ns),
                self.origin,
                &name,
                mac_by,
            );
            let sent = Sent {
                in_pod,
                had_mac: current.mac == Some(self.origin.mac),
                tells_mac: change.mac.is_some(),
                mac_by,
            };
            let answer = self.send(&located, &change, &name)?;
            let errno = answer.as_ref().map_err(RtnlError::errno).copied();
            match (next(sent, errno), answer) {
                (done @ (Next::Done | Next::KeepsMac), _) => {
                    if done == Next::KeepsMac {
                        let remark = remarks::keeps_mac(self.pci, &name, &current, self.origin);
                        self.remarks.push(remark);
                    }
                    let fallback = remarks::has_fallback(self.pci, &name, self.origin);
                    self.remarks.extend(fallback);
                    return Ok(Some(current.index));
                }
                (Next::Again(by), _) => mac_by = by,
                (Next::Rename, Err(error)) => {
                    if !self.drop_names_in_its_way(&name)? {
                        // Home under a wrong name serves better than not at all; its next
                        // owner finds it by its PCI address.
                        let has = (!in_pod).then_some(current.name.as_str());
                        name = names::fallback_name(self.home, has).ok_or(error)?;
                    }
                }
                (Next::LookForMac, Err(_)) if self.is_home_with_another_mac()? => {
                    mac_by = MacBy::Reset;
                }
                (_, Err(error)) => return Err(error.into()),
                // These follow a refusal only.
                (Next::Rename | Next::LookForMac | Next::Fail, Ok(())) => {}
            }
        }
        Err(self.away(Away::Changed))
    }

    fn away(&self, why: Away) -> Error {
        let pci = self.pci.clone();
        Error::NotHome { pci, why }
    }

    fn locate(&mut self) -> Result<Look, Error> {
        let looks_inside = self.looks_inside;
        let pod = self.pod.as_deref_mut();
        let pod = pod.map(|pod| side(pod, self.ns, looks_inside));
        locate(self.host, self.home, pod, self.pci)
    }

    /// Takes those alternative names from a VF for which it can't go home as `name`: in the pod those
    /// that devices at home have, since a device moves with all its names or not at all; at home that
    /// one itself. Gives whether there may have been any.
    fn drop_names_in_its_way(&mut self, name: &IfName) -> Result<bool, Error> {
        match (self.locate()?, &mut self.pod) {
            (Look::Found(Located::Pod(seen)), Some(pod)) => {
                let taken = taken_by(self.home, &seen.link.alt_names);
                names::drop_all(&mut pod.rtnl, seen.link.index, &taken)?;
                Ok(!taken.is_empty())
            }
            (Look::Found(Located::Home(current)), _)
                if names::is_further(self.home, &current, name) =>
            {
                self.host.checkpoint("undo: own name");
                let own = [OsString::from(name.as_str())];
                names::drop_all(self.home, current.index, &own)?;
                if let Some(names) = &mut self.alt_names {
                    names.retain(|name| !own.contains(name));
                }
                Ok(true)
            }
            // The next round sees what it is.
            (Look::Vanished | Look::NoNetdev, _) => Ok(true),
            (Look::Found(_), _) => Ok(false),
        }
    }

    fn is_home_with_another_mac(&mut self) -> Result<bool, Error> {
        let mac = self.origin.mac;
        let look = self.locate()?;
        Ok(matches!(look, Look::Found(Located::Home(now)) if now.mac != Some(mac)))
    }

    /// Gives a VF at home exactly the alternative names it had, as far as those are known.
    fn restore_names(&mut self, index: IfIndex) -> Result<(), Error> {
        let Some(had) = &self.origin.alt_names else {
            return Ok(());
        };
        let has = match self.alt_names.take() {
            Some(has) => has,
            None => alt_names(self.home, index)?,
        };
        names::restore(self.host, self.home, index, &has, had)
    }
}

/// A pod's namespace as a VF is looked for from there; `home` is the host's.
fn side<'a>(pod: &'a mut Sandbox, home: &'a NetNs, looks_inside: bool) -> PodSide<'a> {
    PodSide {
        rtnl: &mut pod.rtnl,
        netns: pod.ns.as_fd(),
        home: home.as_fd(),
        looks_inside,
    }
}

#[cfg(test)]
#[path = "../../tests/unit/device.rs"]
mod tests;
