//! One question to an agent: what goes with it, how long it is waited for, and what an answer that is
//! an error comes to.

use std::{error::Error as _, future::Future, time::Instant};

use tonic::{Code, Request, Response, Status, TimeoutExpired, metadata::MetadataValue};
use tonic_types::StatusExt;

use super::{Agent, AgentAddr, AgentError, connect::ended_by, runtime::Runtime};

impl Agent {
    /// A question, with the time that its answer has and the trace that it belongs to.
    pub(super) fn request<T>(&self, message: T, deadline: Instant) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let trace = self
            .traceparent
            .as_deref()
            .and_then(|text| MetadataValue::try_from(text).ok());
        if let Some(trace) = trace {
            request.metadata_mut().insert("traceparent", trace);
        }
        request
    }

    /// What an answer that is an error comes to.
    pub(super) fn refusal(&self, status: &Status) -> AgentError {
        // A status with a cause was made at this end: the agent hasn't refused, the connection
        // ended.
        if let Some(cause) = status.source() {
            return ended_by(&self.addr, self.ended.as_ref(), cause);
        }
        let unreachable = |reason: &str| AgentError::Unreachable {
            addr: self.addr.clone(),
            reason: reason.to_owned(),
            next_step: None,
        };
        // With a delay, another try can be within the limit; without one it is a no.
        let retry = status.get_details_retry_info();
        let after = retry.and_then(|info| info.retry_delay);
        let message = status.message().to_owned();
        match (status.code(), after) {
            (Code::ResourceExhausted, Some(after)) => AgentError::Later { message, after },
            (Code::Unavailable, _) => unreachable(&message),
            (code, _) => AgentError::Refused { code, message },
        }
    }
}

/// Waits for the answer to a call until the deadline. Also the agent is told it, and may be the first
/// to see that it has passed.
pub fn ask<T>(
    runtime: &Runtime,
    addr: &AgentAddr,
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Result<T, Status>, AgentError> {
    let start = Instant::now();
    match runtime.within(addr, deadline, call)? {
        Err(status) if is_late(&status) => Err(AgentError::Deadline {
            addr: addr.clone(),
            waited: start.elapsed(),
        }),
        answer => Ok(answer.map(Response::into_inner)),
    }
}

/// Whether a call ended with its time: by the agent's word, or by the client's own clock, which
/// makes a cancelled call of it (`tonic::TimeoutExpired`) as it does of a connection that ended.
fn is_late(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    match status.code() {
        Code::DeadlineExceeded => true,
        // A server of tonic's says so where the deadline passes there first.
        Code::Cancelled => status.source().is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose clock is first is chance: the agent has the same deadline.
    #[test]
    fn a_call_is_late_by_either_sides_clock() {
        assert!(is_late(&Status::cancelled("Timeout expired")));
        assert!(is_late(&Status::deadline_exceeded(
            "the port is not up yet"
        )));
        assert!(is_late(&Status::from_error(Box::new(TimeoutExpired(())))));
        let ended = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let mut ended_here = Status::cancelled("the connection ended");
        ended_here.set_source(std::sync::Arc::new(ended));
        assert!(!is_late(&ended_here));
        assert!(!is_late(&Status::unavailable("it stops")));
    }
}
