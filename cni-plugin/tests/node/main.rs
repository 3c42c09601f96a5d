//! The plugin on nodes made of network namespaces. Needs root, veth and `ip`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test crate: its helpers fail the test they serve"
)]

mod addresses;
mod agent;
mod attach;
mod away;
mod bpf;
mod check;
mod detaching;
mod harness;
mod hostile;
mod keeps;
mod kills;
mod leases;
mod macs;
mod names;
mod nested;
mod others;
mod pipe;
mod programs;
mod reboot;
mod records;
mod recovery;
mod replaced;
mod scripts;
mod steps;
mod sweep;
mod tap;
mod tcx;
mod tls;
mod tombstones;
mod turn;
mod verbs;
mod xdp;
