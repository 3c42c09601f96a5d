//! Routing rules as messages: those that the agent deals with, and how they are told from others.

use netlink_packet_route::{
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};
use xpu_plan::{
    linux::Family,
    ownership::{OLDER_LOCAL_RULE, OLDER_RULE_PROTOCOL},
};

use crate::kernel::request::address_family;

/// Where the kernel puts the table `local`.
pub(super) const FIRST: u32 = 0;
/// Where the kernel puts the VRFs' rule (`FRA_L3MDEV` in `drivers/net/vrf.c`).
pub(super) const L3MDEV: u32 = 1000;
/// Of a rule that older agents made.
pub(super) const OLDER: RouteProtocol = RouteProtocol::Other(OLDER_RULE_PROTOCOL);

pub(super) fn rule(family: Family, priority: u32, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(protocol),
    ];
    rule
}

/// The rule of the VRFs.
pub(super) fn l3mdev(family: Family, priority: u32, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = rule(family, priority, protocol);
    rule.attributes.push(RuleAttribute::L3MDev(true));
    rule
}

/// The rule of the node's own addresses.
pub(super) fn local(family: Family, priority: u32, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = rule(family, priority, protocol);
    rule.header.table = libc::RT_TABLE_LOCAL;
    rule
}

pub(super) fn priority(rule: &RuleMessage) -> u32 {
    let mut attributes = rule.attributes.iter();
    let priority = attributes.find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    // The kernel leaves 0 out.
    priority.unwrap_or(FIRST)
}

pub(super) fn protocol(rule: &RuleMessage) -> RouteProtocol {
    let mut attributes = rule.attributes.iter();
    let protocol = attributes.find_map(|attribute| match attribute {
        RuleAttribute::Protocol(protocol) => Some(*protocol),
        _ => None,
    });
    protocol.unwrap_or(RouteProtocol::Unspec)
}

/// It looks every packet up among the node's own addresses, whoever's it is and wherever it stands.
pub(super) fn is_local(rule: &RuleMessage, family: Family) -> bool {
    is_same(rule, &local(family, priority(rule), RouteProtocol::Unspec))
}

pub(super) fn is_local_first(rule: &RuleMessage, family: Family) -> bool {
    priority(rule) == FIRST && is_local(rule, family)
}

/// The rule of the node's own addresses that older agents moved.
pub(super) fn is_older(rule: &RuleMessage, family: Family) -> bool {
    is_from(rule, &local(family, OLDER_LOCAL_RULE, OLDER))
}

/// The same rule, by the same protocol.
pub(super) fn is_from(found: &RuleMessage, wanted: &RuleMessage) -> bool {
    is_same(found, wanted) && protocol(found) == protocol(wanted)
}

/// The kernel would remove it when it is asked to remove `asked`, a rule of a table for all
/// packets: what is not asked for may be anything, and so may the protocol if it is 0, as `ip` has
/// it (`rule_find` in `net/core/fib_rules.c`).
pub(super) fn is_taken_for(found: &RuleMessage, asked: &RuleMessage) -> bool {
    priority(found) == priority(asked)
        && [protocol(found), RouteProtocol::Unspec].contains(&protocol(asked))
        && found.header.table == asked.header.table
        && found.header.action == asked.header.action
}

/// The same place, table and kind, and nothing that narrows it to some packets.
pub(super) fn is_same(found: &RuleMessage, wanted: &RuleMessage) -> bool {
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
        && !found.header.flags.contains(RuleFlags::Invert)
        && !found.attributes.iter().any(narrows)
}
