//! The agent's half: observe the kernel, apply a plan, follow events.
//!
//! A netlink request runs in the caller's own `sendmsg(2)`, RTNL waits included, whatever kind
//! of socket carries it. So requests are made on tokio's blocking threads, over the same small
//! socket that the CNI plugin uses; only events are awaited.

mod advertised;
#[cfg(test)]
mod alone;
mod apply;
mod decode;
mod events;
mod fdb;
mod features;
mod filter;
mod follow;
mod neighbours;
mod observe;
mod request;
mod rules;
mod sysctl;
mod tunnel;
mod vlandb;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::spawn_blocking;
use xpu_model::{IfIndex, IfName};
use xpu_plan::linux::{Inputs, LinuxPlan, Observed, Outcome, Probes};

use crate::sync::{Rtnl, RtnlError};

use fdb::Known;
use neighbours::Gateways;
use observe::Devices;

pub use advertised::routes_at_stake;
pub use fdb::Moved;
pub use features::{Answer, Feature};
pub use follow::{FollowCounts, FollowError, Follower};
pub use neighbours::{Neighbour, Stale, StaleNeighbours};
pub use observe::{ObserveError, links};
pub use sysctl::{bridge_filters, settings_writable};

/// The kernel of one network namespace: that in which [`Linux::open`] was called.
#[derive(Debug, Clone)]
pub struct Linux {
    /// One pass at a time uses it.
    inner: Arc<Mutex<Inner>>,
}

/// The indexes of devices, by name.
type Indexes = BTreeMap<IfName, IfIndex>;

#[derive(Debug)]
struct Inner {
    rtnl: Rtnl,
    /// The devices that the last observation found. A plan is about these, even if other devices
    /// have their names by the time that it is applied.
    seen: Indexes,
    gateways: Gateways,
    fdb: Known,
}

impl Inner {
    fn note(&mut self, devices: &Devices) {
        let names = devices.names.iter();
        let index = |(index, name): (&u32, &IfName)| Some((name.clone(), IfIndex::new(*index)?));
        self.seen = names.filter_map(index).collect();
        let links = devices.links.iter();
        let gateways = links.filter(|(name, link)| link.is_gateway(name));
        self.gateways = Gateways {
            devices: gateways
                .filter_map(|(name, _)| self.seen.get(name).copied())
                .collect(),
            ageing: devices.ageing,
        };
    }
}

impl Linux {
    /// Opens a netlink socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`RtnlError::Open`].
    pub fn open() -> Result<Self, RtnlError> {
        let rtnl = Rtnl::open()?;
        rtnl.strict()?;
        let inner = Inner {
            rtnl,
            seen: Indexes::new(),
            gateways: Gateways::default(),
            fdb: Known::default(),
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// The devices that are not ours.
    ///
    /// # Errors
    /// [`RtnlError`] when the kernel refuses, or its answer can't be read.
    pub async fn foreign_devices(&self) -> Result<BTreeSet<IfName>, RtnlError> {
        let look = |inner: &mut Inner| {
            let devices = observe::devices(&mut inner.rtnl)?;
            inner.note(&devices);
            Ok::<_, RtnlError>(devices.links)
        };
        let links = self.blocking(look).await?;
        let foreign = links.into_iter().filter(|(_, link)| !link.is_ours());
        Ok(foreign.map(|(name, _)| name).collect())
    }

    /// Reads what the planner compares with.
    ///
    /// # Errors
    /// [`ObserveError`] when the kernel refuses, or its answer can't be read.
    pub async fn observe(&self, inputs: &Inputs<'_>) -> Result<Observed, ObserveError> {
        self.observe_moved(inputs, Moved::all()).await
    }

    /// Like [`Self::observe`]; of what is asked for one by one, only what is not known yet or may
    /// have changed since the last observation.
    ///
    /// # Errors
    /// [`ObserveError`] when the kernel refuses, or its answer can't be read.
    pub async fn observe_moved(
        &self,
        inputs: &Inputs<'_>,
        moved: Moved,
    ) -> Result<Observed, ObserveError> {
        let look = move |inner: &mut Inner| {
            // First: an event is reported once only, also if this observation then fails.
            inner.fdb.forget(&moved);
            let devices = observe::devices(&mut inner.rtnl)?;
            inner.note(&devices);
            observe::observe(&mut inner.rtnl, devices)
        };
        let observed = self.blocking(look).await?;
        let probes = Probes::new(inputs, &observed.links);
        let ask = move |inner: &mut Inner| {
            let Inner {
                rtnl, seen, fdb, ..
            } = inner;
            observe::observe_each(rtnl, seen, fdb, &probes, observed)
        };
        self.blocking(ask).await
    }

    /// Applies a plan over the last observation, in its order. Goes on past failures and reports
    /// each; a range that the kernel refuses is tried number by number.
    pub async fn apply(&self, plan: LinuxPlan) -> Vec<Outcome> {
        let LinuxPlan { steps, holds: _ } = plan;
        if steps.is_empty() {
            return Vec::new();
        }
        self.blocking(move |inner| apply::apply(&mut inner.rtnl, &inner.seen, steps))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> T {
        let inner = self.inner.clone();
        let run = move || work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner));
        match spawn_blocking(run).await {
            Ok(done) => done,
            // The work panicked, which is a fault of ours and not of the input: it goes on
            // upwards, and the agent's supervision starts anew from an observation.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
