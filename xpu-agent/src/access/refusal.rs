//! Why a request does not reach the API, and what its caller is answered.
//!
//! | what | code | `ErrorInfo` |
//! |---|---|---|
//! | nobody is known to be the caller | `UNAUTHENTICATED` | `CALLER_UNKNOWN` |
//! | none of the caller's roles may do this | `PERMISSION_DENIED` | `ROLE_REQUIRED` |
//! | no rule for the method | `UNIMPLEMENTED` | `METHOD_UNKNOWN` |
//! | a limit is reached | `RESOURCE_EXHAUSTED` | `LIMIT_REACHED`; `RetryInfo` where a retry helps |
//! | the request did not come in time | `DEADLINE_EXCEEDED` | `REQUEST_TOO_SLOW` |
//!
//! A body whose framing is wrong is `INVALID_ARGUMENT`, said where it is read (`body.rs`).

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Caller, Role, policy::Roles};

/// The domain of our `ErrorInfo`s (AIP-193).
const DOMAIN: &str = "network.opiproject.org";

/// The reason in the `ErrorInfo` of [`Refusal::Limit`].
const LIMIT_REACHED: &str = "LIMIT_REACHED";

/// Why a request is refused before the API sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request has no caller, or one that is not known and has no role.
    #[error(
        "{method} is for known callers, and {} is not one: connect over the unix socket or by a \
         client certificate{}",
        seen(caller.as_ref()),
        or_grant(caller.as_ref(), *least)
    )]
    Unauthenticated {
        /// The method's path.
        method: String,
        /// Who was seen, if anybody was.
        caller: Option<Caller>,
        /// The least powerful role that may call it.
        least: Role,
    },
    /// The caller is known, or has the role of unknown callers, but may not do this.
    #[error(
        "{} has {} and may not call {method}; the agent's configuration allows it with {}",
        caller.peer(),
        listed(caller.roles()),
        caller.grant(*least)
    )]
    Forbidden {
        /// The method's path.
        method: String,
        /// Who was seen.
        caller: Caller,
        /// The least powerful role that may call it.
        least: Role,
    },
    /// The agent has no such method.
    #[error("the agent serves no {method}")]
    NoRule {
        /// The request's path.
        method: String,
    },
    /// A limit of `[limits]` is reached.
    #[error("{what}: the limit is {limit} ({key}); {advice}")]
    Limit {
        /// What there was too much of.
        what: &'static str,
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        limit: u64,
        /// What the caller can do.
        advice: &'static str,
        /// When to try again, where that helps.
        retry: Option<Duration>,
    },
    /// The request's body came too slowly.
    #[error("the request did not arrive within {} ms ({key})", limit.as_millis())]
    Slow {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        limit: Duration,
    },
}

fn seen(caller: Option<&Caller>) -> String {
    caller.map_or_else(|| "nobody".to_owned(), |caller| caller.peer().to_string())
}

fn or_grant(caller: Option<&Caller>, least: Role) -> String {
    let or = |caller: &Caller| format!("; or set {}", caller.grant(least));
    caller.map_or_else(String::new, or)
}

fn listed(roles: &Roles) -> String {
    let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    match names.as_slice() {
        [] => "no role".to_owned(),
        [one] => format!("the role {one}"),
        several => format!("the roles {}", several.join(" and ")),
    }
}

impl Refusal {
    /// The request is larger than the `limit` of bytes that a message may have.
    #[must_use]
    pub const fn too_large(limit: usize) -> Self {
        Self::Limit {
            what: "the request is too large",
            key: "limits.message_bytes",
            limit: limit as u64,
            advice: "send less, or raise it",
            retry: None,
        }
    }

    /// A message of a stream is larger than a stream's may be.
    #[must_use]
    pub const fn too_large_for_stream(limit: usize) -> Self {
        Self::Limit {
            what: "a message of this stream is too large",
            key: "not configurable",
            limit: limit as u64,
            advice: "send less",
            retry: None,
        }
    }

    /// Whether something is used up and a retry of the same request will not help. A refusal that a
    /// retry may overcome has a `RetryInfo`, here and in the API.
    #[must_use]
    pub fn is_for_good(status: &Status) -> bool {
        status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_none()
    }

    /// Whether the request is too large, so that it will be refused at any time.
    #[must_use]
    pub fn is_too_large(status: &Status) -> bool {
        Self::is_for_good(status)
            && status
                .get_details_error_info()
                .is_some_and(|info| info.reason == LIMIT_REACHED)
    }

    /// The gRPC code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::Forbidden { .. } => Code::PermissionDenied,
            Self::NoRule { .. } => Code::Unimplemented,
            Self::Limit { .. } => Code::ResourceExhausted,
            Self::Slow { .. } => Code::DeadlineExceeded,
        }
    }

    fn facts(&self) -> (&'static str, Vec<(&'static str, String)>) {
        match self {
            Self::Unauthenticated { method, caller, .. } => (
                "CALLER_UNKNOWN",
                vec![
                    ("method", method.clone()),
                    ("caller", seen(caller.as_ref())),
                ],
            ),
            Self::Forbidden {
                method,
                caller,
                least,
            } => (
                "ROLE_REQUIRED",
                vec![
                    ("method", method.clone()),
                    ("caller", caller.peer().to_string()),
                    ("role", least.to_string()),
                    ("config", caller.grant(*least)),
                ],
            ),
            Self::NoRule { method } => ("METHOD_UNKNOWN", vec![("method", method.clone())]),
            Self::Limit { key, limit, .. } => (
                LIMIT_REACHED,
                vec![("config", (*key).to_owned()), ("limit", limit.to_string())],
            ),
            Self::Slow { key, limit } => (
                "REQUEST_TOO_SLOW",
                vec![
                    ("config", (*key).to_owned()),
                    ("limit", limit.as_millis().to_string()),
                ],
            ),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (reason, facts) = refusal.facts();
        let facts: HashMap<String, String> = facts
            .into_iter()
            .map(|(name, fact)| (name.to_owned(), fact))
            .collect();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
        if let Refusal::Limit {
            retry: Some(after), ..
        } = refusal
        {
            details.set_retry_info(Some(after));
        }
        Self::with_error_details(refusal.code(), refusal.to_string(), details)
    }
}
