//! What the HTTP listener serves: the gateway, its description, and the pages beside them.
//!
//! | path | what |
//! |---|---|
//! | `/v1/…` | the four services, by their `google.api.http` rules ([`crate::gateway`]) |
//! | `/openapi.json` | the OpenAPI 3.1 description of these |
//!
//! `/healthz`, `/readyz` and `/metrics` come from [`crate::lifecycle::http`].

use anyhow::Context;
use axum::{Json, Router, routing::get};
use tonic::service::Routes;

use crate::gateway::{self, Gateway, openapi};

/// What the description calls the API.
const INFO: openapi::Info = openapi::Info {
    title: "OPI EVPN Gateway",
    version: env!("CARGO_PKG_VERSION"),
};

/// The routes of the HTTP listener: `services`, called in process with bodies of `most` bytes at
/// most, and other pages.
///
/// # Errors
/// When the API's descriptors cannot be served, which a test rules out.
pub fn router(services: &Routes, most: usize, pages: Router) -> anyhow::Result<Router> {
    let gateway =
        Gateway::new(xpu_proto::FILE_DESCRIPTOR_SET).context("the HTTP gateway cannot be made")?;
    let description = openapi::document(&gateway, INFO);
    Ok(Router::new()
        .merge(gateway.router(services, most))
        .merge(pages)
        .route("/openapi.json", get(|| async move { Json(description) }))
        // After all routes: a path that is known answers 405 itself.
        .method_not_allowed_fallback(gateway::no_such_method)
        .fallback(gateway::no_such_path))
}
