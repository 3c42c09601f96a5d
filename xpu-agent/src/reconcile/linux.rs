//! Linux as a backend: bridges, VXLAN, VRFs, SVIs and ports.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, debug, debug_span, error, warn};
use xpu_linux::{
    kernel::{FollowCounts, FollowError, Follower, Linux, ObserveError},
    sync::RtnlError,
};
use xpu_model::{
    IfName, Intent, Kind, Node,
    cause::chain,
    node::PortResolver,
    status::{self, PassReport},
};
use xpu_plan::{
    FrrFacts,
    linux::{self, Inputs, LinuxPlan, Observed, Outcome},
};

use super::{Backend, backoff::Backoff, schedule::AUDIT};

/// How long cached FDB answers are trusted without asking again. Shorter than the shortest jittered
/// audit interval, so every audit asks.
const TRUST: Duration = Duration::from_secs(AUDIT.as_secs() * 3 / 4);

/// What the backend needs of a kernel.
pub trait Machine: Send + 'static {
    /// Reads what the planner compares with. It covers all events until then, which no longer
    /// complete [`Self::changed`].
    fn observe(
        &mut self,
        inputs: &Inputs<'_>,
    ) -> impl Future<Output = Result<Observed, ObserveError>> + Send;

    /// Applies a plan over the last observation.
    fn apply(&mut self, plan: LinuxPlan) -> impl Future<Output = Vec<Outcome>> + Send;

    /// Completes when something changed that no observation has seen. Cancel-safe.
    fn changed(&mut self) -> impl Future<Output = Result<(), FollowError>> + Send;
}

/// The kernel of the agent's network namespace, with its events.
pub struct FollowedLinux {
    linux: Linux,
    follower: Follower,
    /// When everything was asked for last, FDB entries included.
    asked_all: Option<Instant>,
}

impl Machine for FollowedLinux {
    async fn observe(&mut self, inputs: &Inputs<'_>) -> Result<Observed, ObserveError> {
        // Most of it is what the last plan did, which calls for no pass of its own.
        let moved = self.follower.catch_up();
        if self.asked_all.is_some_and(|at| at.elapsed() < TRUST) {
            return self.linux.observe_moved(inputs, moved).await;
        }
        let observed = self.linux.observe(inputs).await?;
        self.asked_all = Some(Instant::now());
        Ok(observed)
    }

    async fn apply(&mut self, plan: LinuxPlan) -> Vec<Outcome> {
        self.linux.apply(plan).await
    }

    async fn changed(&mut self) -> Result<(), FollowError> {
        self.follower.changed().await
    }
}

/// Linux, and the channels by which it and the other parts of the agent hear of each other.
pub struct LinuxBackend<M = FollowedLinux> {
    machine: M,
    node: Arc<Node>,
    /// How ports are found, where that changes while the agent runs.
    ports: Option<watch::Receiver<PortResolver>>,
    /// What FRR knows; some devices wait for it.
    facts: watch::Receiver<FrrFacts>,
    /// Names that are not ours, for the store's choices and for FRR, which knows VRFs by name.
    foreign: watch::Sender<BTreeSet<IfName>>,
    /// Counts the passes that changed something that FRR looks at: it then looks again.
    applied: watch::Sender<u64>,
    /// The report of the last pass that could observe.
    last_report: PassReport,
}

/// Why a pass came to nothing.
enum Trouble {
    /// The kernel kept changing while it was looked at; with how many actions were applied before,
    /// and failed.
    Unsteady {
        reason: String,
        planned: usize,
        failed: usize,
    },
    /// The kernel cannot be looked at.
    Blind(String),
}

impl From<ObserveError> for Trouble {
    fn from(error: ObserveError) -> Self {
        let reason = chain(&error);
        match error {
            ObserveError::Netlink(RtnlError::Unsteady { .. }) => Self::Unsteady {
                reason,
                planned: 0,
                failed: 0,
            },
            ObserveError::Netlink(_) | ObserveError::Settings(_) => Self::Blind(reason),
        }
    }
}

/// Asks again, by back-off, while what is asked for changes under each answer.
async fn steady<T, F>(mut ask: impl FnMut() -> F) -> Result<T, RtnlError>
where
    F: Future<Output = Result<T, RtnlError>>,
{
    let mut backoff = Backoff::new();
    loop {
        match ask().await {
            Err(error @ RtnlError::Unsteady { .. }) => {
                let wait = backoff.next();
                warn!(
                    %error,
                    ?wait,
                    "the start waits until the devices can be listed; if this goes on, see what \
                     makes and deletes devices all the time (ip monitor link)"
                );
                tokio::time::sleep_until(tokio::time::Instant::now() + wait).await;
            }
            done => return done,
        }
    }
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
        let linux = Linux::open()?;
        foreign.send_replace(steady(|| linux.foreign_devices()).await?);
        let machine = FollowedLinux {
            linux,
            follower,
            asked_all: None,
        };
        Ok(Self::over(machine, node, facts, foreign))
    }

    /// A handle to the same kernel, for tasks beside the passes.
    #[must_use]
    pub fn kernel(&self) -> Linux {
        self.machine.linux.clone()
    }

    /// What the follower of the kernel's events counts.
    #[must_use]
    pub fn events(&self) -> Arc<FollowCounts> {
        self.machine.follower.counts()
    }
}

