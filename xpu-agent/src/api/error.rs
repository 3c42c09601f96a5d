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
//! | too many changes wait, of all or of the caller | `UNAVAILABLE` | `ErrorInfo STORE_BUSY` |
//! | the agent stops | `UNAVAILABLE` | `ErrorInfo AGENT_STOPPING` |
//! | the store has not answered in time | `DEADLINE_EXCEEDED` | `ErrorInfo NOT_STORED_YET` |
//! | another call deleted it while this one waited | `ABORTED` | `ErrorInfo OBJECT_DELETED` |
//! | the disk refuses | `INTERNAL` | `ErrorInfo DISK_FAILED` |
//!
//! None of these has a `RetryInfo`: a range that is used up is so until an operator widens it.
//!
//! Fields are paths in the request, as `google.rpc.BadRequest` asks: `vrf.spec.vni`. All of it
//! stays short, for it travels in headers: of 16 KiB a client loses the error itself.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation as WireViolation, StatusExt};
use xpu_model::{FieldViolation, ObjectKey, RuleError, shown::listed};

use super::resource::Resource;
use crate::store::StoreError;

/// The domain of our `ErrorInfo`s (AIP-193).
const DOMAIN: &str = "network.opiproject.org";

/// Violations in one error at most; those beyond show when these are mended.
const MOST_VIOLATIONS: usize = 20;

/// Bytes that these have at most as they travel. What else is in the headers has its place in the
/// 16 KiB, too.
const MOST_BYTES: usize = 12 << 10;

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
    /// The change is with the store, which makes it or refuses it after the call's end.
    #[error(
        "{key} is not stored yet, and the time for it is over; the change goes on: get {key}, or \
         make the same call again. If this goes on, the disk of the agent's store is slow"
    )]
    Late { key: ObjectKey },
    /// The change was made. Not `NOT_FOUND`, which would say that it was not.
    #[error(
        "{key} was stored, and another call has deleted it since; make the same call again if it \
         is still wanted"
    )]
    Overtaken { key: ObjectKey },
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
            StoreError::Busy | StoreError::CallerBusy => (Code::Unavailable, "STORE_BUSY"),
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

    pub(super) const fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Rule {
                rule: RuleError::NotFound { .. },
                ..
            }
        )
    }
}

/// How many of the first violations an error has room for: at least one, which is short enough by
/// itself ([`xpu_model::shown`]).
fn how_many_fit(violations: &[FieldViolation]) -> usize {
    let mut room = MOST_BYTES;
    let fits = |it: &&FieldViolation| {
        let left = room.checked_sub(travels_as(it));
        room = left.unwrap_or_default();
        left.is_some()
    };
    let first = violations.iter().take(MOST_VIOLATIONS);
    first.take_while(fits).count().max(1)
}

/// The bytes of a violation in `grpc-message`, percent-encoded, and in the details, which have the
/// message once more, as base64.
fn travels_as(it: &FieldViolation) -> usize {
    /// Between and around the texts.
    const SEPARATORS: usize = 16;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.,:;/()[]".contains(byte);
    let text = || it.field.bytes().chain(it.description.bytes());
    let (all, plain) = (text().count(), text().filter(plain).count());
    let in_message = plain + 3 * (all - plain);
    let in_details = (2 * all + SEPARATORS).div_ceil(3) * 4;
    in_message + in_details + SEPARATORS
}

fn summary(violations: &[FieldViolation]) -> String {
    let one = |it: &FieldViolation| format!("{}: {}", it.field, it.description);
    let most = how_many_fit(violations);
    let first: Vec<_> = violations.iter().take(most).map(one).collect();
    match violations.len().saturating_sub(most) {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
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
                let most = how_many_fit(&violations);
                let first = violations.into_iter().take(most);
                let wire: Vec<_> = first
                    .map(|it| WireViolation::new(it.field, it.description))
                    .collect();
                (Code::InvalidArgument, ErrorDetails::with_bad_request(wire))
            }
            ApiError::Rule { resource, rule } => rule_details(resource, &rule),
            ApiError::Late { key } => {
                let details = info("NOT_STORED_YET", &[("name", &key)]);
                (Code::DeadlineExceeded, details)
            }
            ApiError::Overtaken { key } => {
                (Code::Aborted, info("OBJECT_DELETED", &[("name", &key)]))
            }
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
        RuleError::Exhausted { what, range, .. } => (
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

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(count: usize, text: &str) -> Vec<FieldViolation> {
        let one = |index| FieldViolation {
            field: format!("bridge_port.spec.logical_bridges[{index}]"),
            description: format!("`{text}` is no valid id"),
        };
        (0..count).map(one).collect()
    }

    #[rstest::rstest]
    #[case::short("net", 20)]
    #[case::long(&"x".repeat(80), 15)]
    #[case::spaces(&" ".repeat(80), 12)]
    // Percent-encoded, each byte of it is three.
    #[case::letters_of_three_bytes(&"\u{20ac}".repeat(80), 5)]
    #[case::escapes(&r"\u{200b}".repeat(80), 3)]
    fn an_error_fits_into_headers(#[case] text: &str, #[case] least: usize) {
        let status = Status::from(ApiError::Invalid(violations(5_000, text)));
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        // As HTTP/2 counts them (RFC 9113, 6.5.2).
        let each = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32);
        let size: usize = each.sum();
        assert!(size < MOST_BYTES + 1_024, "{size}");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert!((least..=20).contains(&fields.len()), "{}", fields.len());
        let more = format!("; and {} more", 5_000 - fields.len());
        assert!(status.message().ends_with(&more), "{}", status.message());
    }
}
