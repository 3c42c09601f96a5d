//! Traces: from a call through the store's commit to the passes that its change needs and what
//! they apply, sent by OTLP. Off unless the configuration names a collector.
//!
//! Spans wait for the collector in a bounded queue, of which a thread of its own takes them. When
//! the collector is away they are dropped and counted; nobody waits for it.

mod causes;
mod export;

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{Context, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::metrics::ExportMeter;
use crate::config::TelemetryConfig;

pub use causes::Causes;

/// Spans that may wait for the collector; more are dropped.
const QUEUE: usize = 4_096;

/// Between two batches.
const DELAY: Duration = Duration::from_millis(1_000);

/// How long the collector may take over a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of the agent may wait for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(1);

/// The crates whose spans and events are traced: all of the agent's.
const TRACED: [&str; 4] = ["xpu_agent", "xpu_backends", "xpu_linux", "xpu_plan"];

/// Sends spans to a collector.
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts sending, if the configuration names a collector.
    pub(super) fn start(
        config: &TelemetryConfig,
        meter: &ExportMeter,
    ) -> anyhow::Result<Option<Self>> {
        if config.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let endpoint = &config.otlp_endpoint;
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("telemetry.otlp_endpoint: `{endpoint}` cannot be used"))?;
        let exporter = export::Watched::new(exporter, endpoint.clone(), meter.clone());
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let own = Sampler::TraceIdRatioBased(config.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .with_resource(Resource::builder().with_service_name("xpu-agent").build())
            .build();
        Ok(Some(Self { provider }))
    }

    /// What makes spans of ours.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = TRACED.map(|target| (target, Level::DEBUG));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("xpu-agent"))
            .with_location(false)
            .with_threads(false)
            .with_filter(Targets::new().with_targets(ours))
    }

    /// Sends what waits, for a moment at most.
    pub(super) fn finish(self) {
        // What cannot be sent now is lost, and was told of by the exporter if it is of a kind
        // that an operator can mend.
        let _ = self.provider.shutdown_with_timeout(LAST_BATCH);
    }
}

/// The caller's trace, from the `traceparent` of its request (W3C Trace Context); an empty
/// context where there is none, or it cannot be read.
pub(super) fn caller(headers: &http::HeaderMap) -> Context {
    use opentelemetry::propagation::TextMapPropagator as _;
    if !headers.get("traceparent").is_some_and(is_traceparent) {
        return Context::new();
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

/// Whether the fields have the lengths that they must have: the library takes shorter ones, too,
/// and a broken header would tie calls together that have nothing in common.
fn is_traceparent(value: &http::HeaderValue) -> bool {
    let mut lengths = value
        .as_bytes()
        .split(|byte| *byte == b'-')
        .map(<[u8]>::len);
    // Version, trace, parent, flags; a later version may have more.
    [2, 32, 16, 2].map(Some) == [(); 4].map(|()| lengths.next())
}

struct Headers<'a>(&'a http::HeaderMap);

impl opentelemetry::propagation::Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
