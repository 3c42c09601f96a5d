//! `[api]` and `[http]`

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    Config,
    error::{ConfigError, absolute, value},
};
use crate::config::Transport;

/// `[api]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// The unix socket, mode 0600; an empty text serves none.
    pub unix: PathBuf,
    /// The group (a number) that may connect to the unix socket, too; the mode is 0660 then.
    pub unix_group: Option<u32>,
    /// The TCP address of gRPC; beyond loopback it needs `[tls]`. An empty text serves none.
    pub tcp: String,
    /// How long a Create, Update or Delete waits at most for the machine, in milliseconds.
    pub deadline_ms: u64,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The TCP address of the HTTP/JSON gateway; beyond loopback it needs `[tls]`. An empty text
    /// serves none.
    pub listen: String,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            unix: "/run/xpu-agent/agent.sock".into(),
            unix_group: None,
            tcp: "127.0.0.1:50151".to_owned(),
            deadline_ms: 5_000,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8082".to_owned(),
        }
    }
}

impl ApiConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !self.unix.as_os_str().is_empty() {
            absolute("api.unix", &self.unix)?;
        }
        if self.deadline_ms == 0 {
            return Err(value(
                "api.deadline_ms",
                "0 is no time to wait; set 1 or more, such as 5000",
            ));
        }
        Ok(())
    }
}

impl Config {
    /// The TCP address to serve gRPC on, if any, and how.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when it is no address, or one that others could reach in clear.
    pub fn tcp(&self) -> Result<Option<(SocketAddr, Transport)>, ConfigError> {
        self.listener("api.tcp", &self.api.tcp, "127.0.0.1:50151")
    }

    /// The TCP address to serve HTTP on, if any, and how.
    ///
    /// # Errors
    /// As [`Self::tcp`].
    pub fn http(&self) -> Result<Option<(SocketAddr, Transport)>, ConfigError> {
        self.listener("http.listen", &self.http.listen, "127.0.0.1:8082")
    }

    fn listener(
        &self,
        key: &str,
        text: &str,
        example: &str,
    ) -> Result<Option<(SocketAddr, Transport)>, ConfigError> {
        if text.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| value(key, format!("`{text}` is no address; write {example}")))?;
        let transport = Transport::of(address.ip(), &self.access, self.tls.as_ref())
            .map_err(|problem| value(key, problem))?;
        Ok(Some((address, transport)))
    }
}
