//! Where a VF's netdev is, and what it is there.

use std::time::{Duration, Instant};

use xpu_linux::{
    sync::{LinkFacts, Rtnl, event::LinkEvents, ioctl, link::SetFlags},
    sysfs::{PciAddr, SysfsError},
    vf::{self, PodSide, Uppers},
};
use xpu_model::{IfIndex, IfName, Mac};

use super::Away;
use crate::{device::has_no_netdev, error::Error, host::Host};

/// How long a VF's return from a dead namespace is waited for.
const RETURN_WAIT: Duration = Duration::from_millis(500);

/// A netdev as it is now, as far as it is compared with what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its index, where it is.
    pub index: IfIndex,
    /// Its name; the kernel allows more than [`IfName`] does.
    pub name: String,
    /// Its address; `None`: it has none.
    pub mac: Option<Mac>,
    /// Bytes of payload per frame.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its other flags that can be set.
    pub flags: SetFlags,
    /// Packets that its queue takes; `None`: not known.
    pub txqlen: Option<u32>,
    /// The group of devices that it is in; `None`: not known.
    pub group: Option<u32>,
    /// Its alias, if it has one.
    pub alias: Option<String>,
}

impl From<&LinkFacts> for Current {
    fn from(link: &LinkFacts) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            flags: link.flags,
            txqlen: link.txqlen,
            group: link.group,
            alias: link.alias.clone(),
        }
    }
}

/// A VF's netdev where it is.
#[derive(Debug)]
pub enum Located {
    /// At home.
    Home(Current),
    /// In the pod, with the pod's devices that stand on it.
    Pod(Box<LinkFacts>, Uppers),
}

impl Located {
    /// What it is there.
    pub fn current(&self) -> Current {
        match self {
            Self::Home(current) => current.clone(),
            Self::Pod(link, _) => Current::from(&**link),
        }
    }

    /// Whether it is in the pod.
    pub fn is_in_pod(&self) -> bool {
        matches!(self, Self::Pod(..))
    }
}

/// The VF's netdev, in the `pod` or at home; `None`: the PCI device is gone, or has no netdev
/// because somebody took it from its driver. Without a pod, its return from a namespace that is gone
/// is waited for.
///
/// # Errors
/// [`Error::NotHome`] when it is neither here nor there, or hasn't come back in time; [`Error::Io`] with
/// `ENODEV` when it went between two looks; the kernel's refusals.
pub fn locate(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<PodSide<'_>>,
    pci: &PciAddr,
) -> Result<Option<Located>, Error> {
    // Only a namespace that is gone gives its devices back by itself. Subscribed before
    // the first look, so that nothing falls between look and wait.
    let mut returns = match pod {
        None => Some(LinkEvents::subscribe()?),
        Some(_) => None,
    };
    match vf::at_home(&host.sysfs, home, pci) {
        Ok(Some((name, index))) => {
            return Ok(Some(Located::Home(read_at_home(host, home, &name, index)?)));
        }
        Ok(None) => {}
        Err(SysfsError::NoDevice(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if let Some(pod) = pod {
        let found = vf::find_with_uppers(&host.sysfs, pod, pci, host.proof)?;
        if let Some((link, uppers)) = found {
            return Ok(Some(Located::Pod(Box::new(link), uppers)));
        }
    }
    let away = |why| Error::NotHome {
        pci: pci.clone(),
        why,
    };
    let at_home = |link: &LinkFacts| Located::Home(link.into());
    // sysfs shows the namespace it was mounted in, which needn't be ours.
    if let Some(link) = vf::find(&host.sysfs, home, pci, host.proof)? {
        return Ok(Some(at_home(&link)));
    }
    if has_no_netdev(host, pci) {
        return Ok(None);
    }
    let Some(events) = &mut returns else {
        // A pod that may make namespaces must not keep itself from ending by that.
        return Err(away(Away::Elsewhere));
    };
    let until = Instant::now() + RETURN_WAIT;
    let back = events.wait(until, |link| (host.proof)(&host.sysfs, link, pci))?;
    match back {
        Some(link) => Ok(Some(at_home(&link))),
        None => Err(away(Away::OnItsWay)),
    }
}

/// A netdev at home, read without RTNL, for which all of the node may be waiting.
fn read_at_home(host: &Host, home: &Rtnl, name: &IfName, index: IfIndex) -> Result<Current, Error> {
    let vanished = |source| Error::Io {
        what: format!("read {name}"),
        source,
    };
    let (up, flags) = ioctl::up_and_flags(home, name).map_err(vanished)?;
    Ok(Current {
        index,
        name: name.as_str().to_owned(),
        mac: ioctl::mac(home, name).map_err(vanished)?,
        mtu: ioctl::mtu(home, name).map_err(vanished)?,
        up,
        flags,
        txqlen: ioctl::txqlen(home, name).ok(),
        group: host.sysfs.group(name),
        alias: host.sysfs.alias(name),
    })
}
