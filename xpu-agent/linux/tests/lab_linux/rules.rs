//! The routing rules: what the kernel asks first, with rules of others beside ours.

use serde_json::{Value, json};
use xpu_linux::kernel::Follower;
use xpu_plan::linux::{self, Inputs};

use crate::{
    witness::{self, command},
    world::{World, in_namespace},
};

const FAMILIES: [&str; 2] = ["-4", "-6"];

/// Priority, what is looked up, and the protocol of every rule, as `ip` tells it.
fn rules(family: &str) -> Vec<Value> {
    let rules = witness::json(&format!("ip -j -d {family} rule show"));
    let rules = rules.as_array().unwrap().iter();
    let table = |rule: &Value| match rule.get("l3mdev") {
        Some(_) => "l3mdev".into(),
        None => rule["table"].clone(),
    };
    rules
        .map(|rule| json!([rule["priority"], table(rule), rule["protocol"]]))
        .collect()
}

/// Runs a command of `ip` for both families.
fn ip(words: &str) {
    for family in FAMILIES {
        command(&format!("ip {family} {words}"));
    }
}

#[test]
fn vrfs_are_asked_first_with_nobodys_rule_between() {
    in_namespace(|| async {
        let mut world = World::new();
        ip("rule add pref 9 fwmark 0x200/0xf00 table 77 protocol static");
        ip("rule add pref 500 table 77 protocol static");
        world.tenant();
        world.pass().await;
        let expected = json!([
            [0, "l3mdev", "kernel"],
            [0, "local", "kernel"],
            [9, "77", "static"],
            [500, "77", "static"],
            [1000, "l3mdev", "kernel"],
            [32766, "main", "kernel"],
        ]);
        for family in FAMILIES {
            assert_eq!(
                &rules(family)[..6],
                expected.as_array().unwrap(),
                "{family}"
            );
        }
        // What somebody puts first stands behind, too.
        let mut follower = Follower::new().unwrap();
        ip("rule add pref 0 table 77");
        follower.changed().await.unwrap();
        assert!(world.plan().await.is_empty());
        assert_eq!(rules("-4")[..2], expected.as_array().unwrap()[..2]);
    });
}

/// Cilium moves the table of the node's own addresses behind a rule of its own.
#[test]
fn a_node_that_asks_for_its_addresses_later_still_does() {
    in_namespace(|| async {
        let mut world = World::new();
        ip("rule add pref 9 fwmark 0x200/0xf00 table 77 protocol static");
        ip("rule add pref 100 table local protocol static");
        ip("rule del pref 0");
        world.tenant();
        let report = world.pass().await;
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        let expected = json!([
            [0, "l3mdev", "kernel"],
            [9, "77", "static"],
            [100, "local", "static"],
            [1000, "l3mdev", "kernel"],
        ]);
        for family in FAMILIES {
            assert_eq!(
                &rules(family)[..4],
                expected.as_array().unwrap(),
                "{family}"
            );
        }
    });
}

/// Rules at 1000 and 1001, with a protocol of their own.
#[test]
fn an_older_agents_order_is_taken_over_and_back() {
    in_namespace(|| async {
        let mut world = World::new();
        let older = || {
            ip("rule del pref 1000");
            ip("rule add pref 1000 l3mdev protocol 88");
            ip("rule add pref 1001 table local protocol 88");
            ip("rule del pref 0 table local");
        };
        let kernels = FAMILIES.map(rules);
        older();
        world.tenant();
        world.pass().await;
        for (family, kernels) in FAMILIES.iter().zip(&kernels) {
            let mut expected = vec![json!([0, "l3mdev", "kernel"])];
            expected.extend(kernels.clone());
            assert_eq!(rules(family), expected, "{family}");
        }
        ip("rule del pref 0 l3mdev");
        older();
        let inputs = Inputs {
            intent: &world.intent,
            node: &world.node,
            frr: &world.frr,
        };
        let observed = world.linux.observe(&inputs).await.unwrap();
        let outcomes = world.linux.apply(linux::purge(&inputs, &observed)).await;
        assert!(outcomes.iter().all(|it| it.result.is_ok()), "{outcomes:#?}");
        assert_eq!(FAMILIES.map(rules), kernels);
    });
}

/// The kernel gives a rule without a priority one below the second's, or 0.
#[test]
fn a_rule_without_a_priority_stands_behind_ours_and_is_told() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        let report = world.pass().await;
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        let first = || {
            let rules = rules("-4").into_iter().take(3);
            let place = |it: Value| json!([it[0], it[1]]);
            rules.map(place).collect::<Vec<_>>()
        };
        let mut follower = Follower::new().unwrap();
        command("ip rule add fwmark 7 table 77");
        follower.changed().await.unwrap();
        let report = world.pass().await;
        assert_eq!(
            first(),
            [json!([0, "l3mdev"]), json!([0, "local"]), json!([0, "77"])]
        );
        let [notice] = &report.notices[..] else {
            panic!("{:?}", report.notices);
        };
        assert!(notice.starts_with("IPv4: "), "{notice}");
        assert!(notice.contains("without a priority"), "{notice}");

        // This takes ours, which could only come behind what would then be before the node.
        command("ip rule del pref 0");
        follower.changed().await.unwrap();
        let report = world.pass().await;
        assert_eq!(first()[..2], [json!([0, "local"]), json!([0, "77"])]);
        let [notice] = &report.notices[..] else {
            panic!("{:?}", report.notices);
        };
        assert!(notice.contains("past their Vrf"), "{notice}");
        command("ip rule add pref 5 fwmark 7 table 77");
        command("ip rule del pref 0 fwmark 7 table 77");
        let report = world.pass().await;
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        assert_eq!(
            first(),
            [json!([0, "l3mdev"]), json!([0, "local"]), json!([5, "77"])]
        );
    });
}

/// The kernel would delete it in place of its own.
#[test]
fn somebodys_rule_of_the_table_local_stays_and_is_told() {
    in_namespace(|| async {
        let mut world = World::new();
        let before = || command("ip rule show pref 0");
        command("ip rule add pref 0 fwmark 7 table local protocol kernel");
        command("ip rule del pref 0 table local");
        command("ip rule add pref 0 table local protocol kernel");
        let theirs = before();
        world.tenant();
        let report = world.pass().await;
        assert_eq!(before(), theirs);
        let [notice] = &report.notices[..] else {
            panic!("{:?}", report.notices);
        };
        assert!(
            notice.starts_with("IPv4: ") && notice.contains("a rule at 0"),
            "{notice}"
        );
        assert_eq!(rules("-6")[0][1], "l3mdev");
        let mut follower = Follower::new().unwrap();
        command("ip rule del pref 0 fwmark 7 table local");
        follower.changed().await.unwrap();
        assert!(world.pass().await.notices.is_empty());
        assert_eq!(rules("-4")[0][1], "l3mdev");
    });
}
