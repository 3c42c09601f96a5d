//! The agent's API as clients meet it: the same calls over gRPC on a unix socket and over
//! HTTP/JSON, with backends that do as they are told.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking too"
)]

mod calls;
mod description;
mod face;
mod faces;
mod gateway;
mod lifecycle;
mod model;
mod reference;
mod rig;
mod rules;
mod world;
mod writers;
