//! What goes wrong: failing steps, an agent that is away, processes that are killed,
//! two attachments that want one VF.

use crate::{
    agent::Mood,
    harness::{MAC, Node, PCI, VF, end_silently, name_of, run},
    records::{of_earlier_boot, torn},
};
use serde_json::{Value, json};

fn ipam() -> Value {
    json!({"ipam": {"type": "fake-ipam"}})
}

#[test]
fn a_port_that_stays_down_is_error_11_with_the_components_words_first() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    node.agent
        .set_mood(Mood::Down(r#"{"reason":"netdev `p0` is missing"}"#));
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 11);
    assert!(msg.starts_with("linux: netdev `p0` is missing"), "{msg}");
    node.assert_clean();
    assert!(node.ipam_log().is_empty());
}

#[test]
fn a_refusal_of_the_agent_is_told_and_leaves_nothing() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    node.agent
        .set_mood(Mood::Refusing("logicalBridges/blue does not exist"));
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 101);
    assert!(
        msg.starts_with("logicalBridges/blue does not exist"),
        "{msg}"
    );
    node.assert_clean();
}

#[test]
fn ipams_error_is_passed_on_and_the_port_goes() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    let full = json!({"cniVersion": "1.1.0", "code": 110, "msg": "the range is full"});
    std::fs::write(node.root.path().join("ipam.error"), full.to_string()).unwrap();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 110);
    assert!(msg.starts_with("the range is full"), "{msg}");
    node.assert_clean();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
}

#[test]
fn a_kernel_refusal_after_the_move_brings_everything_back() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    node.ipam_gives(&json!({
        "ips": [{"address": "10.1.2.3/24"}, {"address": "10.1.2.3/24"}], "routes": [],
    }));
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 102);
    assert!(msg.starts_with("add 10.1.2.3/24 to net1"), "{msg}");
    node.assert_clean();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
}

#[test]
fn an_interface_that_the_pod_has_already_is_not_replaced() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    run(
        "ip",
        &["-n", name_of(&pod), "link", "add", "net1", "type", "bridge"],
    );
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 100);
    assert!(msg.contains("net1"), "{msg}");
    node.assert_clean();
    assert_eq!(
        Node::link(name_of(&pod), "net1")["linkinfo"]["info_kind"],
        "bridge"
    );
}

#[test]
fn without_an_agent_an_add_fails_at_once_and_a_del_leaves_a_tombstone() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let port = node.agent.only_port().0;

    node.agent.stop();
    node.call("DEL", "c1", &pod, &config).ok();
    assert_ne!(
        Node::link(&node.host, VF),
        Value::Null,
        "the VF goes home all the same"
    );
    assert_eq!(node.state("tombstones").len(), 1);
    assert_eq!(node.state("attachments"), Vec::<String>::new());
    let start = std::time::Instant::now();
    let answer = node.call("ADD", "c2", &pod, &config);
    let (code, msg) = answer.error();
    assert!(
        start.elapsed().as_millis() < 1000,
        "at once: {:?}",
        start.elapsed()
    );
    assert_eq!(code, 11);
    assert!(msg.contains("can't be reached"), "{msg}");
    let step = "`systemctl status xpu-agent`";
    let details = answer.json()["details"].to_string();
    assert!(details.contains(step), "{details}");
    assert!(answer.stderr.contains(step), "{answer:?}");
    assert_eq!(node.agent.ports(), std::slice::from_ref(&port));

    // The new attachment's MAC is that of the old port, which therefore goes first.
    node.agent.serve();
    node.call("ADD", "c2", &pod, &config).ok();
    assert_ne!(node.agent.only_port().0, port);
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    node.call("DEL", "c2", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn a_del_drains_what_others_left() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    node.agent.stop();
    node.call("DEL", "c1", &pod, &config).ok();
    node.agent.serve();
    node.call("DEL", "c9", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn a_del_needs_neither_its_configuration_nor_the_vf() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    node.call("ADD", "c1", &pod, &config).ok();
    // The VFs were made anew meanwhile; the configuration was changed to nonsense.
    run("ip", &["-n", name_of(&pod), "link", "del", "net1"]);
    let sysfs = node.root.path().join("sys/bus/pci/devices").join(PCI);
    std::fs::remove_dir_all(sysfs).unwrap();
    let nonsense = json!({"cniVersion": "1.1.0", "agent": 7, "ipam": 7});
    node.call("DEL", "c1", &pod, &nonsense).ok();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

#[test]
fn a_record_of_an_earlier_boot_costs_port_and_addresses_but_no_device() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    node.call("ADD", "c1", &pod, &config).ok();
    node.rewrite_record(|text| torn(&of_earlier_boot(text)));
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_ne!(
        Node::link(name_of(&pod), "net1"),
        Value::Null,
        "not this attachment's any more"
    );
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

#[test]
fn a_vf_has_one_owner_and_a_late_del_takes_nothing_from_the_next() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &old, &config).ok();
    let (code, msg) = node.call("ADD", "c2", &new, &config).error();
    assert_eq!(code, 11);
    assert!(msg.contains("c1"), "{msg}");
    let (code, _) = node.call("ADD", "c1", &old, &config).error();
    assert_eq!(
        code, 11,
        "the same ADD again must not tear a living attachment down"
    );

    node.call("DEL", "c1", &old, &config).ok();
    node.call("ADD", "c2", &new, &config).ok();
    node.call("DEL", "c1", &old, &config).ok();
    assert_ne!(Node::link(name_of(&new), "net1"), Value::Null);
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c2", &new, &config).ok();
    node.assert_clean();
}

