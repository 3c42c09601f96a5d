//! The order of the routing rules (`ip rule`): a VRF's table before the node's own addresses.
//!
//! The kernel starts with the table `local` at priority 0, before the `l3mdev` rule that the
//! first VRF brings at 1000. So a tenant's packet to an address that the node has itself, its
//! VTEP for one, would reach the node past the Vrf, and a tenant could not use such an address.
//!
//! The kernel's documentation (networking/vrf.rst) says to move the table down. Then others' rules
//! can come between the two, or before the node's own addresses. So both stand at 0, where rules
//! are asked in the order in which they were added (`fib_nl_newrule`): whatever comes later stands
//! behind them. Before the VRFs is only what stood at 0 before the node's addresses, and between the
//! two what somebody put there who has the table elsewhere (Cilium). What the agent adds says that
//! it is the kernel's, since network managers delete rules that they don't know; somebody's own rule
//! of the VRFs or of the table does as well, and stays as it is.

mod message;
mod order;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{RouteNetlinkMessage, rule::RuleMessage};
use nix::errno::Errno;
use xpu_plan::linux::Family;

pub(super) use self::order::Others;
use self::order::{Move, Order, Verb, judge, to_local_first, to_vrf_first};
use super::request::address_family;
use crate::sync::{Request, Rtnl, RtnlError};

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

/// Reads how a family's rules are ordered.
pub(super) fn order(rtnl: &mut Rtnl, family: Family) -> Result<Order, RtnlError> {
    Ok(judge(&rules(rtnl, family)?, family))
}

/// Puts VRFs first. Whatever happens on the way, the node's addresses stay reachable.
pub(super) fn put_vrf_first(rtnl: &mut Rtnl, family: Family) -> Result<(), RtnlError> {
    // A rule that is in the way has come since it was planned; the next pass tells of it.
    let moves = to_vrf_first(&rules(rtnl, family)?, family).unwrap_or_default();
    moves.into_iter().try_for_each(|it| apply(rtnl, it))
}

/// Takes our rule of the VRFs away, so that the table `local` is first as the kernel had it. The
/// node's addresses stay reachable.
pub(super) fn put_local_first(rtnl: &mut Rtnl, family: Family) -> Result<(), RtnlError> {
    let moves = to_local_first(&rules(rtnl, family)?, family);
    moves.into_iter().try_for_each(|it| apply(rtnl, it))
}

/// One request, whose purpose is reached as well if somebody was faster.
fn apply(rtnl: &mut Rtnl, step: Move) -> Result<(), RtnlError> {
    let Move { what, verb, rule } = step;
    let (message, flags, fine) = match verb {
        Verb::Add => (
            RouteNetlinkMessage::NewRule(rule),
            NLM_F_CREATE | NLM_F_EXCL,
            Errno::EEXIST,
        ),
        Verb::AddBehind => (
            RouteNetlinkMessage::NewRule(rule),
            NLM_F_CREATE,
            Errno::EEXIST,
        ),
        Verb::Remove => (RouteNetlinkMessage::DelRule(rule), 0, Errno::ENOENT),
    };
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
