//! What all benchmarks have in common: rows with their targets, the table and files made of
//! them, statistics, and the machine they ran on.
//!
//! - [`row`]: one figure, what it is measured against, and whether it is good enough.
//! - [`report`]: the rows of a run: printed, written to `target/bench/NAME.json`, and put into
//!   `tests/bench/README.md`. Start reading there.
//! - [`stats`]: medians, percentiles, growth.
//! - [`facts`]: the machine.
//! - [`cni`]: `make bench-cni`.
//!
//! Figures are compared within one run only: with a floor (the least that the kernel makes anyone
//! pay) or a peer (somebody else's program doing the same).

#[cfg(feature = "api")]
pub mod api;
pub mod cni;
pub mod facts;
pub mod report;
pub mod row;
pub mod stats;
