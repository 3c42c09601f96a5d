//! `apply` and `diff`: make the agent's objects what manifests say.
//!
//! The difference is shown first; where it can't be made, nothing is. Each change is one call to
//! the agent; one that is refused does not keep the others from being tried.

mod diff;
mod order;
mod plan;
mod values;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::builder::TypedValueParser as _;
use xpu_model::Kind;
use xpu_proto::evpn_gw::v1alpha1::{BridgePort, LogicalBridge, Svi, Vrf};

use crate::commands::Session;
use crate::delete::Deleted;
use crate::failure::Failure;
use crate::manifest::{FieldChange, Manifest, Source, Spec, read};
use crate::screen::{emit, progress};
pub use plan::Obstacle;
use plan::{Change, Plan};

/// Where the manifests are, and what else is to go.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// A file of manifests, a directory of such files, or `-` for stdin; may be repeated
    #[arg(
        short = 'f',
        long = "filename",
        required = true,
        value_name = "PATH",
        value_parser = clap::builder::OsStringValueParser::new().map(|text| Source::from(&*text)),
        value_hint = clap::ValueHint::AnyPath
    )]
    sources: Vec<Source>,
    /// Delete objects that the manifests leave out, of the kinds that they name. Ports that
    /// xpu-cni made for pods stay
    #[arg(long)]
    prune: bool,
}

/// The flags of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  xpuctl apply -f tenant.yaml
  xpuctl apply -f tenants/ --dry-run        # only what would change
  xpuctl apply -f tenants/ --prune          # and delete what the files leave out

A manifest (YAML or JSON; more in docs/xpuctl.md):
  kind: LogicalBridge
  name: net-blue
  spec: {vlanId: 100, vni: 10100}")]
pub struct Apply {
    #[command(flatten)]
    wanted: Wanted,
    /// Only show what would change; exits with 4 if anything would
    #[arg(long)]
    dry_run: bool,
    /// Exit with 4, not 0, if anything was changed
    #[arg(long)]
    exit_code: bool,
    /// Delete with --prune without asking
    #[arg(long, short)]
    yes: bool,
}

impl Session {
    /// Shows what `apply` would do.
    pub async fn diff(&self, wanted: &Wanted) -> Result<(), Failure> {
        let (plan, _) = self.plan(wanted).await?;
        let mut report = Report::default();
        report.print(&diff::text(&plan, self.screen()));
        report.end()?;
        match plan.obstacle {
            Some(obstacle) => Err(Failure::Impossible(obstacle)),
            None if plan.changes.is_empty() => Ok(()),
            None => Err(Failure::Different),
        }
    }

    /// Does what the manifests ask for.
    pub async fn apply(&self, flags: &Apply) -> Result<(), Failure> {
        if flags.dry_run {
            return self.diff(&flags.wanted).await;
        }
        let (plan, from_stdin) = self.plan(&flags.wanted).await?;
        let mut report = Report::default();
        report.print(&diff::text(&plan, self.screen()));
        if let Some(obstacle) = plan.obstacle {
            return Err(Failure::Impossible(obstacle));
        }
        let (_, _, deletes) = plan.counts();
        if deletes > 0 && !flags.yes {
            confirm(deletes, from_stdin)?;
        }
        let refused = self.carry_out(&plan, &mut report).await?;
        match (refused, plan.changes.len()) {
            (refused @ 1.., all) => Err(Failure::Partly { refused, all }),
            (0, 1..) if flags.exit_code => report.end().and(Err(Failure::Different)),
            (0, _) => report.end(),
        }
    }

    async fn plan(&self, wanted: &Wanted) -> Result<(Plan, bool), Failure> {
        let manifests = read(&wanted.sources).map_err(Failure::Source)?;
        let named: BTreeSet<_> = manifests.keys().map(|key| key.kind).collect();
        // Whether a network is still in use shows in the kinds that refer to it.
        let (prune, needed) = match wanted.prune {
            true => (named, Kind::ALL.into()),
            false => (BTreeSet::new(), with_rivals(named)),
        };
        let live = self.objects(&Vec::from_iter(needed)).await?;
        let plan = plan::plan(&manifests, &live, &prune);
        Ok((plan, wanted.sources.contains(&Source::Stdin)))
    }

