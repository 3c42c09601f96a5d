//! VFs of userspace drivers: a program in the pod has them, and the kernel no netdev.

use serde_json::{Value, json};

use crate::{
    harness::{MAC, Node, PCI, name_of, run},
    verbs::{ipam, of_network, with},
};

/// Lists the VF's MAC in the host's file.
pub fn list_mac(node: &Node, mac: &str) {
    let path = |name: &str| node.root.path().join(name);
    std::fs::write(path("macs"), json!({ PCI: mac }).to_string()).unwrap();
    let host = json!({"pci_to_mac_path": path("macs")});
    std::fs::write(path("host.conf"), host.to_string()).unwrap();
}

/// Whoever ends it, DEL, GC or the sweep: there is no netdev to look for, and nothing is left.
#[test]
fn a_programs_vf_has_its_mac_from_the_hosts_file_and_leaves_nothing() {
    let mac = "02:00:00:00:00:07";
    let mut node = Node::new();
    let (pod, other) = (node.pod(), node.pod());
    node.give_to_a_program();
    list_mac(&node, mac);
    let config = node.config(ipam());
    let add = || {
        let answer = node.call("ADD", "c1", &pod, &config).ok();
        let interface = json!({"name": "net1", "mac": mac, "sandbox": pod, "pciID": PCI});
        assert_eq!(answer["interfaces"], json!([interface]));
        assert_eq!(answer["ips"][0]["address"], "10.1.2.3/24");
        assert_eq!(node.agent.only_port().1.mac_address, [2, 0, 0, 0, 0, 7]);
        assert_eq!(Node::links(name_of(&pod)), ["lo"]);
    };
    add();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
    add();
    let gc = |list: Value| {
        of_network(
            &node,
            "GC",
            &with(&config, "cni.dev/valid-attachments", &list),
        )
        .ok()
    };
    gc(json!([{"containerID": "c1", "ifname": "net1"}]));
    assert_eq!(node.agent.ports().len(), 1);
    gc(json!([]));
    node.assert_clean();
    add();
    node.call("DEL", "c2", &other, &config).ok();
    assert_eq!(node.agent.ports().len(), 1, "its pod lives");
    run("ip", &["netns", "del", name_of(&pod)]);
    node.call("DEL", "c2", &other, &config).ok();
    node.assert_clean();
}

/// A default for all networks of the host is for those that can have it.
#[test]
fn an_mtu_of_the_hosts_is_not_for_a_programs_vf_and_one_of_the_networks_is_refused() {
    let mut node = Node::new();
    let pod = node.pod();
    node.give_to_a_program();
    list_mac(&node, MAC);
    let path = node.root.path().join("host.conf");
    let mut host: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    host["mtu"] = 9000.into();
    std::fs::write(&path, host.to_string()).unwrap();
    let config = node.config(json!({}));
    let added = node.call("ADD", "c1", &pod, &config);
    added.ok();
    assert!(added.stderr.contains("`mtu`"), "{added:?}");
    node.call("DEL", "c1", &pod, &config).ok();
    let (code, msg) = node
        .call("ADD", "c1", &pod, &with(&config, "mtu", &1400.into()))
        .error();
    assert_eq!(code, 7, "{msg}");
    assert!(msg.starts_with("`mtu`"), "{msg}");
}

/// A program's VF can be told an address by its PF alone.
#[test]
fn a_mac_that_nobody_can_give_is_refused_and_not_dropped() {
    let mut node = Node::new();
    let pod = node.pod();
    node.give_to_a_program();
    let config = node.config(json!({"mac": "02:00:00:00:00:07"}));
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 2, "{msg}");
    assert!(msg.starts_with("`mac`"), "{msg}");
    assert!(msg.contains("02:00:00:00:00:07"), "{msg}");
    let config = node.config(json!({"ipam": {"type": "dhcp"}}));
    node.make_dhcp();
    list_mac(&node, MAC);
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!((code, msg.starts_with("`ipam.type`")), (7, true), "{msg}");
    node.assert_clean();
}
