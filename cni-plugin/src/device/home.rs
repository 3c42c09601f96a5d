//! How a VF comes home.

use std::{
    ffi::OsString,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use xpu_linux::{
    netns::NetNs,
    sync::{
        LinkFacts, Request, Rtnl, RtnlError,
        event::LinkEvents,
        ioctl,
        link::{self, Change, SetFlags, XdpModes, add_alt_name, alt_names, drop_alt_name},
    },
    sysfs::PciAddr,
    vf::{self, Uppers},
};
use xpu_model::{IfIndex, IfName};

use super::{change_in_place, has_no_netdev, other_mtu, taken_by};
use crate::{
    error::{Error, chain},
    host::Host,
    journal::Netdev,
    sandbox::{Sandbox, is_taken},
};

/// How long a VF's return from a dead namespace is waited for.
const RETURN_WAIT: Duration = Duration::from_millis(500);

/// How often a VF is looked at and changed on its way home. The longest honest way (a name and
/// alternative names that are taken, a MAC that only a reset brings, a last look) takes half of these;
/// but a pod that gives the VF a name as often as it is taken would keep the node's one turn at RTNL
/// for ever.
const ROUNDS: u32 = 16;

/// How many names are taken from a device by one system call: a device has room for some 500, and a
/// socket for fewer answers.
const NAMES: usize = 64;

/// What a VF's name begins with whose own name at home was taken meanwhile.
const FALLBACK: &str = "xvf";

/// How many of those names there are: more than a node has VFs.
const FALLBACKS: u32 = 10_000;

/// Waits until a VF whose pod's namespace is gone is home again, and takes from it what the pod may
/// have attached and the kernel left there. Gives remarks where something could not be taken.
///
/// # Errors
/// [`Error::Busy`] when that takes too long; the kernel's refusals.
pub fn returned(host: &Host, home: &mut Rtnl, pci: &PciAddr) -> Result<Vec<String>, Error> {
    let Some(found) = locate(host, home, None, pci)? else {
        return Ok(Vec::new());
    };
    // What was found without RTNL is not all.
    let facts = match link::one(home, found.facts.index) {
        Ok(Some(facts)) => facts,
        Ok(None) => return Ok(Vec::new()),
        // Whoever moves it home next looks again.
        Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let takes: Vec<_> = link::without_xdp(&facts).collect();
    Ok(left_by(home.apply_each(&takes)?))
}

/// What of the pod's could not be taken from its VF. One more try would end no better, since somebody
/// on this host holds it (an XDP program by a `bpf_link`, which only its holder lets go of); so the VF
/// is not withheld for it, but whoever reads the log is told.
fn left_by(verdicts: impl IntoIterator<Item = Result<(), RtnlError>>) -> Vec<String> {
    let left = verdicts.into_iter().filter_map(Result::err);
    let left = left.filter(|error| error.errno() != Some(Errno::ENODEV));
    let advice = "it stays with the VF, for its next pod too; `bpftool net` and `bpftool link` tell who \
                  holds a program";
    left.map(|error| format!("{}: {advice}", chain(&error)))
        .collect()
}

/// Brings the VF home, wherever it is, and makes it what it was. Gives remarks where something
/// kept it from that.
///
/// # Errors
/// [`Error::Busy`] when its namespace is gone but it hasn't come back yet, or its netdev is nowhere;
/// the kernel's refusals.
pub fn send_home(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
    origin: &Netdev,
) -> Result<Vec<String>, Error> {
    let mut seen = Seen::default();
    let remark = bring_home(host, home, pod, pci, origin, &mut seen)?;
    let mut remarks = std::mem::take(&mut seen.remarks);
    remarks.extend(remark);
    if let Some(had) = &origin.alt_names
        && let Err(error) = restore_names(host, home, pci, had, seen)
    {
        remarks.push(chain(&error));
    }
    Ok(remarks)
}

/// What became known of a VF on its way home.
#[derive(Debug, Default)]
struct Seen {
    /// Its index at home.
    index: Option<IfIndex>,
    /// The alternative names with which it came out of the pod.
    names: Option<Vec<OsString>>,
    /// What of the pod's stayed on it.
    remarks: Vec<String>,
}

/// As [`send_home`], but for alternative names that it lost.
fn bring_home(
    host: &Host,
    home: &mut Rtnl,
    mut pod: Option<&mut Sandbox>,
    pci: &PciAddr,
    origin: &Netdev,
    seen: &mut Seen,
) -> Result<Option<String>, Error> {
    let ns = NetNs::current()?;
    let mut mac_by = MacBy::Message;
    let mut name = origin.name.clone();
    for _ in 0..ROUNDS {
        let Located {
            facts,
            in_pod,
            uppers,
        } = match locate(host, home, pod.as_deref_mut(), pci) {
            // No device, or another driver's: there is nothing to bring home.
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            // A program of the host's may rename what comes home, right between two looks.
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        seen.index = (!in_pod).then_some(facts.index);
        let change = plan_home(&facts, in_pod.then_some(&ns), origin, &name, mac_by);
        let tells_mac = change.mac.is_some();
        let sent = if change.is_empty() {
            Ok(())
        } else {
            let what = format!("bring {} home as {name}", facts.name);
            // More than one message, where the driver takes its address at a reset only.
            (host.checkpoint)("undo: move");
            match (&mut pod, in_pod) {
                (Some(pod), true) => {
                    // The move takes it down.
                    let request = change.request(what);
                    let frees = free(&facts, &uppers);
                    // A name that the pod gave it would stand in the way of its next owner.
                    let (own, strange) = split_names(&facts, origin);
                    let drops = strange.iter().map(|name| drop_alt_name(facts.index, name));
                    let requests: Vec<_> = frees
                        .iter()
                        .cloned()
                        .chain(drops)
                        .chain([request])
                        .collect();
                    let mut verdicts = apply_many(&mut pod.rtnl, &requests)?;
                    let moved = verdicts.pop().unwrap_or(Ok(()));
                    let named = verdicts.split_off(frees.len().min(verdicts.len()));
                    seen.names = named.iter().all(Result::is_ok).then_some(own);
                    seen.remarks = left_by(verdicts);
                    moved
                }
                _ => change_in_place(&change, what, || facts.up, |all| home.apply(all)),
            }
        };
        match (sent, mac_by) {
            // What had it in the pod lets go of it at the move, and a bond gives back what it had
            // found, whatever the message says: only another look tells.
            (Ok(()), MacBy::Message) if in_pod => {}
            (Ok(()), MacBy::Message) => return Ok(None),
            (Ok(()), MacBy::Reset) => mac_by = MacBy::Nobody,
            (Ok(()), MacBy::Nobody) if facts.mac == Some(origin.mac) => return Ok(None),
            (Ok(()), MacBy::Nobody) => {
                let has = facts
                    .mac
                    .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
                return Ok(Some(format!(
                    "{name} is home, but keeps the MAC {has} instead of {}",
                    origin.mac
                )));
            }
            (Err(error), MacBy::Message) if error.errno() == Some(Errno::EADDRNOTAVAIL) => {
                mac_by = MacBy::Reset;
            }
            // The kernel takes every name along, and refuses all for one that is taken.
            (Err(error), _)
                if is_taken(&error)
                    && let Some(pod) = pod.as_deref_mut().filter(|_| in_pod)
                    && drop_taken(home, pod, &facts)? => {}
            (Err(error), _) if is_taken(&error) => {
                // Home under a wrong name serves better than not at all; its next
                // owner finds it by its PCI address.
                name = fallback_name(home, (!in_pod).then_some(&facts.name)).ok_or(error)?;
            }
            // Drivers have many words for it, and the kernel stays where it was refused: after the
            // move, before the name.
            (Err(_), MacBy::Message)
                if tells_mac && is_home_unlike(host, home, pod.as_deref_mut(), pci, origin)? =>
            {
                mac_by = MacBy::Reset;
            }
            // One that can't reset goes without.
            (Err(_), MacBy::Reset) => mac_by = MacBy::Nobody,
            (Err(error), _) => return Err(error.into()),
        }
    }
    let told = format!("the VF {pci} is changed by others as often as it is put right");
    Err(Error::Busy(told))
}

/// A name for a VF whose own is taken: the fallback name that it has at home already, else the first
/// that no device there has. Somebody else may be quicker; then this is asked again.
fn fallback_name(home: &Rtnl, has: Option<&String>) -> Option<IfName> {
    let is_free = |name: &IfName| {
        let found = ioctl::index(home, name);
        found.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    };
    let has = has.filter(|name| name.starts_with(FALLBACK));
    match has.and_then(|name| name.parse().ok()) {
        Some(name) => Some(name),
        None => (0..FALLBACKS)
            .filter_map(|number| format!("{FALLBACK}{number}").parse().ok())
            .find(is_free),
    }
}

/// What takes from a VF in a pod all that would follow it out of there: devices that stand on it,
/// which would go on hearing and sending on its wire for as long as their namespace lives, whoever has
/// the VF by then (VLANs and macvlans stay where they are when their lower device moves); and XDP
/// programs, which move along.
fn free(facts: &LinkFacts, uppers: &Uppers) -> Vec<Request> {
    let group = Some(uppers.free_group);
    let gather = uppers.devices.iter().map(|index| {
        let change = Change {
            group,
            ..Change::of(*index)
        };
        change.request(format!("put link {index} of the pod into a group"))
    });
    // As many as a pod likes, each of which would cost a wait under the node's one RTNL.
    let delete = (!uppers.devices.is_empty()).then(|| link::delete_group(uppers.free_group));
    let gone = gather.chain(delete);
    gone.chain(link::without_xdp(facts)).collect()
}

/// Sends requests, some at a time.
fn apply_many(
    rtnl: &mut Rtnl,
    requests: &[Request],
) -> Result<Vec<Result<(), RtnlError>>, RtnlError> {
    let mut verdicts = Vec::with_capacity(requests.len());
    for some in requests.chunks(NAMES) {
        verdicts.extend(rtnl.apply_each(some)?);
    }
    Ok(verdicts)
}

/// Whether the VF is at home, but with another MAC than it had.
fn is_home_unlike(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
    origin: &Netdev,
) -> Result<bool, Error> {
    let found = locate(host, home, pod, pci)?;
    Ok(found.is_some_and(|found| !found.in_pod && found.facts.mac != Some(origin.mac)))
}

/// A device's alternative names: its own, and what others gave it as far as its own are known.
fn split_names(facts: &LinkFacts, origin: &Netdev) -> (Vec<OsString>, Vec<OsString>) {
    let names = facts.alt_names.iter().cloned();
    match &origin.alt_names {
        None => (names.collect(), Vec::new()),
        Some(had) => names.partition(|name| had.contains(name)),
    }
}

/// Takes those alternative names from a device in the pod that devices at home have. Gives whether
/// there were any.
fn drop_taken(home: &Rtnl, pod: &mut Sandbox, facts: &LinkFacts) -> Result<bool, Error> {
    let taken = taken_by(home, &facts.alt_names);
    if taken.is_empty() {
        return Ok(false);
    }
    let drops = taken.iter().map(|name| drop_alt_name(facts.index, name));
    let drops: Vec<_> = drops.collect();
    apply_many(&mut pod.rtnl, &drops)?
        .into_iter()
        .collect::<Result<(), _>>()?;
    Ok(true)
}

/// Gives a VF at home exactly the alternative names it had.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
fn restore_names(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    had: &[OsString],
    seen: Seen,
) -> Result<(), Error> {
    let without = |all: &[OsString], these: &[OsString]| -> Vec<OsString> {
        let rest = all.iter().filter(|name| !these.contains(name));
        rest.cloned().collect()
    };
    let is_all = |names: &Vec<OsString>| without(had, names).is_empty();
    if seen.names.as_ref().is_some_and(is_all) {
        return Ok(());
    }
    let index = match seen.index {
        Some(index) => index,
        None => match locate(host, home, None, pci)? {
            Some(found) => found.facts.index,
            None => return Ok(()),
        },
    };
    let has = match seen.names {
        Some(names) => names,
        None => alt_names(home, index)?,
    };
    let (strange, missing) = (without(&has, had), without(had, &has));
    let drops = strange.iter().map(|name| drop_alt_name(index, name));
    let adds = missing.iter().map(|name| add_alt_name(index, name));
    let requests: Vec<_> = drops.chain(adds).collect();
    if requests.is_empty() {
        return Ok(());
    }
    (host.checkpoint)("undo: names");
    let verdicts = apply_many(home, &requests)?;
    Ok(verdicts.into_iter().collect::<Result<(), _>>()?)
}

/// How a VF on its way home gets its MAC back. Each is tried once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MacBy {
    /// It is told, in the message that moves it.
    Message,
    /// The driver refuses, as where the PF has given it one; it takes that one when it resets,
    /// which coming up or another MTU does.
    Reset,
    /// It has it, or never will; only the admin state is left.
    Nobody,
}

/// A VF's netdev where it is.
#[derive(Debug)]
pub(super) struct Located {
    /// What the kernel tells of it.
    pub facts: LinkFacts,
    /// Whether it is in the pod, and not at home.
    in_pod: bool,
    /// The devices of the pod that stand on it.
    uppers: Uppers,
}

impl Located {
    fn at_home(facts: LinkFacts) -> Self {
        Self {
            facts,
            in_pod: false,
            uppers: Uppers::default(),
        }
    }
}

/// The VF's netdev, wherever it is; `None`: the PCI device is gone, or has no netdev because somebody
/// took it from its driver.
pub(super) fn locate(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
) -> Result<Option<Located>, Error> {
    use xpu_linux::sysfs::SysfsError;

    // Only a namespace that is gone gives its devices back by itself. Subscribed before
    // the first look, so that nothing falls between look and wait.
    let mut returns = if pod.is_none() {
        Some(LinkEvents::subscribe()?)
    } else {
        None
    };
    match vf::at_home(&host.sysfs, home, pci) {
        Ok(Some((name, index))) => {
            let facts = facts_at_home(host, home, name, index)?;
            return Ok(Some(Located::at_home(facts)));
        }
        Ok(None) => {}
        Err(SysfsError::NoDevice(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if let Some(pod) = pod
        && let Some((facts, uppers)) =
            vf::find_with_uppers(&host.sysfs, &mut pod.rtnl, pci, host.proof)?
    {
        return Ok(Some(Located {
            facts,
            in_pod: true,
            uppers,
        }));
    }
    // sysfs shows the namespace it was mounted in, which needn't be ours.
    if let Some(facts) = vf::find(&host.sysfs, home, pci, host.proof)? {
        return Ok(Some(Located::at_home(facts)));
    }
    if has_no_netdev(host, pci) {
        return Ok(None);
    }
    let Some(events) = &mut returns else {
        // A pod that may make namespaces must not keep itself from ending by that.
        return Err(Error::Busy(format!(
            "the VF {pci} has no netdev, neither in the pod nor on the host; it may be in another \
             namespace, with whose end it comes home"
        )));
    };
    let until = Instant::now() + RETURN_WAIT;
    let back = events.wait(until, |link| (host.proof)(&host.sysfs, link, pci))?;
    back.map(|facts| Some(Located::at_home(facts)))
        .ok_or_else(|| {
            Error::Busy(format!(
                "the VF {pci} has not come back from its pod's namespace yet"
            ))
        })
}

/// What a look without RTNL tells of a device at home; carrier is not looked for.
fn facts_at_home(
    host: &Host,
    home: &Rtnl,
    name: IfName,
    index: IfIndex,
) -> Result<LinkFacts, Error> {
    let vanished = |source| Error::Io {
        what: format!("read {name}"),
        source,
    };
    let mac = ioctl::mac(home, &name).map_err(vanished)?;
    let mtu = ioctl::mtu(home, &name).map_err(vanished)?;
    let (up, flags) = ioctl::up_and_flags(home, &name).map_err(vanished)?;
    let txqlen = ioctl::txqlen(home, &name).ok();
    let (alias, group) = (host.sysfs.alias(&name), host.sysfs.group(&name));
    Ok(LinkFacts {
        index,
        name: name.as_str().to_owned(),
        alt_names: Vec::new(),
        mac,
        mtu,
        up,
        flags,
        lower_up: false,
        txqlen,
        group,
        alias,
        parent: None,
        lower: None,
        xdp: XdpModes::default(),
    })
}

/// What makes the VF what it was: only what differs.
fn plan_home<'a>(
    facts: &LinkFacts,
    to: Option<&'a NetNs>,
    origin: &'a Netdev,
    name: &'a IfName,
    mac_by: MacBy,
) -> Change<'a> {
    let other_mac = facts.mac != Some(origin.mac);
    // A move takes the device down.
    let up = facts.up && to.is_none();
    let resets = mac_by == MacBy::Reset && other_mac;
    let wants_up = origin.up || resets;
    // Drivers that reset at no coming up do at a change of the MTU; the next round puts it back.
    let wanted_mtu = if resets {
        other_mtu(origin.mtu)
    } else {
        origin.mtu
    };
    let flags = origin.flags.map_or(SetFlags::ETHERNET, SetFlags::among);
    let differs = |was: Option<u32>, is: Option<u32>| was.filter(|_| is.is_some() && is != was);
    let mut change = Change {
        netns: to.map(AsFd::as_fd),
        name: (facts.name != name.as_str()).then_some(name),
        mac: (other_mac && mac_by == MacBy::Message).then_some(origin.mac),
        mtu: (facts.mtu != u32::from(wanted_mtu)).then_some(wanted_mtu),
        // Programs of the host may take an alias for their own word.
        alias: (facts.alias != origin.alias).then(|| origin.alias.as_deref().unwrap_or_default()),
        up: (up != wants_up).then_some(wants_up),
        flags: (facts.flags != flags).then_some(flags),
        txqlen: differs(origin.txqlen, facts.txqlen),
        group: differs(origin.group, facts.group),
        ..Change::of(facts.index)
    };
    // Where a change is sent anyway; without RTNL nobody tells whether it is needed.
    change.plain = !change.is_empty();
    change
}

#[cfg(test)]
#[path = "../../tests/unit/device.rs"]
mod tests;
