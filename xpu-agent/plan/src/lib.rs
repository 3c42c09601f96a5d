//! The planners: what is wanted and what is there, to what is to be done.
//!
//! **Does:** one planner per backend ([`linux`], [`frr`]), each a pure function from intent and observed
//! state to a plan that is plain data; [`ownership`], the one module that tells ours from
//! theirs; [`facts`], what one backend's planner waits for from another.
//!
//! **Never:** does I/O, waits, or knows the clock. The same inputs give the same plan.
//!
//! **Start reading at** [`linux::plan`].

pub mod facts;
pub mod frr;
pub mod linux;
pub mod ownership;

pub use facts::{FrrFacts, VrfInFrr};
