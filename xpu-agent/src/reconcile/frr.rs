//! FRR as a backend: BGP EVPN in zebra and bgpd.
//!
//! A pass: read frr.conf → observe → store the ledger → plan → apply → observe → report → save
//! frr.conf. The ledger is stored before the plan is applied, so that no line is in FRR of which
//! nobody knows whose it is; `startup.rs` has the first step and the last.

mod startup;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{Instrument, debug, debug_span};
use xpu_backends::frr::{Frr, Startup, StartupError, VtyError};
use xpu_model::{
    Asn, IfName, Intent, Kind, Node,
    cause::chain,
    status::{self, PassReport},
};
use xpu_plan::{
    FrrFacts,
    frr::{self, Inputs, Line, Observed},
};

use super::Backend;
use crate::{
    store::{Ledger, LedgerError},
    telemetry::metrics::FrrMeter,
};
use startup::StartupFile;

/// A BridgePort is the kernel's alone.
const KINDS: &[Kind] = &[Kind::Vrf, Kind::LogicalBridge, Kind::Svi];

/// How long an FRR that has just started may take to load its startup configuration. It is told
/// nothing meanwhile: a line that comes in between locks the configuration (mgmtd), and what
/// `vtysh -b` has to say is then refused as a whole.
const LOADING: Duration = Duration::from_secs(10);

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
    /// Which lines of the base BGP instance the agent put there.
    ledger: Ledger,
    startup: StartupFile,
    /// [`LOADING`], or what a test has instead.
    loading: Duration,
    node: Arc<Node>,
    /// What Linux waits for.
    facts: watch::Sender<FrrFacts>,
    /// Changes when Linux changed the kernel: zebra has news then.
    linux: watch::Receiver<u64>,
    /// The devices that are not ours: a VRF of such a name is not ours in FRR either.
    foreign: watch::Receiver<BTreeSet<IfName>>,
    last_intent: Arc<Intent>,
    /// The report of the last pass that could observe.
    last_report: PassReport,
    /// The devices of the last intent's Vrfs that were foreign then.
    foreign_vrfs: BTreeSet<IfName>,
    /// The Vrfs' devices whose L3VNI had not reached zebra when the last pass ended.
    lost: BTreeSet<IfName>,
    meter: FrrMeter,
}

/// What a pass plans from, to be had on another thread too.
#[derive(Clone)]
struct Given {
    intent: Arc<Intent>,
    node: Arc<Node>,
    foreign: Arc<BTreeSet<IfName>>,
    made: Arc<BTreeSet<Line>>,
    saved_asn: Option<Asn>,
    lost: Arc<BTreeSet<IfName>>,
}

