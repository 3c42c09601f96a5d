//! What a pod's owner can do to the interface, which is root's in the pod: nothing of it stays with
//! the VF, and none of it keeps the VF in the pod.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{Node, PCI, VF, end_silently, flags, ip, name_of, run};

/// What a pod does to an interface whose frames it wants the next pod to lose, or to see.
fn spoil(pod: &Path) {
    let line = "link set net1 arp off multicast off promisc on allmulticast on trailers off \
                txqueuelen 77 group 9 broadcast 02:00:00:00:00:66 mode dormant";
    ip(pod, line);
}

/// What every Ethernet device is told from: the address of its broadcasts, and whether it waits for
/// somebody's word before it is operational.
fn manners(link: &Value) -> [&Value; 2] {
    [&link["broadcast"], &link["link_mode"]]
}

#[test]
fn flags_queue_and_group_of_the_pods_go_with_the_pod() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(json!({})));
    let had = Node::link(&node.host, VF);
    node.call("ADD", "c1", &old, &config).ok();
    spoil(&old);
    node.call("DEL", "c1", &old, &config).ok();
    node.assert_clean();
    let has = Node::link(&node.host, VF);
    for key in ["flags", "txqlen", "group"] {
        assert_eq!(has[key], had[key], "{key}");
    }
    assert_eq!(manners(&has), manners(&had));
    // The same where the kernel brought it home: it puts nothing back.
    node.call("ADD", "c1", &old, &config).ok();
    spoil(&old);
    end_silently(&node, &old, VF);
    node.call("DEL", "c1", &old, &config).ok();
    node.assert_clean();
    let has = Node::link(&node.host, VF);
    for key in ["flags", "txqlen"] {
        assert_eq!(has[key], had[key], "{key}");
    }
    assert_eq!(manners(&has), manners(&had));
    node.call("ADD", "c2", &new, &config).ok();
    let net1 = Node::link(name_of(&new), "net1");
    assert_eq!(flags(&net1), ["BROADCAST", "MULTICAST", "UP"], "{net1}");
    assert_eq!(manners(&net1), manners(&had));
    node.call("DEL", "c2", &new, &config).ok();
    node.assert_clean();
}

/// A VLAN or a macvlan does not follow its lower device to another namespace, but goes on hearing
/// and sending by it: the next pod's frames.
#[test]
fn what_stands_on_the_interface_does_not_stay_on_the_vf() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &old, &config).ok();
    ip(
        name_of(&old),
        "link add spy link net1 type macvlan mode passthru",
    );
    ip(&old, "link set spy up");
    ip(&old, "link add own type bridge");
    ip(&old, "link add above link own type macvlan");
    let had = |name| Node::links(name_of(&old)).contains(&name);
    node.call("DEL", "c1", &old, &config).ok();
    node.assert_clean();
    assert!(!had("spy".to_owned()));
    // What the pod has beside the VF is its own.
    for name in ["own", "above"] {
        assert!(had(name.to_owned()), "{name}");
    }
    node.call("ADD", "c2", &new, &config).ok();
    let net1 = Node::link(name_of(&new), "net1");
    assert_eq!(net1["promiscuity"], 0, "{net1}");
    node.call("DEL", "c2", &new, &config).ok();
    node.assert_clean();
}

/// A process that still lives in the pod can be quicker than the messages that free the VF and move it.
#[test]
fn what_is_put_on_the_interface_meanwhile_does_not_stay_either() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let line = format!(
        "look -n {} link add spy link net1 type macvlan",
        name_of(&pod)
    );
    let env = [("XPU_TESTBED_AFTER", line.as_str())];
    let answer = node.call_with("DEL", "c1", &pod, &config.to_string(), &env);
    answer.ok();
    assert!(answer.stderr.contains("unix_wait_status(0)"), "{answer:?}");
    assert_eq!(Node::links(name_of(&pod)), ["lo"]);
    node.assert_clean();
}

/// What is put on a macvlan stands on its lower device, wherever that is by then.
#[test]
fn a_pod_that_puts_devices_on_its_vf_without_end_can_end() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    ip(&pod, "link add one link net1 type macvlan");
    let file = node.root.path().join("batch");
    let lines = "link add two link one type macvlan\nlink add one link two type macvlan\n";
    std::fs::write(&file, lines).unwrap();
    let line = format!("look -force -n {} -b {}", name_of(&pod), file.display());
    let env = [("XPU_TESTBED_AFTER", line.as_str())];
    let answer = node.call_with("DEL", "c1", &pod, &config.to_string(), &env);
    answer.ok();
    assert_eq!(node.state("attachments").len(), 1, "{answer:?}");
    assert!(
        answer.stderr.contains("as often as they are deleted"),
        "{answer:?}"
    );
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::links(name_of(&pod)), ["lo"]);
    node.assert_clean();
}

