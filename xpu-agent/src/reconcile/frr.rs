//! FRR as a backend: BGP EVPN in zebra and bgpd.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, debug, debug_span, info};
use xpu_backends::frr::{Frr, Startup, StartupError, VtyError};
use xpu_model::{
    Asn, IfName, Intent, Kind, Node, ObjectKey,
    cause::chain,
    status::{self, Component, PassReport, State},
};
use xpu_plan::{
    FrrFacts,
    frr::{
        self, Inputs, Line, Observed,
        startup::{Merged, Saved},
    },
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
    kept: Kept,
    /// The startup configuration as it was read or written last.
    saved: Arc<Saved>,
    /// When the startup configuration, which is behind, is to be written.
    due: Option<Instant>,
    /// It could not be written when that was tried last.
    unwritten: bool,
    /// [`LOADING`], or what a test has instead.
    loading: Duration,
    node: Arc<Node>,
    /// What Linux waits for.
    facts: watch::Sender<FrrFacts>,
    /// Changes when Linux changed the kernel: zebra has news then.
    linux: watch::Receiver<u64>,
    /// The devices that are not ours: a VRF of such a name is not ours in FRR either.
    foreign: watch::Receiver<BTreeSet<IfName>>,
    /// The intent of the last pass, and which of its Vrfs' devices were foreign then.
    last: Arc<Intent>,
    /// What the last pass came to that could be made.
    before: PassReport,
    taken: BTreeSet<IfName>,
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
            kept,
            saved: Arc::default(),
            due: None,
            unwritten: false,
            loading: LOADING,
            node,
            facts,
            linux,
            foreign,
            last: Arc::default(),
            before: super::no_report_yet(),
            taken: BTreeSet::new(),
            lost: BTreeSet::new(),
            meter,
        }
    }

    async fn try_pass(&mut self, intent: &Arc<Intent>) -> Result<PassReport, Trouble> {
        self.linux.mark_unchanged();
        let foreign = self.foreign.borrow_and_update().clone();
        self.taken = taken(intent, &foreign);
        self.last = intent.clone();
        let unread = self.read(intent).await.err();
        let mut given = Given {
            intent: intent.clone(),
            node: self.node.clone(),
            foreign: Arc::new(foreign),
            made: Arc::new(self.kept.ledger.lines().clone()),
            saved_asn: self.saved.base_asn(),
            lost: Arc::new(std::mem::take(&mut self.lost)),
        };
        let observed = self.observe(&given.inputs()).await?;
        let age = self.frr.age();
        let is_young = age.is_some_and(|age| age < self.loading);
        if is_young && !self.saved.is_loaded(&observed) {
            return Err(Trouble::Loading);
        }
        let mut made = frr::made(&given.inputs(), &observed, self.saved.config());
        if matches!(unread, Some(StartupError::Io { .. })) {
            // Nobody knows what is still in there.
            made.extend(given.made.iter().cloned());
        }
        self.account(&made).await?;
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
        report.repaired = frr::repaired(&given.inputs(), &outcomes, &self.before);
        // Of an FRR whose age nobody can tell, nothing is known to be lost for good.
        if age.is_some() && !is_young {
            self.lost = frr::lost(&given.inputs(), &observed);
        }
        self.keep(&given, observed, unread, &mut report).await;
        Ok(report)
    }

    /// Reads FRR's startup configuration, unless it is known to be behind and not due yet.
    async fn read(&mut self, intent: &Intent) -> Result<(), StartupError> {
        let Some(startup) = self.kept.startup.clone() else {
            return Ok(());
        };
        if self.is_settling() && !has_deleted(intent) {
            return Ok(());
        }
        let known = self.saved.clone();
        self.saved = blocking(move || {
            let text = startup.read()?;
            let is_known = text == known.text();
            Ok(if is_known {
                known
            } else {
                Arc::new(Saved::new(text))
            })
        })
        .await?;
        Ok(())
    }

    fn is_settling(&self) -> bool {
        self.due.is_some_and(|due| Instant::now() < due)
    }

    /// Makes these the lines on account, on disk first.
    async fn account(&mut self, made: &BTreeSet<Line>) -> Result<(), LedgerError> {
        if self.kept.ledger.lines() == made {
            return Ok(());
        }
        let (mut ledger, made) = (self.kept.ledger.clone(), made.clone());
        self.kept.ledger = blocking(move || {
            ledger.set(made)?;
            Ok::<_, LedgerError>(ledger)
        })
        .await?;
        Ok(())
    }

    /// Brings FRR's startup configuration to the intent when that is due, so that an FRR which
    /// starts without the agent comes up right. Reports the trouble there is; a deleted Vrf is not
    /// gone before it has left the file, since nobody knows its lines once it is forgotten.
    async fn keep(
        &mut self,
        given: &Given,
        running: Observed,
        unread: Option<StartupError>,
        report: &mut PassReport,
    ) {
        let Some(startup) = self.kept.startup.clone() else {
            return;
        };
        if let Some(error) = unread {
            // Read again by the loop's back-off, which a time of its own would reset.
            self.due = None;
            if matches!(error, StartupError::Io { .. }) {
                let deleted = given.intent.vrfs.values().filter(|vrf| vrf.deleting);
                wait(report, deleted.map(|vrf| vrf.key()), &chain(&error));
            }
            report.node.push(chain(&error));
            return;
        }
        if self.is_settling() && !has_deleted(&given.intent) {
            return;
        }
        let gap = self.saved.gap(&given.inputs(), &running);
        if !gap.is_behind {
            self.due = None;
            self.unwritten = false;
            return;
        }
        // What could not be written is tried by the loop's back-off.
        if !self.unwritten {
            self.due.get_or_insert_with(|| Instant::now() + SETTLE);
            if self.is_settling() && gap.deleted.is_empty() {
                return;
            }
        }
        self.due = None;
        let given = given.clone();
        let mut ledger = self.kept.ledger.clone();
        let (ledger, written) = blocking(move || {
            let written = write(&given, &running, &startup, &mut ledger);
            (ledger, written)
        })
        .await;
        self.kept.ledger = ledger;
        match written {
            Ok(saved) => {
                self.saved = saved;
                self.unwritten = false;
            }
            Err(error) => {
                wait(report, gap.deleted, &chain(&error));
                self.unwritten = true;
                report.node.push(chain(&error));
            }
        }
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

/// Brings the startup configuration to the intent, what is put there on account first.
fn write(
    given: &Given,
    running: &Observed,
    startup: &Startup,
    ledger: &mut Ledger,
) -> Result<Arc<Saved>, Unwritten> {
    // Once more: an operator may have written it meanwhile.
    let text = startup.read()?;
    let Merged { text: wanted, made } = frr::startup::merge(&given.inputs(), running, &text);
    if wanted != text {
        if *ledger.lines() != made {
            ledger.set(made)?;
        }
        startup.write(&wanted)?;
        info!("FRR's startup configuration is written");
    }
    Ok(Arc::new(Saved::new(wanted)))
}

/// Why the startup configuration is not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
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
fn taken(intent: &Intent, foreign: &BTreeSet<IfName>) -> BTreeSet<IfName> {
    let devices = intent.vrfs.values().map(|vrf| &vrf.allocation.device);
    devices
        .filter(|it| foreign.contains(*it))
        .cloned()
        .collect()
}

fn has_deleted(intent: &Intent) -> bool {
    intent.vrfs.values().any(|vrf| vrf.deleting)
}

/// Lets deleted Vrfs wait for the startup configuration.
fn wait(report: &mut PassReport, vrfs: impl IntoIterator<Item = ObjectKey>, reason: &str) {
    for vrf in vrfs {
        let state = State::Pending(format!("is still in what FRR starts with: {reason}"));
        report
            .objects
            .entry(vrf)
            .or_insert_with(|| Component::new(state));
    }
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
            Ok(report) => {
                self.before = report.clone();
                report
            }
            Err(error) => {
                // An FRR that answers is there, whatever keeps the agent from telling it anything.
                if matches!(error, Trouble::Vty(_)) {
                    self.meter.lost();
                }
                // What is due is armed again by a pass that can be made; till then it would only
                // start passes and reset the loop's back-off.
                self.due = None;
                let concerned = frr::concerned(intent);
                super::unknown(intent, concerned, &chain(&error))
            }
        }
    }

    async fn dirty(&mut self) {
        let concerns = |foreign: &BTreeSet<IfName>| taken(&self.last, foreign) != self.taken;
        // All arms are cancel-safe. An arm that fails is out: Linux's when its loop has stopped.
        tokio::select! {
            () = self.frr.changed() => {}
            Ok(()) = self.linux.changed() => {}
            Ok(_) = self.foreign.wait_for(concerns) => {}
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

#[cfg(test)]
mod tests;
