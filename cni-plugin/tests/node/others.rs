//! What others have left, and where they have left it: an agent that has moved, a MAC that an ended
//! pod's port still has, an IPAM that hangs for a pod that is gone. The next pod gets its VF.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Node, VF, end_silently, run};

/// Another address of the node's agent.
fn other_address(node: &Node) -> (PathBuf, String) {
    let path = node.root.path().join("old.sock");
    symlink(node.agent.socket(), &path).unwrap();
    let address = format!("unix://{}", path.display());
    (path, address)
}

#[test]
fn a_port_by_an_agents_old_address_is_in_nobodys_way_at_its_new_one() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let (path, address) = other_address(&node);
    let old = node.config(json!({ "agent": address }));
    let config = node.config(json!({}));
    for knows_new in [false, true] {
        node.call("ADD", "c1", &one, &old).ok();
        fs::remove_file(&path).unwrap();
        let del = if knows_new { &config } else { &old };
        node.call("DEL", "c1", &one, del).ok();
        // Nobody knows that it was the same agent, so the old one's word is still waited for.
        assert_eq!(node.state("tombstones").len(), 1);
        assert_eq!(node.agent.ports().len(), usize::from(!knows_new));
        node.call("ADD", "c2", &two, &config).ok();
        assert_eq!(node.agent.ports().len(), 1);
        assert_eq!(node.state("tombstones").len(), 1);
        node.call("DEL", "c2", &two, &config).ok();
        assert_eq!(node.agent.ports(), Vec::<String>::new());
        symlink(node.agent.socket(), &path).unwrap();
        drained(&node, &two, &config);
        node.assert_clean();
    }
}

/// The same attachment again, at the agent's new address: when the old address answers again, the
/// port by that id is a living pod's.
#[test]
fn a_tombstone_takes_no_port_that_lives_again() {
    let mut node = Node::new();
    let (pod, (path, address)) = (node.pod(), other_address(&node));
    let old = node.config(json!({ "agent": address }));
    let config = node.config(json!({}));
    node.call("ADD", "c1", &pod, &old).ok();
    fs::remove_file(&path).unwrap();
    node.call("DEL", "c1", &pod, &old).ok();
    node.call("ADD", "c1", &pod, &config).ok();
    symlink(node.agent.socket(), &path).unwrap();
    node.call("DEL", "c9", &pod, &config).ok();
    assert_eq!(node.agent.ports().len(), 1, "the pod lives");
    node.call("DEL", "c1", &pod, &config).ok();
    drained(&node, &pod, &config);
    node.assert_clean();
}

/// Calls of others until no tombstone is left: an agent that was away is left alone for a moment.
#[track_caller]
fn drained(node: &Node, pod: &Path, config: &Value) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !node.state("tombstones").is_empty() {
        assert!(Instant::now() < limit, "{:?}", node.state("tombstones"));
        node.call("DEL", "c9", pod, config).ok();
    }
}

/// An ADD deletes what has nothing to do with it as well: another VF's, with another MAC.
#[test]
fn an_add_drains_what_others_left() {
    for is_in_way in [false, true] {
        let mut node = Node::new();
        let (one, two, config) = (node.pod(), node.pod(), node.config(json!({})));
        let other = node.config(json!({"deviceID": node.make_vf(1)}));
        node.call("ADD", "c1", &one, &other).ok();
        if is_in_way {
            node.call("ADD", "c2", &two, &config).ok();
        }
        node.agent.stop();
        node.call("DEL", "c1", &one, &other).ok();
        if is_in_way {
            node.call("DEL", "c2", &two, &config).ok();
        }
        node.agent.serve();
        assert_eq!(node.state("tombstones").len(), 1 + usize::from(is_in_way));
        node.call("ADD", "c3", &two, &config).ok();
        assert_eq!(node.state("tombstones"), Vec::<String>::new());
        assert_eq!(node.agent.only_port().1.mac_address, [2, 0, 0, 0, 0xaf, 6]);
        node.call("DEL", "c3", &two, &config).ok();
        node.assert_clean();
    }
}

