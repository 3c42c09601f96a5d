//! A VF that comes up with another MAC than it had at home: its PF was told that one after the
//! VF's driver had read the first.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Answer, KILL_AT, MAC, Node, name_of, run};

/// What the PF gives the VF at its next reset.
const BY_PF: &str = "02:00:00:00:0f:0f";

/// A call, in which the VF comes up in the pod with the MAC that its PF gives it, and takes no
/// other.
fn call(node: &Node, command: &str, pod: &Path, config: &Value, kill_at: u32) -> Answer {
    let line = format!("move -n {} link set net1 address {BY_PF}", name_of(pod));
    let kill_at = kill_at.to_string();
    let env = [
        ("XPU_TESTBED_AFTER", line.as_str()),
        ("XPU_TESTBED_KEEPS_MAC", "yes"),
        (KILL_AT, kill_at.as_str()),
    ];
    node.call_with(command, "c1", pod, &config.to_string(), &env)
}

fn octets(mac: &str) -> Vec<u8> {
    let octets = mac.split(':');
    octets
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect()
}

#[test]
fn where_no_mac_is_asked_for_port_and_result_have_that_of_the_vf() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({"ipam": {"type": "fake-ipam"}}));
    let result = call(&node, "ADD", &pod, &config, 0).ok();
    assert_eq!(result["interfaces"][0]["mac"], BY_PF);
    assert_eq!(Node::link(name_of(&pod), "net1")["address"], BY_PF);
    assert_eq!(node.agent.only_port().1.mac_address, octets(BY_PF));
    let mut checked = config.clone();
    checked["prevResult"] = result;
    node.call("CHECK", "c1", &pod, &checked).ok();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// As in every other ADD.
#[test]
fn an_add_killed_while_the_port_takes_the_vfs_mac_is_undone() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for point in 1..100 {
        let answer = call(&node, "ADD", &pod, &config, point);
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
        if answer.code.is_some() {
            // The record, the claim, three steps twice, the MAC that is refused, the move's end, and
            // the port once more, twice.
            assert_eq!(point - 1, 12, "{answer:?}");
            return;
        }
    }
}

/// The record knows by then what the VF was called at home.
#[test]
fn what_the_pod_calls_the_vf_goes_also_after_such_a_kill() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let answer = call(&node, "ADD", &pod, &config, 10);
    assert!(answer.stderr.contains("killed at port"), "{answer:?}");
    let add = ["link", "property", "add", "dev", "net1", "altname", "eth0"];
    run("ip", &[&["-n", name_of(&pod)], &add[..]].concat());
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Its own key is told then, and no key that the network doesn't have otherwise.
#[test]
fn a_mac_that_is_asked_for_and_refused_is_an_error_of_that_key() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({"mac": "02:00:00:00:00:07"}));
    let (code, msg) = call(&node, "ADD", &pod, &config, 0).error();
    assert_eq!(code, 2, "{msg}");
    assert!(msg.starts_with("`mac`: 02:00:00:00:00:07"), "{msg}");
    node.assert_clean();
}

/// A driver that takes every MAC gets the one back that the VF had at home, whoever gave it another.
#[test]
fn a_vf_that_can_be_told_keeps_its_own() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let line = format!("move -n {} link set net1 address {BY_PF}", name_of(&pod));
    let env = [("XPU_TESTBED_AFTER", line.as_str())];
    let added = node.call_with("ADD", "c1", &pod, &config.to_string(), &env);
    assert_eq!(added.ok()["interfaces"][0]["mac"], MAC);
    assert_eq!(Node::link(name_of(&pod), "net1")["address"], MAC);
    assert_eq!(node.agent.only_port().1.mac_address, octets(MAC));
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}
