//! An XDP program moves along with its device, and the next pod's frames go through it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp},
};
use serde_json::{Value, json};
use xpu_linux::sync::Request;

use crate::{
    bpf::{self, BPF_PROG_TYPE_XDP, BPF_XDP, inside},
    harness::{Node, VF, come_home, end_silently, killed_before_the_move, name_of, run},
};

/// A program that lets every frame pass, by `XDP_PASS` of `linux/bpf.h`.
fn program() -> OwnedFd {
    bpf::program(BPF_PROG_TYPE_XDP, 2)
}

/// Attaches a program to a pod's interface: by the kernel's generic code, or by the driver.
fn attach(pod: &Path, flag: u32) {
    attach_to(pod, "net1", flag);
}

fn attach_to(netns: &Path, name: &str, flag: u32) {
    let program = program();
    inside(netns, name, move |mut rtnl, index| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let xdp = vec![LinkXdp::Fd(program.as_raw_fd()), LinkXdp::Flags(flag)];
        message.attributes.push(LinkAttribute::Xdp(xdp));
        let request = Request {
            what: "attach".to_owned(),
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        };
        rtnl.apply(&[request]).unwrap();
    });
}

const GENERIC: u32 = 1 << 1;
const DRIVER: u32 = 1 << 2;

#[test]
fn a_program_of_the_pods_goes_with_the_pod() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for mode in [GENERIC, DRIVER] {
        node.call("ADD", "c1", &pod, &config).ok();
        attach(&pod, mode);
        assert!(Node::link(name_of(&pod), "net1")["xdp"].is_object());
        node.call("DEL", "c1", &pod, &config).ok();
        assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
        node.assert_clean();
    }
}

/// A pod that may make namespaces puts its VF into one and ends that: the VF is home, and the pod
/// lives. Whether by its name at home or another, it was in the pod.
#[test]
fn a_program_on_a_vf_that_came_home_from_a_living_pod_goes() {
    for name in [VF, "net1"] {
        let mut node = Node::new();
        let (pod, config) = (node.pod(), node.config(json!({})));
        node.call("ADD", "c1", &pod, &config).ok();
        attach(&pod, GENERIC);
        come_home(&node, &pod, name);
        if name != VF {
            node.hide_netdev();
        }
        assert!(Node::link(&node.host, name)["xdp"].is_object());
        node.call("DEL", "c1", &pod, &config).ok();
        assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null, "{name}");
        node.assert_clean();
    }
}

/// A VF that never came as far as its pod has what the host gave it.
#[test]
fn a_program_of_the_hosts_on_a_vf_that_never_left_stays() {
    let mut node = Node::new();
    attach_to(&Path::new("/run/netns").join(&node.host), VF, GENERIC);
    for ends_first in [false, true] {
        killed_before_the_move(&mut node, ends_first);
        let vf = Node::link(&node.host, VF);
        assert!(vf["xdp"].is_object(), "{ends_first}: {vf}");
        node.assert_clean();
    }
}

#[test]
fn a_program_of_a_pod_that_is_gone_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    attach(&pod, GENERIC);
    end_silently(&node, &pod, VF);
    assert!(Node::link(&node.host, VF)["xdp"].is_object());
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
}

/// Somebody holds the link, but has nothing of it any more.
#[test]
fn a_program_that_somebody_holds_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let held = bpf::attach_by_link(&pod, program(), BPF_XDP);
    assert!(Node::link(name_of(&pod), "net1")["xdp"].is_object());
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    assert!(!answer.stderr.contains("XDP"), "{answer:?}");
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
    drop(held);
}

/// A namespace with a device of the index that the VF has at home, and a program on it, by a link.
fn with_a_device_of_the_vfs_index(node: &mut Node, program: OwnedFd) -> (PathBuf, OwnedFd) {
    let index = Node::link(&node.host, VF)["ifindex"].to_string();
    let netns = node.pod();
    let add = ["link", "add", "net1", "index", &index, "type", "veth"];
    run("ip", &[&["-n", name_of(&netns)], &add[..]].concat());
    let held = bpf::attach_by_link(&netns, program, BPF_XDP);
    assert!(Node::link(name_of(&netns), "net1")["xdp"].is_object());
    (netns, held)
}

/// A link tells its device's index, but in no namespace.
#[test]
fn a_program_that_a_link_elsewhere_holds_too_hides_behind_none() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let same = program();
    let decoy = with_a_device_of_the_vfs_index(&mut node, same.try_clone().unwrap());
    node.call("ADD", "c1", &pod, &config).ok();
    let held = bpf::attach_by_link(&pod, same, BPF_XDP);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
    drop((held, decoy));
}

#[test]
fn another_program_on_a_device_of_that_index_elsewhere_stays() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let (elsewhere, other) = with_a_device_of_the_vfs_index(&mut node, program());
    node.call("ADD", "c1", &pod, &config).ok();
    let held = bpf::attach_by_link(&pod, program(), BPF_XDP);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    assert!(Node::link(name_of(&elsewhere), "net1")["xdp"].is_object());
    node.assert_clean();
    drop((held, other));
}

/// Its holder changes the program all the time, so that it never is the one that was seen.
#[test]
fn a_program_that_is_exchanged_all_the_time_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for _again in 0..5 {
        node.call("ADD", "c1", &pod, &config).ok();
        let held = bpf::attach_by_link(&pod, program(), BPF_XDP);
        let programs = Vec::from_iter((0..16).map(|_| program()));
        // Until the link is parted from its device.
        let exchange = thread::spawn(move || {
            let mut each = programs.iter().cycle();
            while bpf::update_link(&held, each.next().unwrap()).is_ok() {}
        });
        let answer = node.call("DEL", "c1", &pod, &config);
        answer.ok();
        assert!(!answer.stderr.contains("XDP"), "{answer:?}");
        assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
        exchange.join().unwrap();
        node.assert_clean();
    }
}
