//! File descriptors: every connection needs one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::LimitsConfig;

/// What the agent opens beside connections: store, netlink, FRR, files.
const OTHERS: u64 = 64;

/// Takes as many as the process may have (its hard limit), and warns if `listeners` could be
/// given more connections than that.
pub fn raise(limits: &LimitsConfig, listeners: u64) {
    let needed = limits.connections as u64 * listeners + OTHERS;
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(hard) if hard >= needed => {}
        Ok(hard) => warn!(
            hard,
            needed,
            "not enough file descriptors for limits.connections on every listener; raise \
             LimitNOFILE of the unit, or lower it"
        ),
        Err(error) => warn!(
            %error,
            needed,
            "the limit of file descriptors cannot be raised; set LimitNOFILE of the unit to what is \
             needed, or lower limits.connections"
        ),
    }
}
