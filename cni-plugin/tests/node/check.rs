//! CHECK on a node of namespaces: it passes while all is as ADD left it, and finds each
//! thing that isn't.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    harness::{self, KILL_AT, MAC, Node, PCI, VF, name_of, run},
    verbs::{ipam, ipam_fails, with},
};
use serde_json::{Value, json};

fn ip(pod: &Path, args: &[&str]) {
    run("ip", &[&["-n", name_of(pod)], args].concat());
}

/// An attachment, and the configuration to check it with.
pub fn attached(node: &Node, pod: &Path, config: &Value) -> Value {
    let result = node.call("ADD", "c1", pod, config).ok();
    with(config, "prevResult", &result)
}

/// CHECK must fail with 104 and these words.
#[track_caller]
fn differs(node: &Node, pod: &Path, checked: &Value, words: &[&str]) {
    let (code, msg) = node.call("CHECK", "c1", pod, checked).error();
    assert_eq!(code, 104, "{msg}");
    for word in words {
        assert!(msg.contains(word), "{word}: {msg}");
    }
}

#[test]
fn check_passes_while_all_is_as_add_left_it() {
    let mut node = Node::new();
    let pod = node.pod();
    node.ipam_gives(&json!({
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "priority": 7}, {"dst": "::/0"}, {"dst": "10.8.0.0/16", "table": 300}],
    }));
    // A chain's earlier interface is none of ours.
    let prev = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": pod}],
        "ips": [{"interface": 0, "address": "10.9.9.9/24"}]});
    let config = node.config(json!({
        "ipam": {"type": "fake-ipam"}, "mtu": 1450, "mac": "02:00:00:00:00:07", "prevResult": prev,
    }));
    let checked = attached(&node, &pod, &config);
    let before = node.state("attachments");
    assert_eq!(node.call("CHECK", "c1", &pod, &checked).ok(), Value::Null);
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "CHECK c1 net1"]);
    assert_eq!(node.state("attachments"), before);

    // With an IPAM plugin that is older than the network.
    fs::write(node.root.path().join("ipam.old"), "").unwrap();
    node.call("CHECK", "c1", &pod, &checked).ok();
    let stdin = fs::read_to_string(node.root.path().join("ipam.stdin")).unwrap();
    let stdin: Value = serde_json::from_str(&stdin).unwrap();
    assert_eq!(
        (&stdin["cniVersion"], &stdin["prevResult"]["cniVersion"]),
        (&json!("1.0.0"), &json!("1.0.0"))
    );
}

#[test]
fn check_finds_what_changed_in_the_pod() {
    let mut node = Node::new();
    let pod = node.pod();
    let checked = attached(&node, &pod, &node.config(ipam()));
    let ok = || node.call("CHECK", "c1", &pod, &checked).ok();
    let check = |words: &[&str]| differs(&node, &pod, &checked, words);

    ip(&pod, &["link", "set", "net1", "mtu", "1400"]);
    check(&["MTU of net1", "1500", "1400"]);
    ip(&pod, &["link", "set", "net1", "mtu", "1500"]);
    ip(
        &pod,
        &["link", "set", "net1", "address", "02:00:00:00:00:66"],
    );
    check(&["MAC of net1", MAC, "02:00:00:00:00:66"]);
    ip(&pod, &["link", "set", "net1", "address", MAC]);
    ok();

    ip(&pod, &["route", "del", "default"]);
    ip(&pod, &["route", "add", "default", "via", "10.1.2.9"]);
    check(&[
        "routes of the pod",
        "0.0.0.0/0 via 10.1.2.1",
        "via 10.1.2.9",
    ]);
    ip(&pod, &["route", "replace", "default", "via", "10.1.2.1"]);
    ok();

    ip(&pod, &["addr", "add", "10.1.2.4/24", "dev", "net1"]);
    ok();
    ip(&pod, &["addr", "del", "10.1.2.3/24", "dev", "net1"]);
    check(&["addresses of net1", "expected 10.1.2.3/24"]);
    let answer = node.call("CHECK", "c1", &pod, &checked).json();
    let details = answer["details"].as_str().unwrap();
    assert!(
        details.contains("routes of the pod"),
        "all is told: {details}"
    );

    ip(&pod, &["link", "set", "net1", "down"]);
    check(&["state of net1", "expected up, found down"]);
    ip(&pod, &["link", "set", "net1", "name", "other"]);
    check(&[PCI, "expected net1, found other"]);
    // Another device under the name is not the VF.
    ip(&pod, &["link", "add", "net1", "type", "bridge"]);
    check(&[PCI, "expected net1, found other"]);
    ip(&pod, &["link", "del", "other"]);
    check(&[PCI, "expected net1, found none"]);
}

