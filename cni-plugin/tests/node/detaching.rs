//! An attachment whose DEL has come is dead, also while its pod's namespace lives: whatever of it
//! that DEL had to leave, any later call finishes, and no pod suffers from it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    harness::{Node, VF, name_of, run},
    verbs::{ipam_fails, of_network},
};

/// The settings by which a VF that came from a pod is told from one that is home.
fn config(node: &Node) -> Value {
    node.config(json!({"ipam": {"type": "fake-ipam"}, "mac": "02:00:00:00:00:07", "mtu": 1400}))
}

/// Moves the interface from one namespace to another, by its name in the pod.
#[track_caller]
fn carry(from: &str, to: &str) {
    run("ip", &["-n", from, "link", "set", "net1", "netns", to]);
}

/// A node on which a DEL found the VF in a namespace of the pod's own making; and the namespaces of
/// the pod and of its making.
fn left_by_del() -> (Node, PathBuf, PathBuf, Value) {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), config(&node));
    node.call("ADD", "c1", &pod, &config).ok();
    carry(name_of(&pod), name_of(&nested));
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("attachments").len(), 1, "the VF isn't home");
    (node, pod, nested, config)
}

/// The nested namespace ends. A real VF is home with it, as the pod had it; a veth would be gone.
fn end(node: &Node, nested: &Path) {
    carry(name_of(nested), &node.host);
}

#[test]
fn a_vf_that_comes_home_after_its_del_is_finished_while_the_pod_lives() {
    let (node, pod, nested, config) = left_by_del();
    // Until it is home there is nothing to finish, and nothing is forgotten; the pod isn't looked
    // into again so soon.
    node.call("DEL", "another", &pod, &config).ok();
    let kept = node.state("attachments");
    assert_eq!((kept.len(), node.state("backoff")), (1, kept));
    end(&node, &nested);
    node.call("DEL", "another", &pod, &config).ok();
    assert_eq!(node.state("attachments").len(), 1);
    let backoff = node.root.path().join("state/backoff");
    std::fs::remove_dir_all(backoff).unwrap();
    node.call("DEL", "another", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn a_vf_that_comes_home_after_its_del_is_its_next_owners_while_the_pod_lives() {
    let (mut node, _pod, nested, config) = left_by_del();
    let other = node.pod();
    end(&node, &nested);
    node.call("ADD", "c2", &other, &config).ok();
    node.call("DEL", "c2", &other, &config).ok();
    node.assert_clean();
}

#[test]
fn an_attachment_whose_del_has_come_can_be_made_anew() {
    let (node, pod, nested, config) = left_by_del();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("has not come home yet"), "{msg}");
    end(&node, &nested);
    node.call("ADD", "c1", &pod, &config).ok();
    assert_ne!(Node::link(name_of(&pod), "net1"), Value::Null);
    // It is a living one again.
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("attached already"), "{msg}");
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn no_pod_suffers_whose_del_has_come() {
    let (node, _pod, _nested, config) = left_by_del();
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    of_network(&node, "STATUS", &config).ok();
}

/// The agent was away then; the VF may stay where it is for as long as the pod lives.
#[test]
fn the_port_of_a_pod_whose_del_has_come_goes_before_its_vf_is_home() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), config(&node));
    node.call("ADD", "c1", &pod, &config).ok();
    carry(name_of(&pod), name_of(&nested));
    node.agent.stop();
    node.call("DEL", "c1", &pod, &config).ok();
    node.agent.serve();
    assert_eq!(node.state("tombstones").len(), 1);
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "another", &pod, &config).ok();
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    assert_eq!(node.state("attachments").len(), 1, "the VF isn't home");
    end(&node, &nested);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// The IPAM plugin failed, and the runtime didn't try again.
#[test]
fn addresses_that_a_del_could_not_give_back_go_with_a_later_call_while_the_pod_lives() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), config(&node));
    node.call("ADD", "c1", &pod, &config).ok();
    ipam_fails(&node, "DEL", 99, "the store is read-only");
    assert_eq!(node.call("DEL", "c1", &pod, &config).error().0, 99);
    std::fs::remove_file(node.root.path().join("ipam.error.DEL")).unwrap();
    node.call("DEL", "another", &pod, &node.config(json!({})))
        .ok();
    node.assert_clean();
}

/// Multus sends a DEL once: one that is killed is finished by whatever call comes next, though the
/// pod's namespace, and maybe the VF in it, are there.
#[test]
fn a_del_killed_anywhere_is_finished_by_any_later_call_while_the_pod_lives() {
    for point in 1..100 {
        let mut node = Node::new();
        let (pod, config) = (node.pod(), config(&node));
        node.call("ADD", "c1", &pod, &config).ok();
        let answer = node.call_killed_at(point, "DEL", "c1", &pod, &config);
        if answer.code.is_some() {
            assert!(point > 5, "DEL got through: {answer:?}");
            return node.assert_clean();
        }
        of_network(&node, "STATUS", &config).ok();
        node.call("DEL", "another", &pod, &node.config(json!({})))
            .ok();
        if point > 1 {
            node.assert_clean();
            continue;
        }
        // It had not begun: the attachment lives.
        assert_eq!(Node::link(&node.host, VF), Value::Null);
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}
