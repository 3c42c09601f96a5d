//! What a peer can hold of the agent, counted while it holds it.
//!
//! A connection has a [`Slot`], a call a [`Permit`]; dropping one gives back what it holds, so
//! nothing is lost however a connection ends. What is refused is counted by [`Reason`].

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Caller, Refusal, caller::Peer};
use crate::{config::LimitsConfig, store::Share};

/// The largest message of a stream, in bytes. Reflection and health have streams, whose requests
/// are a name each; a service may still hold an answer that it made of one, without a place for
/// that, after the room of its request was given back.
const STREAM_MESSAGE: usize = 4096;

/// What makes two connections those of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerKey {
    /// A user, on the unix socket.
    Uid(u32),
    /// The loopback addresses: any process here may connect from any of 127.0.0.0/8.
    Loopback,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 network of 64 bits: who has one address of it mostly has them all.
    V6([u8; 8]),
    /// The names of a certificate, wherever it is used.
    Names(Vec<String>),
}

impl From<IpAddr> for PeerKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl From<&Caller> for PeerKey {
    fn from(caller: &Caller) -> Self {
        match caller.peer() {
            Peer::Unix { uid, .. } => Self::Uid(*uid),
            Peer::Certificate { names, .. } if !names.is_empty() => Self::Names(names.clone()),
            Peer::Loopback(address) | Peer::Clear(address) | Peer::Certificate { address, .. } => {
                address.ip().into()
            }
        }
    }
}

/// What was refused, or ended from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A connection: its listener has `limits.connections`.
    Connections,
    /// A connection: its peer has `limits.connections_per_peer`.
    ConnectionsPerPeer,
    /// A connection: to a loopback address, from elsewhere.
    NotLoopback,
    /// A connection: its TLS handshake failed.
    Handshake,
    /// A connection: handshake or first bytes took longer than `limits.handshake_ms`.
    HandshakeSlow,
    /// A connection: an answer was not read within `limits.response_ms`.
    ResponseSlow,
    /// A call: `limits.calls` are under way.
    Calls,
    /// A call: its peer has `limits.calls_per_peer` under way.
    CallsPerPeer,
    /// A call: its peer calls more often than `limits.calls_per_second`.
    Rate,
    /// A call: its message is larger than `limits.message_bytes`.
    MessageBytes,
    /// A call: the messages under way have `limits.request_bytes`.
    RequestBytes,
    /// A call: its message took longer than `limits.request_ms` to arrive.
    RequestSlow,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Connections,
        Self::ConnectionsPerPeer,
        Self::NotLoopback,
        Self::Handshake,
        Self::HandshakeSlow,
        Self::ResponseSlow,
        Self::Calls,
        Self::CallsPerPeer,
        Self::Rate,
        Self::MessageBytes,
        Self::RequestBytes,
        Self::RequestSlow,
    ];

    /// For the label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerPeer => "connections_per_peer",
            Self::NotLoopback => "not_loopback",
            Self::Handshake => "handshake",
            Self::HandshakeSlow => "handshake_slow",
            Self::ResponseSlow => "response_slow",
            Self::Calls => "calls",
            Self::CallsPerPeer => "calls_per_peer",
            Self::Rate => "rate",
            Self::MessageBytes => "message_bytes",
            Self::RequestBytes => "request_bytes",
            Self::RequestSlow => "request_slow",
        }
    }
}

/// All that is held and refused, over all listeners.
#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    peers: Mutex<Peers>,
    connections: AtomicUsize,
    calls: AtomicUsize,
    request_bytes: AtomicUsize,
    refused: [AtomicU64; Reason::ALL.len()],
}

#[derive(Debug)]
struct Peers {
    known: HashMap<PeerKey, Arc<PeerState>>,
    /// At how many known peers those are forgotten that hold nothing and owe nothing.
    sweep_at: usize,
}

/// The fewest peers at which some are forgotten.
const SWEEP_LEAST: usize = 64;

/// What one peer holds.
#[derive(Debug)]
pub struct PeerState {
    /// Whether it is on the unix socket, whose share of a limit the others leave alone.
    unix: bool,
    connections: AtomicUsize,
    calls: AtomicUsize,
    request_bytes: AtomicUsize,
    /// Its places in the store's queue.
    pub(super) share: Share,
    /// When the last of its calls would have come, had they all come at the allowed rate (the
    /// "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371).
    due: Mutex<Instant>,
}

