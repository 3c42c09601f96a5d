//! The two orders, and the ways from whatever is found to them. Pure.

use netlink_packet_route::{route::RouteProtocol, rule::RuleMessage};
use xpu_plan::{
    linux::Family,
    ownership::{OLDER_LOCAL_RULE, VRF_RULE},
};

use super::message::{
    FIRST, L3MDEV, OLDER, is_from, is_local, is_local_first, is_older, is_same, is_taken_for,
    l3mdev, local, priority, protocol,
};

/// How a family's rules are ordered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Order {
    /// VRFs come before the node's own addresses, and no rule of an older agent's is left.
    pub is_vrf_first: bool,
    /// A rule of this agent's is among them, or of an older one's.
    pub has_ours: bool,
    /// Whether somebody else's matter to it.
    pub others: Others,
}

/// Where others' rules stand, as far as it matters to the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Others {
    /// Apart from ours, or before them on purpose.
    Apart,
    /// At the first priority behind ours, which is where rules without a priority come to stand
    /// (`fib_default_rule_pref` in `net/core/fib_rules.c`).
    Beside,
    /// So that VRFs can't come first without harm to them or to the node.
    InWay,
}

/// Judges a family's rules, in the order in which the kernel asks them.
pub(super) fn judge(rules: &[RuleMessage], family: Family) -> Order {
    let moves = to_vrf_first(rules, family);
    let others = match moves {
        None => Others::InWay,
        Some(_) if is_beside(rules, family) => Others::Beside,
        Some(_) => Others::Apart,
    };
    Order {
        is_vrf_first: moves.as_ref().is_some_and(Vec::is_empty),
        has_ours: [
            l3mdev(family, VRF_RULE, RouteProtocol::Kernel),
            l3mdev(family, L3MDEV, OLDER),
            local(family, OLDER_LOCAL_RULE, OLDER),
        ]
        .iter()
        .any(|ours| rules.iter().any(|rule| is_from(rule, ours))),
        others,
    }
}

/// Somebody's rule stands at the first priority behind that of the VRFs.
fn is_beside(rules: &[RuleMessage], family: Family) -> bool {
    let vrfs = l3mdev(family, VRF_RULE, RouteProtocol::Kernel);
    let is_vrfs = |rule: &RuleMessage| is_same(rule, &vrfs);
    let behind = rules.iter().skip_while(|rule| !is_vrfs(rule));
    let mut beside = behind.take_while(|rule| priority(rule) == VRF_RULE);
    beside.any(|rule| !is_vrfs(rule) && !is_local(rule, family))
}

/// What is done with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// It is added behind those of its priority, unless it is there.
    Add,
    /// It is added behind those of its priority, although one like it may stand before them.
    AddBehind,
    /// The first like it, of the same protocol, is removed.
    Remove,
}

/// A step on the way to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// What for, in words.
    pub what: &'static str,
    pub verb: Verb,
    pub rule: RuleMessage,
}

impl Move {
    const fn new(what: &'static str, verb: Verb, rule: RuleMessage) -> Self {
        Self { what, verb, rule }
    }
}

/// The way to VRFs first; none where somebody's rule is in it. After each step the node's addresses
/// are looked up somewhere, and before each rule before which they were.
pub(super) fn to_vrf_first(rules: &[RuleMessage], family: Family) -> Option<Vec<Move>> {
    let mut moves = Vec::new();
    let vrfs = l3mdev(family, VRF_RULE, RouteProtocol::Kernel);
    let found = rules.iter().position(|rule| is_same(rule, &vrfs));
    let end = rules.iter().position(|rule| priority(rule) > VRF_RULE);
    let end = end.unwrap_or(rules.len());
    let place = found.unwrap_or(end);
    let is_somebodys = |rule: &RuleMessage| !is_local(rule, family) && !is_same(rule, &vrfs);
    let first = rules.iter().take(place).position(|it| is_local(it, family));
    if let Some(first) = first {
        let mut behind = rules.iter().take(end).skip(place);
        let last = behind.position(|rule| is_local(rule, family));
        let last = last.map_or(end, |it| place + it);
        // The first goes, so what is between would be asked before the node's addresses.
        if rules.iter().take(last).skip(first).any(is_somebodys) {
            return None;
        }
    }
    if found.is_none() {
        moves.push(Move::new("add the rule of the VRFs", Verb::Add, vrfs));
    }
    let (before, behind) = rules.split_at(place);
    let early = || before.iter().filter(|rule| is_local(rule, family));
    let is_behind = if early().next().is_some() {
        behind.iter().any(|rule| is_local_first(rule, family))
    } else {
        // Cilium, for one, has moved the table to 100, behind rules of its own.
        let mut stay = behind.iter().filter(|rule| !is_older(rule, family));
        stay.any(|rule| is_local(rule, family))
    };
    if !is_behind {
        moves.push(Move::new(
            "add the rule of the node's addresses",
            Verb::AddBehind,
            local(family, FIRST, RouteProtocol::Kernel),
        ));
    }
    for rule in early() {
        let remove = local(family, FIRST, protocol(rule));
        let mut taken = before.iter().take_while(|it| !std::ptr::eq(*it, rule));
        if taken.any(|it| is_taken_for(it, &remove) && !is_local(it, family)) {
            return None;
        }
        moves.push(Move::new(
            "remove the first rule of the node's addresses",
            Verb::Remove,
            remove,
        ));
    }
    moves.extend(without_older(rules, family));
    Some(moves)
}

/// The way back to the order that the kernel had.
pub(super) fn to_local_first(rules: &[RuleMessage], family: Family) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut stay = rules.iter().filter(|rule| !is_older(rule, family));
    if !stay.any(|rule| is_local(rule, family)) {
        moves.push(Move::new(
            "put the kernel's first rule back",
            Verb::Add,
            local(family, FIRST, RouteProtocol::Kernel),
        ));
    }
    let vrfs = l3mdev(family, VRF_RULE, RouteProtocol::Kernel);
    if rules.iter().any(|rule| is_from(rule, &vrfs)) {
        moves.push(Move::new("remove the rule of the VRFs", Verb::Remove, vrfs));
    }
    moves.extend(without_older(rules, family));
    moves
}

/// Takes away what an older agent made. Its rule of the VRFs stood where the kernel puts its own
/// with the first VRF of a namespace, and never again: that one comes in its place.
fn without_older(rules: &[RuleMessage], family: Family) -> Vec<Move> {
    let mut moves = Vec::new();
    if rules.iter().any(|rule| is_older(rule, family)) {
        moves.push(Move::new(
            "remove the moved rule of the node's addresses",
            Verb::Remove,
            local(family, OLDER_LOCAL_RULE, OLDER),
        ));
    }
    let vrfs = l3mdev(family, L3MDEV, OLDER);
    if rules.iter().any(|rule| is_from(rule, &vrfs)) {
        moves.extend([
            Move::new("remove the older rule of the VRFs", Verb::Remove, vrfs),
            Move::new(
                "put the kernel's rule of the VRFs back",
                Verb::Add,
                l3mdev(family, L3MDEV, RouteProtocol::Kernel),
            ),
        ]);
    }
    moves
}

#[cfg(test)]
mod tests;
