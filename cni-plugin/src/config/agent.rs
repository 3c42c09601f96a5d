//! Which agent makes a network's ports, and what the host has a say in.

use std::path::Path;

use super::{ConfigError, Raw, invalid, is_right_below};
use crate::agent::{AgentAddr, Peer, TlsFiles};

/// Where networks may name files of certificates; the host may name any.
const CERTIFICATES: &str = "/etc/cni/net.d/xpu-cni.d";

impl Raw {
    /// The agent, and what it is spoken to with.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], also where the network names another than the host does.
    pub(crate) fn peer(&self) -> Result<Peer, ConfigError> {
        const KEY: &str = "tls";
        let addr = self.agent()?;
        let asked: Option<TlsFiles> = self.network().get(KEY)?;
        let pinned: Option<TlsFiles> = self.host().get(KEY)?;
        let tls = match (asked, pinned) {
            (Some(asked), Some(pinned)) if asked != pinned => {
                return Err(is_pinned(KEY));
            }
            (asked, Some(pinned)) => Some(pinned).filter(|_| {
                // The host's files are for agents by TLS; a network may have an agent without.
                asked.is_some() || matches!(addr, AgentAddr::Tls(_))
            }),
            (Some(asked), None) => {
                for (key, path) in asked.each() {
                    if !is_right_below(Path::new(CERTIFICATES), path) {
                        let reason = format!(
                            "{} must be a file directly in {CERTIFICATES}; others only the host-wide \
                             file can name",
                            path.display()
                        );
                        return Err(invalid(key, reason));
                    }
                }
                Some(asked)
            }
            (None, None) => None,
        };
        Peer::new(addr, tls).map_err(|why| invalid(KEY, why))
    }

    fn agent(&self) -> Result<AgentAddr, ConfigError> {
        const KEY: &str = "agent";
        const PUBLIC: &str = "opi_evpn_bridge_conn";
        let parse = |key: &str, text: String| {
            text.parse::<AgentAddr>()
                .map_err(|reason| invalid(key, reason))
        };
        // The public plugin's key holds a bare host:port.
        let conn = |conn: String| parse(PUBLIC, format!("http://{conn}"));
        let (network, host) = (self.network(), self.host());
        let asked = network.text(KEY)?;
        if let Some(pinned) = host.text(KEY)? {
            return match asked {
                Some(asked) if asked != pinned => Err(is_pinned(KEY)),
                _ => parse(KEY, pinned),
            };
        }
        let asked = match (asked, network.text(PUBLIC)?) {
            (Some(asked), _) => Some((KEY, parse(KEY, asked)?)),
            (None, Some(asked)) => Some((PUBLIC, conn(asked)?)),
            (None, None) => None,
        };
        // The public plugin's host file pins the agent as well.
        let pinned = host.text(PUBLIC)?;
        match (asked, pinned.map(conn).transpose()?) {
            (Some((key, asked)), Some(pinned)) if asked != pinned => Err(is_pinned(key)),
            (_, Some(addr)) | (Some((_, addr)), None) => Ok(addr),
            (None, None) => Ok(AgentAddr::default()),
        }
    }
}

fn is_pinned(key: &str) -> ConfigError {
    invalid(
        key,
        "is set for this host and can't be changed by a network; leave it out there",
    )
}

#[cfg(test)]
#[path = "../../tests/unit/config_agent.rs"]
mod tests;
