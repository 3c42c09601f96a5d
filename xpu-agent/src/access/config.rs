//! `[access]`, `[tls]` and `[limits]` of the configuration.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    caller::Peer,
    policy::{Role, Roles},
};

/// `[access]`: who has which role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The role of a process on the unix socket, by its user id. Root is `admin` if it is not
    /// here. Who is not here has none.
    pub uids: BTreeMap<String, Grant>,
    /// The role of a client certificate, by a name in it: `URI:spiffe://…` or `DNS:…`, as
    /// `openssl x509 -ext subjectAltName` prints them. `URI:…/*` stands for everything below,
    /// `DNS:*.…` for one label.
    pub certificates: BTreeMap<String, Grant>,
    /// The role of who comes over loopback in clear: any process of the agent's network
    /// namespace can, whoever's it is.
    pub loopback: Grant,
    /// Serve TCP in clear beyond loopback.
    pub insecure: bool,
    /// With `insecure`: the role of who comes over the network in clear, which is anybody.
    pub insecure_role: Grant,
}

/// A role, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// May call nothing.
    None,
    /// [`Role::Viewer`]
    Viewer,
    /// [`Role::Cni`]
    Cni,
    /// [`Role::Admin`]
    Admin,
}

impl Grant {
    /// The role, if there is one.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::None => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Cni => Some(Role::Cni),
            Self::Admin => Some(Role::Admin),
        }
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            uids: BTreeMap::new(),
            certificates: BTreeMap::new(),
            loopback: Grant::Viewer,
            insecure: false,
            insecure_role: Grant::Viewer,
        }
    }
}

impl AccessConfig {
    /// The roles of a peer.
    #[must_use]
    pub fn roles(&self, peer: &Peer) -> Roles {
        match peer {
            Peer::Unix { uid, .. } => match self.uids.get(&uid.to_string()) {
                Some(grant) => grant.role().into_iter().collect(),
                None if *uid == 0 => Roles::from([Role::Admin]),
                None => Roles::new(),
            },
            Peer::Loopback(_) => self.loopback.role().into_iter().collect(),
            Peer::Clear(_) => self.insecure_role.role().into_iter().collect(),
            Peer::Certificate { names, .. } => {
                let granted = self
                    .certificates
                    .iter()
                    .filter(|(pattern, _)| names.iter().any(|name| matches(pattern, name)));
                granted.filter_map(|(_, grant)| grant.role()).collect()
            }
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (String, String)> {
        for uid in self.uids.keys() {
            // As the kernel's number is printed, else it would never be found.
            if uid.parse::<u32>().map(|it| it.to_string()).as_ref() != Ok(uid) {
                let problem = "is no user id; write the number that `id -u` prints";
                return Err((format!("access.uids.{uid}"), problem.to_owned()));
            }
        }
        for pattern in self.certificates.keys() {
            let problem = match pattern.split_once(':') {
                Some(("URI", uri)) => {
                    let fixed = uri.strip_suffix("/*").unwrap_or(uri);
                    !fixed.contains("://") || fixed.ends_with("://") || fixed.contains('*')
                }
                Some(("DNS", dns)) => {
                    let fixed = dns.strip_prefix("*.").unwrap_or(dns);
                    fixed.is_empty() || fixed.contains('*')
                }
                _ => true,
            };
            if problem {
                return Err((
                    format!("access.certificates.{pattern:?}"),
                    "is no name; write \"URI:spiffe://domain/path\", \"URI:spiffe://domain/*\", \
                     \"DNS:host.domain\" or \"DNS:*.domain\""
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a name of a certificate (`URI:…`, `DNS:…`) is one that the pattern stands for.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.split_once(':'), name.split_once(':')) {
        (Some(("URI", pattern)), Some(("URI", name))) => match pattern.strip_suffix('*') {
            // The pattern keeps its last slash: `…/node/*` is not about `…/nodes/1`.
            Some(start) => name.len() > start.len() && name.starts_with(start),
            None => name == pattern,
        },
        (Some(("DNS", pattern)), Some(("DNS", name))) => {
            let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
            match pattern.strip_prefix("*.") {
                // A certificate for a wildcard is for no one host.
                Some(domain) => name.split_once('.').is_some_and(|(label, rest)| {
                    label != "*" && !label.is_empty() && rest == domain
                }),
                None => name == pattern,
            }
        }
        _ => false,
    }
}

/// `[tls]`: without the section there is no TLS, and TCP is served on loopback only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The agent's certificate chain, PEM, its own certificate first.
    pub cert: PathBuf,
    /// The key of that certificate, PEM (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// The CA certificates that may vouch for clients, PEM.
    pub client_ca: PathBuf,
    /// Certificates that the CAs have revoked, PEM.
    #[serde(default)]
    pub client_crl: Option<PathBuf>,
    /// TLS on loopback addresses, too.
    #[serde(default)]
    pub loopback: bool,
}

/// How a TCP listener is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In clear, on loopback.
    Loopback,
    /// TLS 1.3 with client certificates.
    Tls,
    /// In clear, for everybody.
    Insecure,
}

impl Transport {
    /// How a listener on this address is served.
    ///
    /// # Errors
    /// What is wrong and what to set, when it would be reached from outside in clear.
    pub fn of(
        address: IpAddr,
        access: &AccessConfig,
        tls: Option<&TlsConfig>,
    ) -> Result<Self, String> {
        match tls {
            Some(tls) if tls.loopback || !address.is_loopback() => Ok(Self::Tls),
            _ if address.is_loopback() => Ok(Self::Loopback),
            _ if access.insecure => Ok(Self::Insecure),
            _ => Err(format!(
                "{address} can be reached from outside: set tls.cert, tls.key and tls.client_ca, \
                 or access.insecure = true to serve it in clear to everybody"
            )),
        }
    }
}

/// `[limits]`: what a peer can hold of the agent. No limit can be switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections of one listener. Those beyond are closed at once.
    pub connections: usize,
    /// Connections of one peer (a user id on the unix socket, an IPv4 address, an IPv6 /64) over
    /// all listeners.
    pub connections_per_peer: usize,
    /// Calls under way on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Calls under way over all.
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
    /// half.
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
    /// The key, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (String, String)> {
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
            Some((key, is, least)) => Err((
                format!("limits.{key}"),
                format!("{is} is too small; set {least} or more"),
            )),
            // The HTTP/1 parser cannot do with less.
            None if self.header_bytes > 1 << 24 => Err((
                "limits.header_bytes".to_owned(),
                format!("{} is too large; set 16777216 or less", self.header_bytes),
            )),
            None => Ok(()),
        }
    }

    pub(super) const fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(super) const fn request(&self) -> Duration {
        Duration::from_millis(self.request_ms)
    }

    pub(super) const fn response(&self) -> Duration {
        Duration::from_millis(self.response_ms)
    }
}

#[cfg(test)]
#[path = "tests/config.rs"]
mod tests;
