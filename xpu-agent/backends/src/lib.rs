//! What the agent drives beside the kernel.
//!
//! **Does:** [`frr`] reads FRR's configuration and state, and applies plans to it.
//!
//! **Never:** decides; what FRR should have is planned in `xpu-plan`.

pub mod frr;
