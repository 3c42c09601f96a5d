//! What root may do and the plugin never wants to.

use std::io;

/// The version of `capget(2)` and `capset(2)` with 64 capabilities in two words
/// (`_LINUX_CAPABILITY_VERSION_3`, `linux/capability.h`).
const VERSION: u32 = 0x2008_0522;
/// `CAP_SYS_MODULE`, by its number in `linux/capability.h`.
const SYS_MODULE: u32 = 16;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: this thread.
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up the right to have kernel modules loaded. A pod chooses its interface's name, and the
/// kernel takes a name that no device has for that of a module, if whoever asks may load one
/// (`dev_load()`, net/core/dev_ioctl.c). Programs that are started have it again.
///
/// # Errors
/// The kernel's.
pub fn give_up_module_loading() -> io::Result<()> {
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut data = [Data::default(), Data::default()];
    // SAFETY: the header and two words of data are what this version reads and writes.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    for set in [&mut data[0].effective, &mut data[0].permitted] {
        *set &= !(1 << SYS_MODULE);
    }
    // SAFETY: as above; only read.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities are a thread's own.
    #[test]
    fn this_thread_may_give_up_module_loading_afterwards_and_all_else() {
        let has = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let sets = status.lines().filter_map(|line| {
                let set = line
                    .strip_prefix("CapEff:")
                    .or(line.strip_prefix("CapPrm:"))?;
                u64::from_str_radix(set.trim(), 16).ok()
            });
            sets.collect::<Vec<_>>()
        };
        std::thread::spawn(move || {
            let before = has();
            let may = |set: &u64| set & (1 << SYS_MODULE) != 0;
            assert!(before.iter().all(may), "run this as root: {before:x?}");
            give_up_module_loading().unwrap();
            let without = before.iter().map(|set| set & !(1 << SYS_MODULE));
            assert_eq!(has(), Vec::from_iter(without));
            assert_eq!(has().len(), 2);
        })
        .join()
        .unwrap();
    }
}
