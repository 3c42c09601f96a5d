//! STATUS and GC on a node of namespaces, and what is common to the verbs.

use std::{fs, path::Path};

use crate::{
    agent::FakeAgent,
    check::attached,
    harness::{Answer, MAC, Node, PCI, VF, name_of, run},
};
use serde_json::{Value, json};
use xpu_cni::{env::Attachment, port::Key};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A verb that is about no attachment, so without an attachment's variables.
pub fn of_network(node: &Node, command: &str, config: &Value) -> Answer {
    let env = [("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")];
    node.call_with(command, "", Path::new(""), &config.to_string(), &env)
}

pub fn ipam() -> Value {
    json!({"ipam": {"type": "fake-ipam"}})
}

pub fn with(config: &Value, key: &str, value: &Value) -> Value {
    let mut config = config.clone();
    config[key] = value.clone();
    config
}

/// Makes the IPAM plugin fail a command.
pub fn ipam_fails(node: &Node, command: &str, code: u32, msg: &str) {
    let error = json!({"cniVersion": "1.1.0", "code": code, "msg": msg});
    let path = node.root.path().join(format!("ipam.error.{command}"));
    fs::write(path, error.to_string()).unwrap();
}

#[test]
fn each_verb_belongs_to_the_versions_that_have_it() {
    let mut node = Node::new();
    let pod = node.pod();
    for version in VERSIONS {
        let config = node.config(json!({
            "cniVersion": version, "ipam": {"type": "fake-ipam"}, "cni.dev/valid-attachments": [],
        }));
        let checked = attached(&node, &pod, &config);
        for (since, answer) in [
            ("0.4.0", node.call("CHECK", "c1", &pod, &checked)),
            ("1.1.0", of_network(&node, "STATUS", &config)),
            ("1.1.0", of_network(&node, "GC", &config)),
        ] {
            if version >= since {
                assert_eq!(answer.ok(), Value::Null, "{version}");
            } else {
                let (code, msg) = answer.error();
                assert_eq!(code, 1);
                assert!(msg.contains(version) && msg.contains(since), "{msg}");
                assert_eq!(answer.json()["cniVersion"], version);
            }
        }
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

#[test]
fn a_verb_without_its_variables_is_error_4() {
    let mut node = Node::new();
    let pod = node.pod();
    let checked = attached(&node, &pod, &node.config(json!({}))).to_string();
    for (key, env) in [
        ("CNI_CONTAINERID", [("CNI_CONTAINERID", "")]),
        ("CNI_IFNAME", [("CNI_IFNAME", "")]),
        ("CNI_NETNS", [("CNI_NETNS", "")]),
    ] {
        let answer = node.call_with("CHECK", "c1", &pod, &checked, &env);
        let (code, msg) = answer.error();
        assert_eq!(code, 4);
        assert!(msg.contains(key), "{msg}");
    }
}

#[test]
fn status_is_50_while_agent_or_ipam_do_not_serve() {
    let node = Node::new();
    let config = node.config(ipam());
    assert_eq!(of_network(&node, "STATUS", &config).ok(), Value::Null);
    assert_eq!(node.ipam_log(), ["STATUS  "]);

    ipam_fails(&node, "STATUS", 50, "the range is full");
    let (code, msg) = of_network(&node, "STATUS", &config).error();
    assert_eq!(code, 50);
    assert!(msg.starts_with("the range is full"), "{msg}");
    // As the reference library answered before it knew the command.
    ipam_fails(&node, "STATUS", 4, "unknown CNI_COMMAND: STATUS");
    of_network(&node, "STATUS", &config).ok();
    ipam_fails(&node, "STATUS", 1, "incompatible CNI versions");
    of_network(&node, "STATUS", &config).ok();
    let none_such = node.config(json!({"ipam": {"type": "none-such"}}));
    let (code, msg) = of_network(&node, "STATUS", &none_such).error();
    assert_eq!(code, 50);
    assert!(msg.contains("none-such"), "{msg}");

    node.agent.stop();
    let answer = of_network(&node, "STATUS", &config);
    let (code, msg) = answer.error();
    assert_eq!(code, 50);
    assert!(msg.contains("can't be reached"), "{msg}");
    let step = "`systemctl status xpu-agent`";
    assert!(msg.contains(step), "{msg}");
    assert!(answer.stderr.contains(step), "{answer:?}");
    node.agent.serve();
    assert_eq!(
        of_network(&node, "STATUS", &json!({"cniVersion": "1.1.0"}))
            .error()
            .0,
        7
    );
}

/// A script that has never heard of STATUS and GC, and says so in its own way.
#[test]
fn an_ipam_plugin_that_says_how_it_is_used_is_older_by_its_versions() {
    let node = Node::new();
    let config = node.config(json!({"ipam": {"type": "old-script"}}));
    let calls = |versions: &str| {
        let script = format!(
            "if [ $CNI_COMMAND = VERSION ]; then echo '{versions}'; exit 0; fi\n\
             echo 'usage: ADD|DEL|CHECK|VERSION' >&2; exit 1"
        );
        node.make_plugin("old-script", &script);
        let gc = with(&config, "cni.dev/valid-attachments", &json!([]));
        [("STATUS", &config), ("GC", &gc)].map(|(verb, config)| of_network(&node, verb, config))
    };
    for answer in calls(r#"{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}"#) {
        answer.ok();
    }
    // One that has them has failed.
    let told = calls(r#"{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}"#);
    let codes = told.map(|answer| answer.error().0);
    assert_eq!(codes, [50, 103]);
    let told = calls("usage: ADD|DEL|CHECK");
    let codes = told.map(|answer| answer.error().0);
    assert_eq!(codes, [50, 103]);
}

#[test]
fn status_is_51_while_a_port_of_a_living_pod_is_missing_or_down() {
    let mut node = Node::new();
    let config = node.config(json!({}));
    // More ports than fit a page of the agent's list.
    let pods: Vec<_> = (0..5).map(|_| node.pod()).collect();
    for (number, pod) in pods.iter().enumerate() {
        let vf = match u8::try_from(number).unwrap() {
            0 => PCI.to_owned(),
            other => node.make_vf(other),
        };
        let config = with(&config, "deviceID", &vf.into());
        node.call("ADD", &format!("c{number}"), pod, &config).ok();
    }
    of_network(&node, "STATUS", &config).ok();

    let ids = node.agent.ports();
    let last = &ids[4];
    node.agent.set_down(last, Some("no carrier"));
    let answer = of_network(&node, "STATUS", &config);
    let (code, msg) = answer.error();
    assert_eq!(code, 51);
    assert!(
        msg.starts_with("linux: no carrier") && msg.contains(last),
        "{msg}"
    );
    assert!(answer.stdout.contains("xpuctl doctor"), "{answer:?}");
    node.agent.set_down(last, None);
    node.agent.put(&ids[2], None);
    let answer = of_network(&node, "STATUS", &config);
    let (code, msg) = answer.error();
    assert_eq!(code, 51);
    assert!(msg.contains("missing") && msg.contains(&ids[2]), "{msg}");
    assert!(answer.stdout.contains("restart the pod"), "{answer:?}");

    // The pod of a port that is missing is at work: its lock is held.
    let vfs = (0..5).map(|number| format!("0000:af:06.{number}"));
    let held: Vec<_> = vfs.map(|vf| node.hold(&vf)).collect();
    of_network(&node, "STATUS", &config).ok();
    drop(held);
    // And a pod that is gone suffers no more.
    for pod in &pods {
        run("ip", &["netns", "del", name_of(pod)]);
    }
    of_network(&node, "STATUS", &config).ok();
}

#[test]
fn gc_removes_what_is_not_listed_of_its_network_alone() {
    let mut node = Node::new();
    let pods: Vec<_> = (0..4).map(|_| node.pod()).collect();
    let config = node.config(ipam());
    let configs = [
        config.clone(),
        with(&config, "deviceID", &node.make_vf(1).into()),
        // Another NAD of the same name, and one to the same bridge under another name.
        with(
            &with(&config, "deviceID", &node.make_vf(2).into()),
            "logical_bridge",
            &json!("green"),
        ),
        with(
            &with(&config, "deviceID", &node.make_vf(3).into()),
            "name",
            &json!("yellow"),
        ),
    ];
    for (number, (pod, config)) in pods.iter().zip(&configs).enumerate() {
        node.call("ADD", &format!("c{number}"), pod, config).ok();
    }
    let gc = |key: &str, list: Value| of_network(&node, "GC", &with(&config, key, &list));
    let attachment = |container: &str| json!({"containerID": container, "ifname": "net1"});

    // Without a list that can be read nothing goes, not even at IPAM.
    for (key, list) in [
        ("none", json!([])),
        ("cni.dev/valid-attachments", json!("c0")),
        ("cni.dev/attachments", json!([{"containerID": "c0"}])),
    ] {
        assert_eq!(gc(key, list).error().0, 7, "{key}");
    }
    let nowhere = json!({"cniVersion": "1.1.0", "name": "red", "cni.dev/attachments": []});
    assert_eq!(of_network(&node, "GC", &nowhere).error().0, 7);
    assert_eq!(node.agent.ports().len(), 4);
    assert_eq!(node.ipam_log().len(), 4);

    let both = json!([attachment("c0"), attachment("c1"), attachment("c8")]);
    gc("cni.dev/valid-attachments", both).ok();
    assert_eq!(node.agent.ports().len(), 4);
    assert_eq!(node.ipam_log().last().unwrap(), "GC  ");
    gc("cni.dev/attachments", json!([attachment("c1")])).ok();
    assert_eq!(Node::link(&node.host, VF)["address"], MAC, "home again");
    assert_eq!(Node::link(name_of(&pods[0]), "net1"), Value::Null);
    assert_eq!(node.ipam_log()[5..], ["DEL c0 net1", "GC  "]);
    // As a runtime in Go sends the list of a network without pods.
    gc("cni.dev/valid-attachments", json!(null)).ok();
    // IPAM knows only names, so the other network of this one's is protected; by both keys.
    let stdin = fs::read_to_string(node.root.path().join("ipam.stdin")).unwrap();
    let stdin: Value = serde_json::from_str(&stdin).unwrap();
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(stdin[key], json!([attachment("c2")]), "{key}");
    }
    assert_eq!(node.agent.ports().len(), 2, "the other networks'");
    for pod in &pods[2..] {
        assert_ne!(Node::link(name_of(pod), "net1"), Value::Null);
    }
    for number in [2, 3] {
        node.call(
            "DEL",
            &format!("c{number}"),
            &pods[number],
            &configs[number],
        )
        .ok();
    }
    node.assert_clean();
}

/// Somebody sorts the list in the network's definition: its attachments are its own all the same.
#[test]
fn gc_knows_a_trunk_by_its_bridges_in_any_order() {
    let mut node = Node::new();
    let pod = node.pod();
    let trunk =
        |bridges: &[&str]| node.config(json!({"logical_bridge": null, "logical_bridges": bridges}));
    let (before, after) = (trunk(&["green", "blue"]), trunk(&["blue", "green"]));
    let other = trunk(&["blue"]);
    node.call("ADD", "c1", &pod, &before).ok();
    // The agent has them as the network named them.
    let bridges = node.agent.only_port().1.logical_bridges;
    assert_eq!(bridges, ["logicalBridges/green", "logicalBridges/blue"]);
    let gc = |config| {
        let config = with(config, "cni.dev/valid-attachments", &json!([]));
        of_network(&node, "GC", &config).ok()
    };
    gc(&other);
    assert_eq!(node.agent.ports().len(), 1);
    gc(&after);
    node.assert_clean();
}

/// Two attachments whose addresses IPAM does not free, and a GC that is told of none.
fn two_that_ipam_keeps() -> (Node, Value) {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let config = node.config(ipam());
    node.call("ADD", "c1", &one, &config).ok();
    let other = with(&config, "deviceID", &node.make_vf(1).into());
    node.call("ADD", "c2", &two, &other).ok();
    ipam_fails(&node, "DEL", 99, "the store is read-only");
    let gc = with(&config, "cni.dev/valid-attachments", &json!([]));
    (node, gc)
}

#[test]
fn gc_goes_on_past_failures_and_tells_the_first() {
    let (node, gc) = two_that_ipam_keeps();
    let answer = of_network(&node, "GC", &gc);
    let (code, msg) = answer.error();
    assert_eq!(code, 99, "the plugin's own");
    let told = "IPAM: the store is read-only (IPAM plugin fake-ipam) (left of net1 of container c";
    assert!(msg.starts_with(told), "{msg}");
    let details = answer.json()["details"].as_str().unwrap().to_owned();
    assert!(details.contains("the store is read-only"), "{details}");
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_eq!(node.state("attachments").len(), 2, "nothing is forgotten");

    fs::remove_file(node.root.path().join("ipam.error.DEL")).unwrap();
    ipam_fails(&node, "GC", 98, "still read-only");
    let (code, msg) = of_network(&node, "GC", &gc).error();
    assert_eq!(code, 98);
    assert!(msg.starts_with("still read-only"), "{msg}");
    node.assert_clean();
    ipam_fails(&node, "GC", 4, "unknown CNI_COMMAND: GC");
    of_network(&node, "GC", &gc).ok();
}

/// It may take all the time that there is, and would at each GC.
#[test]
fn gc_comes_last_to_what_it_could_not_remove() {
    let (node, gc) = two_that_ipam_keeps();
    let order = || {
        let before = node.ipam_log().len();
        of_network(&node, "GC", &gc).error();
        let asked = node.ipam_log().split_off(before);
        let asked = asked.iter().filter_map(|line| line.strip_prefix("DEL "));
        let containers = asked.filter_map(|line| line.strip_suffix(" net1"));
        containers.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = order();
    assert_eq!((first.len(), node.state("backoff").len()), (2, 2));
    // As if that one had not been tried yet.
    let key = Key::of(&Attachment {
        container_id: first[1].clone(),
        ifname: "net1".parse().unwrap(),
        netns: None,
    });
    fs::remove_file(node.root.path().join("state/backoff").join(key.as_str())).unwrap();
    assert_eq!(order(), [first[1].as_str(), &first[0]]);
}

/// What that record holds only the newer plugin knows, so IPAM is told nothing; the rest goes.
#[test]
fn gc_goes_on_past_a_record_of_a_newer_plugin() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let config = node.config(ipam());
    node.call("ADD", "c1", &one, &config).ok();
    let other = with(&config, "deviceID", &node.make_vf(1).into());
    node.call("ADD", "c2", &two, &other).ok();
    node.agent.stop();
    node.call("DEL", "c1", &one, &config).ok();
    node.agent.serve();
    let record = node.record(&"0".repeat(40));
    fs::write(&record, "{\"format\":7}\n").unwrap();
    let gc = with(&config, "cni.dev/valid-attachments", &json!([]));
    let answer = of_network(&node, "GC", &gc);
    let (code, msg) = answer.error();
    assert_eq!(code, 5, "{msg}");
    assert!(msg.contains("a newer plugin"), "{msg}");
    assert_eq!(answer.json().get("details"), None, "told once");
    assert_eq!(node.state("attachments").len(), 1, "its own");
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    let log = node.ipam_log();
    assert!(!log.iter().any(|line| line.starts_with("GC")), "{log:?}");
}

/// Nobody can tell which addresses it holds, so none are freed; until somebody has looked after it.
#[test]
fn gc_frees_no_address_while_there_is_a_record_that_cannot_be_read() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let config = node.config(ipam());
    node.call("ADD", "c1", &one, &config).ok();
    let record = node.state("attachments").remove(0);
    fs::write(node.record(&record), "{").unwrap();
    let other = with(&config, "deviceID", &node.make_vf(1).into());
    node.call("ADD", "c2", &two, &other).ok();
    let gc = with(&config, "cni.dev/valid-attachments", &json!([]));
    let aside = node.root.path().join("state/corrupt").join(&record);
    // Whether it is this GC that finds it or another call that did.
    for _ in 0..2 {
        let (code, msg) = of_network(&node, "GC", &gc).error();
        assert_eq!(code, 5, "{msg}");
        let next = format!("remove {}", aside.display());
        assert!(msg.contains(&next), "{msg}");
        let log = node.ipam_log();
        assert!(!log.iter().any(|line| line.starts_with("GC")), "{log:?}");
    }
    assert_eq!(
        node.state("attachments"),
        Vec::<String>::new(),
        "the rest goes"
    );
    fs::remove_file(aside).unwrap();
    of_network(&node, "GC", &gc).ok();
    assert_eq!(node.ipam_log().last().unwrap(), "GC  ");
}

/// IPAM keeps the addresses of what the runtime lists, whatever they are.
#[test]
fn gc_frees_addresses_where_what_cannot_be_read_is_listed() {
    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(ipam());
    let listed = json!([{"containerID": "c1", "ifname": "net1"}]);
    let gc = with(&config, "cni.dev/valid-attachments", &listed);
    // What can't be decoded, and what a newer plugin wrote.
    for text in ["{", "{\"format\":7}\n"] {
        node.call("ADD", "c1", &pod, &config).ok();
        let record = node.state("attachments").remove(0);
        let path = node.record(&record);
        let kept = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        // Once where it is found, once where it is set aside.
        for _ in 0..2 {
            of_network(&node, "GC", &gc).ok();
            assert_eq!(node.ipam_log().last().unwrap(), "GC  ");
        }
        let aside = node.root.path().join("state/corrupt").join(&record);
        let _never_set_aside = fs::remove_file(aside);
        fs::write(&path, kept).unwrap();
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

/// Networks of two Kubernetes namespaces may have one name, and one bridge.
#[test]
fn gc_takes_no_network_of_another_agent_or_ipam() {
    let mut node = Node::new();
    let pod = node.pod();
    let bin = node.root.path().join("bin");
    fs::copy(bin.join("fake-ipam"), bin.join("other-ipam")).unwrap();
    let other_agent = FakeAgent::start(&node.root.path().join("other.sock"));
    let config = node.config(ipam());
    for (key, value) in [
        ("ipam", json!({"type": "other-ipam"})),
        ("ipam", json!({})),
        ("agent", json!(other_agent.address())),
    ] {
        node.call("ADD", "c1", &pod, &config).ok();
        let gc = with(
            &with(&config, key, &value),
            "cni.dev/valid-attachments",
            &json!([]),
        );
        of_network(&node, "GC", &gc).ok();
        assert_ne!(Node::link(name_of(&pod), "net1"), Value::Null, "{key}");
        assert_eq!(node.agent.ports().len(), 1, "{key}");
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

#[test]
fn gc_without_an_agent_leaves_tombstones_and_the_next_drains_them() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({"cni.dev/attachments": []})));
    node.call("ADD", "c1", &pod, &config).ok();
    node.agent.stop();
    of_network(&node, "GC", &config).ok();
    assert_eq!(node.state("tombstones").len(), 1);
    node.agent.serve();
    of_network(&node, "GC", &config).ok();
    node.assert_clean();
}
