//! The base BGP instance: which of its lines are the agent's.
//!
//! An operator may have an instance of his own, with lines that the node's settings come to as
//! well. So the agent keeps account of those that it put there itself, and takes only these away
//! when the settings no longer give them.

use std::collections::BTreeSet;

use super::{
    Command, Inputs,
    config::{Config, Daemon, Line},
    desired::{Desired, MADE_BY_US, is_context, is_l2vni},
    diff::remove_all,
    observed::Observed,
};

/// The new ledger of base-instance lines we own: the old ledger ([`Inputs::made`]), minus lines
/// neither desired nor present (running or in `saved`, FRR's startup configuration), plus desired
/// lines about to be written. A line present but not in the ledger is an operator's and is never
/// claimed. Store it durably before applying the plan.
#[must_use]
pub fn made(inputs: &Inputs<'_>, observed: &Observed, saved: &Config) -> BTreeSet<Line> {
    let desired = Desired::new(inputs, observed).lines;
    let running = &observed.config.lines;
    let is_there = |line: &Line| running.contains(line) || saved.lines.contains(line);
    let kept = inputs
        .made
        .iter()
        .filter(|line| is_there(line) || desired.contains(line))
        .cloned();
    // Those that the startup configuration got under the new AS.
    let renamed = renamed_lines(inputs).into_iter().filter(is_there);
    let put = desired
        .iter()
        .filter(|line| is_of_base(line) && !is_context(line) && !is_there(line));
    kept.chain(renamed).chain(put.cloned()).collect()
}

/// The ledger's lines of instances of another AS than the settings', as they read under the
/// settings' AS.
pub(super) fn renamed_lines(inputs: &Inputs<'_>) -> BTreeSet<Line> {
    let Some(context) = instance(inputs) else {
        return BTreeSet::new();
    };
    let others = inputs.made.iter();
    let others = others.filter(|line| line.path.first() != Some(&context));
    others.map(|line| under(context.clone(), line)).collect()
}

/// The base instance that the settings give.
fn instance(inputs: &Inputs<'_>) -> Option<String> {
    let bgp = inputs.node.bgp.as_ref()?;
    Some(format!("router bgp {}", bgp.asn))
}

/// The same line in another instance.
fn under(instance: String, line: &Line) -> Line {
    let mut line = line.clone();
    if let Some(outermost) = line.path.first_mut() {
        *outermost = instance;
    }
    line
}

/// Takes away what the agent put into the base instance and the settings no longer give. Leaves
/// an instance of another AS than theirs as it is.
pub(super) fn stale(
    inputs: &Inputs<'_>,
    desired: &BTreeSet<Line>,
    observed: &Observed,
    commands: &mut Vec<Command>,
) {
    if inputs.other_asn(observed).is_some() {
        return;
    }
    let stale = |line: &&Line| {
        is_of_base(line)
            && observed.config.lines.contains(line)
            && !desired.contains(line)
            && !desired.iter().any(|other| replaces(other, line))
    };
    let stale: BTreeSet<_> = inputs.made.iter().filter(stale).collect();
    // An L2VNI's context is shown, and counts, without a line in it too.
    let emptied: BTreeSet<Line> = stale
        .iter()
        .filter_map(|line| {
            let (context, path) = line.path.split_last()?;
            let context = Line {
                daemon: line.daemon,
                path: path.to_vec(),
                text: context.clone(),
            };
            let goes = is_l2vni(&context)
                && !desired.contains(&context)
                && observed
                    .config
                    .within(line.daemon, &line.path[0])
                    .filter(|other| other.path.starts_with(&line.path))
                    .all(|other| stale.contains(other));
            goes.then_some(context)
        })
        .collect();
    let goes_along = |line: &Line| {
        emptied.iter().any(|context| {
            let (last, path) = line.path.split_last().unzip();
            path == Some(context.path.as_slice()) && last == Some(&context.text)
        })
    };
    let alone = stale.iter().copied().filter(|line| !goes_along(line));
    remove_all(commands, alone.chain(&emptied));
}

/// The headers of a configuration that are to have the settings' AS in place of the one they have,
/// with what they become: of a base instance that is the agent's alone, or empty as the agent
/// leaves its own, and of its Vrfs'. Only a configuration that does not run can be changed so.
pub(super) fn renamed(inputs: &Inputs<'_>, saved: &Observed) -> Vec<(String, String)> {
    let (Some(old), Some(new)) = (inputs.other_asn(saved), instance(inputs)) else {
        return Vec::new();
    };
    let old = format!("router bgp {old}");
    let lines = saved.config.within(Daemon::Bgpd, &old);
    let mut lines = lines.filter(|line| !is_context(line)).peekable();
    let is_empty = lines.peek().is_none();
    if !lines.all(|line| inputs.made.contains(line)) {
        return Vec::new();
    }
    let vrfs = inputs.intent.vrfs.values();
    let vrfs = vrfs
        .filter(|vrf| !inputs.is_foreign(vrf))
        .filter_map(|vrf| {
            let device = &vrf.allocation.device;
            let context = format!("{old} vrf {device}");
            let mark = Line::new(Daemon::Bgpd, &[&context], MADE_BY_US);
            let ours = saved.config.lines.contains(&mark);
            ours.then(|| (context, format!("{new} vrf {device}")))
        });
    let vrfs: Vec<_> = vrfs.collect();
    // An operator's VRFs may be what an empty instance is for.
    let of_vrf = format!("{old} vrf ");
    let mut of_vrfs = saved.config.outermost(Daemon::Bgpd);
    let is_foreign =
        |line: &str| line.starts_with(&of_vrf) && !vrfs.iter().any(|(ours, _)| ours == line);
    if is_empty && of_vrfs.any(is_foreign) {
        return Vec::new();
    }
    std::iter::once((old.clone(), new.clone()))
        .chain(vrfs)
        .collect()
}

/// The ledger's lines that a configuration still has beside those which replace them. FRR never
/// shows both; of a file it takes the later one.
pub(super) fn replaced<'a>(inputs: &Inputs<'a>, saved: &Observed) -> Vec<&'a Line> {
    let is_saved = |line: &&Line| is_of_base(line) && saved.config.lines.contains(line);
    let mut lines = inputs.made.iter().filter(is_saved).peekable();
    if lines.peek().is_none() {
        return Vec::new();
    }
    let desired = Desired::new(inputs, saved).lines;
    let is_replaced =
        |line: &&Line| !desired.contains(line) && desired.iter().any(|it| replaces(it, line));
    lines.filter(is_replaced).collect()
}

/// Whether the line stands in the base instance.
pub(super) fn is_of_base(line: &Line) -> bool {
    let instance = line.path.first();
    instance.is_some_and(|it| it.starts_with("router bgp ") && !it.contains(" vrf "))
}

/// Whether FRR overwrites one line by the other, so that taking it away first would only do harm:
/// without its AS, say, a neighbor goes with all that is said of it.
fn replaces(new: &Line, old: &Line) -> bool {
    let subject = |line: &Line| {
        let text = line.text.as_str();
        let single = ["bgp router-id ", "timers bgp "];
        match text.split_once("remote-as ") {
            Some((neighbor, _)) => Some(neighbor.to_owned()),
            None => single
                .into_iter()
                .find(|start| text.starts_with(start))
                .map(ToOwned::to_owned),
        }
    };
    new.path == old.path && subject(new).is_some_and(|it| subject(old) == Some(it))
}
