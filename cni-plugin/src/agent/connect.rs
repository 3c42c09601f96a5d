//! Connecting to an agent: to its socket, or by TCP, with TLS where its address says so.

use std::time::Instant;

use tonic::transport::Endpoint;
use xpu_proto::evpn_gw::v1alpha1::bridge_port_service_client::BridgePortServiceClient;

use super::{
    Agent, AgentAddr, AgentError, Peer,
    error::{DOCTOR, SERVICE},
    names,
    runtime::Runtime,
    tls::{Ended, Tls},
};
use crate::{budget::TCP_LIMIT, error::chain};

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
            reason: chain(error),
        };
        let tls = peer.tls().map(Tls::read).transpose();
        let tls = tls.map_err(|error| unusable(&error))?;
        let unreachable = |reason: String| AgentError::Unreachable {
            addr: addr.clone(),
            reason,
            next_step: None,
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
            None => runtime.within(addr, deadline, endpoint.connect())?,
            Some(tls) => runtime.within(addr, deadline, tls.connect(&endpoint))?,
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
}

/// Nothing of the configuration's: files, memory or threads have run out.
fn no_runtime(error: &std::io::Error) -> String {
    format!("nothing is left to wait for its answer with: {error}")
}

/// A connection that can't be made or has ended: by what it noted itself, else by the innermost
/// cause, which is the kernel's; the transport's layers add nothing.
pub fn ended_by(
    addr: &AgentAddr,
    ended: Option<&Ended>,
    error: &(dyn std::error::Error + 'static),
) -> AgentError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let (reason, next_step) = match ended.and_then(Ended::why) {
        // One side doesn't take the other's certificate.
        Some(noted) => (noted.to_owned(), DOCTOR),
        None => (cause.to_string(), SERVICE),
    };
    AgentError::Unreachable {
        addr: addr.clone(),
        reason,
        next_step: Some(next_step),
    }
}
