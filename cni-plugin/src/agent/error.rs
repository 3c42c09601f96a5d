//! Why the agent didn't do what it was asked for.

use std::time::Duration;

use tonic::Code;

use super::AgentAddr;

/// Why the agent didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody answers; code 11.
    #[error("the agent at {addr} can't be reached: {reason}")]
    Unreachable {
        /// Where it was sought.
        addr: AgentAddr,
        /// The transport's words, or the agent's own.
        reason: String,
        /// What can be done about it, where these don't say so.
        next_step: Option<&'static str>,
    },
    /// No answer in time; code 11.
    #[error("the agent at {addr} did not answer within {} ms", waited.as_millis())]
    Deadline {
        /// Who was asked.
        addr: AgentAddr,
        /// How long this call waited.
        waited: Duration,
    },
    /// The port exists, but no packet can flow yet; code 11.
    #[error("{reasons}; port {id} is not up")]
    Down {
        /// The port.
        id: String,
        /// Each component's word for it.
        reasons: String,
    },
    /// One of the agent's limits is reached, and it says when it won't be any more; code 11.
    #[error("{message} (the agent says to try again in {} ms)", after.as_millis())]
    Later {
        /// The agent's words.
        message: String,
        /// How long it asks to wait.
        after: Duration,
    },
    /// The answer of the agent is no; code 101.
    #[error("{message} (the agent refused with {code:?})")]
    Refused {
        /// gRPC's code.
        code: Code,
        /// The agent's words.
        message: String,
    },
    /// The address, or a file of the certificates, can't be used; code 7.
    #[error("the agent {addr} can't be spoken to as configured: {reason}")]
    Unusable {
        /// The address.
        addr: String,
        /// Why.
        reason: String,
    },
}

/// Nobody listens.
pub const SERVICE: &str = "see that xpu-agent runs and listens there: `systemctl status xpu-agent`";
/// The agent, its certificates and its objects are looked at.
pub const DOCTOR: &str = "`xpuctl doctor` says what mends it";

impl AgentError {
    /// Whether something of the agent's is in the way of what it is asked for, as a port that has
    /// the MAC already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == Code::FailedPrecondition)
    }
}
