//! What the tests of the followers need: a network namespace of their own, with a runtime in it.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a network namespace of its thread's own.
pub(super) fn alone(test: impl Future<Output = ()>) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// `ip`, which must succeed.
pub(super) fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "ip {arguments}: {ran:?}");
}