    /// How many were refused.
    async fn carry_out(&self, plan: &Plan, report: &mut Report) -> Result<usize, Failure> {
        let bar = progress(Some(plan.changes.len()));
        let mut refused = 0;
        for change in &plan.changes {
            for key in plan.needs_gone.get(change.key()).into_iter().flatten() {
                bar.set_message(format!("{} waits until {key} is gone", change.key()));
                // What else is wrong the agent says of the change itself.
                if let Err(error @ Failure::Unreachable { .. }) = self.until_gone(key).await {
                    return Err(error);
                }
            }
            bar.set_message(change.key().to_string());
            let outcome = self.carry_out_one(change).await;
            bar.suspend(|| match outcome {
                Ok(done) => {
                    report.print(&format!("{} {done}\n", change.key()));
                    Ok(())
                }
                // Nothing that follows can succeed either.
                Err(error @ Failure::Unreachable { .. }) => Err(error),
                Err(error) => {
                    refused += 1;
                    let _ = write!(io::stderr(), "{}", error.report());
                    Ok(())
                }
            })?;
            bar.inc(1);
        }
        Ok(refused)
    }

    async fn carry_out_one(&self, change: &Change) -> Result<&'static str, Failure> {
        match change {
            Change::Create(wanted) => self.create_wanted(wanted).await.map(|()| "created"),
            Change::Update(wanted, fields) => {
                self.update_wanted(wanted, fields).await.map(|()| "changed")
            }
            Change::Delete(key) => self.remove_any(key).await.map(Deleted::word),
        }
    }

    async fn create_wanted(&self, wanted: &Manifest) -> Result<(), Failure> {
        let id = wanted.key.id.to_string();
        match wanted.spec.clone() {
            Spec::Vrf(spec) => self.create_quietly(id, Vrf::from(spec)).await,
            Spec::LogicalBridge(spec) => self.create_quietly(id, LogicalBridge::from(spec)).await,
            Spec::BridgePort(spec) => self.create_quietly(id, BridgePort::from(spec)).await,
            Spec::Svi(spec) => self.create_quietly(id, Svi::from(spec)).await,
        }
    }

    async fn update_wanted(
        &self,
        wanted: &Manifest,
        fields: &[FieldChange],
    ) -> Result<(), Failure> {
        let mask = fields.iter().map(FieldChange::mask_path).collect();
        let key = &wanted.key;
        match wanted.spec.clone() {
            Spec::Vrf(spec) => self.update_quietly(key, Vrf::from(spec), mask).await,
            Spec::LogicalBridge(spec) => {
                self.update_quietly(key, LogicalBridge::from(spec), mask)
                    .await
            }
            Spec::BridgePort(spec) => self.update_quietly(key, BridgePort::from(spec), mask).await,
            Spec::Svi(spec) => self.update_quietly(key, Svi::from(spec), mask).await,
        }
    }
}

/// These kinds, with those that their objects can take a value from: Vrfs and LogicalBridges have
/// their VNIs from one space, so one may wait until another's is free.
fn with_rivals(mut kinds: BTreeSet<Kind>) -> BTreeSet<Kind> {
    const SHARE_VNIS: [Kind; 2] = [Kind::Vrf, Kind::LogicalBridge];
    if SHARE_VNIS.iter().any(|kind| kinds.contains(kind)) {
        kinds.extend(SHARE_VNIS);
    }
    kinds
}

/// What goes to stdout. A reader that has gone (`| head`) neither stops the changes nor alters the
/// exit code, so a write that failed is only kept in mind.
#[derive(Default)]
struct Report {
    failed: Option<Failure>,
}

impl Report {
    fn print(&mut self, text: &str) {
        if let Err(failure) = emit(text) {
            self.failed.get_or_insert(failure);
        }
    }

    /// Fails where stdout broke in another way than by its reader's leaving.
    fn end(self) -> Result<(), Failure> {
        match self.failed {
            None | Some(Failure::NobodyReads) => Ok(()),
            Some(failure) => Err(failure),
        }
    }
}

/// Asks on the terminal; where there is none, nobody can agree.
fn confirm(deletes: usize, from_stdin: bool) -> Result<(), Failure> {
    if from_stdin || !io::stdin().is_terminal() {
        return Err(Failure::Unconfirmed { deletes });
    }
    let _ = write!(io::stderr(), "xpuctl: delete {deletes}? [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::Input)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Declined),
    }
}
