//! Where a VF's netdev is, and what it is there.

use std::time::Instant;

use xpu_linux::{
    sync::{LinkFacts, Rtnl, event::LinkEvents},
    sysfs::{PciAddr, SysfsError},
    vf::{self, PodSide, Uppers},
};

use super::Away;
use crate::{
    budget::RETURN_WAIT,
    device::{
        has_no_netdev,
        netdev::{Current, read_netdev},
    },
    error::Error,
    host::Host,
};

/// What a look for a VF's netdev shows.
#[derive(Debug)]
pub enum Look {
    /// It is in reach.
    Found(Located),
    /// It was at home, and then not any more, or not by that name: a program of the host's may rename
    /// what comes home. Another look tells.
    Vanished,
    /// There is none: the PCI device is gone, or somebody took it from its driver.
    NoNetdev,
}

/// A VF's netdev where it is.
#[derive(Debug)]
pub enum Located {
    /// At home.
    Home(Current),
    /// In the pod.
    Pod(InPod),
}

/// A VF's netdev in its pod.
#[derive(Debug)]
pub struct InPod {
    /// What it is.
    pub link: Box<LinkFacts>,
    /// The pod's devices that stand on it.
    pub uppers: Uppers,
}

impl Located {
    /// What it is there.
    pub fn current(&self) -> Current {
        match self {
            Self::Home(current) => current.clone(),
            Self::Pod(seen) => Current::from(&*seen.link),
        }
    }

    /// Whether it is in the pod.
    pub fn is_in_pod(&self) -> bool {
        matches!(self, Self::Pod(_))
    }
}

/// Looks for the VF's netdev, in the `pod` and at home. Without a pod, its return from a namespace that
/// is gone is waited for.
///
/// # Errors
/// [`Error::NotHome`] when it is neither here nor there, or hasn't come back in time; the kernel's
/// refusals.
pub fn locate(
    host: &Host,
    home: &mut Rtnl,
    pod: Option<PodSide<'_>>,
    pci: &PciAddr,
) -> Result<Look, Error> {
    // Only a namespace that is gone gives its devices back by itself. Subscribed before
    // the first look, so that nothing falls between look and wait.
    let mut returns = match pod {
        None => Some(LinkEvents::subscribe()?),
        Some(_) => None,
    };
    match vf::at_home(&host.sysfs, home, pci) {
        Ok(Some((name, index))) => {
            return match read_netdev(host, home, &name, index) {
                Ok(current) => Ok(Look::Found(Located::Home(current))),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Look::Vanished),
                Err(source) => Err(Error::Io {
                    what: format!("read {name}"),
                    source,
                }),
            };
        }
        Ok(None) => {}
        Err(SysfsError::NoDevice(_)) => return Ok(Look::NoNetdev),
        Err(error) => return Err(error.into()),
    }
    if let Some(pod) = pod {
        let found = vf::find_with_uppers(&host.sysfs, pod, pci, host.proof)?;
        if let Some((link, uppers)) = found {
            let link = Box::new(link);
            return Ok(Look::Found(Located::Pod(InPod { link, uppers })));
        }
    }
    let away = |why| Error::NotHome {
        pci: pci.clone(),
        why,
    };
    let at_home = |link: &LinkFacts| Look::Found(Located::Home(link.into()));
    // sysfs shows the namespace it was mounted in, which needn't be ours.
    if let Some(link) = vf::find(&host.sysfs, home, pci, host.proof)? {
        return Ok(at_home(&link));
    }
    if has_no_netdev(host, pci) {
        return Ok(Look::NoNetdev);
    }
    let Some(events) = &mut returns else {
        // A pod that may make namespaces must not keep itself from ending by that.
        return Err(away(Away::Elsewhere));
    };
    let until = Instant::now() + RETURN_WAIT;
    let back = events.wait(until, |link| (host.proof)(&host.sysfs, link, pci))?;
    match back {
        Some(link) => Ok(at_home(&link)),
        None => Err(away(Away::OnItsWay)),
    }
}
