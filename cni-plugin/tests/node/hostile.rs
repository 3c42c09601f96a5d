//! What a pod's owner can do to the interface, which is root's in the pod: nothing of it stays with
//! the VF, and none of it keeps the VF in the pod.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

use serde_json::json;

use crate::harness::{Node, VF, name_of, run};

/// `ip` in a namespace.
#[track_caller]
fn ip(netns: &str, line: &str) {
    let words: Vec<_> = ["-n", netns].into_iter().chain(line.split(' ')).collect();
    run("ip", &words);
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
