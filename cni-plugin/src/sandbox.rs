//! The pod's network namespace, opened once by its path, with sockets in it.
//!
//! A path says only where a namespace is: which one it is its id says, by which the journal knows it
//! again. Our own is no pod's, unless the runtime says so (`CNI_NETNS_OVERRIDE`).

use std::path::Path;

use nix::errno::Errno;
use xpu_linux::{
    netns::{NetNs, NetNsError, NetNsId},
    sync::{LinkFacts, Rtnl, RtnlError, event::LinkEvents, ioctl},
};
use xpu_model::{IfIndex, IfName};

use crate::{error::Error, journal::NetNsRef};

mod announce;
mod configure;

/// How a pod's namespace is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open {
    /// It may be our own.
    pub may_be_own: bool,
    /// The arrival of devices is heard from then on, see [`Sandbox::arrival_of`].
    pub hears_arrivals: bool,
}

/// A pod's namespace, open.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace.
    pub ns: NetNs,
    /// A netlink socket in it.
    pub rtnl: Rtnl,
    /// Events of its links, if [`Open::hears_arrivals`]: that of an arrival tells all of a device,
    /// which otherwise takes RTNL.
    events: Option<LinkEvents>,
    path: String,
}

impl Sandbox {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`Error::NetNs`] when there is none; [`Error::HostNetNs`] when it is our own,
    /// in which an attachment makes no sense.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_as(path, Open::default())
    }

    /// Opens a namespace that the journal knows, if it is still there and the same.
    #[must_use]
    pub fn open_kept(kept: &NetNsRef) -> Option<Self> {
        let pod = Self::open(Path::new(&kept.path)).ok();
        pod.filter(|pod| kept.is(pod.id()))
    }

    /// Opens the namespace at `path` as `how` says.
    ///
    /// # Errors
    /// [`Error::NetNs`] when there is none; [`Error::HostNetNs`] when it is our own and may not be.
    pub fn open_as(path: &Path, how: Open) -> Result<Self, Error> {
        let ns = NetNs::open(path)?;
        let path = path.display().to_string();
        let (rtnl, events) = ns.run(|| {
            let events = how.hears_arrivals.then(LinkEvents::subscribe).transpose()?;
            Ok::<_, RtnlError>((Rtnl::open()?, events))
        })??;
        let sandbox = Self {
            ns,
            rtnl,
            events,
            path,
        };
        if !how.may_be_own && sandbox.is_own() {
            return Err(Error::HostNetNs(sandbox.path));
        }
        Ok(sandbox)
    }

    /// Subscribes to arrivals anew, which forgets those until now.
    ///
    /// # Errors
    /// The kernel's refusal to enter the namespace or to tell.
    pub fn resubscribe(&mut self) -> Result<(), Error> {
        if self.events.is_some() {
            self.events = Some(self.ns.run(LinkEvents::subscribe)??);
        }
        Ok(())
    }

    /// What the kernel told at the arrival of a device, by one of its names; `None` where that was
    /// not heard.
    pub fn arrival_of(&mut self, index: IfIndex, names: [&IfName; 2]) -> Option<LinkFacts> {
        let events = self.events.as_mut()?;
        let is_it = |link: &LinkFacts| {
            link.index == index && names.iter().any(|name| link.name == name.as_str())
        };
        events.find_received(is_it).ok()?
    }

    /// Whether this is our own namespace.
    #[must_use]
    pub fn is_own(&self) -> bool {
        NetNs::own_id().is_ok_and(|own| own == self.id())
    }

    /// `CNI_NETNS`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which namespace this is.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.ns.id()
    }

    /// The index of an interface in the pod, if it has one of that name.
    #[must_use]
    pub fn index_of(&self, name: &IfName) -> Option<IfIndex> {
        ioctl::index(&self.rtnl, name).ok()
    }
}

/// Whether an error says that the namespace isn't there (any more).
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::NetNs(NetNsError::Open { .. } | NetNsError::NotANetNs { .. })
    )
}

/// Whether a refusal says that the name is taken.
#[must_use]
pub fn is_taken(error: &RtnlError) -> bool {
    error.errno() == Some(Errno::EEXIST)
}
