//! One connection: find out who it is, speak HTTP, end in order.
//!
//! A connection ends when its peer closes it, when the agent stops, or when its peer takes too
//! long; what it started ends with it. To end in order, its peer is asked to end it (GOAWAY, or the
//! end of keep-alive), and calls under way are answered first. A stream of messages would never end
//! by itself, so it ends when the agent stops.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};
use tracing::{debug, info, warn};

use super::{
    Caller, Refusal,
    body::{Inbound, Outbound, Pace, Unread},
    caller::Peer,
    io::Counted,
    limits::{PeerState, Reason, Slot},
    log_throttle::LogThrottle,
    policy,
    serve::{Gate, Protocol, Security, Stream},
    tls::Tls,
};
use crate::{config::LimitsConfig, gateway};

/// The bytes of a gRPC message before the message.
pub(super) const FRAME: usize = 5;
/// The first bytes of a connection: HTTP/2's preface (RFC 9113, 3.4). No HTTP/1.1 request is
/// shorter.
const FIRST_BYTES: usize = 24;
/// How often a quiet HTTP/2 client is asked whether it is there, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How much of one request, and of one connection's requests, may be on the way unread.
const WINDOW: (u32, u32) = (256 << 10, 1 << 20);
/// Longer than any connection lives.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn http(protocol: Protocol, limits: &LimitsConfig, tasks: TaskTracker) -> auto::Builder<Spawn> {
    let mut http = auto::Builder::new(Spawn(tasks));
    let headers = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake())
        .max_buf_size(headers.max(8 << 10));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    match protocol {
        Protocol::Grpc => http.http2_only(),
        Protocol::Http => http,
    }
}

/// Runs what a connection starts among the listener's tasks.
#[derive(Clone)]
struct Spawn(TaskTracker);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// What the connections of a listener share.
pub(super) struct Shared<S> {
    protocol: Protocol,
    http: auto::Builder<Spawn>,
    service: S,
    pub(super) gate: Gate,
    pub(super) stop: CancellationToken,
    pub(super) throttles: Throttles,
}

/// What peers can cause as often as they like, so that it is logged at most once a second.
#[derive(Default)]
pub(super) struct Throttles {
    pub(super) not_accepted: LogThrottle,
    turned_away: LogThrottle,
    not_loopback: LogThrottle,
    no_handshake: LogThrottle,
    untrusted: LogThrottle,
    unread: LogThrottle,
    refused: LogThrottle,
}

