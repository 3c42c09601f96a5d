//! What the agent tells of itself: [`logs`], [`metrics`], [`trace`]s.
//!
//! **Does:** meter and trace what others do, by handles that they are given: a layer around the
//! services ([`rpc`]), a [`PassTelemetry`] per reconcile loop, a meter in the store.
//!
//! **Never:** decides anything, or makes what it tells of wait: a scrape reads what is there, a
//! collector of traces that is away costs the spans that it misses and nothing else.

pub mod logs;
pub mod metrics;
mod pass;
pub mod rpc;
pub mod trace;

use tracing::Subscriber;
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

pub use pass::PassTelemetry;

use crate::config::{LogConfig, TelemetryConfig};
use logs::{LogFilter, Output};
use metrics::ExportMeter;
use trace::Traces;

/// Logs and traces of the process, which has one of each.
pub struct Telemetry {
    /// To change what is logged.
    pub filter: LogFilter,
    /// Counts the spans that went out.
    pub exports: ExportMeter,
    traces: Option<Traces>,
}

/// Logs, and spans where they are wanted. The layers are in a list, so that each sits on the
/// registry itself and has its own filter: of two layers joined by `and_then` the second one's
/// filter holds for both, and a layer that is absent lets nothing through.
fn subscriber(output: Output, spans: Option<Output>) -> impl Subscriber + Send + Sync {
    let layers: Vec<Output> = std::iter::once(output).chain(spans).collect();
    Registry::default().with(layers)
}

impl Telemetry {
    /// Starts both. With traces on, this is called where a tokio runtime is entered.
    ///
    /// # Errors
    /// When the filter or the collector's address cannot be used, or logging was started before.
    pub fn start(log: &LogConfig, telemetry: &TelemetryConfig) -> anyhow::Result<Self> {
        let exports = ExportMeter::default();
        let (output, filter) = logs::layer(log)?;
        let traces = Traces::start(telemetry, &exports)?;
        let spans = traces.as_ref().map(|traces| traces.layer::<Registry>());
        subscriber(output, spans.map(Layer::boxed))
            .try_init()
            .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
        Ok(Self {
            filter,
            exports,
            traces,
        })
    }

    /// Sends the spans that wait, for a moment at most. Blocks; not for a task.
    pub fn finish(self) {
        if let Some(traces) = self.traces {
            traces.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};

    use super::*;

    #[test]
    fn without_traces_there_are_logs_by_their_filter() {
        let (output, filter) = logs::layer(&LogConfig::default()).unwrap();
        with_default(subscriber(output, None), || {
            assert!(enabled!(Level::INFO), "the agent is mute");
            assert!(!enabled!(Level::DEBUG));
            filter.set("debug").unwrap();
            assert!(enabled!(Level::DEBUG));
        });
    }
}