#[test]
fn two_adds_at_once_on_one_vf_give_one_winner() {
    let mut node = Node::new();
    let (one, two, config) = (node.pod(), node.pod(), node.config(ipam()));
    let codes: Vec<_> = std::thread::scope(|scope| {
        let calls = [("c1", &one), ("c2", &two)].map(|(container, pod)| {
            let (node, config) = (&node, &config);
            scope.spawn(move || node.call("ADD", container, pod, config))
        });
        calls.map(|call| call.join().unwrap()).into_iter().collect()
    });
    let winners = codes.iter().filter(|answer| answer.code == Some(0)).count();
    assert_eq!(winners, 1, "{codes:?}");
    let loser = codes.iter().find(|answer| answer.code != Some(0)).unwrap();
    assert_eq!(loser.error().0, 11);
    for (container, pod) in [("c1", &one), ("c2", &two)] {
        node.call("DEL", container, pod, &config).ok();
    }
    node.assert_clean();
}

/// A VF goes to nobody with what the last pod was allowed: what its PF can't be told now, the next
/// call tells it.
#[test]
fn settings_that_cannot_be_put_back_now_keep_the_vf_from_its_next_owner() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(ipam()));
    node.call("ADD", "c1", &old, &config).ok();
    // As if a PF had taken a setting. A veth is none: it is asked to no avail, which is final.
    node.rewrite_record(|text| {
        let (first, steps) = text.split_once('\n').unwrap();
        let mut first: Value = serde_json::from_str(first).unwrap();
        first["vf"]["pf"] = json!({"netdev": "wire0", "vf": 0, "changes": [
            {"key": "trust", "set": {"trust": true}, "back": {"trust": false}}]});
        format!("{first}\n{steps}{}\n", json!({"step": "pf"}))
    });
    // A PF that can't even be looked for.
    let net = node
        .root
        .path()
        .join("sys/bus/pci/devices/0000:af:00.0/net");
    std::fs::write(&net, "").unwrap();

    let (_, msg) = node.call("DEL", "c1", &old, &config).error();
    assert!(msg.starts_with("VF: ") && msg.contains("net"), "{msg}");
    // All else is undone, and a further try changes nothing.
    let (_, again) = node.call("DEL", "c1", &old, &config).error();
    assert_eq!(msg, again);
    assert_eq!(Node::link(&node.host, VF)["address"], MAC);
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert!(!node.root.path().join("leases/c1").exists());
    assert_eq!(node.state("vf"), [PCI]);
    let claimed = node.call("ADD", "c2", &new, &config).error();
    assert_eq!(claimed.0, 11, "{claimed:?}");
    run("ip", &["netns", "del", name_of(&old)]);
    let (code, msg) = node.call("ADD", "c2", &new, &config).error();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("left of net1 of container c1"), "{msg}");

    std::fs::remove_file(&net).unwrap();
    let answer = node.call("ADD", "c2", &new, &config);
    answer.ok();
    assert!(
        answer.stderr.contains("set trust off on VF 0"),
        "{answer:?}"
    );
    assert_eq!(node.state("attachments").len(), 1);
    node.call("DEL", "c2", &new, &config).ok();
    node.assert_clean();
}

/// Names are bytes to the kernel. What a pod's owner calls things keeps no VF, and no other pod's.
#[test]
fn names_that_are_no_text_and_names_that_are_taken_keep_no_vf() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({}));
    node.call("ADD", "c1", &pod, &config).ok();
    node.hide_netdev();
    let netns = pod.file_name().unwrap();
    let ip = |words: &[&[u8]]| {
        let words = words.iter().map(|word| OsStr::from_bytes(word));
        let status = Command::new("ip").arg("-n").arg(netns).args(words).status();
        assert!(status.unwrap().success());
    };
    ip(&[b"link", b"add", b"stray", b"type", b"bridge"]);
    ip(&[b"link", b"set", b"stray", b"alias", b"\xfe\xff"]);
    ip(&[b"link", b"set", b"net1", b"down"]);
    ip(&[b"link", b"set", b"net1", b"name", b"\xff\xfe"]);
    // A name of the host's, which the kernel would not take home.
    ip(&[
        b"link",
        b"property",
        b"add",
        b"dev",
        b"\xff\xfe",
        b"altname",
        b"wire0",
    ]);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn the_pods_own_default_route_outlives_an_attachment_with_another() {
    let mut node = Node::new();
    let pod = node.pod();
    let ip = |words: &str| {
        let netns = pod.file_name().unwrap().to_str().unwrap();
        let words: Vec<_> = ["-n", netns].into_iter().chain(words.split(' ')).collect();
        run("ip", &words)
    };
    ip("link add eth0 type bridge");
    ip("addr add 192.0.2.2/24 dev eth0");
    ip("link set eth0 up");
    ip("route add default via 192.0.2.1 dev eth0");
    let config = node.config(json!({"ipam": {"type": "fake-ipam"}}));
    let routes = json!({
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16"}],
    });
    node.ipam_gives(&routes);
    let answer = node.call("ADD", "c1", &pod, &config);
    let told = "the route to 0.0.0.0/0 is not set";
    assert!(answer.stderr.contains(told), "{answer:?}");
    let mut answer = answer.ok();
    assert!(ip("route").contains("default via 192.0.2.1 dev eth0"));
    // What isn't there is not told, or CHECK would miss it.
    assert_eq!(
        answer["routes"],
        json!([{"dst": "10.8.0.0/16", "gw": "10.1.2.1"}])
    );
    let mut check = config.clone();
    check["prevResult"] = answer.take();
    node.call("CHECK", "c1", &pod, &check).ok();
    node.call("DEL", "c1", &pod, &config).ok();
    assert!(ip("route").contains("default via 192.0.2.1 dev eth0"));
    node.assert_clean();
}

