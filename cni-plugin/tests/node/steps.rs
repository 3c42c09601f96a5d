//! The process killed at each step of ADD and of DEL, one by one: what comes next, whatever it is,
//! leaves the VF home as it was and nothing else behind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    harness::{Node, VF, end_silently, ip, name_of, run},
    programs::list_mac,
};

/// All that can be asked for where no PF is: every step but the PF's, in each order there is.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// IPAM is asked before the VF moves.
    Early,
    /// IPAM works on the interface.
    Late,
    /// The VF has alternative names, one of which the pod has as well.
    Named,
    /// The VF has alternative names, one of which is the interface's in the pod.
    Renamed,
    /// The VF is a userspace driver's.
    Program,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Early,
        Self::Late,
        Self::Named,
        Self::Renamed,
        Self::Program,
    ];

    /// The VF's alternative names.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Early | Self::Late | Self::Program => &[],
            Self::Named => &["eth0", "rack7"],
            Self::Renamed => &["net1", "rack7"],
        }
    }

    /// A node, a pod, and the network's configuration.
    fn node(self) -> (Node, PathBuf, Value) {
        let mut node = Node::new();
        let pod = node.pod();
        let mut more = json!({"ipam": {"type": "fake-ipam"}, "mtu": 1400,
            "mac": "02:00:00:00:00:07"});
        match self {
            Self::Early => {}
            Self::Late => {
                node.make_dhcp();
                more["ipam"]["type"] = "dhcp".into();
            }
            Self::Program => {
                node.give_to_a_program();
                list_mac(&node, "02:00:00:00:00:07");
                // Nobody can set these.
                more["mtu"] = 0.into();
                more["mac"] = Value::Null;
            }
            Self::Renamed => self.name(&node, "add"),
            Self::Named => {
                self.name(&node, "add");
                let line = ["-n", name_of(&pod), "link", "add", "eth0", "type", "bridge"];
                run("ip", &line);
            }
        }
        let info = node.root.path().join("devinfo/default-red-c1_net1");
        more["runtimeConfig"] = json!({ "CNIDeviceInfoFile": info });
        let config = node.config(more);
        (node, pod, config)
    }

    fn name(self, node: &Node, verb: &str) {
        if self.names().is_empty() {
            return;
        }
        let line = ["-n", &node.host, "link", "property", verb, "dev", VF];
        let names = self.names().iter().flat_map(|name| ["altname", name]);
        run("ip", &Vec::from_iter(line.into_iter().chain(names)));
    }

    /// The VF has its alternative names, and beside them all is clean.
    fn assert_clean(self, node: &Node) {
        let vf = Node::link(&node.host, VF);
        let names = vf["altnames"].as_array().cloned().unwrap_or_default();
        let has = |name: &&str| names.contains(&json!(name));
        let all = self.names();
        assert!(names.len() == all.len() && all.iter().all(has), "{vf}");
        self.name(node, "del");
        node.assert_clean();
        self.name(node, "add");
    }
}

/// Kills `command` at its first checkpoint, its second and so on, calling `after` each
/// time, until it gets through alive. Gives the number of kills.
fn kill_at_each(
    node: &Node,
    command: &str,
    after: impl Fn(&Node),
    pod: &Path,
    config: &Value,
) -> u32 {
    for point in 1..100 {
        let answer = node.call_killed_at(point, command, "c1", pod, config);
        if answer.code.is_some() {
            answer.ok();
            return point - 1;
        }
        after(node);
    }
    panic!("{command} never got through");
}

#[test]
fn an_add_killed_anywhere_is_undone_by_del() {
    // The record, the claim, five steps twice, the move's end; where alternative names are kept, and
    // where one was taken in the pod. Without a move it is the record, the claim and four steps.
    let points = [13, 13, 15, 16, 10];
    for (way, points) in Way::ALL.into_iter().zip(points) {
        let (node, pod, config) = way.node();
        let killed = kill_at_each(
            &node,
            "ADD",
            |node| {
                node.call("DEL", "c1", &pod, &config).ok();
                way.assert_clean(node);
            },
            &pod,
            &config,
        );
        assert_eq!(killed, points, "{way:?}");
        // The last ADD was not killed.
        let moves = !matches!(way, Way::Program);
        assert_eq!(
            Node::links(name_of(&pod)).contains(&"net1".to_owned()),
            moves
        );
    }
}

