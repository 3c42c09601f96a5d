//! bpf(2) as a pod's owner calls it: programs of two instructions, and where they are attached.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
};

use nix::sched::{CloneFlags, setns};
use xpu_linux::sync::{Rtnl, ioctl};

/// Kinds of programs (`enum bpf_prog_type` of `linux/bpf.h`).
pub const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
pub const BPF_PROG_TYPE_XDP: u32 = 6;
/// Where they are attached (`enum bpf_attach_type`).
pub const BPF_XDP: u32 = 37;
pub const BPF_TCX_INGRESS: u32 = 46;
pub const BPF_TCX_EGRESS: u32 = 47;

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

/// One call of bpf(2).
#[track_caller]
pub fn bpf<T>(command: libc::c_int, attr: &mut T) -> i32 {
    let done = try_bpf(command, attr);
    done.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// One call of bpf(2) that may be refused.
fn try_bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the attribute is live, and what it points to is its maker's to keep so.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(done.try_into().unwrap())
}

/// The same, for a command that gives a descriptor.
#[track_caller]
pub fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> OwnedFd {
    let fd = bpf(command, attr);
    // SAFETY: the kernel has just given this descriptor to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A program that says the same of every frame: `r0 = verdict; exit`.
pub fn program(prog_type: u32, verdict: u32) -> OwnedFd {
    const BPF_PROG_LOAD: libc::c_int = 5;
    let code: [u64; 2] = [u64::from(verdict) << 32 | 0xb7, 0x95];
    let mut attr = Load {
        prog_type,
        insn_cnt: 2,
        insns: code.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        ..Load::default()
    };
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}

/// Does something in a namespace, to an interface there.
pub fn inside<T: Send + 'static>(
    netns: &Path,
    name: &str,
    work: impl FnOnce(Rtnl, u32) -> T + Send + 'static,
) -> T {
    let (netns, name) = (netns.to_owned(), name.parse().unwrap());
    // The thread alone goes there, and ends there.
    let done = thread::spawn(move || {
        setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let rtnl = Rtnl::open().unwrap();
        let index = ioctl::index(&rtnl, &name).unwrap().get();
        work(rtnl, index)
    });
    done.join().unwrap()
}

/// `union bpf_attr` of `BPF_LINK_CREATE`, as far as that needs it.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a pod's interface by a `bpf_link`, which ends with its last descriptor.
pub fn attach_by_link(pod: &Path, program: OwnedFd, attach_type: u32) -> OwnedFd {
    const BPF_LINK_CREATE: libc::c_int = 28;
    inside(pod, "net1", move |_, ifindex| {
        let mut attr = LinkCreate {
            program: program.as_raw_fd().try_into().unwrap(),
            ifindex,
            attach_type,
            flags: 0,
        };
        bpf_fd(BPF_LINK_CREATE, &mut attr)
    })
}

/// `union bpf_attr` of `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Has a link hold another program, as its holder can wherever its device is.
pub fn update_link(link: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    const BPF_LINK_UPDATE: libc::c_int = 29;
    let number = |fd: &OwnedFd| fd.as_raw_fd().try_into().unwrap();
    let mut attr = LinkUpdate {
        link: number(link),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    try_bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}
