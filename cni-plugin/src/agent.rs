//! The agent, spoken to over gRPC: create a port and wait until it is up, delete one,
//! look at one or all.
//!
//! A tokio runtime of one thread lives for the length of a call; nothing else in the
//! plugin is asynchronous. Protobuf types end in this file and in `seen`.

use std::{
    error::Error as _,
    future::Future,
    mem::ManuallyDrop,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tonic::{
    Code, Request, Response, Status, TimeoutExpired,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use xpu_proto::evpn_gw::v1alpha1::{
    BpOperStatus, BridgePort, BridgePortSpec, BridgePortType, CompStatus, CreateBridgePortRequest,
    DeleteBridgePortRequest, bridge_port_service_client::BridgePortServiceClient,
};

mod names;
mod peer;
mod seen;
mod tls;

pub use peer::{AgentAddr, Peer, TlsFiles};
pub use seen::Seen;
use tls::{Ended, Tls};

use crate::port::{Attach, Port};

/// Why the agent didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody answers; code 11.
    #[error("the agent at {addr} can't be reached: {reason}")]
    Unreachable {
        /// Where it was sought.
        addr: AgentAddr,
        /// The transport's words.
        reason: String,
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

impl AgentError {
    /// Whether something of the agent's is in the way of what it is asked for, as a port that has
    /// the MAC already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == Code::FailedPrecondition)
    }
}

/// How long a TCP connection may take to come about.
const TCP_LIMIT: Duration = Duration::from_secs(1);

/// A runtime whose drop does not wait: tokio's would block until `getaddrinfo()` on its blocking
/// thread times out.
struct Runtime(ManuallyDrop<tokio::runtime::Runtime>);

impl Runtime {
    fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self(ManuallyDrop::new(builder.enable_all().build()?)))
    }
}

/// Nothing of the configuration's: files, memory or threads have run out.
fn no_runtime(error: &std::io::Error) -> String {
    format!("nothing is left to wait for its answer with: {error}")
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: taken here alone, and nobody has this value after `drop`.
        let runtime = unsafe { ManuallyDrop::take(&mut self.0) };
        runtime.shutdown_background();
    }
}

/// A connection to an agent.
pub struct Agent {
    addr: AgentAddr,
    runtime: Runtime,
    client: BridgePortServiceClient<Channel>,
    traceparent: Option<String>,
    /// Why the connection ended; of one by TLS alone.
    ended: Option<Ended>,
}

impl Agent {
    /// Connects.
    ///
    /// # Errors
    /// [`AgentError::Unusable`] when a file of the certificates can't be used,
    /// [`AgentError::Unreachable`] at once when nobody listens, one side doesn't trust the other, or
    /// this process may open no more files, and after a second when no TCP connection comes about,
    /// since nobody answers who hasn't by then. [`AgentError::Deadline`] when the rest, the look-up
    /// of the name and TLS, isn't done by the deadline.
    pub fn connect(
        peer: &Peer,
        traceparent: Option<&str>,
        deadline: Instant,
    ) -> Result<Self, AgentError> {
        let addr = peer.addr();
        let unusable = |error: &dyn std::error::Error| AgentError::Unusable {
            addr: addr.to_string(),
            reason: crate::error::chain(error),
        };
        let tls = peer.tls().map(Tls::read).transpose();
        let tls = tls.map_err(|error| unusable(&error))?;
        let unreachable = |reason: String| AgentError::Unreachable {
            addr: addr.clone(),
            reason,
        };
        if addr.has_name() && !names::by_hosts_and_dns() {
            let reason = "libc can't be told to look its name up by /etc/hosts and DNS alone; give \
                          its IP address";
            return Err(unreachable(reason.to_owned()));
        }
        let runtime = Runtime::new().map_err(|error| unreachable(no_runtime(&error)))?;
        let endpoint = Endpoint::from_shared(addr.to_string()).map_err(|error| unusable(&error))?;
        let endpoint = endpoint.connect_timeout(TCP_LIMIT);
        let ended = tls.as_ref().map(Tls::ended);
        let connected = match tls {
            None => within(&runtime, addr, deadline, endpoint.connect())?,
            Some(tls) => within(&runtime, addr, deadline, tls.connect(&endpoint))?,
        };
        let channel = connected.map_err(|error| ended_by(addr, ended.as_ref(), &error))?;
        let client = BridgePortServiceClient::new(channel);
        let traceparent = traceparent.map(str::to_owned);
        Ok(Self {
            addr: addr.clone(),
            runtime,
            client,
            traceparent,
            ended,
        })
    }

    /// Creates the port and waits until it is up.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses, doesn't answer in time, or says that the port is not up.
    /// After any of these the port may exist.
    pub fn create(&mut self, port: &Port, deadline: Instant) -> Result<(), AgentError> {
        match self.try_create(port, deadline) {
            // Nobody else makes a port of this id: it is what an earlier attempt of the same
            // attachment left, with another VF or network.
            Err(AgentError::Refused {
                code: Code::AlreadyExists,
                ..
            }) => {
                self.delete(&port.id, deadline)?;
                self.try_create(port, deadline)
            }
            other => other,
        }
    }