impl<M: Machine> LinuxBackend<M> {
    fn over(
        machine: M,
        node: Arc<Node>,
        facts: watch::Receiver<FrrFacts>,
        foreign: watch::Sender<BTreeSet<IfName>>,
    ) -> Self {
        let (applied, _) = watch::channel(0);
        Self {
            machine,
            node,
            ports: None,
            facts,
            foreign,
            applied,
            last_report: super::no_report_yet(),
        }
    }

    /// Finds ports as these say, in place of the node's setting.
    #[must_use]
    pub fn with_ports(mut self, ports: watch::Receiver<PortResolver>) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Changes whenever a pass changed something in the kernel that FRR looks at.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    async fn try_pass(&mut self, intent: &Intent) -> Result<PassReport, Trouble> {
        let facts = self.facts.borrow_and_update().clone();
        let (node, has_new_ports) = self.node();
        let inputs = Inputs {
            intent,
            node: &node,
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
        let is_news_to_frr = plan.is_news_to_frr();
        let outcomes = self.machine.apply(plan).instrument(span.clone()).await;
        for outcome in &outcomes {
            if let Err(reason) = &outcome.result {
                span.in_scope(
                    || debug!(action = %outcome.step.action, %reason, "refused by the kernel"),
                );
            }
        }
        if is_news_to_frr {
            self.applied.send_modify(|passes| *passes += 1);
        }
        let after = match self.observe(&inputs).await.map_err(Trouble::from) {
            Err(Trouble::Unsteady { reason, .. }) => {
                let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
                return Err(Trouble::Unsteady {
                    reason,
                    planned: outcomes.len(),
                    failed: failed.count(),
                });
            }
            after => after?,
        };
        let mut report = linux::report(&inputs, &after, &outcomes);
        // With another map, ports that moved to other netdevs are no drift.
        if !has_new_ports {
            report.repaired = linux::repaired(&outcomes, &self.last_report);
        }
        Ok(report)
    }

    /// The node's settings with the current map of ports, and whether that map is a new one.
    fn node(&mut self) -> (Arc<Node>, bool) {
        let followed = self.ports.as_mut();
        let ports = followed.map(|ports| ports.borrow_and_update().clone());
        let new = ports.filter(|ports| *ports != self.node.ports);
        let is_new = new.is_some();
        if let Some(ports) = new {
            self.node = Arc::new(Node {
                ports,
                ..self.node.as_ref().clone()
            });
        }
        (self.node.clone(), is_new)
    }

    async fn observe(&mut self, inputs: &Inputs<'_>) -> Result<Observed, ObserveError> {
        let observed = self
            .machine
            .observe(inputs)
            .instrument(debug_span!("observe"))
            .await?;
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

impl<M: Machine> Backend for LinuxBackend<M> {
    const NAME: status::Backend = status::Backend::Linux;
    const KINDS: &'static [Kind] = &Kind::ALL;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        match self.try_pass(intent).await {
            Ok(report) => {
                self.last_report = report.clone();
                report
            }
            // What was so a moment ago is the best that is known, of the intent that it was of:
            // what came later has not been worked on yet, and nothing is taken for gone.
            Err(Trouble::Unsteady {
                reason,
                planned,
                failed,
            }) => {
                let mut report = PassReport {
                    planned,
                    failed,
                    repaired: 0,
                    ..self.last_report.clone()
                };
                report
                    .node
                    .push(format!("the kernel is looked at again: {reason}"));
                report
            }
            Err(Trouble::Blind(reason)) => {
                let trouble = format!("the kernel cannot be observed: {reason}");
                super::unknown(intent, intent.keys(), &trouble)
            }
        }
    }

    async fn dirty(&mut self) {
        let event = async {
            let event = self.machine.changed().await;
            event.inspect_err(
                |error| error!(%error, "only the audit finds drift; restart the agent"),
            )
        };
        let ports = async {
            match &mut self.ports {
                Some(ports) => ports.changed().await,
                None => std::future::pending().await,
            }
        };
        // All arms are cancel-safe. An arm that fails is out: the facts' when FRR is not managed.
        tokio::select! {
            Ok(()) = event => {}
            Ok(()) = ports => {}
            Ok(()) = self.facts.changed() => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
