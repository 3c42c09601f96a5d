use netlink_packet_route::rule::{RuleAttribute, RuleFlags};
use rstest::rstest;

use super::{super::message::rule, *};

mod lists;

const V4: Family = Family::V4;
const KERNEL: RouteProtocol = RouteProtocol::Kernel;
const BOOT: RouteProtocol = RouteProtocol::Boot;
/// Of rules that `ip` makes, if it is not told another.
const NONE: RouteProtocol = RouteProtocol::Unspec;

/// The table `local` as the kernel has it, and elsewhere.
fn addresses(priority: u32, protocol: RouteProtocol) -> RuleMessage {
    local(V4, priority, protocol)
}

fn vrfs(priority: u32, protocol: RouteProtocol) -> RuleMessage {
    l3mdev(V4, priority, protocol)
}

/// Somebody's, for packets with a mark.
fn marked(priority: u32, table: u8, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = rule(V4, priority, protocol);
    rule.header.table = table;
    rule.attributes.push(RuleAttribute::FwMark(7));
    rule
}

/// Somebody's, of the VRFs, for packets with a mark.
fn for_some_in_vrfs() -> RuleMessage {
    let mut rule = vrfs(0, BOOT);
    rule.attributes.push(RuleAttribute::FwMark(7));
    rule
}

/// What the kernel does with a step (`fib_nl_newrule`, `fib_nl_delrule`).
fn apply(rules: &mut Vec<RuleMessage>, step: Move) {
    let Move { what, verb, rule } = step;
    match verb {
        Verb::Add if rules.iter().any(|it| is_same(it, &rule)) => panic!("{what}: EEXIST"),
        Verb::Add | Verb::AddBehind => {
            let behind = |it: &RuleMessage| priority(it) > priority(&rule);
            let place = rules.iter().position(behind).unwrap_or(rules.len());
            rules.insert(place, rule);
        }
        Verb::Remove => {
            let is_l3mdev = |it: &RuleMessage| it.attributes.contains(&RuleAttribute::L3MDev(true));
            let first = rules
                .iter()
                .position(|it| is_taken_for(it, &rule) && is_l3mdev(it) == is_l3mdev(&rule));
            rules.remove(first.unwrap_or_else(|| panic!("{what}: ENOENT")));
        }
    }
}

fn run(rules: &mut Vec<RuleMessage>, moves: Vec<Move>) {
    for step in moves {
        apply(rules, step);
        let is_reached = rules.iter().any(|it| is_local(it, V4));
        assert!(is_reached, "the node is without its addresses: {rules:?}");
    }
}

#[rstest]
#[case::as_booted(
    vec![addresses(0, KERNEL)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::with_the_kernels_own_of_vrfs(
    vec![addresses(0, KERNEL), vrfs(1000, KERNEL)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::of_an_older_agent(
    vec![vrfs(1000, OLDER), addresses(1001, OLDER)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::of_an_older_agent_half_way(
    vec![addresses(0, KERNEL), vrfs(1000, OLDER), addresses(1001, OLDER)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::of_an_older_agent_and_the_kernel(
    vec![vrfs(1000, KERNEL), addresses(1001, OLDER)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::killed_after_the_first_step(
    vec![addresses(0, KERNEL), vrfs(0, KERNEL)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::killed_after_the_second_step(
    vec![addresses(0, KERNEL), vrfs(0, KERNEL), addresses(0, KERNEL)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::somebody_put_it_first_again(
    vec![addresses(0, BOOT), addresses(0, KERNEL), vrfs(0, KERNEL)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::somebody_put_it_there_by_hand(
    vec![marked(0, 77, NONE), addresses(0, NONE), addresses(0, KERNEL)],
    vec![marked(0, 77, NONE), vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::somebody_has_it_behind_too(
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), addresses(0, BOOT)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), addresses(0, BOOT)])]
#[case::the_operators_own_order(
    vec![vrfs(0, BOOT), addresses(5, BOOT)],
    vec![vrfs(0, BOOT), addresses(5, BOOT)])]
#[case::the_nodes_addresses_are_gone(
    vec![vrfs(0, KERNEL), marked(9, 77, BOOT)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(9, 77, BOOT)])]
// Cilium's: marked packets at 9, everybody's local at 100.
#[case::another_local(
    vec![marked(9, 200, BOOT), addresses(100, BOOT)],
    vec![vrfs(0, KERNEL), marked(9, 200, BOOT), addresses(100, BOOT)])]
#[case::another_local_later(
    vec![vrfs(0, KERNEL), marked(9, 200, BOOT), addresses(100, BOOT)],
    vec![vrfs(0, KERNEL), marked(9, 200, BOOT), addresses(100, BOOT)])]
#[case::another_local_before_an_older_agents(
    vec![addresses(100, BOOT), vrfs(1000, OLDER), addresses(1001, OLDER)],
    vec![vrfs(0, KERNEL), addresses(100, BOOT), vrfs(1000, KERNEL)])]
#[case::foreign_later(
    vec![addresses(0, KERNEL), marked(500, 77, BOOT)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(500, 77, BOOT)])]
#[case::foreign_behind_half_way(
    vec![addresses(0, KERNEL), vrfs(0, KERNEL), addresses(0, KERNEL), marked(0, 77, BOOT)],
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(0, 77, BOOT)])]
#[case::foreign_for_some_before_the_kernels(
    vec![marked(0, 255, BOOT), addresses(0, KERNEL)],
    vec![marked(0, 255, BOOT), vrfs(0, KERNEL), addresses(0, KERNEL)])]
