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

use std::{ffi::OsString, mem, os::fd::AsFd};

use xpu_linux::{
    netns::NetNs,
    sync::{
        LinkFacts, Request, Rtnl, RtnlError,
        link::{self, Change, alt_names, drop_alt_name},
    },
    sysfs::PciAddr,
    vf::{self, PodSide, Uppers},
};
use xpu_model::{IfIndex, IfName};

use super::{MacBy, change_in_place, is_gone, netdev::Current, taken_by};
use crate::{
    error::{Error, chain},
    host::Host,
    journal::Netdev,
    sandbox::Sandbox,
};

mod away;
pub(super) mod locate;
mod names;
mod plan;
mod programs;
mod uppers;

pub use away::Away;
use locate::{Located, locate};
use plan::{Next, Sent, next, plan_home};

/// How often a VF is looked at and changed on its way home. The longest honest way (a name and
/// alternative names that are taken, a MAC that only a reset brings, a last look) takes half of
/// these; but a pod that gives the VF a name as often as it is taken would keep the node's one turn
/// at RTNL for ever.
const ROUNDS: u32 = 16;

/// How often a VF at home is freed of what stands on it in its pod. A device that is put on a macvlan
/// stands on that one's lower device, so a living process can make further ones until none is left.
const FREES: u32 = 4;

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
        index: None,
        alt_names: None,
        looks_inside: true,
        frees: FREES,
        programs_taken: false,
        remarks: Vec::new(),
    };
    way.bring_home()?;
    if let Err(error) = way.restore_names() {
        way.remarks.push(chain(&error));
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
    /// Its index at home.
    index: Option<IfIndex>,
    /// The alternative names that it has at home.
    alt_names: Option<Vec<OsString>>,
    /// Whether the namespaces that the pod knows are still to be looked into while it is there: once,
    /// all of the node may be waiting.
    looks_inside: bool,
    /// How often it may still be looked for what stands on it from its pod, at home.
    frees: u32,
    /// Whether the pod's programs were taken from it at home.
    programs_taken: bool,
    /// What of the pod's stayed, and what couldn't be made as it was.
    remarks: Vec<String>,
}

