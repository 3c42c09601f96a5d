//! A record that is another one by the time its VF's lock is held: between the look at it and the
//! lock, the attachment has ended and begun anew.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use xpu_cni::{env::Attachment, journal::Journal, port::Key};

use crate::{
    harness::{Answer, Node, PCI, name_of, run},
    pipe,
    verbs::{of_network, with},
};

/// The only record's file, and what it says.
fn record(node: &Node) -> (PathBuf, String) {
    let path = node.only_record();
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// A call whose first look at a record finds `before`. By the time it has read that, the record is
/// what it is now.
#[track_caller]
fn after_a_look_at(
    node: &Node,
    (path, before): (&Path, &str),
    call: impl FnOnce() -> Answer,
) -> Answer {
    let now = node.root.path().join("now");
    fs::rename(path, &now).unwrap();
    pipe::make(path);
    pipe::stopped_at(path, call, |mut end| {
        fs::rename(&now, path).unwrap();
        end.write_all(before.as_bytes()).unwrap();
    })
}

/// The record as of a pod that is gone, of an ADD that got as far as the port: nothing waits for
/// such a one's VF.
fn of_a_lost_pod(text: &str) -> String {
    let (first, _) = text.split_once('\n').unwrap();
    let first = first.replace("/run/netns/", "/run/netns/gone-");
    format!("{first}\n{}\n", json!({"step": "port"}))
}

/// Nothing of the pod's is gone.
#[track_caller]
fn assert_lives(node: &Node, pod: &Path, pci: &str) {
    assert_ne!(Node::link(name_of(pod), "net1"), Value::Null);
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.state("attachments").len(), 1);
    assert_eq!(node.state("vf"), [pci]);
}

/// What GC has found was the network's, on a VF whose lock it then takes.
#[test]
fn gc_takes_nothing_that_has_begun_anew_as_another() {
    let mut node = Node::new();
    let (pod, pci) = (node.pod(), node.make_vf(1));
    let config = node.config(json!({ "deviceID": pci }));
    node.call("ADD", "c1", &pod, &config).ok();
    let (path, now) = record(&node);
    let gc = |name: &str| {
        let config = with(&config, "name", &name.into());
        let config = with(&config, "cni.dev/valid-attachments", &json!([]));
        of_network(&node, "GC", &config)
    };
    let (red, green) = (r#""network":"red""#, r#""network":"green""#);
    assert!(now.contains(&pci) && now.contains(red), "{now}");
    for (name, before) in [
        ("red", now.replace(&pci, PCI)),
        ("green", now.replace(red, green)),
    ] {
        after_a_look_at(&node, (&path, &before), || gc(name)).ok();
        assert_lives(&node, &pod, &pci);
    }
    gc("red").ok();
    node.assert_clean();
}

/// The pod's namespace is another one by the time an ADD has its locks.
#[test]
fn an_add_attaches_nothing_to_a_namespace_that_took_the_pods_name() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    // Of an attachment that is there, so that its record is looked at.
    node.call("ADD", "c1", &pod, &config).ok();
    let (path, now) = record(&node);
    node.call("DEL", "c1", &pod, &config).ok();
    pipe::make(&path);
    let add = || node.call("ADD", "c1", &pod, &config);
    let answer = pipe::stopped_at(&path, add, |mut end| {
        fs::remove_file(&path).unwrap();
        run("ip", &["netns", "del", name_of(&pod)]);
        run("ip", &["netns", "add", name_of(&pod)]);
        end.write_all(of_a_lost_pod(&now).as_bytes()).unwrap();
    });
    let (code, msg) = answer.error();
    assert_eq!(code, 8, "{msg}");
    assert!(msg.contains("another namespace by now"), "{msg}");
    node.assert_clean();
}

/// What the sweep has found was a lost pod's.
#[test]
fn a_sweep_takes_nothing_that_has_begun_anew() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let (path, now) = record(&node);
    let sweep = || node.call("DEL", "c9", &pod, &config);
    after_a_look_at(&node, (&path, &of_a_lost_pod(&now)), sweep).ok();
    assert_lives(&node, &pod, PCI);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// The attachment has ended, begun anew with another VF, and lost its pod again; whoever is at that
/// VF is not disturbed, since only the first one's lock is held.
#[test]
fn a_sweep_leaves_an_attachment_that_has_another_vf_by_now() {
    let mut node = Node::new();
    let (pod, pci) = (node.pod(), node.make_vf(1));
    let config = node.config(json!({ "deviceID": pci }));
    node.call("ADD", "c1", &pod, &config).ok();
    let (path, text) = record(&node);
    let lost = of_a_lost_pod(&text);
    fs::write(&path, &lost).unwrap();
    let sweep = || node.call("DEL", "c9", &pod, &config);
    let held = node.hold(&pci);
    after_a_look_at(&node, (&path, &lost.replace(&pci, PCI)), sweep).ok();
    assert_lives(&node, &pod, &pci);
    drop(held);
    sweep().ok();
    assert_eq!(node.agent.ports(), Vec::<String>::new());
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

/// The same for an ADD that looks for who has its MAC.
#[test]
fn an_add_frees_no_mac_at_a_vf_whose_lock_it_has_not() {
    const OTHER: &str = "0000:af:06.7";
    let mut node = Node::new();
    let (old, new, pci) = (node.pod(), node.pod(), node.make_vf(1));
    let mac = json!("02:00:00:00:00:07");
    let config = node.config(json!({ "deviceID": pci, "mac": mac }));
    node.call("ADD", "c1", &old, &config).ok();
    let (path, text) = record(&node);
    let lost = of_a_lost_pod(&text);
    fs::write(&path, &lost).unwrap();
    // So that the first look finds one that has its VF still.
    let attachment = Attachment {
        container_id: "c1".to_owned(),
        ifname: "net1".parse().unwrap(),
        netns: None,
    };
    let journal = Journal::open(&node.root.path().join("state")).unwrap();
    let claim = journal.claim(&OTHER.parse().unwrap(), &Key::of(&attachment));
    claim.unwrap();
    let second = node.config(json!({ "mac": mac }));
    let add = || node.call("ADD", "c2", &new, &second);
    let held = node.hold(&pci);
    let answer = after_a_look_at(&node, (&path, &lost.replace(&pci, OTHER)), add);
    assert_eq!(answer.error().0, 101, "{answer:?}");
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.state("attachments").len(), 1);
    drop(held);
    add().ok();
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c2", &new, &second).ok();
    assert_eq!(node.agent.ports(), Vec::<String>::new());
}
