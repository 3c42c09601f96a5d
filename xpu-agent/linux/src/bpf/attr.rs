//! bpf(2) itself: commands, and the parts of `union bpf_attr` that belong to them (`linux/bpf.h`).

use std::{collections::BTreeSet, io};

/// Commands, by their numbers in `enum bpf_cmd`.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(super) enum Command {
    ProgDetach = 9,
    ProgGetFdById = 13,
    ObjGetInfoByFd = 15,
    ProgQuery = 16,
    LinkGetFdById = 30,
    LinkGetNextId = 31,
    LinkDetach = 34,
}

/// Of `BPF_PROG_QUERY`. The kernel writes how many programs there are into `count`, and their ids,
/// with those of the links that hold them, to where the pointers say. It writes `revision` too,
/// however short the attribute is told to be.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Query {
    pub target_ifindex: u32,
    pub attach_type: u32,
    pub query_flags: u32,
    pub attach_flags: u32,
    pub prog_ids: u64,
    pub count: u32,
    pub reserved: u32,
    pub prog_attach_flags: u64,
    pub link_ids: u64,
    pub link_attach_flags: u64,
    pub revision: u64,
}

/// Of `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Detach {
    pub target_ifindex: u32,
    pub attach_bpf_fd: u32,
    pub attach_type: u32,
    pub attach_flags: u32,
}

/// Of `BPF_PROG_GET_FD_BY_ID`, `BPF_LINK_GET_FD_BY_ID` and `BPF_LINK_GET_NEXT_ID`.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct GetById {
    /// The object, or the one before the next.
    pub id: u32,
    /// The kernel's answer to the last of these.
    pub next_id: u32,
    pub open_flags: u32,
}

/// Of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct ObjInfo {
    pub bpf_fd: u32,
    pub info_len: u32,
    pub info: u64,
}

/// Of `BPF_LINK_DETACH`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct LinkDetach {
    pub link_fd: u32,
}

/// `struct bpf_link_info`, as far as one of XDP needs it.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    /// What follows is a union that begins at a multiple of eight.
    reserved: u32,
    /// Of `xdp`; 0 for one that is parted from its device.
    ifindex: u32,
}

impl LinkInfo {
    /// Whether it is an XDP link (`BPF_LINK_TYPE_XDP`) of one of these programs on a device of this
    /// index.
    pub fn is_xdp(&self, ifindex: u32, programs: &BTreeSet<u32>) -> bool {
        const XDP: u32 = 6;
        (self.kind, self.ifindex) == (XDP, ifindex) && programs.contains(&self.prog_id)
    }
}

/// Calls bpf(2). Gives a descriptor, or 0.
///
/// # Safety
/// `T` is the command's whole part of `union bpf_attr`, and what it points to is live, writable, and as
/// long as the attribute says.
pub(super) unsafe fn call<T>(command: Command, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attribute is live and writable for as many bytes as are told; the rest is the
    // caller's promise.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(done).map_err(io::Error::other)
}
