//! `/healthz`, `/readyz` and `/metrics`: what probes and Prometheus ask.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 `ok` as long as the agent's runtime runs |
//! | `/readyz` | 200 or 503, and `{"ready":…,"waiting":[{"for":"frr","reason":"…"}]}` |
//! | `/metrics` | Prometheus' text format, or OpenMetrics for who accepts it |

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::readiness::{Readiness, Waiting};
use crate::telemetry::metrics::{Exposition, Format};

/// What the answers are made of; cheap to clone.
#[derive(Clone)]
pub struct Health {
    /// What is waited for.
    pub readiness: Readiness,
    /// The metrics.
    pub exposition: Exposition,
}

/// The three paths.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    waiting: Vec<Waiting>,
}

async fn ready(State(health): State<Health>) -> Response {
    let waiting = health.readiness.waiting();
    let ready = waiting.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, waiting })).into_response()
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    match health.exposition.text(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => {
            let problem = format!("the metrics cannot be written as text: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, problem).into_response()
        }
    }
}
