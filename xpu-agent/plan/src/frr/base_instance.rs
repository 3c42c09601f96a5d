//! The base BGP instance: which of its lines are the agent's.
//!
//! An operator may have an instance of his own, with lines that the node's settings come to as
//! well. So the agent keeps account of those that it put there itself, and takes only these away
//! when the settings no longer give them.

use std::collections::BTreeSet;

use xpu_model::Asn;

use super::{
    Inputs,
    config::Config,
    desired::Desired,
    diff::in_order_of_removal,
    line::{Daemon, Instance, Line, MADE_BY_US},
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
        .filter(|line| line.is_in_base() && !line.is_context() && !is_there(line));
    kept.chain(renamed).chain(put.cloned()).collect()
}

/// The ledger's lines of instances of another AS than the settings', as they read under the
/// settings' AS.
pub(super) fn renamed_lines(inputs: &Inputs<'_>) -> BTreeSet<Line> {
    let Some(asn) = asn(inputs) else {
        return BTreeSet::new();
    };
    let instance = Instance::base(asn).to_string();
    let renamed = inputs.made.iter().filter_map(|line| {
        let (outermost, inner) = line.path.split_first()?;
        (*outermost != instance).then(|| Line {
            daemon: line.daemon,
            path: [std::slice::from_ref(&instance), inner].concat(),
            text: line.text.clone(),
        })
    });
    renamed.collect()
}

/// The AS that the settings give the base instance.
fn asn(inputs: &Inputs<'_>) -> Option<Asn> {
    Some(inputs.node.bgp.as_ref()?.asn)
}

/// What the agent put into the base instance and the settings no longer give. An instance of
/// another AS than theirs stays as it is.
pub(super) fn stale(
    inputs: &Inputs<'_>,
    desired: &BTreeSet<Line>,
    observed: &Observed,
) -> Vec<Line> {
    if inputs.other_asn(observed).is_some() {
        return Vec::new();
    }
    let overwritten = overwritten(desired);
    let stale = |line: &&Line| {
        line.is_in_base()
            && observed.config.lines.contains(line)
            && !desired.contains(line)
            && !overwritten(line)
    };
    let stale: BTreeSet<_> = inputs.made.iter().filter(stale).collect();
    // An L2VNI's context is shown, and counts, without a line in it too.
    let is_emptied = |context: &Line| {
        let mut in_it = observed.config.within(context);
        context.l2vni().is_some()
            && !desired.contains(context)
            && in_it.all(|it| stale.contains(it))
    };
    let contexts = stale.iter().filter_map(|line| line.context());
    let emptied: BTreeSet<Line> = contexts.filter(is_emptied).collect();
    let goes_along = |line: &Line| line.context().is_some_and(|it| emptied.contains(&it));
    let alone = stale.iter().copied().filter(|line| !goes_along(line));
    in_order_of_removal(alone.chain(&emptied))
}

/// The headers of a configuration that are to have the settings' AS in place of the one they have,
/// with what they become: of a base instance that is the agent's alone, or empty as the agent
/// leaves its own, and of its Vrfs'. Only a configuration that does not run can be changed so.
pub(super) fn renamed(inputs: &Inputs<'_>, saved: &Observed) -> Vec<(String, String)> {
    let (Some(old), Some(new)) = (inputs.other_asn(saved), asn(inputs)) else {
        return Vec::new();
    };
    let base = Instance::base(old);
    let header = Line::new(Daemon::Bgpd, &[], base.to_string());
    let lines = saved.config.within(&header);
    let mut lines = lines.filter(|line| !line.is_context()).peekable();
    let is_empty = lines.peek().is_none();
    if !lines.all(|line| inputs.made.contains(line)) {
        return Vec::new();
    }
    let is_ours = |it: &Instance<'_>| {
        let mark = Line::new(Daemon::Bgpd, &[&it.to_string()], MADE_BY_US);
        saved.config.lines.contains(&mark)
    };
    let vrfs = inputs.intent.vrfs.values();
    let ours: Vec<_> = vrfs
        .filter(|vrf| !inputs.is_foreign(vrf))
        .map(|vrf| Instance::of(old, &vrf.allocation.device))
        .filter(is_ours)
        .collect();
    // An operator's VRFs may be what an empty instance is for.
    let instances = saved.config.outermost(Daemon::Bgpd);
    let mut instances = instances.filter_map(Instance::read);
    if is_empty && instances.any(|it| it.asn == old && it != base && !ours.contains(&it)) {
        return Vec::new();
    }
    std::iter::once(base)
        .chain(ours)
        .map(|it| (it.to_string(), Instance { asn: new, ..it }.to_string()))
        .collect()
}

/// The ledger's lines that a configuration still has beside those which replace them. FRR never
/// shows both; of a file it takes the later one.
pub(super) fn replaced<'a>(inputs: &Inputs<'a>, saved: &Observed) -> Vec<&'a Line> {
    let is_saved = |line: &&Line| line.is_in_base() && saved.config.lines.contains(line);
    let mut lines = inputs.made.iter().filter(is_saved).peekable();
    if lines.peek().is_none() {
        return Vec::new();
    }
    let desired = Desired::new(inputs, saved).lines;
    let overwritten = overwritten(&desired);
    lines
        .filter(|line| !desired.contains(line) && overwritten(line))
        .collect()
}

/// Whether FRR overwrites a line by one of these, so that taking it away first would only do harm:
/// without its AS, say, a neighbor goes with all that is said of it.
fn overwritten(desired: &BTreeSet<Line>) -> impl Fn(&Line) -> bool {
    let said: BTreeSet<_> = desired.iter().filter_map(subject).collect();
    move |line| subject(line).is_some_and(|it| said.contains(&it))
}

/// What FRR has one line about in its contexts, if the line is of such a kind.
fn subject(line: &Line) -> Option<(&[String], &str)> {
    let text = line.text.as_str();
    let subject = match text.split_once("remote-as ") {
        Some((neighbor, _)) => neighbor,
        None => ["bgp router-id ", "timers bgp "]
            .into_iter()
            .find(|start| text.starts_with(start))?,
    };
    Some((&line.path, subject))
}