    fn try_create(&mut self, port: &Port, deadline: Instant) -> Result<(), AgentError> {
        let request = CreateBridgePortRequest {
            bridge_port_id: port.id.clone(),
            bridge_port: Some(BridgePort {
                spec: Some(spec(port)),
                ..BridgePort::default()
            }),
        };
        let request = self.request(request, deadline);
        let call = self.client.create_bridge_port(request);
        let answer = ask(&self.runtime, &self.addr, deadline, call)?
            .map_err(|status| self.refusal(&status))?;
        up(port, &answer)
    }

    /// Deletes a port; that there is none is success.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses or doesn't answer in time; the port may be gone or not.
    pub fn delete(&mut self, id: &str, deadline: Instant) -> Result<(), AgentError> {
        let request = DeleteBridgePortRequest {
            name: format!("bridgePorts/{id}"),
            allow_missing: true,
        };
        let request = self.request(request, deadline);
        let call = self.client.delete_bridge_port(request);
        match ask(&self.runtime, &self.addr, deadline, call)? {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// What an answer that is an error comes to.
    fn refusal(&self, status: &Status) -> AgentError {
        // A status with a cause was made at this end: the agent hasn't refused, the connection
        // ended.
        if let Some(cause) = status.source() {
            return ended_by(&self.addr, self.ended.as_ref(), cause);
        }
        let unreachable = |reason: &str| AgentError::Unreachable {
            addr: self.addr.clone(),
            reason: reason.to_owned(),
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

    fn request<T>(&self, message: T, deadline: Instant) -> Request<T> {
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
}

/// Waits for the answer to a call until the deadline. Also the agent is told it, and may be the first
/// to see that it has passed.
fn ask<T>(
    runtime: &Runtime,
    addr: &AgentAddr,
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Result<T, Status>, AgentError> {
    let start = Instant::now();
    match within(runtime, addr, deadline, call)? {
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

/// Waits for `work` until the deadline.
fn within<T>(
    runtime: &Runtime,
    addr: &AgentAddr,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, AgentError> {
    let waited = deadline.saturating_duration_since(Instant::now());
    runtime
        .0
        .block_on(async { timeout(waited, work).await })
        .map_err(|_| AgentError::Deadline {
            addr: addr.clone(),
            waited,
        })
}

/// A connection that can't be made or has ended: by what it noted itself, else by the innermost
/// cause, which is the kernel's; the transport's layers add nothing.
fn ended_by(
    addr: &AgentAddr,
    ended: Option<&Ended>,
    error: &(dyn std::error::Error + 'static),
) -> AgentError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let noted = ended.and_then(Ended::why).map(str::to_owned);
    AgentError::Unreachable {
        addr: addr.clone(),
        reason: noted.unwrap_or_else(|| cause.to_string()),
    }
}

fn spec(port: &Port) -> BridgePortSpec {
    let (ptype, logical_bridges) = match &port.attach {
        Attach::Access(bridge) => (BridgePortType::Access, vec![bridge.to_string()]),
        Attach::Trunk(bridges) => (
            BridgePortType::Trunk,
            bridges.iter().map(ToString::to_string).collect(),
        ),
        Attach::Transparent => (BridgePortType::Trunk, Vec::new()),
    };
    BridgePortSpec {
        mac_address: port.mac.octets().to_vec(),
        ptype: ptype.into(),
        logical_bridges,
    }
}

/// Whether packets can flow, and if not, why: errors before what is merely pending.
fn up(port: &Port, answer: &BridgePort) -> Result<(), AgentError> {
    match why_down(answer) {
        None => Ok(()),
        Some(reasons) => Err(AgentError::Down {
            id: port.id.clone(),
            reasons,
        }),
    }
}

/// Why packets can't flow; `None`: they can.
fn why_down(answer: &BridgePort) -> Option<String> {
    let status = answer.status.clone().unwrap_or_default();
    if status.oper_status() == BpOperStatus::Up {
        return None;
    }
    let mut waiting: Vec<_> = status
        .components
        .iter()
        .filter(|component| component.status() != CompStatus::Success)
        .collect();
    waiting.sort_by_key(|component| component.status() != CompStatus::Error);
    let reasons: Vec<_> = waiting
        .iter()
        .map(|c| format!("{}: {}", c.name, reason(&c.details)))
        .collect();
    Some(if reasons.is_empty() {
        format!("the agent says {}", status.oper_status().as_str_name())
    } else {
        reasons.join("; ")
    })
}

/// A component's details are a JSON text; its `error` or `reason` is for people.
fn reason(details: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(details).ok();
    let words = ["error", "reason"]
        .iter()
        .find_map(|key| Some(json.as_ref()?.get(key)?.as_str()?.to_owned()));
    words.unwrap_or_else(|| {
        if details.is_empty() {
            "not ready".to_owned()
        } else {
            details.to_owned()
        }
    })
}

#[cfg(test)]
#[path = "../tests/unit/agent.rs"]
mod tests;
