//! `[tls]`, and what a TCP listener speaks by it.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::AccessConfig;

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

#[cfg(test)]
#[path = "tests/tls.rs"]
mod tests;
