//! The planner against a model of the kernel.

mod cases;
mod drift;
mod generate;
mod kernel;
mod properties;

/// The device name that a text is.
fn named(text: &str) -> xpu_model::IfName {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no device name"))
}
