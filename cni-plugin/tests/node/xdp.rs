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
    let (pod, program) = (pod.to_owned(), program());
    // The thread alone goes there, and ends there.
    let attached = thread::spawn(move || {
        setns(File::open(pod).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let mut message = LinkMessage::default();
        message.header.index = ioctl::index(&rtnl, &"net1".parse().unwrap()).unwrap().get();
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

#[test]
fn a_program_of_a_pod_that_is_gone_goes_too() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    attach(&pod, GENERIC);
    // As the kernel brings it home.
    let home = format!("link set net1 netns {} name {VF}", node.host);
    let words: Vec<_> = ["-n", name_of(&pod)]
        .into_iter()
        .chain(home.split(' '))
        .collect();
    run("ip", &words);
    run("ip", &["netns", "del", name_of(&pod)]);
    assert!(Node::link(&node.host, VF)["xdp"].is_object());
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(Node::link(&node.host, VF)["xdp"], Value::Null);
    node.assert_clean();
}
