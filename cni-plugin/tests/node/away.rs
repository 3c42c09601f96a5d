//! The agent is slow, restarts, loses an answer, hangs, or is behind a wire that drops everything:
//! a call fails fast and clearly, or succeeds with a tombstone, and nothing is left in the end.

use std::{
    io::Write,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    agent::Mood,
    harness::{Node, VF, ip},
};

/// An address on the host that takes every packet and answers none.
fn black_hole(node: &Node) -> &'static str {
    let ip = |line| ip(&node.host, line);
    ip("link add hole type veth peer name drain");
    ip("addr add 192.0.2.1/24 dev hole");
    ip("link set hole up");
    ip("link set drain up");
    ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:99 dev hole nud permanent");
    "http://192.0.2.9:50151"
}

/// Nothing is wrong with the agent's address then, and the next call may have what it needs.
#[test]
fn a_call_that_may_open_no_more_files_says_so() {
    let node = Node::new();
    let mut plugin = Command::new("sh")
        .args(["-c", "ulimit -n 4 && exec \"$0\""])
        .arg(env!("CARGO_BIN_EXE_xpu-cni-testbed"))
        .env("CNI_COMMAND", "STATUS")
        .env("CNI_PATH", node.root.path().join("bin"))
        .env("XPU_TESTBED_ROOT", node.root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let config = node.config(json!({})).to_string();
    let mut stdin = plugin.stdin.take().unwrap();
    stdin.write_all(config.as_bytes()).unwrap();
    drop(stdin);
    let output = plugin.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = answer["msg"].as_str().unwrap();
    assert_eq!(answer["code"], 50, "{told}");
    assert!(told.contains("can't be reached: nothing is left"), "{told}");
    assert!(told.contains("Too many open files"), "{told}");
}

#[test]
fn an_agent_that_takes_its_time_is_waited_for() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let held = node.agent.hold();
    std::thread::scope(|scope| {
        let add = scope.spawn(|| node.call("ADD", "c1", &pod, &config));
        held.entered.recv().unwrap();
        // The VF doesn't move before the agent has said yes.
        assert_ne!(Node::link(&node.host, VF), Value::Null);
        held.release();
        add.join().unwrap().ok();
    });
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// The port is there, and nobody was told: the agent ends between the two, for good or to start
/// anew.
#[test]
fn a_port_whose_creation_nobody_heard_of_is_deleted_once_the_agent_is_back() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for starts_anew in [false, true] {
        let held = node.agent.hold();
        let answer = std::thread::scope(|scope| {
            let add = scope.spawn(|| node.call("ADD", "c1", &pod, &config));
            held.entered.recv().unwrap();
            node.agent.stop();
            if starts_anew {
                node.agent.serve();
            }
            add.join().unwrap()
        });
        let (code, msg) = answer.error();
        assert_eq!(code, 11, "{msg}");
        assert!(msg.contains("can't be reached"), "{msg}");
        assert_ne!(Node::link(&node.host, VF), Value::Null);
        if !starts_anew {
            assert_eq!(node.agent.ports().len(), 1);
            assert_eq!(node.state("tombstones").len(), 1);
            node.agent.serve();
        }
        drained_by_another(&node, &pod, &config);
        node.assert_clean();
    }
}

/// The same at DEL: the agent ends before it has deleted the port, or before it says so.
#[test]
fn a_port_whose_deletion_nobody_heard_of_is_deleted_once_the_agent_is_back() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for (is_done, starts_anew) in [(false, false), (false, true), (true, false), (true, true)] {
        node.call("ADD", "c1", &pod, &config).ok();
        let held = if is_done {
            node.agent.hold()
        } else {
            node.agent.hold_before()
        };
        let answer = std::thread::scope(|scope| {
            let del = scope.spawn(|| node.call("DEL", "c1", &pod, &config));
            held.entered.recv().unwrap();
            node.agent.stop();
            if starts_anew {
                node.agent.serve();
            }
            del.join().unwrap()
        });
        answer.ok();
        assert_ne!(Node::link(&node.host, VF), Value::Null);
        assert_eq!(node.state("attachments"), Vec::<String>::new());
        if !starts_anew {
            assert_eq!(node.agent.ports().len(), usize::from(!is_done));
            assert_eq!(node.state("tombstones").len(), 1);
            node.agent.serve();
        }
        drained_by_another(&node, &pod, &config);
        node.assert_clean();
    }
}

/// No port is there that no tombstone tells of, and those go with other attachments' calls: its
/// own DEL would delete it by its id, told of or not.
#[track_caller]
fn drained_by_another(node: &Node, pod: &Path, config: &Value) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let (ports, buried) = (node.agent.ports(), node.state("tombstones"));
        assert!(ports.len() <= buried.len(), "{ports:?} {buried:?}");
        if buried.is_empty() {
            return;
        }
        // One that was waited for is left alone for a moment.
        assert!(Instant::now() < limit, "{buried:?}");
        node.call("DEL", "c9", pod, config).ok();
    }
}

