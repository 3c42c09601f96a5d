//! Between the plugin and the kernel's netlink: what is sent can be changed, and something can
//! happen right after it.

use std::slice;

use crate::{meanwhile, refusals};

/// libc's, in whose place the linker takes this one.
///
/// # Safety
/// As of send(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn send(
    socket: libc::c_int,
    bytes: *const libc::c_void,
    length: libc::size_t,
    flags: libc::c_int,
) -> libc::ssize_t {
    // SAFETY: the caller's promise, as to send(2).
    let asked = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), length) };
    let instead = refusals::instead(asked);
    let told = instead.as_deref().unwrap_or(asked);
    // SAFETY: send(2) is sendto(2) without an address; the bytes are a slice's.
    let sent = unsafe {
        libc::sendto(
            socket,
            told.as_ptr().cast(),
            told.len(),
            flags,
            std::ptr::null(),
            0,
        )
    };
    // The kernel has done what a netlink request asks when the call returns.
    meanwhile::after(told);
    sent
}
