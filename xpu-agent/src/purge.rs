//! `xpu-agent purge`: takes away from the node all that the agent made, and nothing else.
//!
//! The intent is planned for as if every object were deleted, by the same planners. FRR comes
//! first: it must have let go of an L3VNI before its devices go (FRR issues 17342, 19756). The
//! store stays, so an agent that is started again makes everything anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use xpu_backends::frr::{Frr, Startup};
use xpu_linux::kernel::Linux;
use xpu_model::{IfName, Intent, Node, shown::listed};
use xpu_plan::{
    FrrFacts,
    frr::{self, FrrPlan, Line},
    linux,
};

use crate::{
    config::Config,
    store::{Ledger, Store, StoreTelemetry},
};

/// How long FRR may take to let go of what it knows. It has no event for that.
const LIMIT: Duration = Duration::from_secs(60);
/// Between looks at FRR.
const AGAIN: Duration = Duration::from_millis(250);

/// Takes away all that is ours, telling each thing to `tell`.
///
/// # Errors
/// When an agent runs, or something cannot be taken away; the rest is gone all the same.
pub async fn purge(config: &Config, mut tell: impl FnMut(&str)) -> anyhow::Result<()> {
    let (foreign, foreign_seen) = watch::channel(BTreeSet::new());
    let tables = config.vrf.table_first..=config.vrf.table_last;
    // The store's lock is held until the end: no agent starts meanwhile.
    let store = Store::open(
        &config.store.directory,
        tables,
        foreign_seen,
        StoreTelemetry::default(),
    )
    .context("the store cannot be opened, and without it nobody knows what is ours in FRR")?;
    let intent = store.watch().borrow().all_deleted();
    let node = Node {
        bgp: None,
        ..config.node()?
    };
    let kernel = Linux::open().context("netlink cannot be used; a purge needs CAP_NET_ADMIN")?;
    foreign.send_replace(kernel.foreign_devices().await?);
    let mut purge = Purge {
        intent,
        node,
        foreign: foreign.borrow().clone(),
        ledger: Ledger::open(&config.store.directory)?,
        tell: &mut tell,
    };
    let mut failures = Vec::new();
    let mut daemons = Frr::new(config.frr.socket_directory.clone());
    if config.frr.enabled {
        failures.extend(purge.frr(&mut daemons).await.err());
    }
    failures.extend(purge.linux(&kernel).await.err());
    if config.frr.enabled && failures.is_empty() {
        let startup = config.frr.startup().map(Startup::new);
        failures.extend(purge.rest_of_frr(&mut daemons, startup).await.err());
    }
    let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "FRR tells nobody that it has let go of a VNI"
)]
async fn again() {
    sleep(AGAIN).await;
}

/// What FRR has after all the time for it, and what it said to that.
fn still_there(plan: &FrrPlan, refused: &BTreeMap<Line, String>) -> String {
    let word = |command: &frr::Command| {
        let said = refused
            .get(&command.line)
            .map_or("taken, but nothing came of it", String::as_str);
        format!("{}: {said}", command.line)
    };
    let words: Vec<_> = plan.commands.iter().map(word).collect();
    format!(
        "FRR has not let go within {} s, see its log: {}",
        LIMIT.as_secs(),
        listed(&words)
    )
}

struct Purge<'a> {
    intent: Intent,
    node: Node,
    foreign: BTreeSet<IfName>,
    ledger: Ledger,
    tell: &'a mut dyn FnMut(&str),
}

impl Purge<'_> {
    /// Rounds until FRR has nothing of ours, which it lets go of one after the other. What it has
    /// taken it may have all the same, as far as it shows.
    async fn frr(&mut self, daemons: &mut Frr) -> anyhow::Result<()> {
        let limit = Instant::now() + LIMIT;
        let mut told = BTreeSet::new();
        let mut last: Option<BTreeMap<Line, String>> = None;
        loop {
            let observed = daemons.observe().await.context(
                "FRR cannot be asked; start it, or set frr.enabled to false to leave it alone",
            )?;
            let plan = frr::plan(&self.frr_inputs(), &observed);
            if plan.is_empty() {
                return Ok(());
            }
            if let Some(refused) = &last {
                ensure!(Instant::now() < limit, "{}", still_there(&plan, refused));
            }
            let mut refused = BTreeMap::new();
            for outcome in daemons.apply(plan).await {
                let text = outcome.command.text();
                let line = outcome.command.line;
                match outcome.result {
                    Ok(()) => {
                        if told.insert(line) {
                            (self.tell)(&format!("FRR: {text}"));
                        }
                    }
                    Err(reason) => drop(refused.insert(line, reason)),
                }
            }
            // All that there is after a second look may take FRR a while.
            if last.is_some() || !refused.is_empty() {
                again().await;
            }
            last = Some(refused);
        }
    }

    /// What FRR holds as long as there are devices, and what it would start with.
    async fn rest_of_frr(
        &mut self,
        daemons: &mut Frr,
        startup: Option<Startup>,
    ) -> anyhow::Result<()> {
        self.frr(daemons).await?;
        if let Some(startup) = startup {
            self.startup(daemons, &startup).await?;
        }
        self.ledger.set(BTreeSet::new())?;
        Ok(())
    }

    async fn startup(&mut self, daemons: &mut Frr, startup: &Startup) -> anyhow::Result<()> {
        let running = daemons.observe().await?;
        let text = startup.read()?;
        let wanted = frr::startup::merge(&self.frr_inputs(), &running, &text).text;
        if wanted != text {
            startup.write(&wanted)?;
            (self.tell)("FRR: startup configuration");
        }
        Ok(())
    }

    async fn linux(&mut self, kernel: &Linux) -> anyhow::Result<()> {
        let facts = FrrFacts::Unmanaged;
        let inputs = linux::Inputs {
            intent: &self.intent,
            node: &self.node,
            frr: &facts,
        };
        // Twice, for what somebody or the kernel did between look and work.
        let mut failures = Vec::new();
        for _ in 0..2 {
            let plan = linux::purge(&inputs, &kernel.observe(&inputs).await?);
            failures.clear();
            for outcome in kernel.apply(plan).await {
                let text = outcome.step.action.to_string();
                match outcome.result {
                    Ok(()) => (self.tell)(&text),
                    Err(reason) => failures.push(format!("can't {text}: {reason}")),
                }
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    const fn frr_inputs(&self) -> frr::Inputs<'_> {
        /// Nothing is told anew on the way out.
        static NONE_LOST: BTreeSet<IfName> = BTreeSet::new();
        frr::Inputs {
            intent: &self.intent,
            node: &self.node,
            foreign: &self.foreign,
            made: self.ledger.lines(),
            saved_asn: None,
            lost: &NONE_LOST,
        }
    }
}

#[cfg(test)]
mod tests;
