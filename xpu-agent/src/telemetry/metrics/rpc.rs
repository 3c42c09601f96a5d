//! Calls: how many, how long, how they ended.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use super::{registered, registered_seconds};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    service: &'static str,
    method: &'static str,
    code: &'static str,
}

/// Counts calls; cheap to clone.
#[derive(Clone, Debug)]
pub struct RpcMeter {
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

/// A method that the agent serves. Both names are of a fixed set: labels made of what a client
/// sends would fill the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Method {
    /// The service's full name.
    pub service: &'static str,
    /// The method's name.
    pub method: &'static str,
}

impl RpcMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            duration: registered_seconds(
                registry,
                "rpc_duration",
                "How long calls took, gRPC and REST, by the code they ended with",
                Family::new_with_constructor(super::seconds),
            ),
            in_flight: registered(
                registry,
                "rpcs_in_flight",
                "Calls that are being answered",
                Gauge::default(),
            ),
        }
    }

    /// A call has come.
    pub fn begun(&self) {
        self.in_flight.inc();
    }

    /// A call has ended.
    pub fn ended(&self, method: Method, code: Code, took: Duration) {
        self.in_flight.dec();
        let labels = Labels {
            service: method.service,
            method: method.method,
            code: code_name(code),
        };
        self.duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

/// The code as gRPC's documentation writes it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
