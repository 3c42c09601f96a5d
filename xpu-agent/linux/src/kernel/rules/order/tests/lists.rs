//! Every short list of rules: whatever stands there, the moves harm nobody.

use super::*;

/// The first priority holds up to so many rules.
const MOST: usize = 4;

/// Somebody's, told from each other by `mark`.
fn somebodys(priority: u32, table: u8, protocol: RouteProtocol, mark: u32) -> RuleMessage {
    let mut rule = rule(V4, priority, protocol);
    rule.header.table = table;
    rule.attributes.push(RuleAttribute::FwMark(mark));
    rule
}

/// What may stand as the `place`th at the first priority.
fn at_first(place: u32) -> Vec<RuleMessage> {
    vec![
        addresses(0, KERNEL),
        addresses(0, BOOT),
        addresses(0, NONE),
        vrfs(0, KERNEL),
        vrfs(0, BOOT),
        somebodys(0, 77, BOOT, place),
        somebodys(0, 255, KERNEL, place),
        somebodys(0, 255, BOOT, place),
    ]
}

/// What may stand behind.
fn later() -> Vec<Vec<RuleMessage>> {
    let mut lists = Vec::new();
    for (cilium, vrfs) in [
        (false, None),
        (false, Some(vrfs(1000, KERNEL))),
        (true, Some(vrfs(1000, KERNEL))),
        (false, Some(vrfs(1000, OLDER))),
        (true, Some(vrfs(1000, OLDER))),
    ] {
        for older in [false, true] {
            let mut list = vec![somebodys(9, 77, BOOT, 90)];
            list.extend(cilium.then(|| addresses(100, BOOT)));
            list.push(somebodys(500, 77, BOOT, 500));
            list.extend(vrfs.clone());
            list.extend(older.then(|| addresses(1001, OLDER)));
            list.push(somebodys(2000, 77, BOOT, 2000));
            lists.push(list);
        }
    }
    lists
}

fn is_vrfs(rule: &RuleMessage) -> bool {
    is_same(rule, &vrfs(priority(rule), NONE))
}

/// Those of the first priority, of each length up to the most. The kernel takes a rule of the VRFs
/// there once (`rule_exists`).
fn first() -> Vec<Vec<RuleMessage>> {
    let mut lists = vec![Vec::new()];
    let mut longest = lists.clone();
    for place in (1..).take(MOST) {
        let longer = longest.iter().flat_map(|list| {
            at_first(place).into_iter().map(|rule| {
                let mut list = list.clone();
                list.push(rule);
                list
            })
        });
        longest = longer
            .filter(|list| list.iter().filter(|it| is_vrfs(it)).count() < 2)
            .collect();
        lists.extend(longest.iter().cloned());
    }
    lists
}

fn somebodys_of(rules: &[RuleMessage]) -> Vec<RuleMessage> {
    let is_somebodys = |rule: &&RuleMessage| !is_vrfs(rule) && !is_local(rule, V4);
    rules.iter().filter(is_somebodys).cloned().collect()
}

/// Those of somebody's that are asked before the node's addresses; none if nothing asks for these.
fn before_the_nodes(rules: &[RuleMessage]) -> Option<Vec<RuleMessage>> {
    let node = rules.iter().position(|rule| is_local(rule, V4))?;
    Some(somebodys_of(&rules[..node]))
}

/// Takes the moves: after each one the node's addresses are asked for, nobody's rule comes before
/// them that was behind, and nobody's is gone.
fn walk(rules: &mut Vec<RuleMessage>, moves: Vec<Move>) {
    let start = rules.clone();
    let Some(early) = before_the_nodes(&start) else {
        moves.into_iter().for_each(|step| apply(rules, step));
        assert!(before_the_nodes(rules).is_some(), "{start:#?}: {rules:#?}");
        return;
    };
    for step in moves {
        let what = step.what;
        apply(rules, step);
        let before = before_the_nodes(rules).expect(what);
        let came = before.iter().find(|rule| !early.contains(rule));
        assert_eq!(came, None, "{what}: {start:#?}");
        assert_eq!(somebodys_of(rules), somebodys_of(&start), "{what}");
    }
}

#[test]
fn no_list_is_harmed() {
    let (mut ways, mut in_way) = (0, 0);
    for first in first() {
        for later in later() {
            let mut rules = [first.clone(), later].concat();
            let start = rules.clone();
            match to_vrf_first(&rules, V4) {
                None => in_way += 1,
                Some(moves) => {
                    ways += 1;
                    walk(&mut rules, moves);
                    assert!(judge(&rules, V4).is_vrf_first, "{start:#?}");
                }
            }
            let moves = to_local_first(&rules, V4);
            walk(&mut rules, moves);
            assert!(!judge(&rules, V4).has_ours, "{start:#?}");
        }
    }
    assert!(
        ways > 1000 && in_way > 1000,
        "{ways} ways, {in_way} without"
    );
}
