//! What a call finishes for others: attachments whose pod or whose boot is gone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    harness::{MAC, Node, PCI, end_silently, name_of, run},
    records::of_earlier_boot,
};
use serde_json::{Value, json};
use xpu_cni::{env::Attachment, port::Key};

/// Nodes with as many pods attached as given, `c0` to the VF that every node has.
fn attached(count: u8, more: Value) -> (Node, Vec<PathBuf>, Vec<Value>) {
    let mut node = Node::new();
    let base = node.config(more);
    let (mut pods, mut configs) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut config = base.clone();
        if number > 0 {
            config["deviceID"] = node.make_vf(number).into();
        }
        let pod = node.pod();
        node.call("ADD", &format!("c{number}"), &pod, &config).ok();
        pods.push(pod);
        configs.push(config);
    }
    (node, pods, configs)
}

/// A namespace goes, and its VF is home: the kernel cleans up a while later.
fn lose(node: &Node, pod: &Path) {
    run("ip", &["netns", "del", name_of(pod)]);
    // A veth dies with its namespace, where a VF would come home; so the node has no such
    // device any more.
    fs::remove_dir_all(node.root.path().join("sys/bus/pci/devices").join(PCI)).unwrap();
}

#[test]
fn each_verb_that_works_finishes_what_a_lost_pod_left() {
    for command in ["ADD", "DEL", "GC"] {
        let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
        lose(&node, &pods[0]);
        match command {
            "GC" => {
                let mut gc = configs[1].clone();
                // Another network's GC, and one that still lists the lost pod.
                gc["name"] = "green".into();
                gc["cni.dev/valid-attachments"] = json!([]);
                node.call("GC", "", &pods[1], &gc).ok();
            }
            "ADD" => {
                node.call("DEL", "c1", &pods[1], &configs[1]).ok();
                node.call("ADD", "c1", &pods[1], &configs[1]).ok();
            }
            _ => {
                node.call("DEL", "c1", &pods[1], &configs[1]).ok();
            }
        }
        let log = node.ipam_log();
        assert!(
            log.contains(&"DEL c0 net1".to_owned()),
            "{command}: {log:?}"
        );
        let left = usize::from(command != "DEL");
        assert_eq!(node.agent.ports().len(), left, "{command}");
        assert_eq!(node.state("attachments").len(), left, "{command}");
        assert_eq!(node.state("vf").len(), left, "{command}");
    }
}

#[test]
fn a_record_of_an_earlier_boot_is_finished_without_a_device() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    for name in node.state("attachments") {
        let path = node.record(&name);
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("\"c0\"") {
            fs::write(&path, of_earlier_boot(&text)).unwrap();
        }
    }
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    assert_eq!(node.ipam_log()[2..], ["DEL c1 net1", "DEL c0 net1"]);
    assert_ne!(Node::link(name_of(&pods[0]), "net1"), Value::Null);
    assert_eq!(node.state("attachments"), Vec::<String>::new());
    assert_eq!(node.agent.ports(), Vec::<String>::new());
}

#[test]
fn another_namespace_under_the_name_is_not_the_pod() {
    let (node, pods, configs) = attached(2, json!({}));
    // The namespace itself stays, with the VF in it: only its name went to another.
    let kept = format!("{}k", node.host);
    run("ip", &["netns", "add", &kept]);
    let (old, keep) = (pods[0].to_str().unwrap(), &format!("/run/netns/{kept}"));
    run("umount", &[keep]);
    run("mount", &["--bind", old, keep]);
    run("umount", &[old]);
    fs::remove_file(old).unwrap();
    run("ip", &["netns", "add", name_of(&pods[0])]);
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    // The VF is not home, so there is nothing to undo yet, and nothing is forgotten.
    assert_eq!(node.state("attachments").len(), 1);
    end_silently(&node, Path::new(keep), "net1");
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    node.assert_clean();
    assert_eq!(Node::link(&node.host, "vf0")["address"], MAC);
}

