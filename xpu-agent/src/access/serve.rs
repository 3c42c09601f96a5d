//! Listening sockets: accept, within the limits, and end in order. Each connection is a task
//! ([`super::connection`]).

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::Service;
use tracing::warn;

use super::{
    bind,
    connection::Shared,
    limits::{Limits, PeerKey},
    tls::Tls,
};
use crate::config::{AccessConfig, LimitsConfig, Transport};

/// How long to wait when the process has no more file descriptors, which no event tells of.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What all listeners share; cheap to clone.
#[derive(Clone)]
pub struct Gate {
    pub(super) access: Arc<AccessConfig>,
    pub(super) limits: Arc<Limits>,
    tls: Option<Tls>,
}

impl Gate {
    /// With nobody connected.
    #[must_use]
    pub fn new(access: AccessConfig, limits: LimitsConfig, tls: Option<Tls>) -> Self {
        Self {
            access: Arc::new(access),
            limits: Limits::new(limits),
            tls,
        }
    }

    /// The certificates in use.
    #[must_use]
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Listens on a TCP address, which the machine may get only later.
    ///
    /// # Errors
    /// Where the address is taken, or TLS is wanted without certificates.
    pub async fn tcp(
        &self,
        address: SocketAddr,
        transport: Transport,
    ) -> std::io::Result<Listener> {
        let security = match (transport, &self.tls) {
            (Transport::Loopback, _) => Security::Loopback,
            (Transport::Insecure, _) => Security::None,
            (Transport::Tls, Some(tls)) => Security::Tls(tls.clone()),
            (Transport::Tls, None) => {
                return Err(std::io::Error::other("no certificates; set [tls]"));
            }
        };
        Ok(Listener::Tcp(bind::listen(address)?, security))
    }

    /// What is held and refused.
    #[must_use]
    pub const fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1 or HTTP/2, whichever the client begins with.
    Http,
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// Callers are known by their user id.
    Unix(UnixListener),
    /// Callers are known as far as the transport tells.
    Tcp(TcpListener, Security),
}

/// What protects a TCP listener.
#[derive(Clone, Debug)]
pub enum Security {
    /// A loopback address: for this machine alone. With `route_localnet` on an interface its
    /// neighbours reach that, too, and are turned away.
    Loopback,
    /// Client certificates.
    Tls(Tls),
    /// Nothing.
    None,
}

/// Serves a listener until `stop`, and then until its connections have ended.
pub async fn serve<S, R>(
    listener: Listener,
    protocol: Protocol,
    service: S,
    gate: Gate,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tasks = TaskTracker::new();
    let open = Arc::new(AtomicUsize::new(0));
    let shared = Shared::new(protocol, service, gate, tasks.clone(), stop);
    loop {
        // Both arms are cancel-safe: an accepted connection is not lost.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => break,
        };
        let (stream, key) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The connection was gone already (accept(2)), or there are no descriptors left.
                if let Some(more) = shared.throttles.not_accepted.tell() {
                    warn!(%error, more, "a connection cannot be accepted; raise the open files' \
                           limit if this goes on");
                }
                sleep_until(Instant::now() + NO_DESCRIPTORS).await;
                continue;
            }
        };
        match shared.gate.limits.connect(&open, key) {
            Ok(slot) => {
                tasks.spawn(shared.clone().connection(stream, slot));
            }
            Err(reason) => shared.turn_away(reason),
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// An accepted connection, and what is known of its other end.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr, Security),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Stream, PeerKey)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Stream::Unix(stream), PeerKey::Uid(uid)))
            }
            Self::Tcp(listener, security) => {
                let (stream, address) = listener.accept().await?;
                let key = address.ip().into();
                Ok((Stream::Tcp(stream, address, security.clone()), key))
            }
        }
    }
}
