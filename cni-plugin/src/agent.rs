//! The agent, spoken to over gRPC: create a port and wait until it is up, delete one,
//! look at one or all.
//!
//! A tokio runtime of one thread lives for the length of a call; nothing else in the plugin is
//! asynchronous. Protobuf types end in `port` and `seen`.

use tonic::transport::Channel;
use xpu_proto::evpn_gw::v1alpha1::bridge_port_service_client::BridgePortServiceClient;

mod ask;
mod connect;
mod error;
mod names;
mod peer;
mod port;
mod runtime;
mod seen;
mod tls;

pub use error::{AgentError, DOCTOR};
pub use peer::{AgentAddr, Peer, TlsFiles};
pub use seen::Seen;

use runtime::Runtime;
use tls::Ended;

/// A connection to an agent.
pub struct Agent {
    addr: AgentAddr,
    runtime: Runtime,
    client: BridgePortServiceClient<Channel>,
    traceparent: Option<String>,
    /// Why the connection ended; of one by TLS alone.
    ended: Option<Ended>,
}
