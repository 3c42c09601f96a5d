//! A collector of traces: takes what comes, on a thread of its own.

use std::sync::{Arc, LazyLock, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use xpu_agent::{
    config::{LogConfig, TelemetryConfig},
    telemetry::Telemetry,
};

/// The spans of this process, which has one collector and sends it everything.
pub static SPANS: LazyLock<Spans> = LazyLock::new(Spans::collect);

/// What was collected.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Span>>>);

impl Spans {
    fn collect() -> Self {
        let spans = Self::default();
        let taken = spans.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let telemetry = TelemetryConfig {
            otlp_endpoint: format!("http://{address}"),
            sample_ratio: 1.0,
        };
        let (started, starting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let log = LogConfig {
                    filter: "warn".to_owned(),
                    ..LogConfig::default()
                };
                let telemetry = Telemetry::start(&log, &telemetry).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                started.send(()).unwrap();
                Server::builder()
                    .add_service(TraceServiceServer::new(taken))
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .unwrap();
                drop(telemetry);
            });
        });
        starting.recv().unwrap();
        spans
    }

    /// The spans of calls of one method so far.
    pub fn named(&self, method: &str) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        let of = |span: &&Span| span.name.rsplit('/').next() == Some(method);
        spans.iter().filter(of).cloned().collect()
    }

    /// The spans of one trace so far.
    pub fn of(&self, trace: &[u8]) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        let of = spans.iter().filter(|span| span.trace_id == trace);
        of.cloned().collect()
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|it| it.scope_spans);
        self.0
            .lock()
            .unwrap()
            .extend(scopes.flat_map(|it| it.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
