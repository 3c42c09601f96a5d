//! Ports that outlived their attachments: who has them deleted, and whose must not go.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::harness::{Node, name_of, run};

/// A node whose agent has the port of a container `gone` that ended while the agent was away.
fn with_tombstone() -> (Node, Value) {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "gone", &pod, &config).ok();
    node.agent.stop();
    node.call("DEL", "gone", &pod, &config).ok();
    node.agent.serve();
    assert_eq!(node.state("tombstones").len(), 1);
    (node, config)
}

#[test]
fn an_add_that_fails_has_them_deleted_in_passing() {
    let (mut node, mut config) = with_tombstone();
    let pod = node.pod();
    // Another VF, so that the old port is in nobody's way.
    config["deviceID"] = node.make_vf(1).into();
    let link = ["-n", name_of(&pod), "link", "add", "net1", "type", "bridge"];
    run("ip", &link);
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 100, "{msg}");
    node.assert_clean();
}

#[test]
fn status_has_them_deleted_in_passing_and_check_changes_nothing() {
    let (mut node, config) = with_tombstone();
    let (pod, mut check) = (node.pod(), config.clone());
    check["prevResult"] = json!({"interfaces": [{"name": "net1", "sandbox": pod}]});
    node.call("CHECK", "c1", &pod, &check).error();
    assert_eq!(node.agent.ports().len(), 1);
    node.call("STATUS", "", &pod, &config).ok();
    node.assert_clean();
}

/// Its id is that of the tombstone's, which another address of the same agent kept.
#[test]
fn the_port_of_an_attachment_that_lives_again_stays() {
    let (mut node, config) = with_tombstone();
    let (again, other) = (node.pod(), node.pod());
    let socket = node.root.path().join("other.sock");
    symlink(node.agent.socket(), &socket).unwrap();
    let mut elsewhere = config.clone();
    elsewhere["agent"] = format!("unix://{}", socket.display()).into();
    elsewhere["deviceID"] = node.make_vf(1).into();
    node.call("ADD", "gone", &again, &elsewhere).ok();
    let living = node.agent.only_port().0;
    assert_eq!(node.state("tombstones").len(), 1);

    node.call("ADD", "c2", &other, &config).ok();
    let ports = node.agent.ports();
    assert!(ports.len() == 2 && ports.contains(&living), "{ports:?}");
    node.call("DEL", "gone", &again, &elsewhere).ok();
    node.call("DEL", "c2", &other, &config).ok();
    node.assert_clean();
}

/// Whose record can't be read had a port; who was never attached has none.
#[test]
fn a_record_that_cannot_be_read_leaves_no_port_behind() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    fs::write(node.only_record(), "{").unwrap();
    node.agent.stop();
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("tombstones").len(), 1);
    node.call("DEL", "c9", &pod, &config).ok();
    assert_eq!(node.state("tombstones").len(), 1);

    node.agent.serve();
    node.call("DEL", "c9", &pod, &config).ok();
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
}

/// A runtime tries its pod again with another device: what the first try left on its own goes
/// first.
#[test]
fn a_second_try_with_another_vf_finishes_the_first() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let answer = node.call_killed_at(7, "ADD", "c1", &pod, &config);
    assert!(answer.stderr.contains("killed at moved"), "{answer:?}");
    let mut other = config.clone();
    other["deviceID"] = node.make_vf(1).into();
    node.call("ADD", "c1", &pod, &other).ok();
    let vf1 = node.agent.only_port().1.mac_address;
    assert_eq!(vf1, [2, 0, 0, 1, 0xaf, 6]);
    assert_eq!(node.state("vf"), ["0000:af:06.1"]);
    node.call("DEL", "c1", &pod, &other).ok();
    node.assert_clean();
}

/// The id is the attachment's alone, so a port by it with other content is an earlier attempt's.
#[test]
fn a_port_of_an_earlier_attempt_gives_way() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let (id, spec) = node.agent.only_port();
    node.call("DEL", "c1", &pod, &config).ok();
    let mut earlier = spec.clone();
    earlier.logical_bridges = vec!["logicalBridges/green".to_owned()];
    node.agent.put(&id, Some(earlier));
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(node.agent.only_port(), (id, spec));
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}