impl<S, R> Shared<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + Clone,
    S: Send + Sync + 'static,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// For a listener that has no connection yet.
    pub(super) fn new(
        protocol: Protocol,
        service: S,
        gate: Gate,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            http: http(protocol, gate.limits.config(), tasks),
            service,
            gate,
            stop,
            throttles: Throttles::default(),
        })
    }

    /// Counts and logs a connection that a limit leaves no room for.
    pub(super) fn turn_away(&self, reason: Reason) {
        self.gate.limits.count(reason);
        if let Some(more) = self.throttles.turned_away.tell() {
            let key = reason.as_str();
            warn!(
                more,
                "connections are turned away: limits.{key} is reached; find who holds them \
                   (ss -tnp, ss -xp), or raise it"
            );
        }
    }

    fn not_loopback(&self, peer: SocketAddr) {
        self.gate.limits.count(Reason::NotLoopback);
        if let Some(more) = self.throttles.not_loopback.tell() {
            warn!(
                %peer,
                more,
                "turned away: it reached a listener on a loopback address from another machine; \
                 set net.ipv4.conf.INTERFACE.route_localnet to 0, or let a firewall drop what \
                 comes to 127.0.0.0/8 from outside"
            );
        }
    }

    /// Serves a connection until it has ended.
    pub(super) async fn connection(self: Arc<Self>, stream: Stream, _slot: Slot) {
        let start = Instant::now();
        match stream {
            Stream::Unix(stream) => {
                let Ok(credentials) = stream.peer_cred() else {
                    return;
                };
                let peer = Peer::Unix {
                    uid: credentials.uid(),
                    pid: credentials.pid(),
                };
                self.speak(stream, peer, start, pending()).await;
            }
            Stream::Tcp(stream, address, security) => {
                tune(&stream, self.gate.limits.config());
                let local = address.ip().to_canonical().is_loopback();
                match security {
                    Security::Tls(tls) => self.tls(&tls, stream, address, start).await,
                    Security::Loopback if !local => self.not_loopback(address),
                    // The kernel takes no such address from outside (RFC 1122, 3.2.1.3).
                    Security::None if !local => {
                        let peer = Peer::Clear(address);
                        self.speak(stream, peer, start, pending()).await;
                    }
                    Security::Loopback | Security::None => {
                        let peer = Peer::Loopback(address);
                        self.speak(stream, peer, start, pending()).await;
                    }
                }
            }
        }
    }

    async fn tls(&self, tls: &Tls, stream: TcpStream, address: SocketAddr, start: Instant) {
        let limits = &self.gate.limits;
        let late = start + limits.config().handshake();
        let shaken = tokio::select! {
            shaken = timeout_at(late, tls.accept(stream, self.protocol)) => shaken,
            // Nothing has been asked yet.
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Err(_) => {
                limits.count(Reason::HandshakeSlow);
                debug!(peer = %address, "took too long for its TLS handshake");
            }
            Ok(Err(error)) => {
                limits.count(Reason::Handshake);
                if let Some(more) = self.throttles.no_handshake.tell() {
                    info!(peer = %address, %error, more, "no TLS with a client");
                }
            }
            Ok(Ok((stream, session))) => {
                let names = session.names().to_vec();
                let peer = Peer::Certificate { address, names };
                self.speak(stream, peer, start, session.until_untrusted())
                    .await;
            }
        }
    }

    /// Speaks HTTP with a peer, once everything is known of it that can be.
    async fn speak<IO>(
        &self,
        stream: IO,
        peer: Peer,
        start: Instant,
        untrusted: impl Future<Output = String>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.gate.limits;
        let config = limits.config();
        let caller = Caller::new(peer, &self.gate.access);
        debug!(peer = %caller.peer(), roles = ?caller.roles(), "connected");
        let state = limits.peer((&caller).into());
        let unread = Arc::new(Unread::default());
        let (stream, read) = Counted::new(stream);
        let service = service_fn(|request| {
            let (caller, unread) = (caller.clone(), unread.clone());
            self.answer(request, caller, &state, unread)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let spoken = sleep_until(start + config.handshake());
        tokio::pin!(spoken);
        let stalled = sleep_until(Instant::now() + config.response());
        tokio::pin!(stalled);
        tokio::pin!(untrusted);
        // Set to a real time once the connection has to end whatever its peer does.
        let cut = sleep_until(Instant::now() + FOR_EVER);
        tokio::pin!(cut);
        let (mut waits_for_first, mut ends, mut trusted) = (true, false, true);
        loop {
            // The connection is polled again from where it was; the others are cancel-safe.
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(peer = %caller.peer(), error, "the connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !ends => {
                    ends = true;
                    connection.as_mut().graceful_shutdown();
                }
                why = untrusted.as_mut(), if trusted => {
                    trusted = false;
                    if let Some(more) = self.throttles.untrusted.tell() {
                        info!(peer = %caller.peer(), %why, more, "is asked to connect anew");
                    }
                    cut.as_mut().reset(Instant::now() + config.response());
                    connection.as_mut().graceful_shutdown();
                }
                () = cut.as_mut() => return,
                () = spoken.as_mut(), if waits_for_first => {
                    waits_for_first = false;
                    if read.load(Relaxed) < FIRST_BYTES {
                        self.said_nothing(&caller);
                        return;
                    }
                }
                () = stalled.as_mut() => {
                    match self.next_look(&unread) {
                        Some(later) => stalled.as_mut().reset(later),
                        None => {
                            self.read_nothing(&caller);
                            return;
                        }
                    }
                }
            }
        }
    }

    fn said_nothing(&self, caller: &Caller) {
        self.gate.limits.count(Reason::HandshakeSlow);
        debug!(peer = %caller.peer(), "said nothing");
    }

    /// When the oldest unread answer will have waited for too long; `None` if it has already.
    fn next_look(&self, unread: &Unread) -> Option<Instant> {
        let limit = self.gate.limits.config().response();
        let now = Instant::now();
        let due = unread.oldest().map_or(now + limit, |since| since + limit);
        (due > now).then_some(due)
    }

    fn read_nothing(&self, caller: &Caller) {
        self.gate.limits.count(Reason::ResponseSlow);
        if let Some(more) = self.throttles.unread.tell() {
            info!(peer = %caller.peer(), more, "did not read its answers; disconnected");
        }
    }

    /// Passes a request on, with its caller, within the limits.
    fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
        state: &Arc<PeerState>,
        unread: Arc<Unread>,
    ) -> impl Future<Output = Result<Response<Outbound>, Infallible>> + use<S, R> {
        let is_probe = self.protocol == Protocol::Http
            && policy::is_probe(request.method(), request.uri().path());
        let permit = if is_probe {
            Ok(None)
        } else {
            self.gate.limits.call(state).map(Arc::new).map(Some)
        };
        if let Err(refusal) = &permit
            && let Some(more) = self.throttles.refused.tell()
        {
            info!(peer = %caller.peer(), %refusal, more, "refused");
        }
        // The HTTP listener has no streams: what has such a path there is answered with 404.
        let is_stream = self.protocol == Protocol::Grpc && policy::streams(request.uri().path());
        let service = self.service.clone();
        let (stop, share) = (self.stop.clone(), state.share.clone());
        async move {
            let permit = match permit {
                Ok(permit) => permit,
                Err(refusal) => {
                    let refused = refused(request.headers(), refusal);
                    return Ok(refused.map(|body| Outbound::new(body, None, Pace::Once(unread))));
                }
            };
            let grpc = is_grpc(request.headers());
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(caller);
            parts.extensions.insert(share);
            let pace = if is_stream {
                Pace::Stream(stop)
            } else {
                Pace::Once(unread)
            };
            let body = match &permit {
                Some(permit) => Body::new(Inbound::new(body, permit.clone(), grpc, &pace)),
                // A probe has nothing to say.
                None => Body::empty(),
            };
            let Ok(answer) = service.oneshot(Request::from_parts(parts, body)).await;
            Ok(answer.map(|body| Outbound::new(Body::new(body), permit, pace)))
        }
    }
}

/// Notices peers that are gone, and those that read nothing (tcp(7)).
fn tune(stream: &TcpStream, limits: &LimitsConfig) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(PING.0).with_interval(PING.1);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(limits.response())));
    if let Err(error) = set {
        debug!(%error, "a connection's options cannot be set");
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// A refusal in the words of the protocol that the request speaks.
fn refused(headers: &HeaderMap, refusal: Refusal) -> Response<Body> {
    let status = Status::from(refusal);
    if is_grpc(headers) {
        return status.into_http();
    }
    gateway::Refusal::from(status)
        .into_response()
        .map(Body::new)
}
