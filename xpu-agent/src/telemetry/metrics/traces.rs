//! Traces on their way to the collector.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counts what becomes of spans; cheap to clone. Made before the App, as traces are.
#[derive(Clone, Debug, Default)]
pub struct ExportMeter {
    spans: Family<ResultLabel, Counter>,
}

impl ExportMeter {
    pub(super) fn register(&self, registry: &mut Registry) {
        // What has not happened yet is shown as 0.
        self.batch(0, true);
        self.batch(0, false);
        registry.register(
            "trace_spans",
            "Spans sent to the collector, or lost because it did not take them",
            self.spans.clone(),
        );
    }

    /// A batch was taken, or not.
    pub(crate) fn batch(&self, spans: usize, taken: bool) {
        let result = if taken { "sent" } else { "lost" };
        self.spans
            .get_or_create(&ResultLabel { result })
            .inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }
}