fn vrfs_come_first(#[case] mut rules: Vec<RuleMessage>, #[case] expected: Vec<RuleMessage>) {
    let moves = to_vrf_first(&rules, V4).unwrap();
    let order = judge(&rules, V4);
    assert_eq!(order.is_vrf_first, moves.is_empty());
    run(&mut rules, moves);
    assert_eq!(rules, expected);
    let order = judge(&rules, V4);
    assert!(order.is_vrf_first, "{order:?}");
}

#[rstest]
#[case::as_booted(vec![addresses(0, KERNEL)], vec![addresses(0, KERNEL)])]
#[case::ordered(
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)],
    vec![addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::foreign_behind(
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(0, 77, BOOT)],
    vec![addresses(0, KERNEL), marked(0, 77, BOOT)])]
#[case::half_way(
    vec![addresses(0, KERNEL), vrfs(0, KERNEL), addresses(0, KERNEL)],
    vec![addresses(0, KERNEL), addresses(0, KERNEL)])]
#[case::of_an_older_agent(
    vec![vrfs(1000, OLDER), addresses(1001, OLDER)],
    vec![addresses(0, KERNEL), vrfs(1000, KERNEL)])]
#[case::the_nodes_addresses_are_gone(vec![vrfs(0, KERNEL)], vec![addresses(0, KERNEL)])]
#[case::another_local(
    vec![vrfs(0, KERNEL), marked(9, 200, BOOT), addresses(100, BOOT)],
    vec![marked(9, 200, BOOT), addresses(100, BOOT)])]
#[case::the_operators_own_order(
    vec![vrfs(0, BOOT), addresses(0, KERNEL)],
    vec![vrfs(0, BOOT), addresses(0, KERNEL)])]
fn the_kernels_order_comes_back(
    #[case] mut rules: Vec<RuleMessage>,
    #[case] expected: Vec<RuleMessage>,
) {
    let moves = to_local_first(&rules, V4);
    assert_eq!(judge(&rules, V4).has_ours, !moves.is_empty());
    run(&mut rules, moves);
    assert_eq!(rules, expected);
    assert!(!judge(&rules, V4).has_ours, "{rules:?}");
}

/// The kernel would delete somebody's rule in place of the one that is meant.
#[rstest]
#[case::before(vec![marked(0, 255, KERNEL), addresses(0, KERNEL)])]
#[case::before_one_of_no_protocol(vec![marked(0, 255, KERNEL), addresses(0, NONE)])]
#[case::between(vec![addresses(0, BOOT), marked(0, 255, BOOT), addresses(0, BOOT)])]
fn somebodys_rule_is_not_taken_for_the_kernels(#[case] rules: Vec<RuleMessage>) {
    assert_eq!(to_vrf_first(&rules, V4), None);
    let order = judge(&rules, V4);
    assert!(!order.is_vrf_first, "{order:?}");
    assert_eq!(order.others, Others::InWay);
}

/// It would be asked before the node's own addresses, and was asked behind them.
#[rstest]
#[case::of_another_table(vec![addresses(0, KERNEL), marked(0, 77, BOOT)])]
#[case::of_the_table_local(vec![addresses(0, KERNEL), marked(0, 255, BOOT)])]
#[case::of_some_in_vrfs(vec![addresses(0, KERNEL), for_some_in_vrfs(), vrfs(0, KERNEL)])]
#[case::before_a_rule_of_the_vrfs(
    vec![addresses(0, KERNEL), marked(0, 77, BOOT), vrfs(0, KERNEL), addresses(0, KERNEL)])]
#[case::behind_the_first_step(vec![addresses(0, KERNEL), vrfs(0, KERNEL), marked(0, 77, BOOT)])]
#[case::behind_the_first_step_and_before_the_second(
    vec![addresses(0, KERNEL), vrfs(0, KERNEL), marked(0, 77, BOOT), addresses(0, KERNEL)])]
fn somebodys_rule_does_not_come_before_the_nodes_addresses(#[case] rules: Vec<RuleMessage>) {
    assert_eq!(to_vrf_first(&rules, V4), None);
    let order = judge(&rules, V4);
    assert!(!order.is_vrf_first, "{order:?}");
    assert_eq!(order.others, Others::InWay);
}

#[rstest]
#[case::nobodys(vec![vrfs(0, KERNEL), addresses(0, KERNEL), vrfs(1000, KERNEL)], Others::Apart)]
#[case::somebodys_addresses(
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), addresses(0, BOOT)], Others::Apart)]
#[case::at_a_priority_of_its_own(
    vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(1, 77, BOOT)], Others::Apart)]
#[case::before(vec![marked(0, 77, BOOT), vrfs(0, KERNEL), addresses(0, KERNEL)], Others::Apart)]
#[case::behind(vec![vrfs(0, KERNEL), addresses(0, KERNEL), marked(0, 77, BOOT)], Others::Beside)]
#[case::between(vec![vrfs(0, KERNEL), marked(0, 77, BOOT), addresses(100, BOOT)], Others::Beside)]
fn somebodys_rule_at_the_first_priority_is_told(
    #[case] rules: Vec<RuleMessage>,
    #[case] others: Others,
) {
    let order = judge(&rules, V4);
    assert_eq!(
        order,
        Order {
            is_vrf_first: true,
            has_ours: true,
            others
        }
    );
}

#[test]
fn a_rule_for_some_packets_is_another() {
    let wanted = addresses(0, KERNEL);
    assert!(is_same(&wanted, &wanted));
    assert!(!is_same(&marked(0, 255, KERNEL), &wanted));
    let mut inverted = wanted.clone();
    inverted.header.flags = RuleFlags::Invert;
    assert!(!is_same(&inverted, &wanted));
    assert!(!is_same(&addresses(1, KERNEL), &wanted));
    assert!(!is_same(&vrfs(0, KERNEL), &rule(V4, 0, KERNEL)));
}