impl Limits {
    /// Nothing is held yet.
    #[must_use]
    pub fn new(config: LimitsConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            peers: Mutex::new(Peers {
                known: HashMap::new(),
                sweep_at: SWEEP_LEAST,
            }),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            refused: Default::default(),
        })
    }

    /// The limits' values.
    #[must_use]
    pub const fn config(&self) -> &LimitsConfig {
        &self.config
    }

    /// Connections that are open, over all listeners.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    /// How often something was refused since the start.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused
            .get(reason as usize)
            .map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn count(&self, reason: Reason) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The state of a peer. All connections of a peer share it, as long as it holds or owes
    /// anything.
    pub(super) fn peer(&self, key: PeerKey) -> Arc<PeerState> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = peers.known.get(&key) {
            return state.clone();
        }
        let now = Instant::now();
        if peers.known.len() >= peers.sweep_at {
            // Under the lock nobody else can get at a state that only the map has.
            peers
                .known
                .retain(|_, state| Arc::strong_count(state) > 1 || state.owes(now));
            peers.sweep_at = SWEEP_LEAST.max(2 * peers.known.len());
        }
        let state = Arc::new(PeerState {
            unix: matches!(key, PeerKey::Uid(_)),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            share: Share::default(),
            due: Mutex::new(now),
        });
        peers.known.insert(key, state.clone());
        state
    }

    /// A place for one more connection of a listener, which counts its own in `open`.
    pub(super) fn connect(
        self: &Arc<Self>,
        open: &Arc<AtomicUsize>,
        key: PeerKey,
    ) -> Result<Slot, Reason> {
        let listener = Held::take(open, 1, self.config.connections).ok_or(Reason::Connections)?;
        let peer = self.peer(key);
        let of_peer = Held::of(
            &peer,
            |it| &it.connections,
            1,
            self.config.connections_per_peer,
        )
        .ok_or(Reason::ConnectionsPerPeer)?;
        let all = Held::of(self, |it| &it.connections, 1, usize::MAX).ok_or(Reason::Connections)?;
        Ok(Slot {
            _held: (listener, of_peer, all),
        })
    }

    /// A place for one more call of a peer.
    pub(super) fn call(self: &Arc<Self>, peer: &Arc<PeerState>) -> Result<Permit, Refusal> {
        let config = &self.config;
        let refuse = |reason, what, key, limit, retry| {
            self.count(reason);
            Refusal::Limit {
                what,
                key,
                limit,
                advice: "call less at once, or raise it",
                retry: Some(retry),
            }
        };
        peer.pace(config.calls_per_second, config.calls_burst)
            .map_err(|after| {
                let limit = config.calls_per_second.into();
                let key = "limits.calls_per_second";
                refuse(Reason::Rate, "too many calls a second", key, limit, after)
            })?;
        let soon = Duration::from_millis(100);
        let of_peer =
            Held::of(peer, |it| &it.calls, 1, config.calls_per_peer).ok_or_else(|| {
                let (limit, key) = (config.calls_per_peer as u64, "limits.calls_per_peer");
                refuse(
                    Reason::CallsPerPeer,
                    "too many calls under way",
                    key,
                    limit,
                    soon,
                )
            })?;
        let room = peer.room(config.calls);
        let all = Held::of(self, |it| &it.calls, 1, room).ok_or_else(|| {
            let (limit, key) = (room as u64, "limits.calls");
            refuse(Reason::Calls, "too many calls under way", key, limit, soon)
        })?;
        Ok(Permit {
            _held: (of_peer, all),
            limits: self.clone(),
            peer: peer.clone(),
            bytes: AtomicUsize::new(0),
        })
    }
}

impl PeerState {
    /// Up to where this peer may use up what all peers share. The last eighth is for the unix
    /// socket alone: the programs that the node depends on come from there, and its mode keeps
    /// others out. Over TCP the rest may be held by anybody.
    const fn room(&self, limit: usize) -> usize {
        if self.unix { limit } else { limit - limit / 8 }
    }

