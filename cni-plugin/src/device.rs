//! The VF: what it is before, how it goes into the pod, how it comes home.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use xpu_linux::{
    netns::NetNs,
    sync::{
        LinkFacts, Rtnl, RtnlError,
        event::LinkEvents,
        ioctl,
        link::{Change, add_alt_name, alt_names, drop_alt_names},
        vf_side::{self, VfSide},
    },
    sysfs::{Parent, PciAddr},
    vf,
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use crate::{
    error::{Error, chain},
    host::Host,
    journal::{JournalError, Netdev, Vf},
    pf::{self, Asked, PfSide},
    sandbox::{Sandbox, is_taken},
};

/// How long a VF's return from a dead namespace is waited for.
const RETURN_WAIT: Duration = Duration::from_millis(500);

/// What a VF's name begins with whose own name at home was taken meanwhile.
const FALLBACK: &str = "xvf";

/// A VF at home, as it is before anything is changed.
#[derive(Debug)]
pub struct Found {
    /// What goes into the journal.
    pub vf: Vf,
    /// The MAC that the pod gets.
    pub mac: Mac,
    /// The MAC that its PF gives it already, as far as that was asked.
    pub given: Option<Mac>,
    /// The index of its netdev here; a VF that a userspace driver has got has none.
    pub index: Option<IfIndex>,
    /// Its PF.
    pub parent: Parent,
}

/// Looks at a VF and at what its PF would have to be told.
///
/// # Errors
/// [`Error::Device`] when it is no VF, its PF is down, it has no driver, or its netdev is not
/// here; [`Error::Sysfs`] when there is no such device; [`Error::Setting`] when nobody can do
/// what is asked of its PF.
pub fn inspect(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    asked: &Asked,
    macs: &Path,
) -> Result<Found, Error> {
    let here = vf::at_home(&host.sysfs, home, pci)?;
    let Some(parent) = host.sysfs.parent(pci)? else {
        let name = here.map(|(name, _)| format!(" ({name})"));
        return Err(Error::Device(format!(
            "{pci}{} is not an SR-IOV VF; give a VF's address",
            name.unwrap_or_default()
        )));
    };
    let driver = || host.sysfs.driver(pci);
    if here.is_none() && !driver().is_some_and(|driver| is_userspace(&driver)) {
        return Err(Error::Device(match driver() {
            None => format!("the VF {pci} has no driver; bind it to its network driver"),
            Some(driver) => format!(
                "the VF {pci} (driver {driver}) has no netdev in the host's network namespace; \
                 another container may hold it"
            ),
        }));
    }
    let pf = parent.netdev.clone();
    if let Some(pf) = &pf
        && ioctl::up_and_running(home, pf).is_ok_and(|(up, _)| !up)
    {
        return Err(Error::Device(format!(
            "{pf}, the PF of the VF {pci}, is down, so the VF has no carrier: `ip link set {pf} up`"
        )));
    }
    let netdev = here
        .as_ref()
        .map(|(name, _)| netdev(host, home, pci, name))
        .transpose()?;
    // Asking a PF takes RTNL: only for what only a PF knows.
    let wants = *asked != Asked::default() || netdev.is_none();
    let side = match pf {
        Some(pf) if wants => {
            let vf = host.sysfs.vf_number(&parent.pci, pci)?;
            pf_has(home, &pf, vf)?.map(|has| (pf, vf, has))
        }
        _ => None,
    };
    if side.is_none()
        && let Some((key, setting)) = asked.needs_pf(netdev.is_some())
    {
        return Err(Error::Setting {
            key: key.as_str(),
            value: setting.to_string(),
            whom: format!("the VF {pci}"),
            reason: "no PF on this host takes settings for it".to_owned(),
        });
    }
    let told = side.as_ref().and_then(|(_, _, has)| has.mac);
    let own = netdev.as_ref().map(|netdev| netdev.mac);
    let mac = match asked.mac.or(own).or(told) {
        Some(mac) => mac,
        None => mac_from_file(macs, pci)?,
    };
    let pf = side.and_then(|(netdev, vf, has)| {
        let changes = pf::changes(asked, &has);
        (!changes.is_empty()).then_some(PfSide {
            netdev,
            vf,
            changes,
        })
    });
    Ok(Found {
        vf: Vf::new(pci.clone(), netdev, pf),
        mac,
        given: told,
        index: here.map(|(_, index)| index),
        parent,
    })
}

