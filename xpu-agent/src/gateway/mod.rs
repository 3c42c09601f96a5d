//! The HTTP/JSON face of the gRPC services, made of the descriptors alone.
//!
//! ```text
//! HTTP ─▶ rule (google.api.http) ─▶ request: path, query, body as one JSON ─▶ message
//!                                                                              │ call
//! HTTP ◀─ JSON, or google.rpc.Status ◀─ message or status ◀─ gRPC services, in process
//! ```
//!
//! **Does:** what a method's [`google.api.http`] rule says (AIP-127): routes, canonical proto3 JSON
//! both ways, gRPC codes as HTTP codes, and the description of it all ([`openapi`]).
//!
//! **Never:** knows a method, a message or a field by name. What is layered on the services it
//! calls (who may what, limits, metrics) holds for HTTP too: the services see the HTTP request's
//! extensions, and its headers as far as [`call`] passes them on.
//!
//! [`google.api.http`]: https://github.com/googleapis/googleapis/blob/master/google/api/http.proto

mod answer;
mod call;
mod fields;
mod json;
pub mod openapi;
mod request;
mod rule;
mod template;
mod value;

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    response::{IntoResponse, Response},
    routing,
};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage};
use tonic::{Status, service::Routes};

pub use answer::{Refusal, no_such_method, no_such_path};
pub use rule::{Rule, RuleError};

/// Why there is no gateway for some descriptors.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The descriptors do not fit together.
    #[error("the API's descriptors cannot be read")]
    Descriptors(#[from] DescriptorError),
    /// A method's HTTP rule cannot be served.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// The methods of an API that have HTTP rules.
#[derive(Clone, Debug)]
pub struct Gateway {
    pool: DescriptorPool,
    rules: Vec<Arc<Rule>>,
}

impl Gateway {
    /// Reads the rules of an encoded `google.protobuf.FileDescriptorSet`, which must hold its
    /// extensions still.
    ///
    /// # Errors
    /// [`GatewayError`] for descriptors or a rule that cannot be understood.
    pub fn new(descriptors: &[u8]) -> Result<Self, GatewayError> {
        let mut pool = DescriptorPool::decode(descriptors)?;
        // Errors and their details, for the description.
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        let rules = rule::all(&pool)?.into_iter().map(Arc::new).collect();
        Ok(Self { pool, rules })
    }

    /// The rules, in the descriptors' order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(Arc::as_ref)
    }

    /// Routes every rule to its method in `services`; a request's body has `most` bytes at most.
    /// Has no fallback, so that other routers can be merged with it; [`no_such_path`] and
    /// [`no_such_method`] answer in the same form.
    pub fn router(&self, services: &Routes, most: usize) -> Router {
        let mut router = Router::new();
        for rule in &self.rules {
            let target = Target {
                rule: rule.clone(),
                services: services.clone(),
                most,
            };
            let handler = move |path: Result<RawPathParams, RawPathParamsRejection>,
                                request: Request| async move {
                target.serve(path, request).await
            };
            let method = routing::on(rule.verb.filter, handler);
            router = router.route(&rule.template.route(), method);
        }
        router
    }
}

/// A rule with the services behind it.
#[derive(Clone)]
struct Target {
    rule: Arc<Rule>,
    services: Routes,
    /// The largest body, in bytes.
    most: usize,
}

impl Target {
    async fn serve(
        self,
        path: Result<RawPathParams, RawPathParamsRejection>,
        request: Request,
    ) -> Response {
        match self.answer(path, request).await {
            Ok(message) => answer::message(&message),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn answer(
        &self,
        path: Result<RawPathParams, RawPathParamsRejection>,
        request: Request,
    ) -> Result<DynamicMessage, Refusal> {
        let (parts, body) = request.into_parts();
        let path = match path {
            Ok(path) => path
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            // A path without parameters is none that axum extracts.
            Err(RawPathParamsRejection::MissingPathParams(_)) => Vec::new(),
            Err(error) => return Err(Refusal::malformed(error.body_text())),
        };
        let body = read(&parts, body, self.most).await?;
        let query = parts.uri.query().unwrap_or_default();
        let message = self.rule.message(&path, query, &body)?;
        let Parts {
            headers,
            extensions,
            ..
        } = parts;
        call::unary(
            self.services.clone(),
            &self.rule.rpc,
            &headers,
            extensions,
            message,
        )
        .await
        .map_err(Refusal::from)
    }
}

/// The whole body, if it says that it is JSON and is not too long. What says of itself that it
/// will be refused is not waited for.
async fn read(parts: &Parts, body: axum::body::Body, most: usize) -> Result<Vec<u8>, Refusal> {
    if !body.is_end_stream() && is_coded(&parts.headers) {
        return Err(Refusal::coded());
    }
    if body.size_hint().lower() > 0 && !is_json(&parts.headers) {
        return Err(Refusal::not_json());
    }
    let collected = Limited::new(body, most).collect().await;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::too_large(most)
        } else {
            // A limit of the listener's keeps its own code and reason.
            match Status::try_from_error(error) {
                Ok(status) => status.into(),
                Err(error) => Refusal::malformed(format!("the body cannot be read: {error}")),
            }
        }
    })?;
    let body = Vec::from(body.to_bytes());
    if !body.is_empty() && !is_json(&parts.headers) {
        return Err(Refusal::not_json());
    }
    Ok(body)
}

/// Whether a body says that it is JSON, each time that it says what it is.
fn is_json(headers: &HeaderMap) -> bool {
    let is = |value: &http::HeaderValue| {
        let essence = value.to_str().ok().and_then(|text| text.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    };
    headers.contains_key(CONTENT_TYPE) && headers.get_all(CONTENT_TYPE).iter().all(is)
}

fn is_coded(headers: &HeaderMap) -> bool {
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(plain)
}
