//! Answers: messages as JSON, and refusals as `google.rpc.Status` with its details typed.

use std::sync::LazyLock;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::access;

/// The types of errors and their details, which services send without saying so in their
/// descriptors. Tests rule out that they cannot be read.
static ERRORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_default()
});

/// A refusal, the services' or the gateway's own.
#[derive(Debug)]
pub struct Refusal {
    http: StatusCode,
    status: Status,
    /// What would be accepted.
    accepted: Option<(HeaderName, HeaderValue)>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(&status),
            status,
            accepted: None,
        }
    }
}

impl Refusal {
    fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            status: Status::new(code, message),
            accepted: None,
        }
    }

    /// The body is of a kind that is not read; the header says which is (RFC 9110, 15.5.16).
    fn unsupported(message: &str, name: HeaderName, value: &'static str) -> Self {
        let (http, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument);
        Self {
            accepted: Some((name, HeaderValue::from_static(value))),
            ..Self::new(http, code, message)
        }
    }

    /// The request itself cannot be read.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Status::invalid_argument(message).into()
    }

    /// A field of the request cannot be read; an empty name is the request as a whole.
    pub(super) fn field(field: &str, problem: impl ToString) -> Self {
        let problem = problem.to_string();
        if field.is_empty() {
            return Self::malformed(problem);
        }
        let message = format!("{field}: {problem}");
        let details = ErrorDetails::with_bad_request_violation(field, problem);
        Status::with_error_details(Code::InvalidArgument, message, details).into()
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Status::from(access::Refusal::too_large(limit)).into()
    }

    pub(super) fn not_json() -> Self {
        Self::unsupported(
            "the body must be JSON; send it with `Content-Type: application/json`",
            header::ACCEPT,
            "application/json",
        )
    }

    pub(super) fn coded() -> Self {
        Self::unsupported(
            "the body must not be compressed; send it without `Content-Encoding`",
            header::ACCEPT_ENCODING,
            "identity",
        )
    }

    /// The status that a gRPC client would see.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "code": i32::from(self.status.code()),
            "message": self.status.message(),
            "details": details(&self.status),
        });
        let headers: HeaderMap = self.accepted.into_iter().collect();
        (self.http, headers, Json(body)).into_response()
    }
}

/// The details as JSON, each with its `@type`; empty where a type is not known.
fn details(status: &Status) -> Value {
    let read = || {
        let message = ERRORS.get_message_by_name("google.rpc.Status")?;
        let decoded = DynamicMessage::decode(message, status.details()).ok()?;
        let json = serde_json::to_value(&decoded).ok()?;
        json.get("details").cloned()
    };
    read().unwrap_or_else(|| json!([]))
}

/// A message as canonical JSON.
pub(super) fn message(message: &DynamicMessage) -> Response {
    Json(message).into_response()
}

/// The answer where no route has the path.
pub async fn no_such_path(uri: Uri) -> Response {
    let message = format!("there is no {}; /openapi.json lists what is", uri.path());
    Refusal::from(Status::not_found(message)).into_response()
}

/// The answer where a route has the path, but not the method. The header `Allow` is the router's.
pub async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{} has no {method}; the header `Allow` lists what it has",
        uri.path()
    );
    let (http, code) = (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented);
    Refusal::new(http, code, message).into_response()
}

/// `google/rpc/code.proto`, "HTTP Mapping"; but HTTP clients try again what is answered with 429,
/// so what is too large for any time is 413, and what is used up until an operator changes
/// something is 400, as `FAILED_PRECONDITION` is.
fn http_status(status: &Status) -> StatusCode {
    match status.code() {
        Code::Ok => StatusCode::OK,
        // Nginx' "client closed request", which is in no RFC.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted if access::Refusal::is_too_large(status) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Code::ResourceExhausted if access::Refusal::is_for_good(status) => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;

    /// All 17 of them.
    #[rstest::rstest]
    #[case(Code::Ok, 200)]
    #[case(Code::Cancelled, 499)]
    #[case(Code::Unknown, 500)]
    #[case(Code::InvalidArgument, 400)]
    #[case(Code::DeadlineExceeded, 504)]
    #[case(Code::NotFound, 404)]
    #[case(Code::AlreadyExists, 409)]
    #[case(Code::PermissionDenied, 403)]
    #[case(Code::ResourceExhausted, 400)]
    #[case(Code::FailedPrecondition, 400)]
    #[case(Code::Aborted, 409)]
    #[case(Code::OutOfRange, 400)]
    #[case(Code::Unimplemented, 501)]
    #[case(Code::Internal, 500)]
    #[case(Code::Unavailable, 503)]
    #[case(Code::DataLoss, 500)]
    #[case(Code::Unauthenticated, 401)]
    fn codes(#[case] code: Code, #[case] http: u16) {
        assert_eq!(http_status(&Status::new(code, "")), http);
    }

    /// 429 says: come again.
    #[rstest::rstest]
    #[case::busy("LIMIT_REACHED", Some(Duration::from_millis(100)), 429)]
    #[case::too_large("LIMIT_REACHED", None, 413)]
    #[case::no_table_left("RANGE_EXHAUSTED", None, 400)]
    fn used_up(#[case] reason: &str, #[case] retry: Option<Duration>, #[case] http: u16) {
        let mut details = ErrorDetails::with_error_info(reason, "", HashMap::new());
        if retry.is_some() {
            details.set_retry_info(retry);
        }
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        assert_eq!(http_status(&status), http);
    }
}