#[test]
fn living_pods_and_those_at_work_are_left_alone() {
    let (node, pods, configs) = attached(3, json!({}));
    node.call("DEL", "c2", &pods[2], &configs[2]).ok();
    assert_eq!(node.agent.ports().len(), 2);
    lose(&node, &pods[0]);
    let held = node.hold(PCI);
    node.call("ADD", "c2", &pods[2], &configs[2]).ok();
    assert_eq!(node.agent.ports().len(), 3, "its lock is held");
    drop(held);
    node.call("DEL", "c2", &pods[2], &configs[2]).ok();
    assert_eq!(node.agent.ports().len(), 1);
}

#[test]
fn a_failing_sweep_fails_no_call_and_holds_none_up() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    lose(&node, &pods[0]);
    // An IPAM plugin that hangs, for the lost pod's sake alone.
    ipam_hangs_but_for(&node, "c1", "exec sleep 30");
    let start = Instant::now();
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert_eq!(node.state("attachments").len(), 1, "kept for another time");
    // It is left alone for a while.
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    assert_eq!(hung(&node), ["c0"]);
    assert_eq!(node.state("attachments").len(), 1);
}

/// One that has answered is done when it ends, and not before.
#[test]
fn an_ipam_that_hangs_with_its_answer_given_holds_no_call_up_either() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    lose(&node, &pods[0]);
    let root = node.root.path().display();
    let sleep = format!("echo $$ > {root}/pid; exec sleep 30 >&-");
    ipam_hangs_but_for(&node, "c1", &sleep);
    let start = Instant::now();
    let answer = node.call("DEL", "c1", &pods[1], &configs[1]);
    answer.ok();
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
    assert!(answer.stderr.contains("did not end in time"), "{answer:?}");
    assert_eq!(node.state("attachments").len(), 1, "kept for another time");
    let pid = fs::read_to_string(node.root.path().join("pid")).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim_end());
    assert!(!process.exists(), "it is killed and reaped");
    assert_eq!(hung(&node), ["c0"]);
    // It is left alone for a while.
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    assert_eq!(hung(&node), ["c0"]);
}

/// An IPAM plugin that hangs, unless it is for one container.
fn ipam_hangs_but_for(node: &Node, container: &str, hang: &str) {
    let root = node.root.path().display();
    let script = format!(
        "[ \"$CNI_CONTAINERID\" = {container} ] && exit 0\n\
         echo \"$CNI_CONTAINERID\" >> {root}/hung\n{hang}"
    );
    node.make_plugin("fake-ipam", &script);
}

