//! The node's turn at RTNL: whoever is at the kernel has it, and nobody has it who waits for the
//! agent or for an IPAM that asks a server.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};
use xpu_cni::{
    journal::Journal,
    lock::{About, Lock, LockError, lock},
};

use crate::{
    harness::{Answer, Node, VF, name_of},
    pipe,
    verbs::ipam,
};

/// The node's turn, as another call of the plugin takes it, if nobody has it now.
fn turn(node: &Node) -> Result<Lock, LockError> {
    let journal = Journal::open(&node.root.path().join("state")).unwrap();
    lock(&journal.turn_lock(), Instant::now())
}

#[track_caller]
fn assert_taken(node: &Node) {
    let told = turn(node);
    assert!(
        matches!(told, Err(LockError::Held(About::Turn))),
        "{told:?}"
    );
}

/// A call during which something is looked at: right after it has sent a request of the kind.
#[track_caller]
fn stopped_after(
    node: &Node,
    kind: &str,
    command: &str,
    (pod, config): (&Path, &Value),
    look: impl FnOnce() + Send,
) -> Answer {
    let waiter = pipe::make_waiter(node);
    let after = format!("{kind} netns exec {} {waiter}", node.host);
    let env = [("XPU_TESTBED_AFTER", after.as_str())];
    let call = || node.call_with(command, "c1", pod, &config.to_string(), &env);
    pipe::stopped_at(&node.root.path().join("pipe"), call, |_end| look())
}

/// An IPAM plugin that is stopped, once, before it does as the other one.
fn make_stopped_ipam(node: &Node, name: &str) -> PathBuf {
    node.precede_plugin(name, &pipe::make_waiter(node));
    node.root.path().join("pipe")
}

#[test]
fn an_add_has_the_nodes_turn_from_the_move_until_the_addresses() {
    for (kind, late) in [
        ("move", false),
        ("address", false),
        ("move", true),
        ("address", true),
    ] {
        let mut node = Node::new();
        node.make_dhcp();
        let network = if late {
            json!({"ipam": {"type": "dhcp"}})
        } else {
            ipam()
        };
        let (pod, config) = (node.pod(), node.config(network));
        let answer = stopped_after(&node, kind, "ADD", (&pod, &config), || {
            assert_ne!(Node::link(name_of(&pod), "net1"), Value::Null);
            assert_taken(&node);
        });
        answer.ok();
        assert!(turn(&node).is_ok(), "{kind}: it goes with the call");
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

#[test]
fn a_del_has_the_nodes_turn_at_the_move_home() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let answer = stopped_after(&node, "move", "DEL", (&pod, &config), || {
        assert_ne!(Node::link(&node.host, VF), Value::Null);
        assert_taken(&node);
    });
    answer.ok();
    node.assert_clean();
}

/// However many stand in line for the kernel, the agent works on their ports, and IPAM on their
/// addresses.
#[test]
fn agent_and_ipam_are_asked_while_the_turn_is_anothers() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    let pipe = make_stopped_ipam(&node, "fake-ipam");
    let held = turn(&node).unwrap();
    let call = || node.call("ADD", "c1", &pod, &config);
    let answer = pipe::stopped_at(&pipe, call, |_end| {
        assert_eq!(node.agent.ports().len(), 1);
        assert_ne!(Node::link(&node.host, VF), Value::Null);
        drop(held);
    });
    answer.ok();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn nobody_has_the_turn_who_waits_for_ipam_or_for_the_agent() {
    for name in ["fake-ipam", "dhcp"] {
        let mut node = Node::new();
        node.make_dhcp();
        let (pod, config) = (node.pod(), node.config(json!({"ipam": {"type": name}})));
        let pipe = make_stopped_ipam(&node, name);
        let call = || node.call("ADD", "c1", &pod, &config);
        let answer = pipe::stopped_at(&pipe, call, |_end| {
            assert!(turn(&node).is_ok(), "{name}");
        });
        answer.ok();
        let held = node.agent.hold();
        std::thread::scope(|scope| {
            let del = scope.spawn(|| node.call("DEL", "c1", &pod, &config));
            held.entered.recv().unwrap();
            assert!(turn(&node).is_ok(), "{name}");
            held.release();
            del.join().unwrap().ok();
        });
        node.assert_clean();
    }
}