impl WayHome<'_> {
    /// All but the alternative names.
    fn bring_home(&mut self) -> Result<(), Error> {
        let mut mac_by = MacBy::Message;
        let mut name = self.origin.name.clone();
        for _ in 0..ROUNDS {
            let Some(located) = self.locate()? else {
                return Ok(()); // no device, or another driver's: there is nothing to bring home
            };
            let Some(current) = located.current() else {
                continue;
            };
            let in_pod = located.is_in_pod();
            if !in_pod && self.arrived(&current)? {
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
            let answer = self.send(&located, &current, &change, &name)?;
            let errno = answer.as_ref().map_err(RtnlError::errno).copied();
            match (next(sent, errno), answer) {
                (Next::Done, _) => {
                    self.remarks.extend(has_fallback(&name, self.origin));
                    return Ok(());
                }
                (Next::KeepsMac, _) => {
                    self.remarks.push(keeps_mac(&name, &current, self.origin));
                    self.remarks.extend(has_fallback(&name, self.origin));
                    return Ok(());
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

    fn locate(&mut self) -> Result<Option<Located>, Error> {
        let looks_inside = self.looks_inside;
        let pod = self.pod.as_deref_mut();
        let pod = pod.map(|pod| side(pod, self.ns, looks_inside));
        locate(self.host, self.home, pod, self.pci)
    }

    /// Notes a VF that is at home, and takes from it what the pod has left there. Gives whether it may
    /// be another than it was by that.
    fn arrived(&mut self, current: &Current) -> Result<bool, Error> {
        self.index = Some(current.index);
        let was_in_pod = match self.was_in_pod {
            WasInPod::No => false,
            WasInPod::Maybe => current.name != self.origin.name.as_str(),
            WasInPod::Yes => true,
        };
        if was_in_pod && self.frees > 0 && self.free_from_pod(current.index)? {
            return Ok(true);
        }
        if was_in_pod && !self.programs_taken {
            self.take_programs(current.index)?;
        }
        Ok(false)
    }

    /// Frees a VF at home of what stands on it in its pod, which lives, and in the namespaces that
    /// this knows. Gives whether there was anything: then it is looked for again.
    ///
    /// Only a look from there finds all: as long as the VF is in the pod, a living process can put
    /// devices on it, also between the messages that free and move it. And where the pod has put it
    /// into a namespace of its own that ended since, it comes home by itself, but they don't.
    fn free_from_pod(&mut self, index: IfIndex) -> Result<bool, Error> {
        let Some(pod) = &mut self.pod else {
            self.frees = 0;
            return Ok(false);
        };
        let uppers = vf::uppers_behind(side(pod, self.ns, true), index)?;
        let verdicts = pod.rtnl.apply_each(&uppers::delete(&uppers))?;
        uppers::check_all(&uppers).map_err(|why| self.away(why))?;
        let mut refusals = verdicts.iter().filter_map(|verdict| verdict.as_ref().err());
        let is_refused = refusals.any(|error| !is_gone(error));
        // Each look finds what the one before has left.
        self.remarks = uppers::remarks(&uppers, verdicts);
        if uppers.is_empty() {
            self.frees = 0;
            return Ok(false);
        }
        self.frees -= 1;
        if self.frees == 0 && !is_refused {
            return Err(self.away(Away::Laden));
        }
        Ok(true)
    }

    /// Takes the pod's programs from a VF at home, and looks at its alternative names. It comes home
    /// with them by itself where the pod has put it into a namespace of its own that ended since;
    /// they may be back where they were taken from it in the pod; and some are seen at home only.
    fn take_programs(&mut self, index: IfIndex) -> Result<(), Error> {
        // What is read without RTNL doesn't tell of them.
        let link = match link::one(self.home, index) {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(()),
            // The next look finds it where it is.
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.remarks.extend(uppers::unseen(&link));
        self.remarks.extend(programs::take(self.home, &link)?);
        self.alt_names = Some(link.alt_names);
        self.programs_taken = true;
        Ok(())
    }

    /// Sends a change to where the VF is. Gives the kernel's answer to it.
    fn send(
        &mut self,
        located: &Located,
        current: &Current,
        change: &Change<'_>,
        name: &IfName,
    ) -> Result<Result<(), RtnlError>, Error> {
        if change.is_empty() {
            return Ok(Ok(()));
        }
        let what = format!("bring {} home as {name}", current.name);
        // More than one message, where the driver takes its address at a reset only.
        self.host.checkpoint("undo: move");
        match located {
            Located::Pod(link, uppers) => self.send_from_pod(link, uppers, change.request(what)),
            Located::Home(_) | Located::Vanished => {
                let home = &mut *self.home;
                Ok(change_in_place(
                    change,
                    what,
                    || current.up,
                    |all| home.apply(all),
                ))
            }
        }
    }

    /// Frees the VF in the pod of all that would follow it or stay on its wire, and moves it.
    fn send_from_pod(
        &mut self,
        link: &LinkFacts,
        uppers: &Uppers,
        moves: Request,
    ) -> Result<Result<(), RtnlError>, Error> {
        let Some(pod) = &mut self.pod else {
            return Ok(Ok(()));
        };
        let deletes = uppers::delete(uppers);
        if let Err(why) = uppers::check_all(uppers) {
            // Some of them go, so each call comes further.
            pod.rtnl.apply_each(&deletes)?;
            return Err(self.away(why));
        }
        let takes = link::without_xdp(link);
        // A name that the pod gave it would stand in the way of its next owner.
        let foreign = names::foreign_names(link, self.origin);
        let drops = foreign.map(|name| drop_alt_name(link.index, name));
        let requests = deletes.into_iter().chain(takes).chain(drops);
        let mut verdicts = pod
            .rtnl
            .apply_each(&Vec::from_iter(requests.chain([moves])))?;
        self.was_in_pod = WasInPod::Yes;
        self.looks_inside = false;
        // All that it was to be freed of is looked at again at home.
        Ok(verdicts.pop().unwrap_or(Ok(())))
    }

    /// Takes those alternative names from a VF for which it can't go home as `name`: in the pod those
    /// that devices at home have, since a device moves with all its names or not at all; at home that
    /// one itself. Gives whether there may have been any.
    fn drop_names_in_its_way(&mut self, name: &IfName) -> Result<bool, Error> {
        match (self.locate()?, &mut self.pod) {
            (Some(Located::Pod(link, _)), Some(pod)) => {
                let taken = taken_by(self.home, &link.alt_names);
                names::drop_all(&mut pod.rtnl, link.index, &taken)?;
                Ok(!taken.is_empty())
            }
            (Some(Located::Home(current)), _) if names::is_further(self.home, &current, name) => {
                self.host.checkpoint("undo: own name");
                let own = [OsString::from(name.as_str())];
                names::drop_all(self.home, current.index, &own)?;
                if let Some(names) = &mut self.alt_names {
                    names.retain(|name| !own.contains(name));
                }
                Ok(true)
            }
            // The next round sees what it is.
            (None | Some(Located::Vanished), _) => Ok(true),
            _ => Ok(false),
        }
    }

    fn is_home_with_another_mac(&mut self) -> Result<bool, Error> {
        let mac = self.origin.mac;
        let located = self.locate()?;
        Ok(matches!(located, Some(Located::Home(now)) if now.mac != Some(mac)))
    }

    /// Gives a VF at home exactly the alternative names it had, as far as those are known.
    fn restore_names(&mut self) -> Result<(), Error> {
        let Some(had) = &self.origin.alt_names else {
            return Ok(());
        };
        let index = match self.index {
            Some(index) => index,
            None => match self.locate()?.and_then(|located| located.current()) {
                Some(current) => current.index,
                None => return Ok(()),
            },
        };
        let has = match mem::take(&mut self.alt_names) {
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

fn keeps_mac(name: &IfName, current: &Current, origin: &Netdev) -> String {
    let has = match current.mac {
        Some(mac) => mac.to_string(),
        None => "none".to_owned(),
    };
    let had = origin.mac;
    format!("{name} is home, but keeps the MAC {has} instead of {had}")
}

/// What it means that a VF has another name at home than it had, if so.
fn has_fallback(name: &IfName, origin: &Netdev) -> Option<String> {
    let had = &origin.name;
    (name != had).then(|| {
        format!(
            "{name} is home by that name, since another device has its own, {had}; once {had} is \
             free: `ip link set {name} name {had}`"
        )
    })
}

#[cfg(test)]
#[path = "../../tests/unit/device.rs"]
mod tests;
