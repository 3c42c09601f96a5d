//! FRR as a backend: BGP EVPN in zebra and bgpd.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, debug, debug_span, info};
use xpu_backends::frr::{Frr, Startup, VtyError};
use xpu_model::{
    IfName, Intent, Kind, Node,
    status::{self, PassReport},
};
use xpu_plan::{
    FrrFacts,
    frr::{self, Inputs, Observed},
};

use super::Backend;
use crate::{
    store::{Ledger, LedgerError},
    telemetry::metrics::FrrMeter,
};

/// A BridgePort is the kernel's alone.
const KINDS: &[Kind] = &[Kind::Vrf, Kind::LogicalBridge, Kind::Svi];

/// From the first change that FRR's startup configuration lacks until it is written: one write
/// serves many changes.
const SETTLE: Duration = Duration::from_secs(5);

/// What is kept on disk about FRR.
pub struct Kept {
    /// Which lines of the base BGP instance the agent put there.
    pub ledger: Ledger,
    /// What FRR starts with; none: left alone.
    pub startup: Option<Startup>,
}

/// The FRR of the agent's network namespace.
pub struct FrrBackend {
    frr: Frr,
    kept: Kept,
    /// When the startup configuration, which is behind, is to be written.
    due: Option<Instant>,
    node: Arc<Node>,
    /// What Linux waits for.
    facts: watch::Sender<FrrFacts>,
    /// Changes when Linux changed the kernel: zebra has news then.
    linux: watch::Receiver<u64>,
    /// The devices that are not ours: a VRF of such a name is not ours in FRR either.
    foreign: watch::Receiver<BTreeSet<IfName>>,
    meter: FrrMeter,
}

impl FrrBackend {
    /// FRR with its vty sockets in `directory`.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        kept: Kept,
        node: Arc<Node>,
        facts: watch::Sender<FrrFacts>,
        linux: watch::Receiver<u64>,
        foreign: watch::Receiver<BTreeSet<IfName>>,
        meter: FrrMeter,
    ) -> Self {
        Self {
            frr: Frr::new(directory),
            kept,
            due: None,
            node,
            facts,
            linux,
            foreign,
            meter,
        }
    }

    async fn try_pass(&mut self, intent: &Intent) -> Result<PassReport, Trouble> {
        self.linux.mark_unchanged();
        let node = self.node.clone();
        let foreign = self.foreign.borrow_and_update().clone();
        let made = self.kept.ledger.lines().clone();
        let inputs = Inputs {
            intent,
            node: &node,
            foreign: &foreign,
            made: &made,
        };
        let observed = self.observe(&inputs).await?;
        let made = frr::made(&inputs, &observed);
        self.kept.ledger.set(made.clone())?;
        let inputs = Inputs {
            made: &made,
            ..inputs
        };
        let plan = debug_span!("plan").in_scope(|| frr::plan(&inputs, &observed));
        if plan.is_empty() {
            let mut report = frr::report(&inputs, &observed, &[]);
            report.node.extend(self.keep(&inputs, &observed));
            return Ok(report);
        }
        let span = debug_span!("apply", steps = plan.commands.len());
        let outcomes = self.frr.apply(plan).instrument(span.clone()).await;
        for outcome in &outcomes {
            if let Err(reason) = &outcome.result {
                span.in_scope(|| debug!(line = %outcome.command.line, %reason, "refused by FRR"));
            }
        }
        let after = self.observe(&inputs).await?;
        let mut report = frr::report(&inputs, &after, &outcomes);
        report.node.extend(self.keep(&inputs, &after));
        Ok(report)
    }

    /// Brings FRR's startup configuration to the intent when that is due, so that an FRR which
    /// starts without the agent comes up right. Answers with the trouble there is.
    fn keep(&mut self, inputs: &Inputs<'_>, running: &Observed) -> Option<String> {
        let startup = self.kept.startup.as_ref()?;
        let text = match startup.read() {
            Ok(text) => text,
            Err(error) => return Some(error.to_string()),
        };
        let wanted = frr::startup::merge(inputs, running, &text);
        if wanted == text {
            self.due = None;
            return None;
        }
        let now = Instant::now();
        let due = *self.due.get_or_insert(now + SETTLE);
        // Once a deleted Vrf is forgotten, nobody knows its lines any more.
        let is_last_chance = inputs.intent.vrfs.values().any(|vrf| vrf.deleting);
        if now < due && !is_last_chance {
            return None;
        }
        self.due = None;
        match startup.write(&wanted) {
            Ok(()) => {
                info!("FRR's startup configuration is written");
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }

    async fn observe(&mut self, inputs: &Inputs<'_>) -> Result<Observed, VtyError> {
        let observed = self
            .frr
            .observe()
            .instrument(debug_span!("observe"))
            .await?;
        self.meter.answered(observed.version);
        let facts = frr::facts(inputs, &observed);
        self.facts.send_if_modified(|known| {
            let changed = *known != facts;
            *known = facts;
            changed
        });
        Ok(observed)
    }
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Vty(#[from] VtyError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Completes at that time; pends if there is none.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Backend for FrrBackend {
    const NAME: status::Backend = status::Backend::Frr;
    const KINDS: &'static [Kind] = KINDS;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        match self.try_pass(intent).await {
            Ok(report) => report,
            Err(error) => {
                self.meter.lost();
                let concerned = frr::concerned(intent);
                super::unobserved(Self::NAME, intent, concerned, &error.to_string())
            }
        }
    }

    async fn dirty(&mut self) {
        // All arms are cancel-safe. An arm that fails is out: Linux's when its loop has stopped.
        tokio::select! {
            () = self.frr.changed() => {}
            Ok(()) = self.linux.changed() => {}
            Ok(()) = self.foreign.changed() => {}
            () = at(self.due) => {}
        }
    }
}

/// Stands in where the configuration says that there is no FRR: refuses what needs one.
pub struct NoFrr;

impl Backend for NoFrr {
    const NAME: status::Backend = status::Backend::Frr;
    const KINDS: &'static [Kind] = KINDS;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        frr::unmanaged(intent)
    }

    async fn dirty(&mut self) {
        std::future::pending().await
    }
}
