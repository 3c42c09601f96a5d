//! What tests inside the lab's machine are written with.
//!
//! - [`command`], [`wait`]: run a program, wait for a state with a limit and a good message.
//! - [`netns`], [`pod`]: "machines" and pods are network namespaces.
//! - [`vf`]: the virtual functions and their representors.
//! - [`frr`]: FRR instances, one per machine that routes.
//! - [`addresses`], [`leaf2`], [`topology`]: the lab's network; start reading at
//!   [`topology::Topology`].
//! - [`agent`]: the agent under test; [`service`]: the same in the sandbox of its systemd unit.
//! - [`operator`], [`runtime`]: the product's users: `xpuctl`, and `xpu-cni` as Multus runs it.
//! - [`http`]: what probes and Prometheus ask the agent.
//! - [`ping`], [`capture`]: packets, sent and seen.
//!
//! Everything here runs programs as an operator would, and never uses the product's own code: it
//! is what the product is measured against.

pub mod addresses;
pub mod agent;
pub mod capture;
pub mod command;
pub mod flood;
pub mod frr;
pub mod http;
pub mod leaf2;
pub mod netns;
pub mod operator;
pub mod ping;
pub mod pod;
pub mod runtime;
pub mod service;
pub mod topology;
pub mod vf;
pub mod wait;
