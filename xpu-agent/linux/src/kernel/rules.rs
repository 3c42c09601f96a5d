//! The order of the routing rules (`ip rule`): a VRF's table before the node's own addresses.
//!
//! The kernel starts with the table `local` at priority 0, before the `l3mdev` rule that the
//! first VRF brings at 1000. So a tenant's packet to an address that the node has itself, its
//! VTEP for one, would reach the node past the Vrf, and a tenant could not use such an address.
//! The kernel's documentation (networking/vrf.rst) says to move the table down.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use nix::errno::Errno;
use xpu_plan::{
    linux::{Family, ForeignRule},
    ownership::{LOCAL_RULE, RULE_PROTOCOL},
};

use super::request::address_family;
use crate::sync::{Request, Rtnl, RtnlError};

/// Where the kernel puts the table `local`.
const FIRST: u32 = 0;
/// Where the kernel puts the VRFs' rule (`FRA_L3MDEV` in `drivers/net/vrf.c`).
const L3MDEV: u32 = 1000;

/// The rules of a family; none on a kernel without it.
fn rules(rtnl: &mut Rtnl, family: Family) -> Result<Vec<RuleMessage>, RtnlError> {
    let mut ask = RuleMessage::default();
    ask.header.family = address_family(family);
    let found = match rtnl.get("list the rules", RouteNetlinkMessage::GetRule(ask), true) {
        Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) => return Ok(Vec::new()),
        found => found?,
    };
    let rules = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRule(rule) => Some(rule),
        _ => None,
    });
    Ok(rules.collect())
}

/// How a family's rules are ordered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// VRFs come before the node's own addresses.
    pub is_vrf_first: bool,
    /// The rule of the table `local` at its new place is the agent's.
    pub is_local_moved: bool,
    /// Somebody's rule that keeps VRFs from coming first, or that the table `local` would have to
    /// be moved behind.
    pub in_the_way: Option<ForeignRule>,
}

/// Reads how a family's rules are ordered.
pub(super) fn order(rtnl: &mut Rtnl, family: Family) -> Result<Order, RtnlError> {
    Ok(judge(&rules(rtnl, family)?, family))
}

fn judge(rules: &[RuleMessage], family: Family) -> Order {
    let has = |rule: &RuleMessage| rules.iter().any(|found| is_same(found, rule));
    let moved = local(family, LOCAL_RULE);
    let before = |rule: &&RuleMessage| (FIRST + 1..LOCAL_RULE).contains(&priority(rule));
    // Such as CNI plugins put at 100, in place of the kernel's at 0.
    let is_local = |rule: &&RuleMessage| is_same(rule, &local(family, priority(rule)));
    let is_l3mdev = |rule: &RuleMessage| rule.attributes.contains(&RuleAttribute::L3MDev(true));
    let early = rules.iter().filter(before).find(is_local);
    let is_to_move = has(&local(family, FIRST));
    let is_vrf_first = has(&l3mdev(family)) && has(&moved) && !is_to_move && early.is_none();
    // Once the table has moved, a rule that came later is not in the way. What is wrong then has to
    // be repaired, or the node may be without its own addresses.
    let foreign = rules.iter().filter(before).find(|rule| !is_l3mdev(rule));
    let in_the_way = early.or(foreign.filter(|_| is_to_move));
    Order {
        is_vrf_first,
        is_local_moved: rules
            .iter()
            .any(|rule| is_same(rule, &moved) && rule.attributes.contains(&ours())),
        in_the_way: in_the_way.map(|rule| ForeignRule {
            priority: priority(rule),
            is_local: early.is_some(),
        }),
    }
}

/// Puts the table `local` back to where the kernel had it, and takes our rule of the VRFs: with its
/// first VRF the kernel makes one by itself. The node's addresses stay reachable.
pub(super) fn put_local_first(rtnl: &mut Rtnl, family: Family) -> Result<(), RtnlError> {
    let mut first = local(family, FIRST);
    // As the kernel makes it.
    first
        .attributes
        .push(RuleAttribute::Protocol(RouteProtocol::Kernel));
    apply(
        rtnl,
        "put the kernel's first rule back",
        RouteNetlinkMessage::NewRule(first),
        NLM_F_CREATE | NLM_F_EXCL,
        Errno::EEXIST,
    )?;
    apply(
        rtnl,
        "remove the moved rule of the node's addresses",
        RouteNetlinkMessage::DelRule(local(family, LOCAL_RULE)),
        0,
        Errno::ENOENT,
    )?;
    apply(
        rtnl,
        "remove the rule of the VRFs",
        RouteNetlinkMessage::DelRule(l3mdev(family)),
        0,
        Errno::ENOENT,
    )
}

/// Puts VRFs first. Whatever happens on the way, the node's addresses stay reachable.
pub(super) fn put_vrf_first(rtnl: &mut Rtnl, family: Family) -> Result<(), RtnlError> {
    for (what, rule) in [
        ("add the rule of the VRFs", l3mdev(family)),
        (
            "add the rule of the node's addresses",
            local(family, LOCAL_RULE),
        ),
    ] {
        let message = RouteNetlinkMessage::NewRule(rule);
        apply(
            rtnl,
            what,
            message,
            NLM_F_CREATE | NLM_F_EXCL,
            Errno::EEXIST,
        )?;
    }
    let first = RouteNetlinkMessage::DelRule(local(family, FIRST));
    apply(
        rtnl,
        "remove the kernel's first rule",
        first,
        0,
        Errno::ENOENT,
    )
}

