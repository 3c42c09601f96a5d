//! An XDP program moves along with its device, and the next pod's frames go through it.

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp},
};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use xpu_linux::sync::{Request, Rtnl, ioctl};

use crate::harness::{Node, VF, name_of, run};

/// `union bpf_attr` of `BPF_PROG_LOAD` (`linux/bpf.h`), as far as that needs it.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
}

/// A program that lets every frame pass: `r0 = XDP_PASS; exit`.
fn program() -> OwnedFd {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let attr = Load {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: code.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        ..Load::default()
    };
    // SAFETY: the attribute is live, and so are the code and the text that it points to.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given this descriptor to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) }
}

/// Attaches a program to a pod's interface: by the kernel's generic code, or by the driver.
fn attach(pod: &Path, flag: u32) {
    attach_to(pod, "net1", flag);
}

fn attach_to(netns: &Path, name: &str, flag: u32) {
    let (netns, name, program) = (netns.to_owned(), name.parse().unwrap(), program());
    // The thread alone goes there, and ends there.
    let attached = thread::spawn(move || {
        setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let mut message = LinkMessage::default();
        message.header.index = ioctl::index(&rtnl, &name).unwrap().get();
        let xdp = vec![LinkXdp::Fd(program.as_raw_fd()), LinkXdp::Flags(flag)];
        message.attributes.push(LinkAttribute::Xdp(xdp));
        let request = Request {
            what: "attach".to_owned(),
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        };
        rtnl.apply(&[request]).unwrap();
    });
    attached.join().unwrap();
}

/// `union bpf_attr` of `BPF_LINK_CREATE`, as far as that needs it.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a pod's interface by a link, which alone can let go of it.
fn attach_by_link(pod: &Path) -> OwnedFd {
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_XDP: u32 = 37;
    let (pod, program) = (pod.to_owned(), program());
    let attached = thread::spawn(move || {
        setns(File::open(pod).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let name = "net1".parse().unwrap();
        let attr = LinkCreate {
            program: program.as_raw_fd().try_into().unwrap(),
            ifindex: ioctl::index(&Rtnl::open().unwrap(), &name).unwrap().get(),
            attach_type: BPF_XDP,
            flags: 0,
        };
        // SAFETY: the attribute is live.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_LINK_CREATE,
                &raw const attr,
                size_of_val(&attr),
            )
        };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just given this descriptor to nobody else.
        unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) }
    });
    attached.join().unwrap()
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

/// As the kernel brings a VF home from a namespace that ends, by the name it had there.
fn come_home(node: &Node, pod: &Path, name: &str) {
    let home = format!("link set net1 netns {} name {name}", node.host);
    let words = ["-n", name_of(pod)].into_iter().chain(home.split(' '));
    run("ip", &Vec::from_iter(words));
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
    let (pod, config) = (node.pod(), node.config(json!({})));
    attach_to(&Path::new("/run/netns").join(&node.host), VF, GENERIC);
    // The record, the claim, the port twice, and the move once: noted, and not done.
    let env = [("XPU_TESTBED_KILL_AT", "6")];
    let answer = node.call_with("ADD", "c1", &pod, &config.to_string(), &env);
    assert!(answer.stderr.contains("killed at move"), "{answer:?}");
    node.call("DEL", "c1", &pod, &config).ok();
    assert!(Node::link(&node.host, VF)["xdp"].is_object());
    node.assert_clean();
}

#[test]
fn a_program_of_a_pod_that_is_gone_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    attach(&pod, GENERIC);
    come_home(&node, &pod, VF);
    run("ip", &["netns", "del", name_of(&pod)]);
    assert!(Node::link(&node.host, VF)["xdp"].is_object());
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
}

/// It withholds no VF, and whoever reads the log is told, once.
#[test]
fn a_program_that_somebody_holds_is_told() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let held = attach_by_link(&pod);
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    let told = answer.stderr.matches("take the XDP program from").count();
    assert_eq!(told, 1, "{answer:?}");
    assert!(Node::link(&node.host, VF)["xdp"].is_object());
    drop(held);
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
}
