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
    linux::Family,
    ownership::{LOCAL_RULE, ROUTE_PROTOCOL},
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

/// Whether VRFs come before the node's own addresses.
pub(super) fn is_vrf_first(rtnl: &mut Rtnl, family: Family) -> Result<bool, RtnlError> {
    let rules = rules(rtnl, family)?;
    let has = |rule: &RuleMessage| rules.iter().any(|found| is_same(found, rule));
    Ok(has(&l3mdev(family)) && has(&local(family, LOCAL_RULE)) && !has(&local(family, FIRST)))
}

/// Whether the table `local` was moved by the agent, whoever moved it before or after.
pub(super) fn is_local_moved(rtnl: &mut Rtnl, family: Family) -> Result<bool, RtnlError> {
    let moved = local(family, LOCAL_RULE);
    let is_it = |rule: &RuleMessage| is_same(rule, &moved) && rule.attributes.contains(&ours());
    Ok(rules(rtnl, family)?.iter().any(is_it))
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
    RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
}

/// The same place, table and kind, and nothing that narrows it to some packets.
fn is_same(found: &RuleMessage, wanted: &RuleMessage) -> bool {
    let priority = |rule: &RuleMessage| {
        let told = rule
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RuleAttribute::Priority(priority) => Some(*priority),
                _ => None,
            });
        // The kernel leaves 0 out.
        told.unwrap_or(FIRST)
    };
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
}
