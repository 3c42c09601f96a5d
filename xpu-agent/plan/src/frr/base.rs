//! The base BGP instance: which of its lines are the agent's.
//!
//! An operator may have an instance of his own, with lines that the node's settings come to as
//! well. So the agent keeps account of those that it put there itself, and takes only these away
//! when the settings no longer give them.

use std::collections::BTreeSet;

use super::{
    Command, Inputs,
    config::Line,
    desired::{Desired, is_context},
    diff::{rank, remove},
    observed::Observed,
};

/// The account after a plan over this observation, from that before ([`Inputs::made`]): without
/// what is neither wanted nor there, with what is about to be put. Kept durably before the plan is
/// applied.
#[must_use]
pub fn made(inputs: &Inputs<'_>, observed: &Observed) -> BTreeSet<Line> {
    let desired = Desired::new(inputs, observed).lines;
    let there = &observed.config.lines;
    let kept = inputs
        .made
        .iter()
        .filter(|line| there.contains(line) || desired.contains(line));
    let put = desired
        .iter()
        .filter(|line| is_of_base(line) && !is_context(line) && !there.contains(line));
    kept.chain(put).cloned().collect()
}

/// Takes away what the agent put into the base instance and the settings no longer give.
pub(super) fn stale(
    inputs: &Inputs<'_>,
    desired: &BTreeSet<Line>,
    observed: &Observed,
    commands: &mut Vec<Command>,
) {
    let stale = |line: &&Line| {
        is_of_base(line)
            && observed.config.lines.contains(line)
            && !desired.contains(line)
            && !desired.iter().any(|other| replaces(other, line))
    };
    let mut lines: Vec<_> = inputs.made.iter().filter(stale).collect();
    // What names a neighbor before the line that makes it.
    lines.sort_by_key(|line| std::cmp::Reverse(rank(line)));
    lines
        .into_iter()
        .for_each(|line| remove(commands, line.clone()));
}

/// Whether the line stands in the base instance.
fn is_of_base(line: &Line) -> bool {
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
