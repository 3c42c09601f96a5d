//! Which events of neighbours and routes wake the agent: decided by a small program in the kernel
//! (classic BPF, `socket(7)` `SO_ATTACH_FILTER`), since tenants and FRR make thousands that say
//! nothing about what the agent made.
//!
//! Let through are permanent entries of a bridge's FDB, neither learned nor FRR's nor a VXLAN
//! device's, which is what a gateway's entry is; and unreachable defaults, as a Vrf has them: ours,
//! or what somebody replaced ours by.

use std::{io, mem, os::fd::AsRawFd};

use netlink_sys::Socket;

/// The whole message.
const ALL: u32 = u32::MAX;

// Offsets: `struct nlmsghdr` is 16 bytes, `ndmsg` or `rtmsg` follows (`linux/netlink.h`,
// `linux/neighbour.h`, `linux/rtnetlink.h`).
const MESSAGE_TYPE: u32 = 4;
const NEIGHBOUR_FAMILY: u32 = 16;
const NEIGHBOUR_STATE: u32 = 24;
const NEIGHBOUR_FLAGS: u32 = 26;
/// `NTF_EXT_LEARNED` of `linux/neighbour.h`; of a neighbour that is stale the only flag but those
/// that say nothing of where it is from.
const EXT_LEARNED: u32 = 1 << 4;
const ROUTE_LENGTH: u32 = 17;
const ROUTE_TYPE: u32 = 23;

/// Lets only what concerns the agent into the socket's queue.
pub(super) fn attach(socket: &Socket) -> io::Result<()> {
    attach_program(socket, program())
}

/// Lets only neighbours into the socket's queue that are stale and not FRR's.
pub(super) fn attach_stale(socket: &Socket) -> io::Result<()> {
    let program = [
        load(libc::BPF_H, MESSAGE_TYPE),
        test(1, as_loaded(libc::RTM_NEWNEIGH), 2, 9),
        load(libc::BPF_B, NEIGHBOUR_FAMILY),
        test(3, libc::AF_BRIDGE.cast_unsigned(), 9, 4),
        load(libc::BPF_H, NEIGHBOUR_STATE),
        test(5, as_loaded(libc::NUD_STALE), 6, 9),
        load(libc::BPF_B, NEIGHBOUR_FLAGS),
        test(7, EXT_LEARNED, 9, 8),
        end(ALL),
        end(0),
    ];
    attach_program(socket, program)
}

fn attach_program<const N: usize>(
    socket: &Socket,
    mut program: [libc::sock_filter; N],
) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let size = libc::socklen_t::try_from(mem::size_of_val(&filter)).map_err(io::Error::other)?;
    // SAFETY: the option takes a `sock_fprog` of that size, whose pointer and length are those of
    // `program`; both live beyond the call, and the kernel copies them.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Where the program goes on, or ends.
const NEIGHBOUR: u8 = 6;
const ROUTE: u8 = 12;
const PASS: u8 = 16;
const DROP: u8 = 17;

fn program() -> [libc::sock_filter; 18] {
    let bridge = libc::AF_BRIDGE.cast_unsigned();
    [
        load(libc::BPF_H, MESSAGE_TYPE),
        test(1, as_loaded(libc::RTM_NEWNEIGH), NEIGHBOUR, 2),
        test(2, as_loaded(libc::RTM_DELNEIGH), NEIGHBOUR, 3),
        test(3, as_loaded(libc::RTM_NEWROUTE), ROUTE, 4),
        test(4, as_loaded(libc::RTM_DELROUTE), ROUTE, 5),
        end(ALL),
        // NEIGHBOUR: of a bridge, without FRR's or any other flags, and permanent.
        load(libc::BPF_B, NEIGHBOUR_FAMILY),
        test(7, bridge, 8, DROP),
        load(libc::BPF_B, NEIGHBOUR_FLAGS),
        test(9, 0, 10, DROP),
        load(libc::BPF_H, NEIGHBOUR_STATE),
        test(11, as_loaded(libc::NUD_PERMANENT), PASS, DROP),
        // ROUTE: an unreachable default.
        load(libc::BPF_B, ROUTE_LENGTH),
        test(13, 0, 14, DROP),
        load(libc::BPF_B, ROUTE_TYPE),
        test(15, u32::from(libc::RTN_UNREACHABLE), PASS, DROP),
        end(ALL),
        end(0),
    ]
}

/// A number of two bytes as the program loads it: the first byte in memory counts most.
fn as_loaded(number: u16) -> u32 {
    u32::from(u16::from_be_bytes(number.to_ne_bytes()))
}

/// Loads what is at an offset of the message.
const fn load(size: u32, offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset)
}

/// At instruction `at`: goes on at one place if the number is what was loaded, else at another.
const fn test(at: u8, number: u32, yes: u8, no: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    instruction(code, yes - at - 1, no - at - 1, number)
}

/// How many bytes of the message are let through.
const fn end(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, bytes)
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    let [low, high, _, _] = code.to_le_bytes();
    libc::sock_filter {
        code: u16::from_le_bytes([low, high]),
        jt,
        jf,
        k,
    }
}
