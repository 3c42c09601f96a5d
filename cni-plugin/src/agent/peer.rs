//! Where an agent is, and what proves each side to the other.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::AgentError;

/// Where the agent listens by default.
const DEFAULT_SOCKET: &str = "/run/xpu-agent/agent.sock";

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAddr {
    /// A unix socket on this node.
    Unix(PathBuf),
    /// `host:port`, unencrypted.
    Tcp(String),
    /// `host:port`, by TLS with certificates on both sides.
    Tls(String),
}

impl AgentAddr {
    /// Whether a name has to be looked up to find it.
    #[must_use]
    pub fn has_name(&self) -> bool {
        let (Self::Tcp(authority) | Self::Tls(authority)) = self else {
            return false;
        };
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
        // As a URI has an IPv6 address.
        let v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        v6.unwrap_or(host).parse::<IpAddr>().is_err()
    }
}

impl Default for AgentAddr {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for AgentAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl FromStr for AgentAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            if path.starts_with('/') {
                return Ok(Self::Unix(path.into()));
            }
            return Err(format!(
                "`{text}` needs an absolute path, as in unix:///run/agent.sock"
            ));
        }
        let (make, authority): (fn(String) -> Self, _) = match text.split_once("://") {
            Some(("http", authority)) => (Self::Tcp, authority),
            Some(("https", authority)) => (Self::Tls, authority),
            _ => (Self::Tcp, ""),
        };
        match authority
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()))
        {
            Some((host, Ok(_))) if !host.is_empty() && !authority.contains('/') => {
                Ok(make(authority.to_owned()))
            }
            _ => Err(format!(
                "`{text}` is no address; write unix:///path, https://host:port or http://host:port"
            )),
        }
    }
}

/// The files of an agent that is spoken to by TLS, all PEM. They are read for every connection, so
/// a renewed certificate counts at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificates that the agent's own must go back to.
    pub ca: PathBuf,
    /// Our certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Each with its key in the configuration.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &PathBuf); 3] {
        [
            ("tls.ca", &self.ca),
            ("tls.cert", &self.cert),
            ("tls.key", &self.key),
        ]
    }
}

/// An agent as one is spoken to: by TLS exactly where its address says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    addr: AgentAddr,
    tls: Option<TlsFiles>,
}

impl Peer {
    /// An agent.
    ///
    /// # Errors
    /// Where address and files don't go together, in words about `tls`.
    pub fn new(addr: AgentAddr, tls: Option<TlsFiles>) -> Result<Self, String> {
        match (&addr, &tls) {
            (AgentAddr::Tls(_), None) => Err(format!(
                "required for {addr}: the files `ca`, `cert` and `key`"
            )),
            (AgentAddr::Unix(_) | AgentAddr::Tcp(_), Some(_)) => {
                Err(format!("of no use for {addr}, only for https://"))
            }
            _ => Ok(Self { addr, tls }),
        }
    }

    /// An agent as the journal has it.
    ///
    /// # Errors
    /// [`AgentError::Unusable`] when address and files can't be used, or don't go together.
    pub fn of_journal(addr: &str, tls: Option<&TlsFiles>) -> Result<Self, AgentError> {
        let peer = addr
            .parse()
            .and_then(|addr| Self::new(addr, tls.cloned()).map_err(|why| format!("`tls`: {why}")));
        peer.map_err(|reason| AgentError::Unusable {
            addr: addr.to_owned(),
            reason,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> &AgentAddr {
        &self.addr
    }

    /// What it is spoken to with.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in [
            "unix:///run/a.sock",
            "http://127.0.0.1:50151",
            "http://[::1]:50151",
            "https://xpu.example:50151",
        ] {
            assert_eq!(text.parse::<AgentAddr>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "unix://a",
            "http://",
            "http://h",
            "http://:1",
            "http://h:x",
            "http://h:1/p",
            "tcp://h:1",
            "https://h",
            "https://",
        ] {
            assert!(text.parse::<AgentAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_name_has_to_be_looked_up() {
        for (text, has_name) in [
            ("unix:///run/a.sock", false),
            ("http://127.0.0.1:50151", false),
            ("https://[fd00::1]:50151", false),
            ("https://xpu.example:50151", true),
            ("http://localhost:50151", true),
            // Libc takes this for an address, by way of a look-up.
            ("http://127.1:50151", true),
        ] {
            let addr: AgentAddr = text.parse().unwrap();
            assert_eq!(addr.has_name(), has_name, "{text}");
        }
    }
}