    /// Whether its calls so far still weigh on the next.
    fn owes(&self, now: Instant) -> bool {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) > now
    }

    /// One call, if the rate allows it; else how long until it would.
    fn pace(&self, per_second: u32, burst: u32) -> Result<(), Duration> {
        let now = Instant::now();
        let each = Duration::from_secs(1) / per_second.max(1);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*due).max(now) + each;
        let ahead = next - now;
        match ahead.checked_sub(each.saturating_mul(burst)) {
            None | Some(Duration::ZERO) => {
                *due = next;
                Ok(())
            }
            Some(too_early) => Err(too_early),
        }
    }
}

/// A part of a bounded count, given back when dropped.
struct Held<T> {
    owner: Arc<T>,
    count: fn(&T) -> &AtomicUsize,
    amount: usize,
}

impl Held<AtomicUsize> {
    fn take(count: &Arc<AtomicUsize>, amount: usize, limit: usize) -> Option<Self> {
        Self::of(count, |it| it, amount, limit)
    }
}

impl<T> Held<T> {
    fn of(
        owner: &Arc<T>,
        count: fn(&T) -> &AtomicUsize,
        amount: usize,
        limit: usize,
    ) -> Option<Self> {
        add(count(owner), amount, limit).then(|| Self {
            owner: owner.clone(),
            count,
            amount,
        })
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        (self.count)(&self.owner).fetch_sub(self.amount, Relaxed);
    }
}

/// Adds, unless the sum would be over the limit.
fn add(count: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let sum = |held: usize| held.checked_add(amount).filter(|sum| *sum <= limit);
    count.fetch_update(Relaxed, Relaxed, sum).is_ok()
}

/// A connection's place.
pub(super) struct Slot {
    _held: (Held<AtomicUsize>, Held<PeerState>, Held<Limits>),
}

/// A call's place, and that of its request message.
pub(super) struct Permit {
    _held: (Held<PeerState>, Held<Limits>),
    limits: Arc<Limits>,
    peer: Arc<PeerState>,
    /// How much of the request there is room for.
    bytes: AtomicUsize,
}

impl Permit {
    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// How many bytes of the request there is room for.
    pub(super) fn held(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Takes room for more bytes of the request.
    ///
    /// # Errors
    /// Where `limits.request_bytes` are held, or the peer holds a half of them.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Refusal> {
        let config = self.limits.config();
        let room = self.peer.room(config.request_bytes);
        let full = || {
            self.limits.count(Reason::RequestBytes);
            Refusal::Limit {
                what: "too many bytes of requests under way",
                key: "limits.request_bytes",
                limit: room as u64,
                advice: "one caller has at most half of it; call less at once",
                retry: Some(Duration::from_millis(100)),
            }
        };
        if !add(&self.peer.request_bytes, bytes, config.request_bytes / 2) {
            return Err(full());
        }
        if !add(&self.limits.request_bytes, bytes, room) {
            self.peer.request_bytes.fetch_sub(bytes, Relaxed);
            return Err(full());
        }
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Gives back the room that the request has.
    pub(super) fn give_back(&self) {
        let bytes = self.bytes.swap(0, Relaxed);
        self.peer.request_bytes.fetch_sub(bytes, Relaxed);
        self.limits.request_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Fails if a message of so many bytes, its framing not counted, is larger than
    /// `limits.message_bytes`.
    pub(super) fn check_message_size(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.config().message_bytes;
        if bytes <= limit {
            return Ok(());
        }
        self.limits.count(Reason::MessageBytes);
        Err(Refusal::too_large(limit))
    }

    /// Fails if a message of a stream, its framing not counted, is larger than those may be.
    pub(super) fn check_stream_message_size(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= STREAM_MESSAGE {
            return self.check_message_size(bytes);
        }
        self.limits.count(Reason::MessageBytes);
        Err(Refusal::too_large_for_stream(STREAM_MESSAGE))
    }

    /// The message did not come in time.
    pub(super) fn slow(&self) -> Refusal {
        self.limits.count(Reason::RequestSlow);
        Refusal::Slow {
            key: "limits.request_ms",
            limit: self.limits.config().request(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
#[path = "tests/limits.rs"]
mod tests;