/// An address that the kernel doesn't use yet, or a route that leaves by another device, is in the
/// kernel's lists and serves nobody.
#[test]
fn check_finds_what_is_there_and_does_not_serve() {
    let mut node = Node::new();
    let pod = node.pod();
    node.ipam_gives(&json!({
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }));
    let checked = attached(&node, &pod, &node.config(ipam()));
    let ok = || node.call("CHECK", "c1", &pod, &checked).ok();
    let check = |words: &[&str]| differs(&node, &pod, &checked, words);
    ok();

    ip(
        &pod,
        &[
            "link", "add", "eth0", "type", "veth", "peer", "name", "eth1",
        ],
    );
    ip(&pod, &["link", "set", "eth0", "up"]);
    ip(&pod, &["addr", "add", "10.1.2.4/24", "dev", "eth0"]);
    ok();
    let default = ["route", "replace", "default", "via", "10.1.2.1", "dev"];
    ip(&pod, &[&default[..], &["eth0"]].concat());
    check(&["routes of the pod", "via 10.1.2.1 by another device"]);
    ip(&pod, &[&default[..], &["net1"]].concat());
    ok();

    // Somebody on the wire has the address already.
    let wire = [
        "-n",
        &node.host,
        "addr",
        "add",
        "fd00::3/64",
        "dev",
        "wire0",
    ];
    run("ip", &[&wire[..], &["nodad"]].concat());
    ip(&pod, &["addr", "del", "fd00::3/64", "dev", "net1"]);
    ip(&pod, &["addr", "add", "fd00::3/64", "dev", "net1"]);
    let failed = [
        "-n",
        name_of(&pod),
        "addr",
        "show",
        "dev",
        "net1",
        "dadfailed",
    ];
    let start = Instant::now();
    while run("ip", &failed).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "no duplicate");
    }
    check(&["expected fd00::3/64, found ", "fd00::3/64 (a duplicate)"]);
    ip(&pod, &["addr", "del", "fd00::3/64", "dev", "net1"]);
    ip(&pod, &["addr", "add", "fd00::3/64", "dev", "net1", "nodad"]);
    ok();
}

#[test]
fn check_finds_what_is_wrong_in_the_journal() {
    let mut node = Node::new();
    let (pod, other) = (node.pod(), node.pod());
    let checked = attached(&node, &pod, &node.config(ipam()));
    differs(&node, &other, &checked, &["network namespace", "inode"]);

    node.rewrite_record(|text| {
        let (begun, last) = text.trim_end().rsplit_once('\n').unwrap();
        assert!(last.contains("attached"), "{last}");
        format!("{begun}\n")
    });
    differs(
        &node,
        &pod,
        &checked,
        &["journal", "attached", "never ended"],
    );
    fs::remove_file(node.only_record()).unwrap();
    differs(
        &node,
        &pod,
        &checked,
        &["journal of net1 of container c1", "a record", "none"],
    );
}

