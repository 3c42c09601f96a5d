//! `[limits]`: what a peer can hold of the agent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, error::value};

/// `[limits]`: what a peer can hold of the agent. No limit can be switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections of one listener. Those beyond are closed at once.
    pub connections: usize,
    /// Connections of one peer (a user id on the unix socket, the loopback addresses, another IPv4
    /// address, an IPv6 /64) over all listeners.
    pub connections_per_peer: usize,
    /// Calls under way on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Calls under way over all; where seven eighths are, only the unix socket gets another one.
    /// Requests for `/healthz` and `/readyz` are not counted.
    pub calls: usize,
    /// Calls under way of one peer.
    pub calls_per_peer: usize,
    /// Calls a second of one peer, in the long run.
    pub calls_per_second: u32,
    /// Calls of one peer at once, on top of that.
    pub calls_burst: u32,
    /// The largest request message, in bytes.
    pub message_bytes: usize,
    /// The request messages of the calls under way, all together, in bytes; one peer's at most
    /// half. Where seven eighths are used, only the unix socket gets more.
    pub request_bytes: usize,
    /// The headers of one request, in bytes.
    pub header_bytes: u32,
    /// How long a client may take for its TLS handshake, and then for its first bytes, in
    /// milliseconds.
    pub handshake_ms: u64,
    /// How long a request message may take to arrive, in milliseconds.
    pub request_ms: u64,
    /// How long a client may take to read an answer, in milliseconds.
    pub response_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_peer: 512,
            streams_per_connection: 128,
            calls: 4_096,
            calls_per_peer: 2_048,
            calls_per_second: 5_000,
            calls_burst: 10_000,
            message_bytes: 1 << 20,
            request_bytes: 64 << 20,
            header_bytes: 16 << 10,
            handshake_ms: 5_000,
            request_ms: 10_000,
            response_ms: 30_000,
        }
    }
}

impl LimitsConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of the first value that cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let least: [(&str, u64, u64); 13] = [
            ("connections", self.connections as u64, 1),
            ("connections_per_peer", self.connections_per_peer as u64, 1),
            (
                "streams_per_connection",
                self.streams_per_connection.into(),
                1,
            ),
            ("calls", self.calls as u64, 1),
            ("calls_per_peer", self.calls_per_peer as u64, 1),
            ("calls_per_second", self.calls_per_second.into(), 1),
            ("calls_burst", self.calls_burst.into(), 1),
            // A transparent trunk's request has a hundred bytes, one with 4094 names 350 kB.
            ("message_bytes", self.message_bytes as u64, 1_024),
            (
                "request_bytes",
                self.request_bytes as u64,
                2 * self.message_bytes as u64,
            ),
            ("header_bytes", self.header_bytes.into(), 1_024),
            ("handshake_ms", self.handshake_ms, 1),
            ("request_ms", self.request_ms, 1),
            ("response_ms", self.response_ms, 1),
        ];
        match least.into_iter().find(|(_, is, least)| is < least) {
            Some((key, is, least)) => Err(value(
                &format!("limits.{key}"),
                format!("{is} is too small; set {least} or more"),
            )),
            // The HTTP/1 parser cannot do with less.
            None if self.header_bytes > 1 << 24 => Err(value(
                "limits.header_bytes",
                format!("{} is too large; set 16777216 or less", self.header_bytes),
            )),
            None => Ok(()),
        }
    }

    /// [`Self::handshake_ms`]
    pub(crate) const fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    /// [`Self::request_ms`]
    pub(crate) const fn request(&self) -> Duration {
        Duration::from_millis(self.request_ms)
    }

    /// [`Self::response_ms`]
    pub(crate) const fn response(&self) -> Duration {
        Duration::from_millis(self.response_ms)
    }
}

#[cfg(test)]
#[path = "tests/limits.rs"]
mod tests;
