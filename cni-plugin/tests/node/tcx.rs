//! A program at the tcx hooks (kernel 6.6 and later) stays on its device at a move, without a trace
//! in what rtnetlink tells, and sees or drops the next pod's frames.

use std::{
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    bpf::{
        BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_EGRESS, BPF_TCX_INGRESS, attach_by_link, bpf, inside,
        program,
    },
    harness::{Node, VF, end_silently, killed_before_the_move, run},
    verbs::ipam,
};

const HOOKS: [u32; 2] = [BPF_TCX_INGRESS, BPF_TCX_EGRESS];

/// A program that drops every frame, by `TC_ACT_SHOT` of `linux/pkt_cls.h`.
fn dropper() -> OwnedFd {
    program(BPF_PROG_TYPE_SCHED_CLS, 2)
}

/// `union bpf_attr` of `BPF_PROG_ATTACH` (`linux/bpf.h`), as far as that needs it.
#[repr(C)]
struct Attach {
    ifindex: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program at each hook of an interface.
fn attach(netns: &Path, name: &str) {
    const BPF_PROG_ATTACH: libc::c_int = 8;
    for attach_type in HOOKS {
        let dropper = dropper();
        inside(netns, name, move |_, ifindex| {
            let mut attr = Attach {
                ifindex,
                program: dropper.as_raw_fd().try_into().unwrap(),
                attach_type,
                flags: 0,
            };
            bpf(BPF_PROG_ATTACH, &mut attr)
        });
    }
}

/// `union bpf_attr` of `BPF_PROG_QUERY`, all of it: the kernel writes into its last field too.
#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: [u64; 2],
    revision: u64,
}

/// How many programs an interface has at both hooks.
fn attached(netns: &Path, name: &str) -> u32 {
    const BPF_PROG_QUERY: libc::c_int = 16;
    inside(netns, name, |_, ifindex| {
        let count = HOOKS.map(|attach_type| {
            let mut attr = Query {
                ifindex,
                attach_type,
                ..Query::default()
            };
            bpf(BPF_PROG_QUERY, &mut attr);
            attr.count
        });
        count.iter().sum()
    })
}

fn host_of(node: &Node) -> PathBuf {
    Path::new("/run/netns").join(&node.host)
}

/// The next pod reaches what is on the wire.
#[track_caller]
fn assert_works(node: &mut Node) {
    let (pod, config) = (node.pod(), node.config(ipam()));
    let gateway = [
        "-n",
        &node.host,
        "addr",
        "replace",
        "10.1.2.1/24",
        "dev",
        "wire0",
    ];
    run("ip", &gateway);
    node.call("ADD", "next", &pod, &config).ok();
    assert_eq!(attached(&pod, "net1"), 0);
    let listen = |_, _| TcpListener::bind("10.1.2.1:0").unwrap();
    let listener = inside(&host_of(node), "wire0", listen);
    let address = listener.local_addr().unwrap();
    let connect = move |_, _| TcpStream::connect_timeout(&address, Duration::from_secs(5));
    inside(&pod, "net1", connect).unwrap();
    node.call("DEL", "next", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn a_program_at_the_tcx_hooks_goes_with_the_pod() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    attach(&pod, "net1");
    attach(&pod, "net1");
    assert_eq!(attached(&pod, "net1"), 4);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(attached(&host_of(&node), VF), 0);
    node.assert_clean();
    assert_works(&mut node);
}

/// Somebody holds the link, but has nothing of it any more.
#[test]
fn a_program_at_the_tcx_hooks_that_somebody_holds_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let held = HOOKS.map(|hook| attach_by_link(&pod, dropper(), hook));
    attach(&pod, "net1");
    assert_eq!(attached(&pod, "net1"), 4);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(attached(&host_of(&node), VF), 0);
    node.assert_clean();
    assert_works(&mut node);
    drop(held);
}

/// As the kernel brings a VF home from a namespace that ends.
#[test]
fn a_program_at_the_tcx_hooks_of_a_pod_that_is_gone_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    attach(&pod, "net1");
    end_silently(&node, &pod, VF);
    assert_eq!(attached(&host_of(&node), VF), 2);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(attached(&host_of(&node), VF), 0);
    node.assert_clean();
    assert_works(&mut node);
}

/// What never came as far as its pod has what the host gave it.
#[test]
fn a_program_of_the_hosts_at_the_tcx_hooks_of_a_vf_that_never_left_stays() {
    let mut node = Node::new();
    attach(&host_of(&node), VF);
    for ends_first in [false, true] {
        killed_before_the_move(&mut node, ends_first);
        assert_eq!(attached(&host_of(&node), VF), 2, "{ends_first}");
        node.assert_clean();
    }
}
