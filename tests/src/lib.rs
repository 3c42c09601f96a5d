//! The lab and what runs in it.
//!
//! - [`lab`]: the host's side. Builds the guest image, boots the VM, runs commands in it.
//! - [`runner`]: the wire between both sides, and the program that serves it in the guest.
//! - [`guest`]: what tests inside the VM are written with: namespaces, FRR, VFs, topology.
//! - [`bench`]: what benchmarks are written with: rows, targets, their table.
//!
//! Nothing here ships. Start reading at [`lab::vm`].

pub mod bench;
pub mod guest;
pub mod lab;
pub mod runner;
