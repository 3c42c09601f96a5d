//! The VF: what it is before, how it goes into the pod, how it comes home.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use nix::errno::Errno;
use xpu_linux::{
    sync::{
        Request, Rtnl, RtnlError, ioctl,
        link::Change,
        vf_side::{self, VfSide},
    },
    sysfs::{Parent, PciAddr},
    vf,
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use crate::{
    error::Error,
    host::Host,
    journal::{Netdev, Vf},
    pf::{Asked, PfSide},
};

mod arrive;
mod home;
mod netdev;
mod stay;

pub use arrive::{Arrived, Wanted, move_in, name_taken};
pub use home::{Away, WasInPod, await_return, send_home};
pub use stay::strip;

use netdev::read_netdev;

/// How a VF comes to its MAC, in the pod or at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacBy {
    /// It is told, in the message with its other settings, which moves it if it isn't there yet.
    Message,
    /// It takes the one that its PF has for it when it resets, which coming up or another MTU does.
    Reset,
    /// It has it, or never will, or it has no netdev to tell.
    Nobody,
}

/// A VF at home, as it is before anything is changed.
#[derive(Debug)]
pub struct Found {
    /// What goes into the journal.
    pub vf: Vf,
    /// The MAC that the pod gets.
    pub mac: Mac,
    /// The MAC that its PF gives it already, as far as that was asked.
    pub pf_mac: Option<Mac>,
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
    if let Some((name, _)) = &here
        && let Some(master) = host.sysfs.master(name)
    {
        return Err(Error::Device(format!(
            "the VF {pci} ({name}) is the host's own port of {master}, which a pod would take it \
             from; if it is meant for pods: `ip link set {name} nomaster`"
        )));
    }
    let netdev = here
        .as_ref()
        .map(|(name, index)| kept(host, home, pci, name, *index))
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
    let pf_mac = side.as_ref().and_then(|(_, _, has)| has.mac);
    let own = netdev.as_ref().map(|netdev| netdev.mac);
    let mac = match asked.mac.or(own).or(pf_mac) {
        Some(mac) => mac,
        None => mac_from_file(macs, pci)?,
    };
    let pf = side.and_then(|(netdev, vf, has)| PfSide::new(netdev, vf, asked, &has));
    Ok(Found {
        vf: Vf {
            pci: pci.clone(),
            netdev,
            pf,
        },
        mac,
        pf_mac,
        index: here.map(|(_, index)| index),
        parent,
    })
}

/// Whether a function has no netdev anywhere: it has no driver, or one that gives it to a process.
#[must_use]
pub fn has_no_netdev(host: &Host, pci: &PciAddr) -> bool {
    let driver = host.sysfs.driver(pci);
    driver.is_none_or(|driver| is_userspace(&driver))
}

/// Drivers that give a function to a process instead of making a netdev of it: `vfio-pci`, its
/// variants for one maker's devices such as `mlx5_vfio_pci`, and those of uio.
fn is_userspace(driver: &str) -> bool {
    driver.contains("vfio") || driver.starts_with("uio") || driver == "igb_uio"
}

/// A VF's netdev at home, as it is kept.
fn kept(
    host: &Host,
    home: &Rtnl,
    pci: &PciAddr,
    name: &IfName,
    index: IfIndex,
) -> Result<Netdev, Error> {
    let current = read_netdev(host, home, name, index).map_err(|source| Error::Io {
        what: format!("read the VF {pci} ({name})"),
        source,
    })?;
    let mac = current
        .mac
        .ok_or_else(|| Error::Device(format!("the VF {pci} ({name}) has no MAC address")))?;
    let mtu =
        Mtu::try_from(current.mtu).map_err(|error| Error::Device(format!("{name}: {error}")))?;
    Ok(Netdev {
        name: name.clone(),
        mac,
        mtu,
        up: current.up,
        flags: Some(current.flags.bits()),
        txqlen: current.txqlen,
        group: current.group,
        alias: current.alias,
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

/// Changes a device that stays in its namespace, by `send`. Kernels before 6.2 don't rename one
/// that is up, and some drivers take no MAC then: if the answer is `EBUSY`, it goes down for the
/// change.
///
/// # Errors
/// The kernel's refusal; what stands before that in the message is changed.
fn change_in_place(
    change: &Change<'_>,
    what: String,
    is_up: impl FnOnce() -> bool,
    mut send: impl FnMut(&[Request]) -> Result<(), RtnlError>,
) -> Result<(), RtnlError> {
    let request = change.request(what);
    match send(std::slice::from_ref(&request)) {
        Err(error) if error.errno() == Some(Errno::EBUSY) && is_up() => {}
        sent => return sent,
    }
    let [down, again] = by_way_of_down(change);
    send(&[
        down.request(format!("take link {} down", change.index)),
        again.request(request.what),
    ])
}

/// The same change to a device that is up, in two steps.
fn by_way_of_down<'a>(change: &Change<'a>) -> [Change<'a>; 2] {
    let down = Change {
        up: Some(false),
        ..Change::of(change.index)
    };
    let up = change.up.or(Some(true));
    [down, Change { up, ..*change }]
}

/// Whether a refusal says that a device isn't there (any more).
fn is_gone(error: &RtnlError) -> bool {
    error.errno() == Some(Errno::ENODEV)
}

/// An MTU that differs by one.
fn other_mtu(mtu: Mtu) -> Mtu {
    let number = u32::from(mtu);
    Mtu::try_from(number - 1)
        .or_else(|_| Mtu::try_from(number + 1))
        .unwrap_or(mtu)
}

/// The names that devices of a socket's namespace have already.
fn taken_by(there: &Rtnl, names: &[OsString]) -> Vec<OsString> {
    let taken = |name: &&OsString| match name.to_str().and_then(|name| name.parse::<IfName>().ok())
    {
        // If the look fails, the name counts as taken: the move is tried without it then.
        Some(name) => {
            let found = ioctl::index(there, &name);
            found.map_or_else(|error| error.raw_os_error() != Some(libc::ENODEV), |_| true)
        }
        // No text, too long for a look without RTNL, or no name for a device: it goes as well.
        None => true,
    };
    names.iter().filter(taken).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_for_userspace_are_known_by_their_names() {
        for driver in [
            "vfio-pci",
            "mlx5_vfio_pci",
            "virtio_vfio_pci",
            "uio_pci_generic",
            "igb_uio",
        ] {
            assert!(is_userspace(driver), "{driver}");
        }
        for driver in ["igbvf", "mlx5_core", "iavf", "virtio-pci"] {
            assert!(!is_userspace(driver), "{driver}");
        }
    }
}
