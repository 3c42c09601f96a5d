//! Logs: structured, to stderr, as text or JSON; what is logged can be changed while running.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Where the lines go: a layer with its filter.
pub(super) type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// Changes what is logged; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    /// Logs by `filter` from now on.
    ///
    /// # Errors
    /// When `filter` is not of the form `level` or `target=level,…`; nothing has changed then.
    pub fn set(&self, filter: &str) -> anyhow::Result<()> {
        self.handle
            .reload(parse(filter)?)
            .context("the log filter cannot be changed")
    }
}

/// Reads a filter. What the libraries below say of their own workings is left out unless it is
/// asked for: what of it concerns an operator, the agent says itself.
///
/// # Errors
/// When `filter` is not of the form `level` or `target=level,…`.
pub fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    let quiet = format!("opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,{filter}");
    EnvFilter::try_new(quiet)
        .with_context(|| format!("`{filter}` is no log filter; write `info` or `target=debug`"))
}

/// The layer that writes, and the handle to its filter.
pub(super) fn layer(config: &LogConfig) -> anyhow::Result<(Output, LogFilter)> {
    let (filter, handle) = reload::Layer::new(parse(&config.filter)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let output: Output = match config.format {
        LogFormat::Text => Box::new(lines.with_filter(filter)),
        LogFormat::Json => Box::new(lines.json().with_filter(filter)),
    };
    Ok((output, LogFilter { handle }))
}
