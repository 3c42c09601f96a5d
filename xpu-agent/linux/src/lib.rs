//! The kernel's edge, in two halves.
//!
//! - Feature `vf`: blocking and small. One raw netlink socket, network
//!   namespaces, sysfs, BPF programs, and the move of a VF. The CNI plugin links this half
//!   alone, so nothing in it may pull in tokio or rtnetlink.
//! - Feature `agent`: observe, apply and follow on a running tokio, over the other half's socket.
//!
//! Neither half decides anything: what should be is planned elsewhere
//! (`xpu-plan`, the plugin's own steps); here it is read, sent and told back.

#[cfg(feature = "vf")]
pub mod bpf;
/// The agent's half: [`kernel::Linux`] observes and applies, [`kernel::Follower`] follows.
#[cfg(feature = "agent")]
pub mod kernel;
#[cfg(feature = "vf")]
pub mod netns;
#[cfg(feature = "vf")]
pub mod sync;
#[cfg(feature = "vf")]
pub mod sysfs;
#[cfg(feature = "vf")]
pub mod vf;