/// At a limit of its own the agent says when to come again, and the runtime is told to; a limit
/// that no other try will be within is a refusal.
#[test]
fn a_limit_that_passes_is_try_again_and_one_that_does_not_is_a_refusal() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for (after, code, words) in [
        (Some(Duration::from_millis(300)), 11, "try again in 300 ms"),
        (None, 101, "refused with ResourceExhausted"),
    ] {
        node.agent.set_mood(Mood::Full(after));
        let (told, msg) = node.call("ADD", "c1", &pod, &config).error();
        assert_eq!(told, code, "{msg}");
        assert!(msg.starts_with("too many calls at once"), "{msg}");
        assert!(msg.contains(words), "{msg}");
        // The port is not known to be gone, and a pod must be able to end.
        node.call("DEL", "c1", &pod, &config).ok();
        assert_eq!(node.state("tombstones").len(), 1);
        node.agent.set_mood(Mood::Willing);
        drained_by_another(&node, &pod, &config);
        node.assert_clean();
    }
}

#[test]
fn an_agent_that_hangs_at_del_keeps_neither_pod_nor_vf() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let held = node.agent.hold_before();
    let start = Instant::now();
    node.call("DEL", "c1", &pod, &config).ok();
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    held.entered.recv().unwrap();
    assert_ne!(Node::link(&node.host, VF), Value::Null);
    assert_eq!(node.state("tombstones").len(), 1);
    assert_eq!(node.state("attachments"), Vec::<String>::new());
    // Whoever needs the VF next has the port deleted first.
    held.release();
    node.call("ADD", "c2", &pod, &config).ok();
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    node.call("DEL", "c2", &pod, &config).ok();
    node.assert_clean();
}

/// It has the time that the call has, and no more for what the call undoes.
#[test]
fn an_agent_that_hangs_at_add_costs_its_deadline_once() {
    let mut node = Node::new();
    let pod = node.pod();
    // Whoever connects is heard by nobody.
    let socket = node.root.path().join("silent.sock");
    let silent = UnixListener::bind(&socket).unwrap();
    let agent = format!("unix://{}", socket.display());
    let config = node.config(json!({ "agent": agent }));
    let start = Instant::now();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    let elapsed = start.elapsed();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains(&agent), "{msg}");
    // It was reached.
    assert!(msg.contains("did not answer within"), "{msg}");
    // 8 s for the agent; 3 s more if it were asked again.
    assert!(elapsed < Duration::from_millis(10_500), "{elapsed:?}");
    // Its port may be there, and is in nobody's way but the VF's next owner's.
    assert_eq!(node.state("tombstones").len(), 1);
    assert_eq!(node.state("attachments"), Vec::<String>::new());
    assert_eq!(node.state("vf"), Vec::<String>::new());
    drop(silent);
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(node.agent.socket(), &socket).unwrap();
    node.call("ADD", "c2", &pod, &config).ok();
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    node.call("DEL", "c2", &pod, &config).ok();
    node.assert_clean();
}

/// The same by what it is asked, and not by the clock.
#[test]
fn an_agent_that_hangs_at_add_is_not_asked_to_undo() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let held = node.agent.hold();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains("did not answer within"), "{msg}");
    held.entered.recv().unwrap();
    held.release();
    // It would delete at once.
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.state("tombstones").len(), 1);
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(node.state("tombstones"), Vec::<String>::new());
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn an_agent_behind_a_wire_that_drops_all_fails_an_add_fast() {
    let mut node = Node::new();
    let (pod, hole) = (node.pod(), black_hole(&node));
    let config = node.config(json!({ "agent": hole }));
    let start = Instant::now();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    let elapsed = start.elapsed();
    assert_eq!(code, 11, "{msg}");
    assert!(msg.contains(hole), "{msg}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    node.assert_clean();
}

/// A tombstone of an agent that will never be back costs some calls a moment, and not each.
#[test]
fn a_tombstone_of_an_agent_that_never_answers_is_no_tax() {
    let mut node = Node::new();
    let (pod, hole) = (node.pod(), black_hole(&node));
    let config = node.config(json!({}));
    node.call("ADD", "c1", &pod, &config).ok();
    let port = node.agent.only_port().0;
    node.rewrite_record(|text| text.replace(&node.agent.address(), hole));
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("tombstones").len(), 1);

    node.agent.put(&port, None);
    let start = Instant::now();
    for _ in 0..8 {
        node.call("ADD", "c2", &pod, &config).ok();
        node.call("DEL", "c2", &pod, &config).ok();
    }
    // Once in two seconds at the most it is tried, for half a second and what the answer may take.
    // At each call it would be eight seconds and more.
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert_eq!(node.state("tombstones").len(), 1, "it is not forgotten");
}
