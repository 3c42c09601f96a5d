//! How the name of an agent becomes an address: by `/etc/hosts` and DNS, whatever else the node's
//! `nsswitch.conf` names.
//!
//! For any other module a static program's `getaddrinfo()` loads the node's, and with it the node's
//! libc beside its own: where they are of different releases, that ends in a signal.

use std::{
    ffi::{CStr, c_char, c_int},
    sync::OnceLock,
};

/// The two that are part of libc itself, as a line of `nsswitch.conf`.
#[cfg(target_env = "gnu")]
const BUILT_IN: &CStr = c"files dns";

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// As `<nss.h>` has it; the `libc` crate doesn't.
    fn __nss_configure_lookup(database: *const c_char, line: *const c_char) -> c_int;
}

/// Has names looked up by `/etc/hosts` and DNS alone, in this process and from now on. Answers
/// whether libc took that: if it didn't, no name may be looked up.
#[cfg(target_env = "gnu")]
pub fn by_hosts_and_dns() -> bool {
    // Once: a look-up whose caller has given up may still be reading what this sets.
    static TAKEN: OnceLock<bool> = OnceLock::new();
    *TAKEN.get_or_init(|| {
        // SAFETY: both are strings that end in a NUL, and libc keeps neither. It guards its table
        // by a lock of its own, and no look-up is under way: each is made after this.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), BUILT_IN.as_ptr()) == 0 }
    })
}

/// Other C libraries know no modules.
#[cfg(not(target_env = "gnu"))]
pub fn by_hosts_and_dns() -> bool {
    true
}