/// A pod that keeps its MAC comes back with another VF.
#[test]
fn a_mac_goes_from_one_vf_to_another() {
    let mac = "02:00:00:00:00:07";
    for is_told in [true, false] {
        let mut node = Node::new();
        let (one, two) = (node.pod(), node.pod());
        let other = node.make_vf(1);
        let first = node.config(json!({ "mac": mac }));
        let second = node.config(json!({ "mac": mac, "deviceID": other }));
        node.call("ADD", "c1", &one, &first).ok();
        if is_told {
            node.agent.stop();
            node.call("DEL", "c1", &one, &first).ok();
            node.agent.serve();
        } else {
            end_silently(&node, &one, VF);
        }
        node.call("ADD", "c2", &two, &second).ok();
        assert_eq!(node.agent.ports().len(), 1);
        node.call("DEL", "c2", &two, &second).ok();
        node.assert_clean();
    }
}

/// The MAC of a pod that lives is its own.
#[test]
fn a_mac_of_a_living_pods_is_refused() {
    let mac = "02:00:00:00:00:07";
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let other = node.make_vf(1);
    let first = node.config(json!({ "mac": mac }));
    let second = node.config(json!({ "mac": mac, "deviceID": other }));
    node.call("ADD", "c1", &one, &first).ok();
    let (code, msg) = node.call("ADD", "c2", &two, &second).error();
    assert_eq!(code, 101, "{msg}");
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c1", &one, &first).ok();
    node.assert_clean();
}

#[test]
fn an_ipam_that_hangs_for_a_dead_pod_costs_its_vfs_next_owner_little() {
    for name in ["slow", "dhcp"] {
        let mut node = Node::new();
        let (one, two) = (node.pod(), node.pod());
        node.make_ipam_after(name, "[ \"$CNI_COMMAND\" != DEL ] || exec sleep 60");
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

/// An IPAM plugin whose DEL waits until it is told to go on.
struct Waiting {
    asked: PathBuf,
    go: File,
}

impl Waiting {
    /// Makes one, by the name of `slow`.
    fn make(node: &Node) -> Self {
        let root = node.root.path();
        let [asked, go] = ["asked", "go"].map(|name| root.join(name));
        for fifo in [&asked, &go] {
            run("mkfifo", &[fifo.to_str().unwrap()]);
        }
        let script = format!(
            "[ \"$CNI_COMMAND\" != DEL ] || {{ echo > {}; read go < {}; }}",
            asked.display(),
            go.display(),
        );
        node.make_ipam_after("slow", &script);
        // Open to both sides, so that nobody waits for the other one's.
        let go = File::options().read(true).write(true).open(go).unwrap();
        Self { asked, go }
    }

    /// Returns once its DEL has begun.
    fn is_asked(&self) {
        fs::read(&self.asked).unwrap();
    }

    fn goes_on(&mut self) {
        self.go.write_all(b"\n").unwrap();
    }
}

/// The VF and its port are home by then, and the pod that ends has its own lock.
#[test]
fn an_ipam_that_hangs_at_del_keeps_its_vf_from_nobody() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let mut ipam = Waiting::make(&node);
    let with_ipam = node.config(json!({"ipam": {"type": "slow"}}));
    let config = node.config(json!({}));
    node.call("ADD", "c1", &one, &with_ipam).ok();
    std::thread::scope(|scope| {
        let del = scope.spawn(|| node.call("DEL", "c1", &one, &with_ipam));
        ipam.is_asked();
        let start = Instant::now();
        // Its sweep finds an attachment that is dead, and somebody at it.
        let add = node.call("ADD", "c2", &two, &config);
        let elapsed = start.elapsed();
        ipam.goes_on();
        add.ok();
        assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
        del.join().unwrap().ok();
    });
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
    assert_eq!(node.state("attachments").len(), 1);
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c2", &two, &config).ok();
    node.assert_clean();
}

/// Its port is in the VF's next owner's way, who can have it deleted only once the pod's own call
/// has ended.
#[test]
fn a_vf_whose_port_is_left_waits_for_the_end_of_its_del() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let mut ipam = Waiting::make(&node);
    let with_ipam = node.config(json!({"ipam": {"type": "slow"}}));
    let config = node.config(json!({}));
    node.call("ADD", "c1", &one, &with_ipam).ok();
    node.agent.stop();
    std::thread::scope(|scope| {
        let del = scope.spawn(|| node.call("DEL", "c1", &one, &with_ipam));
        ipam.is_asked();
        node.agent.serve();
        let (ended, has_ended) = mpsc::channel();
        let (node, two, config) = (&node, &two, &config);
        scope.spawn(move || ended.send(node.call("ADD", "c2", two, config)).unwrap());
        let early = has_ended.recv_timeout(Duration::from_secs(1));
        ipam.goes_on();
        assert!(early.is_err(), "{early:?}");
        has_ended.recv().unwrap().ok();
        del.join().unwrap().ok();
    });
    assert_eq!(node.agent.ports().len(), 1);
    node.call("DEL", "c2", &two, &config).ok();
    node.assert_clean();
}