#[test]
fn check_finds_what_changed_at_the_agent() {
    let mut node = Node::new();
    let pod = node.pod();
    let checked = attached(&node, &pod, &node.config(ipam()));
    let (id, spec) = node.agent.only_port();
    let check = |words: &[&str]| differs(&node, &pod, &checked, &[&[id.as_str()], words].concat());

    node.agent.set_down(&id, Some(r#"{"reason":"no carrier"}"#));
    check(&["expected UP", "linux: no carrier"]);
    node.agent.set_down(&id, None);
    let mut other = spec.clone();
    other.logical_bridges = vec!["logicalBridges/green".to_owned()];
    node.agent.put(&id, Some(other));
    check(&["expected ACCESS in logicalBridges/blue, found ACCESS in logicalBridges/green"]);
    let mut other = spec.clone();
    other.mac_address = vec![2, 0, 0, 0, 0, 0x66];
    node.agent.put(&id, Some(other));
    check(&["MAC", MAC, "02:00:00:00:00:66"]);
    node.agent.put(&id, None);
    check(&["found none"]);

    node.agent.put(&id, Some(spec));
    node.call("CHECK", "c1", &pod, &checked).ok();
    node.agent.stop();
    let (code, msg) = node.call("CHECK", "c1", &pod, &checked).error();
    assert_eq!(code, 11);
    assert!(msg.contains("can't be reached"), "{msg}");
    node.agent.serve();
}

#[test]
fn check_wants_its_result_and_passes_ipams_word_on() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(ipam());
    let checked = attached(&node, &pod, &config);
    let (code, msg) = node.call("CHECK", "c1", &pod, &config).error();
    assert_eq!(code, 7);
    assert!(msg.contains("prevResult"), "{msg}");
    let mut other = checked.clone();
    other["prevResult"]["interfaces"][0]["name"] = "eth0".into();
    differs(
        &node,
        &pod,
        &other,
        &["expected net1 with a sandbox, found eth0"],
    );
    let mut other = checked.clone();
    other["prevResult"]["interfaces"][0]["pciID"] = "0000:af:06.7".into();
    differs(&node, &pod, &other, &["pciID", PCI, "0000:af:06.7"]);

    ipam_fails(&node, "CHECK", 120, "no such lease");
    let (code, msg) = node.call("CHECK", "c1", &pod, &checked).error();
    assert_eq!(code, 120);
    assert!(msg.starts_with("no such lease"), "{msg}");
}

#[test]
fn the_hosts_namespace_is_a_pods_only_where_the_runtime_says_so() {
    let node = Node::new();
    let (host, config) = (
        Path::new("/run/netns").join(&node.host),
        node.config(ipam()),
    );
    for no in ["", "0", "no"] {
        let env = [("CNI_NETNS_OVERRIDE", no)];
        let answer = node.call_with("ADD", "c1", &host, &config.to_string(), &env);
        assert_eq!(answer.error().0, 8, "{no}");
    }
    let env = [("CNI_NETNS_OVERRIDE", "TRUE")];
    let call = |command: &str, config: &Value| {
        node.call_with(command, "c1", &host, &config.to_string(), &env)
    };
    let result = call("ADD", &config).ok();
    assert_eq!(Node::link(&node.host, "net1")["address"], MAC);
    let checked = with(&config, "prevResult", &result);
    call("CHECK", &checked).ok();
    assert_eq!(node.call("CHECK", "c1", &host, &checked).error().0, 8);
    // The namespace lives, so nobody else may have the VF.
    assert_eq!(
        node.call_with("ADD", "c2", &host, &config.to_string(), &env)
            .error()
            .0,
        11
    );
    call("DEL", &config).ok();
    node.assert_clean();
    assert_ne!(Node::link(&node.host, VF), Value::Null);
}

/// A device that moves leaves its addresses and routes behind; one that stays is rid of them.
#[test]
fn a_vf_whose_pod_was_the_host_keeps_nothing_of_it() {
    let node = Node::new();
    node.ipam_gives(&json!({
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "10.1.2.4/24"},
                {"address": "fd00::3/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.8.0.0/16", "table": 7}],
    }));
    let host = Path::new("/run/netns").join(&node.host);
    let config = node.config(ipam());
    let (env, none) = ([("CNI_NETNS_OVERRIDE", "1")], [].as_slice());
    let ip = |line: &str| harness::ip(&node.host, line);
    let kept = || {
        let told: Value = serde_json::from_str(&ip(&format!("-j addr show dev {VF}"))).unwrap();
        let all = told[0]["addr_info"].as_array().unwrap();
        let all = all.iter().filter(|addr| addr["scope"] != "link");
        all.map(|addr| addr["local"].clone()).collect::<Vec<_>>()
    };
    for state in ["down", "up"] {
        ip(&format!("link set {VF} {state}"));
        let add = || node.call_with("ADD", "c1", &host, &config.to_string(), &env);
        add().ok();
        assert!(ip("-o addr show dev net1").contains("10.1.2.4/24"));
        // By a runtime that says so again, or not, and by whoever needs the name.
        for (command, env) in [("DEL", none), ("DEL", &env[..]), ("GC", none)] {
            let mut config = config.clone();
            config["cni.dev/valid-attachments"] = json!([]);
            let stdin = config.to_string();
            node.call_with(command, "c1", &host, &stdin, env).ok();
            assert_eq!(kept(), Vec::<Value>::new(), "{state} {command}");
            assert_eq!(
                ip("route show table all dev vf0 proto static"),
                "",
                "{state} {command}"
            );
            let six = ip("-6 route show table all dev vf0 proto static");
            assert_eq!(six, "", "{state} {command}");
            let up = crate::harness::is_up(&Node::link(&node.host, VF));
            assert_eq!(up, state == "up", "{command}");
            assert_eq!(node.state("attachments"), Vec::<String>::new());
            add().ok();
        }
        node.call_with("DEL", "c1", &host, &config.to_string(), &[])
            .ok();
    }
    // What it has before ADD does anything is the host's own.
    ip(&format!("addr add 192.0.2.7/24 dev {VF}"));
    let mut point = 0;
    while Node::link(&node.host, "net1") == Value::Null {
        point += 1;
        let at = point.to_string();
        let kill = [env[0], (KILL_AT, at.as_str())];
        node.call_with("ADD", "c1", &host, &config.to_string(), &kill);
        if Node::link(&node.host, VF) != Value::Null {
            node.call_with("DEL", "c1", &host, &config.to_string(), &[])
                .ok();
            assert_eq!(kept(), ["192.0.2.7"], "{point}");
        }
    }
    assert!(point > 4, "{point}");
    node.call_with("DEL", "c1", &host, &config.to_string(), &[])
        .ok();
    assert_eq!(kept(), Vec::<Value>::new());
}

/// Where it is set aside is for who undoes; who only looks tells of it each time.
#[test]
fn a_record_that_cannot_be_read_stays_where_it_is() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({}));
    let checked = attached(&node, &pod, &config);
    let path = node.only_record();
    fs::write(&path, "{").unwrap();
    let whole = || {
        let folders = fs::read_dir(node.root.path().join("state")).unwrap();
        let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = Vec::from_iter(folders.flat_map(|name| {
            let mut inside = vec![name.clone()];
            if name != "lock" {
                inside.extend(
                    node.state(&name)
                        .into_iter()
                        .map(|it| format!("{name}/{it}")),
                );
            }
            inside
        }));
        names.sort_unstable();
        (names, fs::read_to_string(&path).ok())
    };
    let before = whole();
    for _ in 0..2 {
        differs(&node, &pod, &checked, &["journal of net1", "found none"]);
        assert_eq!(whole(), before);
        let status = node.call("STATUS", "", &pod, &config);
        assert!(status.stderr.contains(name_of(&path)), "{status:?}");
        assert_eq!(whole(), before);
    }
}