/// One request, whose purpose is reached as well if the kernel answers `fine`.
fn apply(
    rtnl: &mut Rtnl,
    what: &str,
    message: RouteNetlinkMessage,
    flags: u16,
    fine: Errno,
) -> Result<(), RtnlError> {
    let request = Request {
        what: what.to_owned(),
        message,
        flags,
    };
    match rtnl.apply(&[request]) {
        Err(error) if error.errno() == Some(fine) => Ok(()),
        result => result,
    }
}

fn rule(family: Family, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.header.action = RuleAction::ToTable;
    rule.attributes.push(RuleAttribute::Priority(priority));
    rule
}

fn l3mdev(family: Family) -> RuleMessage {
    let mut rule = rule(family, L3MDEV);
    rule.attributes.push(RuleAttribute::L3MDev(true));
    rule.attributes.push(ours());
    rule
}

fn local(family: Family, priority: u32) -> RuleMessage {
    let mut rule = rule(family, priority);
    rule.header.table = libc::RT_TABLE_LOCAL;
    if priority != FIRST {
        rule.attributes.push(ours());
    }
    rule
}

fn ours() -> RuleAttribute {
    RuleAttribute::Protocol(RouteProtocol::Other(RULE_PROTOCOL))
}

fn priority(rule: &RuleMessage) -> u32 {
    let mut attributes = rule.attributes.iter();
    let priority = attributes.find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    // The kernel leaves 0 out.
    priority.unwrap_or(FIRST)
}

/// The same place, table and kind, and nothing that narrows it to some packets.
fn is_same(found: &RuleMessage, wanted: &RuleMessage) -> bool {
    let is_l3mdev = |rule: &RuleMessage| rule.attributes.contains(&RuleAttribute::L3MDev(true));
    let narrows = |attribute: &RuleAttribute| {
        !matches!(
            attribute,
            RuleAttribute::Priority(_)
                | RuleAttribute::Table(_)
                | RuleAttribute::L3MDev(_)
                | RuleAttribute::Protocol(_)
                | RuleAttribute::SuppressPrefixLen(u32::MAX)
        )
    };
    priority(found) == priority(wanted)
        && is_l3mdev(found) == is_l3mdev(wanted)
        && (is_l3mdev(wanted) || found.header.table == wanted.header.table)
        && found.header.action == wanted.header.action
        && (found.header.dst_len, found.header.src_len, found.header.tos) == (0, 0, 0)
        && !found.attributes.iter().any(narrows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_some_packets_is_another() {
        let wanted = local(Family::V4, LOCAL_RULE);
        let mut narrow = wanted.clone();
        assert!(is_same(&narrow, &wanted));
        narrow.attributes.push(RuleAttribute::FwMark(7));
        assert!(!is_same(&narrow, &wanted));
        assert!(!is_same(&local(Family::V4, FIRST), &wanted));
        assert!(!is_same(&l3mdev(Family::V4), &rule(Family::V4, L3MDEV)));
    }

    /// Somebody's rule, for packets with a mark or for all.
    fn theirs(priority: u32, table: u8, mark: Option<u32>) -> RuleMessage {
        let mut rule = rule(Family::V4, priority);
        rule.header.table = table;
        rule.attributes.extend(mark.map(RuleAttribute::FwMark));
        rule
    }

    fn in_the_way(priority: u32, is_local: bool) -> Option<ForeignRule> {
        Some(ForeignRule { priority, is_local })
    }

    #[rstest::rstest]
    // The kernel's own, and what the agent makes of it.
    #[case::as_booted(vec![local(Family::V4, FIRST)], false, None)]
    #[case::ordered(vec![l3mdev(Family::V4), local(Family::V4, LOCAL_RULE)], true, None)]
    #[case::half_way(
        vec![local(Family::V4, FIRST), l3mdev(Family::V4), local(Family::V4, LOCAL_RULE)],
        false, None)]
    // Cilium's: marked packets at 9, everybody's local at 100.
    #[case::another_local(
        vec![theirs(9, 200, Some(0x200)), theirs(100, libc::RT_TABLE_LOCAL, None)],
        false, in_the_way(100, true))]
    #[case::another_local_later(
        vec![theirs(100, libc::RT_TABLE_LOCAL, None), l3mdev(Family::V4), local(Family::V4, LOCAL_RULE)],
        false, in_the_way(100, true))]
    #[case::another_local_for_some(
        vec![theirs(100, libc::RT_TABLE_LOCAL, Some(1)), l3mdev(Family::V4), local(Family::V4, LOCAL_RULE)],
        true, None)]
    #[case::foreign_before_the_move(
        vec![local(Family::V4, FIRST), theirs(500, 77, Some(1))], false, in_the_way(500, false))]
    #[case::at_the_vrfs_own_place(
        vec![local(Family::V4, FIRST), theirs(L3MDEV, 77, None)], false, in_the_way(L3MDEV, false))]
    #[case::foreign_after_the_move(
        vec![theirs(500, 77, None), l3mdev(Family::V4), local(Family::V4, LOCAL_RULE)], true, None)]
    #[case::foreign_and_the_moved_is_gone(
        vec![theirs(500, 77, None), l3mdev(Family::V4)], false, None)]
    #[case::foreign_and_the_vrfs_is_gone(
        vec![theirs(500, 77, None), local(Family::V4, LOCAL_RULE)], false, None)]
    #[case::foreign_behind(
        vec![local(Family::V4, FIRST), theirs(5000, 77, None)], false, None)]
    fn what_others_order_is_not_undone(
        #[case] rules: Vec<RuleMessage>,
        #[case] is_vrf_first: bool,
        #[case] expected: Option<ForeignRule>,
    ) {
        let order = judge(&rules, Family::V4);
        assert_eq!(
            (order.is_vrf_first, order.in_the_way),
            (is_vrf_first, expected)
        );
    }
}