/// A host may capture what a VF hears; that is nothing for a pod, and the host's again afterwards.
#[test]
fn flags_queue_and_group_of_the_hosts_come_back() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    ip(
        &node.host,
        "link set vf0 promisc on arp off multicast off txqueuelen 55 group 5",
    );
    let class = node.root.path().join("sys/class/net").join(VF);
    std::fs::write(class.join("netdev_group"), "5\n").unwrap();
    let had = Node::link(&node.host, VF);
    node.call("ADD", "c1", &pod, &config).ok();
    let net1 = Node::link(name_of(&pod), "net1");
    assert_eq!(flags(&net1), ["BROADCAST", "MULTICAST", "UP"], "{net1}");
    spoil(&pod);
    node.call("DEL", "c1", &pod, &config).ok();
    let has = Node::link(&node.host, VF);
    assert_eq!(flags(&has), ["BROADCAST", "NOARP", "PROMISC"], "{has}");
    for key in ["flags", "txqlen", "group"] {
        assert_eq!(has[key], had[key], "{key}");
    }
}

/// A bond gives its member back what it found, when the member leaves it for another namespace: a
/// MAC and an MTU of the pod's choice. Here `ip` does so at that moment.
#[test]
fn what_is_written_at_the_move_home_is_not_what_stays() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let line = format!(
        "move -n {} link set {VF} address 02:00:00:00:00:66 mtu 1400",
        node.host
    );
    let env = [("XPU_TESTBED_AFTER", line.as_str())];
    let answer = node.call_with("DEL", "c1", &pod, &config.to_string(), &env);
    answer.ok();
    assert!(answer.stderr.contains("unix_wait_status(0)"), "{answer:?}");
    node.assert_clean();
}

/// The kernel stops at the first name of a list that it doesn't find.
#[test]
fn no_name_of_the_pods_comes_home_whatever_its_bytes() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    ip(&node.host, "link property add dev vf0 altname rack7");
    node.call("ADD", "c1", &pod, &config).ok();
    for name in [&b"\xff\xfe"[..], b"evil", b"caf\xe9", b"evil-too"] {
        let words = [
            b"link",
            &b"property"[..],
            b"add",
            b"dev",
            b"net1",
            b"altname",
            name,
        ];
        let words = words.map(OsStr::from_bytes);
        let ip = Command::new("ip")
            .arg("-n")
            .arg(name_of(&pod))
            .args(words)
            .status();
        assert!(ip.unwrap().success());
    }
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["altnames"], json!(["rack7"]));
    ip(&node.host, "link property del dev vf0 altname rack7");
    node.assert_clean();
}

/// As many as the kernel lets a device have; a socket has no room for that many answers.
#[test]
fn hundreds_of_names_keep_no_vf() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let batch: String = (0..490)
        .map(|number| format!("link property add dev net1 altname a{number}\n"))
        .collect();
    let file = node.root.path().join("batch");
    std::fs::write(&file, batch).unwrap();
    run("ip", &["-n", name_of(&pod), "-b", file.to_str().unwrap()]);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Who puts a name back as often as it is taken keeps the VF, but no other call of the node.
#[test]
fn a_pod_that_never_lets_go_costs_a_moment() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    // Which names the VF had is not known, so they are taken only where they are in the way.
    node.rewrite_record(|text| {
        let without = text.replace("\"alt_names\":[],", "");
        assert_ne!(text, without);
        without
    });
    ip(&pod, "link property add dev net1 altname wire0");
    let again = format!(
        "names -n {} link property add dev net1 altname wire0",
        name_of(&pod)
    );
    let env = [
        ("XPU_TESTBED_AFTER", again.as_str()),
        ("XPU_TESTBED_KILL_AFTER_US", "15000000"),
    ];
    let answer = node.call_with("DEL", "c1", &pod, &config.to_string(), &env);
    answer.ok();
    assert_eq!(node.state("attachments").len(), 1, "the VF isn't home");
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// A name like those that a VF gets whose own is taken is not yet one of the host's.
#[test]
fn a_name_of_the_pods_is_never_a_fallback() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    node.hide_netdev();
    for taken in [VF, "xvf7"] {
        ip(&node.host, &format!("link add {taken} type bridge"));
    }
    ip(&pod, "link set net1 down");
    ip(&pod, "link set net1 name xvf7");
    node.call("DEL", "c1", &pod, &config).ok();
    let home = run("ip", &["-n", &node.host, "-j", "-d", "link", "show"]);
    let home: Vec<Value> = serde_json::from_str(&home).unwrap();
    let vf = home.iter().find(|link| link["ifalias"] == PCI).unwrap();
    let name = vf["ifname"].as_str().unwrap();
    assert!(name.starts_with("xvf") && name != "xvf7", "{vf}");
}