/// Drivers that give a function to a process instead of making a netdev of it.
fn is_userspace(driver: &str) -> bool {
    driver.starts_with("vfio") || driver.starts_with("uio") || driver == "igb_uio"
}

fn netdev(host: &Host, home: &Rtnl, pci: &PciAddr, name: &IfName) -> Result<Netdev, Error> {
    let vanished = |source| Error::Io {
        what: format!("read the VF {pci} ({name})"),
        source,
    };
    let mac = ioctl::mac(home, name).map_err(vanished)?;
    let mac =
        mac.ok_or_else(|| Error::Device(format!("the VF {pci} ({name}) has no MAC address")))?;
    let mtu = ioctl::mtu(home, name).map_err(vanished)?;
    let mtu = Mtu::try_from(mtu).map_err(|error| Error::Device(format!("{name}: {error}")))?;
    let (up, _) = ioctl::up_and_running(home, name).map_err(vanished)?;
    Ok(Netdev {
        name: name.clone(),
        mac,
        mtu,
        up,
        alias: host.sysfs.alias(name),
        alt_names: None,
    })
}

/// A VF as its PF has it; `None` where this host's PF has no say.
fn pf_has(home: &mut Rtnl, pf: &IfName, vf: u32) -> Result<Option<VfSide>, Error> {
    let Ok(index) = ioctl::index(home, pf) else {
        return Ok(None);
    };
    Ok(vf_side::read(home, index, vf)?)
}

/// The last resort for a VF without a netdev whose PF gives no address: the public plugin's file
/// of PCI addresses and MACs.
fn mac_from_file(file: &Path, pci: &PciAddr) -> Result<Mac, Error> {
    let unknown = |why: String| {
        Error::Device(format!(
            "the MAC of the VF {pci} is not known: it has no netdev, its PF gives it none, and \
             {} {why}; set `mac`, or give the VF one through its PF",
            file.display()
        ))
    };
    let text = fs::read(file).map_err(|error| unknown(format!("can't be read ({error})")))?;
    let macs: BTreeMap<String, Mac> =
        serde_json::from_slice(&text).map_err(|error| unknown(format!("is wrong ({error})")))?;
    let mac = macs.get(pci.as_str()).copied();
    mac.ok_or_else(|| unknown("doesn't list it".to_owned()))
}

/// Makes a VF at home take the MAC that its PF gives it. A changed MTU resets every driver that
/// needs it; the one it had comes right after.
///
/// # Errors
/// The kernel's refusal.
pub fn take_mac(home: &mut Rtnl, netdev: &Netdev, mac: Mac) -> Result<(), Error> {
    let Netdev { name, mtu, .. } = netdev;
    let vanished = |source| Error::Io {
        what: format!("read {name}"),
        source,
    };
    if ioctl::mac(home, name).map_err(vanished)? == Some(mac) {
        return Ok(());
    }
    let index = ioctl::index(home, name).map_err(vanished)?;
    let request = |mtu| {
        let change = Change {
            mtu: Some(mtu),
            ..Change::of(index)
        };
        change.request(format!("reset {name} by an MTU of {mtu}"))
    };
    // One that comes up is told in the pod; not every driver takes every MTU.
    let _refused = home.apply_each(&[request(other_mtu(*mtu)), request(*mtu)])?;
    Ok(())
}

/// An MTU beside another.
fn other_mtu(mtu: Mtu) -> Mtu {
    let number = u32::from(mtu);
    Mtu::try_from(number - 1)
        .or_else(|_| Mtu::try_from(number + 1))
        .unwrap_or(mtu)
}

