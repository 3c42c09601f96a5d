//! A layer around the services: each call is metered and is a span of its caller's trace.
//!
//! It stands around the guard, so a call that its caller may not make counts with the code that
//! it is refused with. What `[limits]` refuses does not get here; that is counted by its reason
//! ([`super::metrics::Access`]).
//!
//! gRPC's code is in the trailers of an answer's body, or in the headers where there is no body;
//! a call that is dropped before either counts as `CANCELLED`.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::{Code, body::Body, service::Routes};
use tower::{BoxError, Layer, Service};
use tracing::{Instrument as _, Span, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    metrics::{Method, RpcMeter, code_name},
    trace,
};

/// The header and trailer that has the code (gRPC over HTTP/2, "Responses").
const STATUS: &str = "grpc-status";

/// The names under which a call counts that is for no method served here.
const OTHER: Method = Method {
    service: "other",
    method: "other",
};

/// Every method that is served, by its path.
static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    let ours = xpu_proto::FILE_DESCRIPTOR_SET;
    let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let reflection = tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET;
    [ours, health, reflection]
        .into_iter()
        .flat_map(methods)
        .collect()
});

/// The methods of a descriptor set. The names live as long as the process.
fn methods(descriptors: &[u8]) -> Vec<(String, Method)> {
    let set = prost_types::FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let mut found = Vec::new();
    for file in set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let of_service: &'static str = name.leak();
            for method in &service.method {
                let method: &'static str = method.name().to_owned().leak();
                let entry = Method {
                    service: of_service,
                    method,
                };
                found.push((format!("/{of_service}/{method}"), entry));
            }
        }
    }
    found
}

/// The services with the layer around them, so that it counts whoever calls them: gRPC from
/// outside, and the HTTP gateway from inside.
#[must_use]
pub fn metered(services: Routes, meter: RpcMeter) -> Routes {
    let services = services.into_axum_router();
    Routes::from(services.layer(RpcLayer::new(meter)))
}

/// Makes [`Rpc`]s.
#[derive(Clone, Debug)]
pub struct RpcLayer {
    meter: RpcMeter,
}

impl RpcLayer {
    /// Counts in `meter`.
    #[must_use]
    pub const fn new(meter: RpcMeter) -> Self {
        Self { meter }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = Rpc<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Rpc {
            inner,
            meter: self.meter.clone(),
        }
    }
}

/// A service whose calls are metered and traced.
#[derive(Clone, Debug)]
pub struct Rpc<S> {
    inner: S,
    meter: RpcMeter,
}

impl<S, B, A> Service<Request<B>> for Rpc<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: http_body::Body<Data = Bytes> + Send + 'static,
    A::Error: Into<BoxError>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = METHODS.get(request.uri().path()).copied().unwrap_or(OTHER);
        let span = debug_span!(
            "rpc",
            "otel.name" = format!("{}/{}", method.service, method.method),
            "otel.kind" = "server",
            "rpc.service" = method.service,
            "rpc.method" = method.method,
            code = field::Empty,
        );
        // Fails where no layer exports this span, so that a parent would have no use.
        let _ = span.set_parent(trace::caller(request.headers()));
        let call = Call::begin(self.meter.clone(), method, span.clone());
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(match code(answer.headers()) {
                Some(code) => {
                    call.end(code);
                    answer.map(Body::new)
                }
                None => answer.map(|body| until_trailers(body, call)),
            })
        })
    }
}

/// The body, with the call ended by its trailers.
fn until_trailers<A>(body: A, call: Call) -> Body
where
    A: http_body::Body<Data = Bytes> + Send + 'static,
    A::Error: Into<BoxError>,
{
    let mut call = Some(call);
    Body::new(body.inspect_frame(move |frame| {
        if let Some(trailers) = frame.trailers_ref()
            && let Some(call) = call.take()
        {
            call.end(code(trailers).unwrap_or(Code::Unknown));
        }
    }))
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(STATUS)
        .map(|status| Code::from_bytes(status.as_bytes()))
}

/// A call that is being answered.
struct Call {
    meter: RpcMeter,
    method: Method,
    begun: Instant,
    span: Span,
    ended: bool,
}

impl Call {
    fn begin(meter: RpcMeter, method: Method, span: Span) -> Self {
        meter.begun();
        Self {
            meter,
            method,
            begun: Instant::now(),
            span,
            ended: false,
        }
    }

    fn end(mut self, code: Code) {
        self.tell(code);
        self.ended = true;
    }

    fn tell(&self, code: Code) {
        self.span.record("code", code_name(code));
        self.meter.ended(self.method, code, self.begun.elapsed());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Code::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_served_has_a_name() {
        for path in [
            "/opi_api.network.evpn_gw.v1alpha1.BridgePortService/CreateBridgePort",
            "/opi_api.network.evpn_gw.v1alpha1.SviService/ListSvis",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            let method = METHODS.get(path).copied();
            assert!(method.is_some_and(|it| path.ends_with(it.method)), "{path}");
        }
        assert_eq!(METHODS.get("/no.such.Service/Method"), None);
    }
}