/// An attachment can end though its IPAM plugin has been removed from the node.
#[test]
fn an_ipam_plugin_that_is_gone_keeps_nothing() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({"ipam": {"type": "fake-ipam"}}));
    node.call("ADD", "c1", &pod, &config).ok();
    std::fs::remove_file(node.plugin("fake-ipam")).unwrap();
    // Its leases went with it.
    std::fs::remove_file(node.root.path().join("leases/c1")).unwrap();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Addresses that nobody takes back are their own attachment's matter, not that of the VF.
#[test]
fn an_ipam_that_fails_keeps_no_vf_and_is_asked_again() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(ipam()));
    node.call("ADD", "c1", &old, &config).ok();
    let away = node.root.path().join("ipam.error.DEL");
    let told = json!({"code": 110, "msg": "the store is away"});
    std::fs::write(&away, told.to_string()).unwrap();
    let (code, msg) = node.call("DEL", "c1", &old, &config).error();
    let words = "IPAM: the store is away (IPAM plugin fake-ipam)";
    assert_eq!((code, msg.as_str()), (110, words));
    assert_ne!(Node::link(&node.host, VF), Value::Null);

    let plain = node.config(json!({}));
    node.call("ADD", "c2", &new, &plain).ok();
    assert_eq!(node.agent.ports().len(), 1);
    // No pod suffers, and the late DEL takes nothing but its own.
    node.call("STATUS", "", &new, &plain).ok();
    node.call("DEL", "c1", &old, &config).error();
    assert_ne!(Node::link(name_of(&new), "net1"), Value::Null);
    std::fs::remove_file(&away).unwrap();
    node.call("DEL", "c1", &old, &config).ok();
    assert_ne!(Node::link(name_of(&new), "net1"), Value::Null);
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c2", &new, &plain).ok();
    node.assert_clean();
}

/// The same where nobody sent a DEL: the pod is gone, and the next owner's ADD meets the record.
#[test]
fn a_lost_pods_addresses_keep_no_vf_from_its_next_owner() {
    let mut node = Node::new();
    let (old, new, config) = (node.pod(), node.pod(), node.config(ipam()));
    node.call("ADD", "c1", &old, &config).ok();
    let away = node.root.path().join("ipam.error.DEL");
    std::fs::write(&away, r#"{"code": 100, "msg": "the store is away"}"#).unwrap();
    end_silently(&node, &old, "net1");
    let plain = node.config(json!({}));
    node.call("ADD", "c2", &new, &plain).ok();
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.state("attachments").len(), 2, "its addresses are kept");
    std::fs::remove_file(&away).unwrap();
    node.call("DEL", "c1", &old, &config).ok();
    node.call("DEL", "c2", &new, &plain).ok();
    node.assert_clean();
}

/// What ADD refused made nothing, so its DEL has nothing to refuse.
#[test]
fn a_configuration_that_add_refuses_ends_with_del() {
    let mut node = Node::new();
    let pod = node.pod();
    for more in [
        json!({"cniVersion": "9.9.9"}),
        json!({"ipam": {"type": "../sh"}}),
        json!({"ipam": {"type": "none-such"}}),
        json!({"ipam": {"type": "xpu-cni"}}),
        json!({"ipam": {"type": "evpn-gw"}}),
        json!({"agent": "ftp://x"}),
    ] {
        let config = node.config(more);
        node.call("ADD", "c1", &pod, &config).error();
        node.call("DEL", "c1", &pod, &config).ok();
    }
    // Nor does a broken file of the host keep what is attached.
    let config = node.config(json!({}));
    node.call("ADD", "c1", &pod, &config).ok();
    std::fs::write(node.root.path().join("host.conf"), "{").unwrap();
    node.call("DEL", "c1", &pod, &config).ok();
    std::fs::remove_file(node.root.path().join("host.conf")).unwrap();
    node.assert_clean();
}