/// What the pod's interface is to be.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// Its MAC.
    pub mac: Mac,
    /// Whether the VF itself must be told the MAC.
    pub tell_vf: bool,
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
    /// The further names it came with, as far as that was heard.
    pub alt_names: Option<Vec<String>>,
}

/// Moves the VF into the pod, renamed, with MTU and MAC, and up: one message. Further names of
/// the VF that the pod has already are taken from it; before that, `keep` is told all it has.
///
/// # Errors
/// The kernel's refusal, or `keep`'s.
pub fn move_in(
    home: &mut Rtnl,
    pod: &mut Sandbox,
    (netdev, index): (&Netdev, IfIndex),
    wanted: &Wanted<'_>,
    keep: impl FnOnce(Vec<String>) -> Result<(), JournalError>,
) -> Result<Arrived, Error> {
    let Wanted {
        name,
        mac,
        tell_vf,
        mtu,
    } = wanted;
    let change = Change {
        netns: Some(pod.ns.as_fd()),
        name: Some(*name),
        mac: tell_vf.then_some(*mac),
        mtu: *mtu,
        up: Some(true),
        ..Change::of(index)
    };
    let request = change.request(format!("move {} into the pod as {name}", netdev.name));
    let mut moved = home.apply(std::slice::from_ref(&request));
    let mut known = None;
    if moved.as_ref().is_err_and(is_taken) {
        // The kernel takes every name along, and refuses all for one that is taken.
        let names = alt_names(home, index)?;
        let taken = taken_by(&pod.rtnl, &names);
        if !taken.is_empty() {
            keep(names.clone())?;
            known = Some(names);
            moved = home.apply(&[drop_alt_names(index, taken), request]);
        }
    }
    moved.map_err(|error| refused(home, pod, netdev, wanted, error))?;
    let vanished = |source| Error::Io {
        what: format!("read {name} in the pod"),
        source,
    };
    // The index may have changed with the namespace.
    let index = ioctl::index(&pod.rtnl, name).map_err(vanished)?;
    let has = ioctl::mac(&pod.rtnl, name).map_err(vanished)?;
    if has != Some(*mac) {
        // Some drivers take a MAC from the PF only at the next reset of the device.
        let change = Change {
            mac: Some(*mac),
            ..Change::of(index)
        };
        let request = change.request(format!("set the MAC of {name} to {mac}"));
        let told = pod.rtnl.apply(&[request]);
        told.map_err(|error| not_for(netdev, "mac", mac, &error))?;
    }
    let mtu = ioctl::mtu(&pod.rtnl, name).map_err(vanished)?;
    // The kernel tells of the arrival before it renames.
    let names = [&netdev.name, *name];
    let arrival = || pod.arrival_of(index, names).map(|facts| facts.alt_names);
    Ok(Arrived {
        index,
        mtu,
        alt_names: known.or_else(arrival),
    })
}

