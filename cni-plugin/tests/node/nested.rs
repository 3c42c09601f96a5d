//! A pod that may make namespaces puts what stands on its VF into one of its own, where a list of
//! the pod's links does not show it, and hears the next pod's frames by it.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{MAC, Node, VF, come_home, end_silently, ip, name_of, run};

fn has(netns: &Path, name: &str) -> bool {
    Node::links(name_of(netns)).contains(&name.to_owned())
}

/// A pod's own network beside the VF: a pair whose other end is the host's, by which the pod's
/// namespace knows the host's.
fn primary(node: &Node, pod: &Path) {
    let line = format!("link add eth0 type veth peer name up0 netns {}", node.host);
    ip(pod, &line);
}

#[test]
fn what_stands_on_the_interface_from_a_nested_namespace_does_not_stay() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    primary(&node, &pod);
    for (mode, spies) in [("passthru", 1), ("bridge", 2)] {
        let spies = Vec::from_iter((0..spies).map(|number| format!("spy{number}")));
        node.call("ADD", "c1", &pod, &config).ok();
        for spy in &spies {
            ip(
                &pod,
                &format!("link add {spy} link net1 type macvlan mode {mode}"),
            );
            ip(&pod, &format!("link set {spy} netns {}", name_of(&nested)));
            ip(&nested, &format!("link set {spy} up"));
        }
        let answer = node.call("DEL", "c1", &pod, &config);
        answer.ok();
        assert!(!answer.stderr.contains("Warn"), "{answer:?}");
        assert_eq!(Node::links(name_of(&nested)), ["lo"], "{mode}");
        node.assert_clean();
    }
    assert!(has(&pod, "eth0"));
}

/// An index is one of its namespace.
#[test]
fn what_a_nested_namespace_has_beside_the_vf_is_its_own() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    primary(&node, &pod);
    node.call("ADD", "c1", &pod, &config).ok();
    let index = Node::link(name_of(&pod), "net1")["ifindex"].clone();
    ip(&nested, &format!("link add own index {index} type bridge"));
    ip(&nested, "link add above link own type macvlan");
    ip(&pod, "link add other type bridge");
    // A namespace that knows the pod's only because something came back from there.
    ip(&pod, "link add guest type veth peer name guest1");
    ip(&pod, &format!("link set guest netns {}", name_of(&nested)));
    ip(&nested, &format!("link set guest netns {}", name_of(&pod)));
    for (lower, upper) in [("other", "kept"), ("net1", "spy")] {
        ip(&pod, &format!("link add {upper} link {lower} type macvlan"));
        ip(
            &pod,
            &format!("link set {upper} netns {}", name_of(&nested)),
        );
    }
    let above = Node::link(name_of(&nested), "above");
    assert_eq!(above["link"], "own", "{above}");
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    assert!(!answer.stderr.contains("Warn"), "{answer:?}");
    node.assert_clean();
    assert!(!has(&nested, "spy"));
    for name in ["own", "above", "kept"] {
        assert!(has(&nested, name), "{name}");
    }
    assert!(has(&pod, "eth0") && has(&pod, "other"));
    assert_ne!(Node::link(&node.host, "up0"), Value::Null);
}

/// A pod knows the namespaces that it gave something to, and no further ones.
#[test]
fn a_namespace_that_cannot_be_looked_into_is_told() {
    let mut node = Node::new();
    let (pod, nested, deeper) = (node.pod(), node.pod(), node.pod());
    let config = node.config(json!({}));
    primary(&node, &pod);
    node.call("ADD", "c1", &pod, &config).ok();
    ip(&pod, "link add spy link net1 type macvlan");
    ip(&pod, &format!("link set spy netns {}", name_of(&nested)));
    ip(&nested, &format!("link set spy netns {}", name_of(&deeper)));
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    let told = answer.stderr.matches("can't be looked into").count();
    assert_eq!(told, 1, "{answer:?}");
    assert!(has(&deeper, "spy"));
    assert_eq!(Node::link(&node.host, VF)["operstate"], "DOWN");
    node.assert_clean();
}

/// The VF comes home by itself where the pod has put it into a namespace that ends, and what stands
/// on it stays where it is.
#[test]
fn what_a_vf_has_left_behind_in_a_living_pod_goes() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    primary(&node, &pod);
    node.call("ADD", "c1", &pod, &config).ok();
    for spy in ["here", "there"] {
        ip(&pod, &format!("link add {spy} link net1 type macvlan"));
    }
    ip(&pod, "link add own type bridge");
    ip(&pod, "link add above link own type macvlan");
    ip(&pod, &format!("link set there netns {}", name_of(&nested)));
    come_home(&node, &pod, VF);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
    assert!(!has(&pod, "here") && !has(&nested, "there"));
    for name in ["eth0", "own", "above"] {
        assert!(has(&pod, name), "{name}");
    }
    assert_ne!(Node::link(&node.host, "up0"), Value::Null);
}

/// What one call does not come to is left to the next ones, and the VF waits for it.
#[test]
fn more_devices_than_one_call_deletes_cost_further_calls() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let line = |number| {
        let add = format!("link add spy{number} link net1 type macvlan");
        format!("{add}\nlink set spy{number} netns {}\n", name_of(&nested))
    };
    let file = node.root.path().join("batch");
    std::fs::write(&file, (1..=100).map(line).collect::<String>()).unwrap();
    run("ip", &["-n", name_of(&pod), "-b", file.to_str().unwrap()]);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("attachments").len(), 1, "the VF isn't home");
    assert!(has(&pod, "net1"));
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::links(name_of(&nested)), ["lo"]);
    node.assert_clean();
}

/// A macvlan of mode `passthru` sets its lower device's MAC, and gives that one its own back at its
/// end.
#[test]
fn a_mac_that_a_device_gives_back_does_not_stay() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    ip(&pod, "link set net1 address 02:00:00:00:00:66");
    ip(&pod, "link add spy link net1 type macvlan mode passthru");
    ip(&pod, &format!("link set spy netns {}", name_of(&nested)));
    come_home(&node, &pod, VF);
    ip(&nested, &format!("link set spy address {MAC}"));
    node.call("DEL", "c1", &pod, &config).ok();
    assert!(!has(&nested, "spy"));
    node.assert_clean();
}

/// What was made in a namespace at once is known to nobody; nor is anything, once the pod's
/// namespace is gone. One that hears all is told.
#[test]
fn a_device_that_cannot_be_found_is_told_where_it_hears_all() {
    let mut node = Node::new();
    let (nested, config) = (node.pod(), node.config(json!({})));
    for ends_first in [false, true] {
        let pod = node.pod();
        node.call("ADD", "c1", &pod, &config).ok();
        // The pod itself does as well, which ends with it.
        ip(&pod, "link set net1 promisc on");
        let spy = format!(
            "link add spy netns {} link net1 type macvlan",
            name_of(&nested)
        );
        ip(&pod, &format!("{spy} mode passthru"));
        ip(&nested, "link set spy up");
        if ends_first {
            end_silently(&node, &pod, VF);
        }
        let answer = node.call("DEL", "c1", &pod, &config);
        answer.ok();
        let told = answer.stderr.matches("kept promiscuous").count();
        assert_eq!(told, 1, "{answer:?}");
        node.assert_clean();
        ip(&nested, "link del spy");
    }
}
