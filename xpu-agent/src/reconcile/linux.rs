//! Linux as a backend: bridges, VXLAN, VRFs, SVIs and ports.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;
use tracing::{Instrument, debug, debug_span, error};
use xpu_linux::{
    kernel::{FollowCounts, FollowError, Follower, Linux},
    sync::RtnlError,
};
use xpu_model::{
    IfName, Intent, Kind, Node,
    status::{self, PassReport},
};
use xpu_plan::{
    FrrFacts,
    linux::{self, Inputs, Observed},
};

use super::Backend;

/// The kernel of the agent's network namespace.
pub struct LinuxBackend {
    linux: Linux,
    follower: Follower,
    node: Arc<Node>,
    /// What FRR knows; some devices wait for it.
    facts: watch::Receiver<FrrFacts>,
    /// Names that are not ours, for the store's choices and for FRR, which knows VRFs by name.
    foreign: watch::Sender<BTreeSet<IfName>>,
    /// Counts the passes that changed something: FRR then looks again.
    applied: watch::Sender<u64>,
}

/// Why netlink cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No socket for requests.
    #[error(transparent)]
    Requests(#[from] RtnlError),
    /// No socket for events.
    #[error(transparent)]
    Events(#[from] FollowError),
}

impl LinuxBackend {
    /// Opens netlink in the network namespace of the calling thread, which is the agent's, and
    /// looks for foreign devices: nobody may choose names, or take a VRF in FRR for ours, before
    /// they are known.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        node: Arc<Node>,
        facts: watch::Receiver<FrrFacts>,
        foreign: watch::Sender<BTreeSet<IfName>>,
    ) -> Result<Self, OpenError> {
        // Subscribed before the first observation: no change falls between.
        let follower = Follower::new()?;
        let (applied, _) = watch::channel(0);
        let linux = Linux::open()?;
        foreign.send_replace(linux.foreign_devices().await?);
        Ok(Self {
            linux,
            follower,
            node,
            facts,
            foreign,
            applied,
        })
    }

    /// The kernel, for who has another errand there.
    #[must_use]
    pub fn kernel(&self) -> Linux {
        self.linux.clone()
    }

    /// Changes whenever a pass changed the kernel.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// What the follower of the kernel's events counts.
    #[must_use]
    pub fn events(&self) -> Arc<FollowCounts> {
        self.follower.counts()
    }

    async fn try_pass(&mut self, intent: &Intent) -> Result<PassReport, String> {
        let facts = self.facts.borrow_and_update().clone();
        let inputs = Inputs {
            intent,
            node: &self.node,
            frr: &facts,
        };
        let observed = self.observe(&inputs).await?;
        let plan = debug_span!("plan").in_scope(|| linux::plan(&inputs, &observed));
        if plan.is_empty() {
            return Ok(linux::report(&inputs, &observed, &[]));
        }
        let span = debug_span!("apply", steps = plan.steps.len());
        for step in &plan.steps {
            span.in_scope(|| debug!(action = %step.action, "planned"));
        }
        let outcomes = self.linux.apply(plan).instrument(span.clone()).await;
        for outcome in &outcomes {
            if let Err(reason) = &outcome.result {
                span.in_scope(
                    || debug!(action = %outcome.step.action, %reason, "refused by the kernel"),
                );
            }
        }
        self.applied.send_modify(|passes| *passes += 1);
        let after = self.observe(&inputs).await?;
        Ok(linux::report(&inputs, &after, &outcomes))
    }

    async fn observe(&self, inputs: &Inputs<'_>) -> Result<Observed, String> {
        let observed = self
            .linux
            .observe(inputs)
            .instrument(debug_span!("observe"))
            .await
            .map_err(|error| error.to_string())?;
        let foreign: BTreeSet<IfName> = observed
            .links
            .iter()
            .filter(|(_, link)| !link.is_ours())
            .map(|(name, _)| name.clone())
            .collect();
        self.foreign.send_if_modified(|known| {
            let changed = *known != foreign;
            *known = foreign;
            changed
        });
        Ok(observed)
    }
}

impl Backend for LinuxBackend {
    const NAME: status::Backend = status::Backend::Linux;
    const KINDS: &'static [Kind] = &Kind::ALL;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        match self.try_pass(intent).await {
            Ok(report) => report,
            Err(reason) => super::unobserved(Self::NAME, intent, intent.keys(), &reason),
        }
    }

    async fn dirty(&mut self) {
        let event = async {
            let event = self.follower.changed().await;
            event.inspect_err(
                |error| error!(%error, "only the audit finds drift; restart the agent"),
            )
        };
        // Both arms are cancel-safe. An arm that fails is out: the facts' when FRR is not managed.
        tokio::select! {
            Ok(()) = event => {}
            Ok(()) = self.facts.changed() => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Looks at the machine that runs the test and changes nothing.
    #[tokio::test]
    async fn foreign_devices_are_known_once_it_is_open() {
        let node = Config::default().node().unwrap();
        let (foreign, seen) = watch::channel(BTreeSet::new());
        let (_facts, facts) = watch::channel(FrrFacts::Unknown);
        let _backend = LinuxBackend::open(Arc::new(node), facts, foreign)
            .await
            .unwrap();
        assert!(seen.borrow().contains(&"lo".parse().unwrap()));
    }
}
