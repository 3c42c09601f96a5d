//! Watches the exporter: counts spans, and logs once when the collector goes away or comes back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::{info, warn};

use super::super::metrics::ExportMeter;

#[derive(Debug)]
pub(super) struct Watched {
    inner: Otlp,
    endpoint: String,
    meter: ExportMeter,
    away: AtomicBool,
}

impl Watched {
    pub(super) const fn new(inner: Otlp, endpoint: String, meter: ExportMeter) -> Self {
        Self {
            inner,
            endpoint,
            meter,
            away: AtomicBool::new(false),
        }
    }
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.meter.batch(spans, result.is_ok());
        let was_away = self.away.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_away => warn!(
                endpoint = %self.endpoint,
                %error,
                "traces are lost: see whether the collector runs, or set telemetry.otlp_endpoint"
            ),
            Ok(()) if was_away => {
                info!(endpoint = %self.endpoint, "the collector takes traces again")
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
