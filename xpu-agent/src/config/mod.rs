//! The agent's configuration: a TOML file, each key with a default, unknown keys refused, and
//! `XPU_AGENT_…` environment variables over it. Without a file the defaults hold.
//!
//! A variable names a key by its path, sections joined with two underscores:
//! `XPU_AGENT_UNDERLAY__VTEP=10.255.0.1`. Its value is read as TOML, else as plain text.

mod access;
mod bgp;
mod env;
mod error;
mod file;
mod frr;
mod limits;
mod listeners;
mod network;
mod ports;
mod store;
mod telemetry;
mod tls;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use xpu_model::{Mtu, Node, node::RouteTargets};

use env::{ENV_PREFIX, overlay};
use error::{absolute, value};

pub use access::{AccessConfig, Grant};
pub use bgp::{BgpConfig, PeerConfig, RemoteAsConfig, RouteTargetsConfig};
pub use error::ConfigError;
pub use file::{ConfigFile, ConfigText};
pub use frr::FrrConfig;
pub use limits::LimitsConfig;
pub use listeners::{ApiConfig, HttpConfig};
pub use network::{UnderlayConfig, VrfConfig};
pub use ports::{PortsConfig, ResolverConfig};
pub use store::StoreConfig;
pub use telemetry::{LogConfig, LogFormat, TelemetryConfig};
pub use tls::{TlsConfig, Transport};

/// Everything an operator can set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the intent is kept.
    pub store: StoreConfig,
    /// Where the API is served.
    pub api: ApiConfig,
    /// Where HTTP is served.
    pub http: HttpConfig,
    /// Who may what.
    pub access: AccessConfig,
    /// Certificates; without this section TCP is served on loopback only.
    pub tls: Option<TlsConfig>,
    /// What a caller can hold of the agent.
    pub limits: LimitsConfig,
    /// The node's place in the underlay.
    pub underlay: UnderlayConfig,
    /// What Vrfs may use in the kernel.
    pub vrf: VrfConfig,
    /// How the netdev of a BridgePort is found.
    pub ports: PortsConfig,
    /// Where FRR listens.
    pub frr: FrrConfig,
    /// The base BGP instance; without this section the operator's own is used and only read.
    pub bgp: Option<BgpConfig>,
    /// What is logged.
    pub log: LogConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the file and lays the environment over it.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or is no configuration, or when a value cannot be
    /// used: the configuration is checked as a whole, [`Self::node`] included.
    pub fn load(
        file: &ConfigFile,
        env: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let ConfigText { text, origin } = file.read()?;
        Self::read(&text, &origin, env)
    }

    /// Reads a text, called `origin` in errors, and lays the environment over it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(
        text: &str,
        origin: &str,
        env: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let parse = |source| ConfigError::Parse {
            origin: origin.to_owned(),
            source,
        };
        // Read twice: from the text for errors with line and column, from the table with the
        // environment for the result.
        toml::from_str::<Self>(text).map_err(parse)?;
        let mut table: toml::Table = toml::from_str(text).map_err(parse)?;
        overlay(&mut table, env)?;
        let config = Self::deserialize(table).map_err(|source| ConfigError::Parse {
            origin: format!("{origin} with the {ENV_PREFIX} variables"),
            source,
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.node()?;
        self.tcp()?;
        self.http()?;
        self.access.check()?;
        self.limits.check()?;
        if self.tls.is_some() && self.access.insecure {
            return Err(value(
                "access.insecure",
                "contradicts [tls]; keep one of them",
            ));
        }
        self.log.check()?;
        self.telemetry.check()?;
        absolute("store.directory", &self.store.directory)?;
        absolute("frr.socket_directory", &self.frr.socket_directory)?;
        self.api.check()?;
        self.underlay.check()?;
        self.vrf.check()?;
        if self.api.unix.as_os_str().is_empty() && self.api.tcp.is_empty() {
            return Err(value(
                "api.unix",
                "neither api.unix nor api.tcp is set; set one",
            ));
        }
        Ok(())
    }

    /// The node as planners see it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of the first value that cannot be used.
    pub fn node(&self) -> Result<Node, ConfigError> {
        let underlay_mtu =
            Mtu::try_from(self.underlay.mtu).map_err(|error| value("underlay.mtu", error))?;
        let bgp = self
            .bgp
            .as_ref()
            .map(|bgp| bgp.base(self.underlay.vtep))
            .transpose()?;
        let fixed = |bgp: &BgpConfig| bgp.route_targets == RouteTargetsConfig::AsnVni;
        let route_targets = match (&self.bgp, &bgp) {
            (Some(config), Some(base)) if fixed(config) => RouteTargets::Fixed(base.asn),
            _ => RouteTargets::Auto,
        };
        Ok(Node {
            vtep: self.underlay.vtep,
            underlay_mtu,
            vxlan_port: self.underlay.vxlan_port,
            ports: self.ports.resolver()?,
            bgp,
            route_targets,
        })
    }
}

#[cfg(test)]
mod tests;