impl Given {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            intent: &self.intent,
            node: &self.node,
            foreign: &self.foreign,
            made: &self.made,
            saved_asn: self.saved_asn,
            lost: &self.lost,
        }
    }
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
            ledger: kept.ledger,
            startup: StartupFile::new(kept.startup),
            loading: LOADING,
            node,
            facts,
            linux,
            foreign,
            last_intent: Arc::default(),
            last_report: super::no_report_yet(),
            foreign_vrfs: BTreeSet::new(),
            lost: BTreeSet::new(),
            meter,
        }
    }

    async fn try_pass(&mut self, intent: &Arc<Intent>) -> Result<PassReport, Trouble> {
        self.linux.mark_unchanged();
        let foreign = self.foreign.borrow_and_update().clone();
        self.foreign_vrfs = foreign_vrfs(intent, &foreign);
        self.last_intent = intent.clone();
        let unread = self.startup.read(intent).await.err();
        let mut given = Given {
            intent: intent.clone(),
            node: self.node.clone(),
            foreign: Arc::new(foreign),
            made: Arc::new(self.ledger.lines().clone()),
            saved_asn: self.startup.saved().base_asn(),
            lost: Arc::new(std::mem::take(&mut self.lost)),
        };
        let observed = self.observe(&given.inputs()).await?;
        let age = self.frr.age();
        let is_young = age.is_some_and(|age| age < self.loading);
        if is_young && !self.startup.saved().is_loaded(&observed) {
            return Err(Trouble::Loading);
        }
        let mut made = frr::made(&given.inputs(), &observed, self.startup.saved().config());
        if matches!(unread, Some(StartupError::Io { .. })) {
            // Nobody knows what is still in there.
            made.extend(given.made.iter().cloned());
        }
        self.store_ledger(&made).await?;
        given.made = Arc::new(made);
        let plan = debug_span!("plan").in_scope(|| frr::plan(&given.inputs(), &observed));
        let (outcomes, observed) = if plan.is_empty() {
            (Vec::new(), observed)
        } else {
            let span = debug_span!("apply", steps = plan.commands.len());
            let outcomes = self.frr.apply(plan).instrument(span.clone()).await;
            for outcome in &outcomes {
                if let Err(reason) = &outcome.result {
                    span.in_scope(
                        || debug!(line = %outcome.command.line, %reason, "refused by FRR"),
                    );
                }
            }
            (outcomes, self.observe(&given.inputs()).await?)
        };
        let mut report = frr::report(&given.inputs(), &observed, &outcomes);
        report.repaired = frr::repaired(&given.inputs(), &outcomes, &self.last_report);
        // Of an FRR whose age nobody can tell, nothing is known to be lost for good.
        if age.is_some() && !is_young {
            self.lost = frr::lost(&given.inputs(), &observed);
        }
        self.startup
            .keep(&given, &mut self.ledger, observed, unread, &mut report)
            .await;
        Ok(report)
    }

    /// Makes these the ledger's lines, on disk first.
    async fn store_ledger(&mut self, made: &BTreeSet<Line>) -> Result<(), LedgerError> {
        if self.ledger.lines() == made {
            return Ok(());
        }
        let (mut ledger, made) = (self.ledger.clone(), made.clone());
        self.ledger = blocking(move || {
            ledger.set(made)?;
            Ok::<_, LedgerError>(ledger)
        })
        .await?;
        Ok(())
    }

    async fn observe(&mut self, inputs: &Inputs<'_>) -> Result<Observed, VtyError> {
        let observed = self.frr.observe().instrument(debug_span!("observe")).await;
        let observed = match observed {
            Ok(observed) => observed,
            Err(error) => {
                // No device has to wait for what does not run. While zebra may run, it may hold
                // devices, whichever daemon is away: what was known of it stands.
                if error.is_absence_of_zebra() {
                    let facts = self.facts.borrow().clone().stopped();
                    self.publish(facts);
                }
                return Err(error);
            }
        };
        self.meter.answered(observed.version);
        self.publish(frr::facts(inputs, &observed));
        Ok(observed)
    }

    fn publish(&self, facts: FrrFacts) {
        self.facts.send_if_modified(|known| {
            let changed = *known != facts;
            *known = facts;
            changed
        });
    }
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("FRR cannot be observed")]
    Vty(#[from] VtyError),
    #[error(
        "FRR is told nothing, since the agent could not keep account of its lines there; make room \
         for that file, or see to its permissions"
    )]
    Ledger(#[from] LedgerError),
    #[error(
        "FRR has just started and has not loaded all of frr.conf yet: it is told nothing until then"
    )]
    Loading,
}

/// Off the runtime's threads: files and long texts.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It can't be cancelled, since it has begun by then or the runtime is gone with this task.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The devices of Vrfs that somebody else's devices have the names of.
fn foreign_vrfs(intent: &Intent, foreign: &BTreeSet<IfName>) -> BTreeSet<IfName> {
    let devices = intent.vrfs.values().map(|vrf| &vrf.allocation.device);
    devices
        .filter(|it| foreign.contains(*it))
        .cloned()
        .collect()
}

impl Backend for FrrBackend {
    const NAME: status::Backend = status::Backend::Frr;
    const KINDS: &'static [Kind] = KINDS;

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        match self.try_pass(intent).await {
            Ok(report) => {
                self.last_report = report.clone();
                report
            }
            Err(error) => {
                // An FRR that answers is there, whatever keeps the agent from telling it anything.
                if matches!(error, Trouble::Vty(_)) {
                    self.meter.lost();
                }
                self.startup.disarm();
                let concerned = frr::concerned(intent);
                super::unknown(intent, concerned, &chain(&error))
            }
        }
    }

    async fn dirty(&mut self) {
        let concerns = |foreign: &BTreeSet<IfName>| {
            foreign_vrfs(&self.last_intent, foreign) != self.foreign_vrfs
        };
        // All arms are cancel-safe. An arm that fails is out: Linux's when its loop has stopped.
        tokio::select! {
            () = self.frr.changed() => {}
            Ok(()) = self.linux.changed() => {}
            Ok(_) = self.foreign.wait_for(concerns) => {}
            () = self.startup.due() => {}
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

#[cfg(test)]
mod tests;
