//! The agent's API under many clients, good and bad ones.
//!
//! The server is a process of its own, with everything between a socket and the disk, and without
//! kernel and FRR: what is measured is what callers can do to each other and to its memory.
//!
//! - [`server`] – that process, and what it holds.
//! - [`clients`] – callers as they should be; [`bad`] – others, some of which speak
//!   HTTP/2 by hand ([`frames`]).
//! - [`storm`] – bad ones at a pace, beside a good one.
//! - [`bystander`] – a good one, and what the others do to its answers.
//! - [`floor`] – what the kernel alone does to a good one.
//! - [`suite`] – the figures.

pub mod bad;
mod bystander;
pub mod clients;
pub mod floor;
pub mod frames;
pub mod server;
pub mod storm;
pub mod suite;