#[test]
fn an_add_killed_anywhere_is_undone_by_the_next_add() {
    for way in Way::ALL {
        let (node, pod, config) = way.node();
        kill_at_each(
            &node,
            "ADD",
            |node| {
                let answer = node.call("ADD", "c1", &pod, &config);
                // Killed after everything was done: the attachment lives, though nobody was told.
                assert!(
                    answer.code == Some(0) || answer.error().0 == 11,
                    "{answer:?}"
                );
                node.call("DEL", "c1", &pod, &config).ok();
                way.assert_clean(node);
            },
            &pod,
            &config,
        );
    }
}

#[test]
fn a_del_killed_anywhere_is_finished_by_the_next() {
    for way in Way::ALL {
        let (node, pod, config) = way.node();
        node.call("ADD", "c1", &pod, &config).ok();
        let points = kill_at_each(
            &node,
            "DEL",
            |node| {
                node.call("DEL", "c1", &pod, &config).ok();
                way.assert_clean(node);
                node.call("ADD", "c1", &pod, &config).ok();
            },
            &pod,
            &config,
        );
        // The mark, VF, device-info, port, claim, IPAM, record; and where its alternative names come
        // back.
        let expected = match way {
            Way::Named | Way::Renamed => 8,
            Way::Early | Way::Late => 7,
            Way::Program => 6,
        };
        assert_eq!(points, expected, "{way:?}");
        way.assert_clean(&node);
    }
}

/// A VF that came home by itself, with its own name for a further one.
#[test]
fn a_del_killed_anywhere_leaves_no_vf_without_its_name() {
    let mut node = Node::new();
    let config = node.config(json!({}));
    for point in 1..100 {
        let pod = node.pod();
        node.call("ADD", "c1", &pod, &config).ok();
        end_silently(&node, &pod, "dev7");
        ip(
            &node.host,
            &format!("link property add dev dev7 altname {VF}"),
        );
        node.hide_netdev();
        let answer = node.call_killed_at(point, "DEL", "c1", &pod, &config);
        if answer.code.is_some() {
            answer.ok();
            node.assert_clean();
            // The mark, the VF, its further name, the VF, port, claim, record.
            assert_eq!(point - 1, 7);
            return;
        }
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
        node.show_netdev();
    }
    panic!("DEL never got through");
}

/// Multus sends a DEL once, and a node that falls over none: whatever call comes next, of whatever
/// pod, brings home what a killed one left of a pod that is gone.
#[test]
fn an_add_or_del_killed_anywhere_is_finished_by_any_later_call_without_del() {
    // What works on the interface of a pod that is gone has its own rules.
    let ways = [Way::Early, Way::Named, Way::Renamed, Way::Program];
    let kills = ways.map(|way| [(way, "ADD"), (way, "DEL")]);
    for (way, command) in kills.into_iter().flatten() {
        for point in 1..100 {
            let (node, pod, config) = way.node();
            if command == "DEL" {
                node.call("ADD", "c1", &pod, &config).ok();
            }
            let answer = node.call_killed_at(point, command, "c1", &pod, &config);
            if answer.code.is_some() {
                assert!(point > 5, "{way:?} {command} got through: {answer:?}");
                break;
            }
            // The kernel brings a VF home from a namespace that ends; a veth it would delete.
            for link in Node::links(name_of(&pod)) {
                if link == "net1" || link == VF {
                    let words = [
                        "-n",
                        name_of(&pod),
                        "link",
                        "set",
                        &link,
                        "netns",
                        &node.host,
                    ];
                    run("ip", &words);
                }
            }
            run("ip", &["netns", "del", name_of(&pod)]);
            node.call("DEL", "another", &pod, &node.config(json!({})))
                .ok();
            way.assert_clean(&node);
        }
    }
}
