//! What the agent tells of itself, seen from outside: a store, an API, loops with backends that
//! play the machine, served over TCP; `/metrics` read by a parser that is not ours, traces taken
//! by a collector.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod collector;
mod dashboard;
mod logs;
mod manager;
mod metrics;
mod readiness;
mod rig;
mod traces;