/// What of a move was refused. The kernel moves first, then sets MAC, MTU and name in this order,
/// and stays where it fails.
fn refused(
    home: &Rtnl,
    pod: &Sandbox,
    netdev: &Netdev,
    wanted: &Wanted<'_>,
    error: RtnlError,
) -> Error {
    let is_home = ioctl::index(home, &netdev.name).is_ok();
    let names = [wanted.name, &netdev.name];
    let name = names.into_iter().find(|name| pod.index_of(name).is_some());
    let Some(name) = name.filter(|_| !is_home) else {
        return error.into();
    };
    let mac = wanted.mac;
    if wanted.tell_vf && ioctl::mac(&pod.rtnl, name).is_ok_and(|has| has != Some(mac)) {
        return not_for(netdev, "mac", mac, &error);
    }
    match wanted.mtu {
        Some(mtu) if ioctl::mtu(&pod.rtnl, name).is_ok_and(|has| has != u32::from(mtu)) => {
            not_for(netdev, "mtu", mtu, &error)
        }
        _ => error.into(),
    }
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

/// Waits until a VF whose pod's namespace is gone is home again.
///
/// # Errors
/// [`Error::Busy`] when that takes too long; the kernel's refusals.
pub fn returned(host: &Host, home: &mut Rtnl, pci: &PciAddr) -> Result<(), Error> {
    locate(host, home, None, pci).map(drop)
}

/// Brings the VF home, wherever it is, and makes it what it was. Gives remarks where something
/// kept it from that.
///
/// # Errors
/// [`Error::Busy`] when its namespace is gone but it hasn't come back yet;
/// [`Error::Device`] when its netdev is nowhere; the kernel's refusals.
pub fn send_home(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
    origin: &Netdev,
) -> Result<Vec<String>, Error> {
    let mut seen = Seen::default();
    let remark = bring_home(host, home, pod, pci, origin, &mut seen)?;
    let mut remarks = Vec::from_iter(remark);
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
    /// The further names with which it came out of the pod.
    names: Option<Vec<String>>,
}

/// As [`send_home`], but for further names that it lost.
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
    loop {
        let Some((facts, in_pod)) = locate(host, home, pod.as_deref_mut(), pci)? else {
            return Ok(None); // no device, or another driver's: there is nothing to bring home
        };
        seen.index = (!in_pod).then_some(facts.index);
        let change = plan_home(&facts, in_pod.then_some(&ns), origin, &name, mac_by);
        let sent = if change.is_empty() {
            Ok(())
        } else {
            let request = change.request(format!("bring {} home as {name}", facts.name));
            match (&mut pod, in_pod) {
                (Some(pod), true) => {
                    // A name that the pod gave it would stand in the way of its next owner.
                    let (own, strange) = split_names(&facts, origin);
                    seen.names = Some(own);
                    let drop = (!strange.is_empty()).then(|| drop_alt_names(facts.index, strange));
                    let requests: Vec<_> = drop.into_iter().chain([request]).collect();
                    let verdicts = pod.rtnl.apply_each(&requests)?;
                    verdicts.into_iter().next_back().unwrap_or(Ok(()))
                }
                _ => home.apply(&[request]),
            }
        };
        match (sent, mac_by) {
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
            (Err(error), _) if is_taken(&error) && name == origin.name => {
                // Home under a wrong name serves better than not at all; its next
                // owner finds it by its PCI address.
                name = format!("{FALLBACK}%d").parse().map_err(|_| error)?;
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
}

/// A device's further names: its own, and what others gave it as far as its own are known.
fn split_names(facts: &LinkFacts, origin: &Netdev) -> (Vec<String>, Vec<String>) {
    let names = facts.alt_names.iter().cloned();
    match &origin.alt_names {
        None => (names.collect(), Vec::new()),
        Some(had) => names.partition(|name| had.contains(name)),
    }
}

/// Takes those further names from a device in the pod that devices at home have. Gives whether
/// there were any.
fn drop_taken(home: &Rtnl, pod: &mut Sandbox, facts: &LinkFacts) -> Result<bool, Error> {
    let taken = taken_by(home, &facts.alt_names);
    if taken.is_empty() {
        return Ok(false);
    }
    pod.rtnl.apply(&[drop_alt_names(facts.index, taken)])?;
    Ok(true)
}

/// The names that devices of a socket's namespace have already.
fn taken_by(there: &Rtnl, names: &[String]) -> Vec<String> {
    let taken = |name: &&String| match name.parse::<IfName>() {
        Ok(name) => ioctl::index(there, &name).is_ok(),
        // Too long for a look without RTNL: it goes as well.
        Err(_) => true,
    };
    names.iter().filter(taken).cloned().collect()
}

/// Gives a VF at home exactly the further names it had.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
fn restore_names(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    had: &[String],
    seen: Seen,
) -> Result<(), Error> {
    let without = |all: &[String], these: &[String]| -> Vec<String> {
        let rest = all.iter().filter(|name| !these.contains(name));
        rest.cloned().collect()
    };
    let is_all = |names: &Vec<String>| without(had, names).is_empty();
    if seen.names.as_ref().is_some_and(is_all) {
        return Ok(());
    }
    let index = match seen.index {
        Some(index) => index,
        None => match locate(host, home, None, pci)? {
            Some((facts, _)) => facts.index,
            None => return Ok(()),
        },
    };
    let has = match seen.names {
        Some(names) => names,
        None => alt_names(home, index)?,
    };
    let strange = without(&has, had);
    let mut requests = Vec::new();
    if !strange.is_empty() {
        requests.push(drop_alt_names(index, strange));
    }
    let missing = without(had, &has).into_iter();
    requests.extend(missing.map(|name| add_alt_name(index, name)));
    Ok(home.apply(&requests)?)
}

/// How a VF on its way home gets its MAC back. Each is tried once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MacBy {
    /// It is told, in the message that moves it.
    Message,
    /// The PF has given it one, so the driver refuses; it takes that one when it resets, which
    /// coming up or another MTU does.
    Reset,
    /// It has it, or never will; only the admin state is left.
    Nobody,
}

/// The VF's netdev and whether it is in the pod; `None`: the PCI device is gone, or has no netdev
/// because somebody took it from its driver.
fn locate(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<&mut Sandbox>,
    pci: &PciAddr,
) -> Result<Option<(LinkFacts, bool)>, Error> {
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
            return facts_at_home(host, home, name, index).map(|f| Some((f, false)));
        }
        Ok(None) => {}
        Err(SysfsError::NoDevice(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if let Some(pod) = pod
        && let Some(facts) = vf::find(&host.sysfs, &mut pod.rtnl, pci, host.proof)?
    {
        return Ok(Some((facts, true)));
    }
    // sysfs shows the namespace it was mounted in, which needn't be ours.
    if let Some(facts) = vf::find(&host.sysfs, home, pci, host.proof)? {
        return Ok(Some((facts, false)));
    }
    if host
        .sysfs
        .driver(pci)
        .is_none_or(|driver| is_userspace(&driver))
    {
        return Ok(None);
    }
    let Some(events) = &mut returns else {
        return Err(Error::Device(format!(
            "the VF {pci} has no netdev, neither in the pod nor on the host; \
             it may be bound to another driver or in a third namespace"
        )));
    };
    let until = Instant::now() + RETURN_WAIT;
    let back = events.wait(until, |link| (host.proof)(&host.sysfs, link, pci))?;
    back.map(|facts| Some((facts, false))).ok_or_else(|| {
        Error::Busy(format!(
            "the VF {pci} has not come back from its pod's namespace yet"
        ))
    })
}

/// What a look without RTNL tells of a device at home.
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
    let (up, lower_up) = ioctl::up_and_running(home, &name).map_err(vanished)?;
    let alias = host.sysfs.alias(&name);
    Ok(LinkFacts {
        index,
        name: name.as_str().to_owned(),
        alt_names: Vec::new(),
        mac,
        mtu,
        up,
        lower_up,
        alias,
        parent: None,
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
    // The kernel fills in a fallback name's number; once that is done it stays.
    let numbered = name != &origin.name && facts.name.starts_with(FALLBACK);
    Change {
        netns: to.map(AsFd::as_fd),
        name: (facts.name != name.as_str() && !numbered).then_some(name),
        mac: (other_mac && mac_by == MacBy::Message).then_some(origin.mac),
        mtu: (facts.mtu != u32::from(wanted_mtu)).then_some(wanted_mtu),
        // Programs of the host may take an alias for their own word.
        alias: (facts.alias != origin.alias).then(|| origin.alias.as_deref().unwrap_or_default()),
        up: (up != wants_up).then_some(wants_up),
        ..Change::of(facts.index)
    }
}

#[cfg(test)]
#[path = "../tests/unit/device.rs"]
mod tests;
