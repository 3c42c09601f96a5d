//! The one map from what can go wrong to gRPC codes and error details.
//!
//! | what | code | details |
//! |---|---|---|
//! | a field is wrong in itself | `INVALID_ARGUMENT` | `BadRequest` |
//! | no such object | `NOT_FOUND` | `ErrorInfo OBJECT_NOT_FOUND` |
//! | the id exists with another spec | `ALREADY_EXISTS` | `ErrorInfo OBJECT_EXISTS` |
//! | a reference names nothing | `FAILED_PRECONDITION` | `BadRequest`, `ErrorInfo REFERENCE_NOT_FOUND` |
//! | a unique value is taken | `FAILED_PRECONDITION` | `BadRequest`, `ErrorInfo VALUE_IN_USE` |
//! | others refer to the object | `FAILED_PRECONDITION` | `ErrorInfo OBJECT_IN_USE` |
//! | a range is used up | `RESOURCE_EXHAUSTED` | `ErrorInfo RANGE_EXHAUSTED` |
//! | too many changes wait | `UNAVAILABLE` | `ErrorInfo STORE_BUSY` |
//! | the agent stops | `UNAVAILABLE` | `ErrorInfo AGENT_STOPPING` |
//! | the disk refuses | `INTERNAL` | `ErrorInfo DISK_FAILED` |
//!
//! Fields are paths in the request, as `google.rpc.BadRequest` asks: `vrf.spec.vni`. All of it
//! stays short, for it travels in headers.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt};
use xpu_model::{FieldViolation, ObjectKey, RuleError, shown::listed};

use super::resource::Resource;
use crate::store::StoreError;

/// The domain of our `ErrorInfo`s (AIP-193).
const DOMAIN: &str = "network.opiproject.org";

/// Violations told at most; what is beyond shows when these are mended.
const MOST_VIOLATIONS: usize = 20;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{}", summary(_0))]
    Invalid(Vec<FieldViolation>),
    #[error("{}", in_request(resource, rule))]
    Rule {
        /// The request's field with the resource that broke the rule.
        resource: &'static str,
        rule: RuleError,
    },
    #[error("{message}")]
    Store {
        code: Code,
        reason: &'static str,
        message: String,
    },
}

impl ApiError {
    /// What the store refuses of a change of an `R`.
    pub(super) fn store<R: Resource>(error: StoreError) -> Self {
        let message = error.to_string();
        let (code, reason) = match error {
            StoreError::Rule(rule) => return Self::rule::<R>(rule),
            StoreError::Busy => (Code::Unavailable, "STORE_BUSY"),
            StoreError::Stopped => (Code::Unavailable, "AGENT_STOPPING"),
            StoreError::Disk(_) => (Code::Internal, "DISK_FAILED"),
        };
        Self::Store {
            code,
            reason,
            message,
        }
    }

    pub(super) const fn rule<R: Resource>(rule: RuleError) -> Self {
        let resource = R::MESSAGE_FIELD;
        Self::Rule { resource, rule }
    }

    pub(super) const fn not_found<R: Resource>(key: ObjectKey) -> Self {
        Self::rule::<R>(RuleError::NotFound { key })
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    let one = |it: &FieldViolation| format!("{}: {}", it.field, it.description);
    let told: Vec<_> = violations.iter().take(MOST_VIOLATIONS).map(one).collect();
    match violations.len().saturating_sub(MOST_VIOLATIONS) {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}

/// The rule's own words, which start with a field of the resource if it is about one.
fn in_request(resource: &str, rule: &RuleError) -> String {
    match rule {
        RuleError::MissingReference { .. } | RuleError::Conflict { .. } => {
            format!("{resource}.{rule}")
        }
        _ => rule.to_string(),
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        let (code, details) = match error {
            ApiError::Invalid(violations) => {
                let told = violations.into_iter().take(MOST_VIOLATIONS);
                let wire: Vec<_> = told
                    .map(|it| WireViolation::new(it.field, it.description))
                    .collect();
                (Code::InvalidArgument, ErrorDetails::with_bad_request(wire))
            }
            ApiError::Rule { resource, rule } => rule_details(resource, &rule),
            ApiError::Store { code, reason, .. } => (code, info(reason, &[])),
        };
        Self::with_error_details(code, message, details)
    }
}

fn rule_details(resource: &str, rule: &RuleError) -> (Code, ErrorDetails) {
    match rule {
        RuleError::NotFound { key } => (Code::NotFound, info("OBJECT_NOT_FOUND", &[("name", key)])),
        RuleError::AlreadyExists { key } => {
            (Code::AlreadyExists, info("OBJECT_EXISTS", &[("name", key)]))
        }
        RuleError::Referenced { key, by } => {
            let facts: [(&str, &dyn ToString); 2] = [("name", key), ("referrers", &listed(by))];
            (Code::FailedPrecondition, info("OBJECT_IN_USE", &facts))
        }
        RuleError::MissingReference { field, key } => {
            let field = format!("{resource}.{field}");
            let mut details = info("REFERENCE_NOT_FOUND", &[("field", &field), ("name", key)]);
            details.add_bad_request_violation(field, format!("{key} does not exist"));
            (Code::FailedPrecondition, details)
        }
        RuleError::Conflict {
            field,
            value,
            holder,
        } => {
            let field = format!("{resource}.{field}");
            let facts: [(&str, &dyn ToString); 3] =
                [("field", &field), ("value", value), ("holder", holder)];
            let mut details = info("VALUE_IN_USE", &facts);
            details.add_bad_request_violation(field, format!("{value} is in use by {holder}"));
            (Code::FailedPrecondition, details)
        }
        RuleError::Exhausted { what, range } => (
            Code::ResourceExhausted,
            info("RANGE_EXHAUSTED", &[("what", what), ("range", range)]),
        ),
    }
}

fn info(reason: &str, facts: &[(&str, &dyn ToString)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = facts
        .iter()
        .map(|(name, fact)| ((*name).to_owned(), fact.to_string()))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