/// Its pod gave the VF away before, and only its addresses are left.
#[test]
fn a_del_of_what_only_addresses_are_left_of_keeps_the_vfs_next_owner_from_nothing() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let mut ipam = Waiting::make(&node);
    let with_ipam = node.config(json!({"ipam": {"type": "slow"}}));
    let config = node.config(json!({}));
    node.call("ADD", "c1", &one, &with_ipam).ok();
    end_silently(&node, &one, VF);
    // Nobody can release them meanwhile.
    let [there, away] = ["bin/slow", "away"].map(|path| node.root.path().join(path));
    fs::rename(&there, &away).unwrap();
    node.call("ADD", "c2", &two, &config).ok();
    fs::rename(&away, &there).unwrap();
    node.agent.stop();
    std::thread::scope(|scope| {
        let del = scope.spawn(|| node.call("DEL", "c1", &one, &with_ipam));
        ipam.is_asked();
        let (ended, has_ended) = mpsc::channel();
        let (node, two, config) = (&node, &two, &config);
        scope.spawn(move || ended.send(node.call("DEL", "c2", two, config)).unwrap());
        let early = has_ended.recv_timeout(Duration::from_secs(5));
        ipam.goes_on();
        early.expect("waits for the other's IPAM").ok();
        del.join().unwrap().ok();
    });
    node.agent.serve();
    node.call("DEL", "c2", &two, &config).ok();
    node.assert_clean();
}

/// IPAM may use up the call's time.
#[test]
fn a_del_without_a_record_has_its_port_deleted_before_ipam_is_asked() {
    let mut node = Node::new();
    let pod = node.pod();
    let mut ipam = Waiting::make(&node);
    let with_ipam = node.config(json!({"ipam": {"type": "slow"}}));
    node.call("ADD", "c1", &pod, &with_ipam).ok();
    fs::remove_dir_all(node.root.path().join("state/attachments")).unwrap();
    std::thread::scope(|scope| {
        let del = scope.spawn(|| node.call("DEL", "c1", &pod, &with_ipam));
        ipam.is_asked();
        let left = node.agent.ports();
        ipam.goes_on();
        del.join().unwrap().ok();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Whoever is at it may have let its VF go, and be at its addresses.
#[test]
fn gc_and_sweep_leave_an_attachment_to_whoever_is_at_it() {
    let mut node = Node::new();
    let (one, two) = (node.pod(), node.pod());
    let config = node.config(json!({"ipam": {"type": "fake-ipam"}}));
    node.call("ADD", "c1", &one, &config).ok();
    end_silently(&node, &one, VF);
    let held = node.hold_attachment(&node.state("attachments")[0]);
    let mut gc = config.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    let (code, msg) = node.call("GC", "", &two, &gc).error();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("holds the attachment"), "{msg}");
    let sweep = || node.call("DEL", "c9", &two, &node.config(json!({}))).ok();
    sweep();
    let log = node.ipam_log();
    assert!(!log.contains(&"DEL c1 net1".to_owned()), "{log:?}");
    assert_eq!(node.state("attachments").len(), 1);
    drop(held);
    sweep();
    node.assert_clean();
}
