//! The agent's half against a real kernel, in the lab's machine. Each test has a network
//! namespace of its own; `ip` and `bridge` are the witnesses.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking too")]

mod drift;
mod foreign;
mod rules;
mod scale;
mod tenant;
mod vxlan_port;
mod witness;
mod world;
