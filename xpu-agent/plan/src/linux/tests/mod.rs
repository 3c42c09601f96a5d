//! The planner against a model of the kernel.

mod cases;
mod generate;
mod kernel;
mod properties;