/// For whom it hung.
fn hung(node: &Node) -> Vec<String> {
    let text = fs::read_to_string(node.root.path().join("hung")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// However many addresses are left at it.
#[test]
fn an_ipam_that_hangs_costs_one_call_and_not_each_and_keeps_no_vf() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    lose(&node, &pods[0]);
    for number in 0..8 {
        copy_record(&node, "c0", &format!("lost{number}"));
    }
    ipam_hangs_but_for(&node, "c1", "exec sleep 30");
    for _ in 0..8 {
        node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    }
    assert_eq!(hung(&node).len(), 1, "{:?}", hung(&node));
    assert_eq!(
        node.state("attachments").len(),
        9,
        "no address is forgotten"
    );
    assert_eq!(node.state("vf"), Vec::<String>::new());
}

#[test]
fn a_sweep_does_not_wait_for_an_agent_that_hung_just_now() {
    let (node, pods, configs) = attached(2, json!({}));
    lose(&node, &pods[0]);
    let held = node.agent.hold_before();
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    held.release();
    // The agent would have answered for the lost pod's.
    assert_eq!(node.agent.ports().len(), 2);
    assert_eq!(node.state("tombstones").len(), 2);
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

/// Be it slow: whatever a round gets done, the next call goes on with.
#[test]
fn an_agent_that_deletes_but_slowly_is_not_left_alone() {
    let (node, pods, configs) = attached(3, json!({}));
    node.agent.stop();
    for (number, (pod, config)) in pods.iter().zip(&configs).enumerate() {
        node.call("DEL", &format!("c{number}"), pod, config).ok();
    }
    node.agent.serve();
    assert_eq!(node.state("tombstones").len(), 3);
    // After the one that the call itself asks for, and one of the three.
    let held = node.agent.hold_before_later(2);
    node.call("DEL", "c9", &pods[0], &configs[0]).ok();
    held.release();
    assert_eq!(node.state("tombstones").len(), 2);
    assert_eq!(node.state("backoff"), Vec::<String>::new());
    node.call("DEL", "c9", &pods[0], &configs[0]).ok();
    node.assert_clean();
}

/// What the owner of a VF before has of addresses is not the new one's to forget.
#[test]
fn an_add_that_clears_its_way_forgets_no_address_without_ipam() {
    let (mut node, pods, configs) = attached(1, json!({"ipam": {"type": "fake-ipam"}}));
    end_silently(&node, &pods[0], "net1");
    fs::remove_file(node.plugin("fake-ipam")).unwrap();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c2", &pod, &config).ok();
    assert_eq!(node.state("attachments").len(), 2);
    node.call("DEL", "c0", &pods[0], &configs[0]).ok();
    assert_eq!(node.state("attachments").len(), 1, "its own DEL may");
}

/// An IPAM that asks a server takes its time.
#[test]
fn a_slow_ipam_gets_through_in_a_sweep() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    lose(&node, &pods[0]);
    let slow = "[ \"$CNI_CONTAINERID\" != c0 ] || sleep 0.8";
    node.precede_plugin("fake-ipam", slow);
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    assert!(node.ipam_log().contains(&"DEL c0 net1".to_owned()));
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

/// The runtime whose call sweeps may know other folders; and an IPAM that is nowhere has not
/// released anything.
#[test]
fn a_sweep_finds_ipam_where_add_did_and_forgets_no_address_without_it() {
    let (node, pods, configs) = attached(2, json!({"ipam": {"type": "fake-ipam"}}));
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    lose(&node, &pods[0]);
    let bin = node.plugin("fake-ipam");
    let away = node.root.path().join("away");
    fs::rename(&bin, &away).unwrap();
    let sweep = || {
        let env = [("CNI_PATH", "/nonexistent")];
        let config = node.config(json!({})).to_string();
        node.call_with("DEL", "c9", &pods[1], &config, &env).ok();
    };
    sweep();
    assert_eq!(node.state("attachments").len(), 1);
    assert_eq!(node.state("vf"), Vec::<String>::new(), "the VF is free");
    fs::rename(&away, &bin).unwrap();
    // As time goes by.
    fs::remove_dir_all(node.root.path().join("state/backoff")).unwrap();
    sweep();
    assert!(node.ipam_log().contains(&"DEL c0 net1".to_owned()));
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

#[test]
fn many_lost_pods_go_by_turns() {
    let (node, pods, configs) = attached(2, json!({}));
    lose(&node, &pods[0]);
    for number in 0..20 {
        copy_record(&node, "c0", &format!("lost{number}"));
    }
    let mut calls = 0;
    while node.state("attachments").len() > 1 {
        node.call("DEL", "c9", &pods[1], &configs[1]).ok();
        calls += 1;
        assert!(calls < 20, "{:?}", node.state("attachments"));
    }
    assert!(calls >= 7, "twenty-one, three at a time: {calls}");
    assert_eq!(node.agent.ports().len(), 1);
}

#[test]
fn a_lost_pods_record_takes_no_vf_from_its_owner() {
    let (node, pods, configs) = attached(2, json!({}));
    copy_record(&node, "c0", "lost");
    node.call("DEL", "c1", &pods[1], &configs[1]).ok();
    assert_eq!(node.state("attachments").len(), 1);
    assert_ne!(Node::link(name_of(&pods[0]), "net1"), Value::Null);
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c0", &pods[0], &configs[0]).ok();
    node.assert_clean();
}

/// Another container's record, like one there is, but of a pod that is gone.
fn copy_record(node: &Node, of: &str, to: &str) {
    let key = |container: &str| {
        Key::of(&Attachment {
            container_id: container.to_owned(),
            ifname: "net1".parse().unwrap(),
            netns: None,
        })
    };
    let (of_key, to_key) = (key(of), key(to));
    let text = fs::read_to_string(node.record(of_key.as_str())).unwrap();
    let text = text
        .replace(&format!("\"{of}\""), &format!("\"{to}\""))
        .replace(of_key.as_str(), to_key.as_str())
        .replace("/run/netns/", "/run/netns/gone-");
    fs::write(node.record(to_key.as_str()), text).unwrap();
}
