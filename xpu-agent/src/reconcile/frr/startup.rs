//! FRR's startup configuration (`frr.conf`), kept at what the intent comes to, so that an FRR which
//! starts without the agent comes up right. A write waits for a few seconds, since it serves many
//! changes; trouble with the file is left to the loop's back-off.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tracing::info;
use xpu_backends::frr::{Startup, StartupError};
use xpu_model::{
    Intent, ObjectKey,
    cause::chain,
    status::{Component, PassReport, State},
};
use xpu_plan::frr::{
    self, Observed,
    startup::{Merged, Saved},
};

use super::{Given, blocking};
use crate::store::{Ledger, LedgerError};

/// From the first change that the file lacks until it is written.
const SETTLE: Duration = Duration::from_secs(5);

/// The file, and when it is to be written.
pub(super) struct StartupFile {
    /// None: the file is left alone.
    file: Option<Startup>,
    /// What it had when it was read or written last.
    saved: Arc<Saved>,
    pub(super) next: NextWrite,
}

/// When the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextWrite {
    /// As far as is known, there is nothing to write.
    None,
    /// It is behind, and written then.
    Due(Instant),
    /// It could not be read or written when that was tried last. The loop's back-off has it tried
    /// again; a time of its own would reset that.
    RetryByBackoff,
}

impl StartupFile {
    /// A file that is not read yet; none: it is left alone.
    pub(super) fn new(file: Option<Startup>) -> Self {
        Self {
            file,
            saved: Arc::default(),
            next: NextWrite::None,
        }
    }

    /// What the file had when it was read or written last.
    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Reads the file, unless it is known to be behind and not due yet.
    pub(super) async fn read(&mut self, intent: &Intent) -> Result<(), StartupError> {
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        if self.is_settling() && !has_deleted(intent) {
            return Ok(());
        }
        let known = self.saved.clone();
        self.saved = blocking(move || {
            let text = file.read()?;
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

    /// Brings the file to the intent when that is due. Reports the trouble there is; a deleted Vrf
    /// is not gone before it has left the file, since nobody knows its lines once it is forgotten.
    pub(super) async fn keep(
        &mut self,
        given: &Given,
        ledger: &mut Ledger,
        running: Observed,
        unread: Option<StartupError>,
        report: &mut PassReport,
    ) {
        let Some(file) = self.file.clone() else {
            return;
        };
        if let Some(error) = unread {
            self.next = NextWrite::RetryByBackoff;
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
            self.next = NextWrite::None;
            return;
        }
        if self.next == NextWrite::None {
            self.next = NextWrite::Due(Instant::now() + SETTLE);
        }
        if self.is_settling() && gap.deleted.is_empty() {
            return;
        }
        let given = given.clone();
        let mut changed = ledger.clone();
        let (changed, written) = blocking(move || {
            let written = write(&given, &running, &file, &mut changed);
            (changed, written)
        })
        .await;
        *ledger = changed;
        match written {
            Ok(saved) => {
                self.saved = saved;
                self.next = NextWrite::None;
            }
            Err(error) => {
                self.next = NextWrite::RetryByBackoff;
                wait(report, gap.deleted, &chain(&error));
                report.node.push(chain(&error));
            }
        }
    }

    /// After a pass that came to nothing: what is due is armed again by one that does. Till then it
    /// would only start passes and reset the loop's back-off.
    pub(super) fn disarm(&mut self) {
        if matches!(self.next, NextWrite::Due(_)) {
            self.next = NextWrite::None;
        }
    }

    /// Completes when the file is to be written; pends if it is not. Cancel-safe.
    pub(super) async fn due(&self) {
        match self.next {
            NextWrite::Due(at) => sleep_until(at).await,
            NextWrite::None | NextWrite::RetryByBackoff => std::future::pending().await,
        }
    }

    fn is_settling(&self) -> bool {
        matches!(self.next, NextWrite::Due(at) if Instant::now() < at)
    }
}

/// Brings the file to the intent; what it gets is in the ledger before.
fn write(
    given: &Given,
    running: &Observed,
    file: &Startup,
    ledger: &mut Ledger,
) -> Result<Arc<Saved>, Unwritten> {
    // Once more: an operator may have written it meanwhile.
    let text = file.read()?;
    let Merged { text: wanted, made } = frr::startup::merge(&given.inputs(), running, &text);
    if wanted != text {
        if *ledger.lines() != made {
            ledger.set(made)?;
        }
        file.write(&wanted)?;
        info!("FRR's startup configuration is written");
    }
    Ok(Arc::new(Saved::new(wanted)))
}

/// Why the file is not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(
        "FRR's startup configuration is not written, since the agent could not keep account of its \
         lines there; make room for that file, or see to its permissions"
    )]
    Ledger(#[from] LedgerError),
}

fn has_deleted(intent: &Intent) -> bool {
    intent.vrfs.values().any(|vrf| vrf.deleting)
}

/// Lets deleted Vrfs wait for the file.
fn wait(report: &mut PassReport, vrfs: impl IntoIterator<Item = ObjectKey>, reason: &str) {
    for vrf in vrfs {
        let state = State::Pending(format!("is still in what FRR starts with: {reason}"));
        report
            .objects
            .entry(vrf)
            .or_insert_with(|| Component::new(state));
    }
}
