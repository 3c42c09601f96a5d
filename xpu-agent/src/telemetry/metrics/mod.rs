//! What Prometheus reads at `/metrics`.
//!
//! Whoever counts gets a meter, a cheap handle; what can be read when asked for (objects,
//! generations, the process) is a collector and costs nothing in between. The registry is the
//! App's own, not a global one, so Apps of one process do not count for each other.
//!
//! Names follow Prometheus' conventions: prefix, unit, `_total`. Labels hold what is of a bounded
//! number only: no object's name, no peer's word.

mod access;
mod kernel;
mod objects;
mod pass;
mod process;
mod rpc;
mod store;
mod traces;

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{prometheus_text, text},
    metrics::{histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

pub use access::Access;
pub use kernel::KernelEvents;
pub use objects::Objects;
pub use pass::{FrrMeter, PassMeter, PassMeters};
pub(crate) use rpc::code_name;
pub use rpc::{Method, RpcMeter};
pub(crate) use store::ChangeResult;
pub use store::StoreMeter;
pub use traces::ExportMeter;

/// Before every name.
const PREFIX: &str = "xpu_agent";

/// The meters of one App, and the registry behind them.
pub struct Metrics {
    registry: Registry,
    /// For calls.
    pub rpc: RpcMeter,
    /// For the store.
    pub store: StoreMeter,
    /// For the reconcile loops.
    pub passes: PassMeters,
    /// For what FRR is like.
    pub frr: FrrMeter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        let ours = registry.sub_registry_with_prefix(PREFIX);
        ours.register(
            "build",
            "The running agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            rpc: RpcMeter::register(ours),
            store: StoreMeter::register(ours),
            passes: PassMeters::register(ours),
            frr: FrrMeter::register(ours),
            registry,
        }
    }
}

impl Metrics {
    /// Adds what is read when asked for.
    #[must_use]
    pub fn with(mut self, collector: impl Collector) -> Self {
        self.registry
            .sub_registry_with_prefix(PREFIX)
            .register_collector(Box::new(collector));
        self
    }

    /// Adds the exporter of traces.
    #[must_use]
    pub fn with_exports(mut self, exports: &ExportMeter) -> Self {
        exports.register(self.registry.sub_registry_with_prefix(PREFIX));
        self
    }

    /// Nothing more is registered: what `/metrics` shows.
    #[must_use]
    pub fn exposition(self) -> Exposition {
        Exposition(Arc::new(self.registry))
    }
}

/// What `/metrics` shows; cheap to clone.
#[derive(Clone, Debug)]
pub struct Exposition(Arc<Registry>);

/// The forms of text that a scraper can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a request's `Accept` asks for. Who says nothing gets Prometheus' own.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The answer's `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Exposition {
    /// Every metric as it stands.
    ///
    /// # Errors
    /// When a metric cannot be written as text, which is a fault of ours.
    pub fn text(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        match format {
            Format::Prometheus => prometheus_text::encode(&mut text, &self.0)?,
            Format::OpenMetrics => text::encode(&mut text, &self.0)?,
        }
        Ok(text)
    }
}

/// Registers a metric; what comes back counts for it.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// The same for one in seconds.
fn registered_seconds<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// Seconds, from what a call on an idle machine takes to the longest that a client waits.
fn seconds() -> Histogram {
    Histogram::new([
        0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        30.0, 60.0,
    ])
}

/// Numbers of things done together.
fn sizes() -> Histogram {
    Histogram::new([
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 20_000.0,
    ])
}

#[cfg(test)]
mod tests;
