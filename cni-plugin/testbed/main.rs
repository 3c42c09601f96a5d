//! The plugin as the tests run it: the same code on another [`Host`].
//!
//! `XPU_TESTBED_ROOT` names a folder with `sys/` (a sysfs tree made by the test),
//! `state/` and, optionally, `host.conf`. A veth passes as a VF if its `ifalias` is the
//! PCI address. `/` stands for the machine itself, as the installed plugin sees it.
//!
//! With `XPU_TESTBED_KILL_AT=n` the process kills itself at the n-th checkpoint, counted from 1,
//! and says which one that is; with `XPU_TESTBED_KILL_AFTER_US=n` the kernel kills it after
//! n microseconds, wherever it is then. `XPU_TESTBED_BOOT` names the file that tells the boot.
//! `XPU_TESTBED_NO_VF_MAC` and `XPU_TESTBED_KEEPS_MAC`: see [`refusals`]; `XPU_TESTBED_AFTER`: see
//! [`meanwhile`].

#![no_main]

mod meanwhile;
mod refusals;
mod send;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};
use xpu_cni::host::Host;
use xpu_linux::sysfs::Sysfs;

#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    xpu_cni::start(run)
}

fn run() -> ExitCode {
    let Some(root) = env::var_os("XPU_TESTBED_ROOT").map(PathBuf::from) else {
        eprintln!("XPU_TESTBED_ROOT is not set");
        return ExitCode::FAILURE;
    };
    let _timer = kill_after();
    let host = if root == Path::new("/") {
        Host::real()
    } else {
        made_host(&root)
    };
    xpu_cni::main(&Host { checkpoint, ..host })
}

/// What a test made in a folder, with veth pairs for VFs.
fn made_host(root: &Path) -> Host {
    let real = Host::real();
    let boot = env::var_os("XPU_TESTBED_BOOT").map(PathBuf::from);
    Host {
        boot: boot.unwrap_or(real.boot),
        sysfs: Sysfs::at(root.join("sys")),
        state: root.join("state"),
        config_files: vec![root.join("host.conf")],
        device_info: root.join("devinfo"),
        proof: |_, link, pci| link.alias.as_deref() == Some(pci.as_str()),
        ..real
    }
}

/// A timer whose signal nobody can catch.
fn kill_after() -> Option<Timer> {
    let after = env::var("XPU_TESTBED_KILL_AFTER_US").ok()?.parse().ok()?;
    let notify = SigevNotify::SigevSignal {
        signal: Signal::SIGKILL,
        si_value: 0,
    };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify)).ok()?;
    let when = Expiration::OneShot(Duration::from_micros(after).into());
    timer.set(when, TimerSetTimeFlags::empty()).ok()?;
    Some(timer)
}

fn checkpoint(name: &'static str) {
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    let kill_at = env::var("XPU_TESTBED_KILL_AT")
        .ok()
        .and_then(|text| text.parse().ok());
    if kill_at == Some(passed) {
        eprintln!("killed at {name}");
        // SAFETY: kill(2) takes no pointers; the process is our own.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
