//! What others have left, and where they have left it: an agent that has moved, a MAC that an ended
//! pod's port still has, an IPAM that hangs for a pod that is gone. The next pod gets its VF.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Node, VF, name_of, run};

/// A pod ends and nobody says so; its VF comes home, as the kernel brings it.
fn end_silently(node: &Node, pod: &Path, name: &str) {
    let line = [
        "-n",
        name_of(pod),
        "link",
        "set",
        "net1",
        "netns",
        &node.host,
        "name",
        name,
    ];
    run("ip", &line);
    run("ip", &["netns", "del", name_of(pod)]);
}

#[test]
fn an_ipam_that_hangs_for_a_dead_pod_costs_its_vfs_next_owner_little() {
    for name in ["slow", "dhcp"] {
        let mut node = Node::new();
        let (one, two) = (node.pod(), node.pod());
        let bin = node.root.path().join("bin");
        let script = format!(
            "#!/bin/sh\n[ \"$CNI_COMMAND\" != DEL ] || exec sleep 60\nexec {}/fake-ipam\n",
            bin.display()
        );
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        let config = node.config(json!({"ipam": {"type": name}}));
        node.call("ADD", "c1", &one, &config).ok();
        end_silently(&node, &one, VF);
        let start = Instant::now();
        node.call("ADD", "c2", &two, &node.config(json!({}))).ok();
        // The sweep has two seconds for the first one that hangs.
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(4), "{name}: {elapsed:?}");
        assert_eq!(
            node.state("attachments").len(),
            2,
            "the addresses are not forgotten"
        );
    }
}
