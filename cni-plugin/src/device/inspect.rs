//! The VF at home, before anything is changed: whether it can be a pod's at all, and all that the
//! journal must know of it.

use std::{collections::BTreeMap, fs, path::Path};

use xpu_linux::{
    sync::{
        Rtnl, ioctl,
        vf_side::{self, VfSide},
    },
    sysfs::{Parent, PciAddr},
    vf,
};
use xpu_model::{IfIndex, IfName, Mac, Mtu};

use super::netdev::read_netdev;
use crate::{
    error::Error,
    host::Host,
    journal::{Netdev, Vf},
    pf::{PfSide, VfSettings},
};

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
    asked: &VfSettings,
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
                 another container may hold it, with whose end it is back"
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
    let wants = *asked != VfSettings::default() || netdev.is_none();
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
    let mac = current.mac.ok_or_else(|| {
        Error::Device(format!(
            "the VF {pci} ({name}) has no MAC address; give it one through its PF"
        ))
    })?;
    let mtu = Mtu::try_from(current.mtu).map_err(|error| {
        Error::Device(format!(
            "the VF {pci} ({name}) has an MTU that no pod's can have: {error}; `ip link set {name} \
             mtu 1500`"
        ))
    })?;
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
