//! The agent's configuration: a TOML file, each key with a default, unknown keys refused, and
//! `XPU_AGENT_…` environment variables over it.
//!
//! A variable names a key by its path, sections joined with two underscores:
//! `XPU_AGENT_UNDERLAY__VTEP=10.255.0.1`. Its value is read as TOML, else as plain text.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use xpu_model::{
    Asn, Id, IfName, Mac, Mtu, Node,
    node::{BgpBase, BgpPeer, BgpTimers, PeerAddress, PortResolver, RemoteAs, RouteTargets},
};

use crate::access::config::{AccessConfig, LimitsConfig, TlsConfig, Transport};
use crate::telemetry::config::{LogConfig, TelemetryConfig};

/// Prefix of the environment variables.
const ENV_PREFIX: &str = "XPU_AGENT_";

/// Variables with the prefix that are not keys: they belong to the command line.
const NOT_KEYS: [&str; 2] = ["XPU_AGENT_CONFIG", "XPU_AGENT_LOG"];

/// Routing tables that are the kernel's: default, main and local (`rtnetlink.h`, `rt_class_t`).
const KERNEL_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

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

/// `[store]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The directory of the store; made with mode 0700 if it is not there.
    pub directory: PathBuf,
}

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
    /// The TCP address of the HTTP/JSON gateway; beyond loopback it needs `[tls]`. An empty text serves none.
    pub listen: String,
}

/// `[underlay]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnderlayConfig {
    /// The default local VTEP's address.
    pub vtep: Option<IpAddr>,
    /// The underlay's MTU in bytes; tenants get 50 (IPv4 VTEP) or 70 (IPv6) less.
    pub mtu: u32,
}

/// `[vrf]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VrfConfig {
    /// First routing table for Vrfs.
    pub table_first: u32,
    /// Last routing table for Vrfs.
    pub table_last: u32,
}

/// `[ports]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortsConfig {
    /// Which resolver.
    pub resolver: ResolverConfig,
    /// For `mac-map`: a VF's MAC or a port's id → the netdev that carries it here.
    pub map: BTreeMap<String, IfName>,
}

/// The resolvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolverConfig {
    /// The netdev whose name is the port's id.
    Name,
    /// The table `ports.map`.
    MacMap,
}

/// `[frr]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrrConfig {
    /// False: this node has no FRR; VNIs, and Svis with BGP, are then refused.
    pub enabled: bool,
    /// The directory of the daemons' vty sockets.
    pub socket_directory: PathBuf,
    /// Whether the agent's lines are kept in `frr.conf`, so that an FRR that starts without the
    /// agent comes up right.
    pub save: bool,
    /// The directory of `frr.conf`; without it the one below `/etc/frr` that goes with the
    /// sockets' below `/run/frr`.
    pub config_directory: Option<PathBuf>,
}

/// `[bgp]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpConfig {
    /// This node's AS number.
    pub asn: u32,
    /// The BGP identifier; without it the VTEP's address, if that is IPv4.
    pub router_id: Option<Ipv4Addr>,
    /// The peers.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
    /// Seconds between keepalives; set together with `hold`.
    pub keepalive: Option<u16>,
    /// Seconds of silence until a session is dropped; set together with `keepalive`.
    pub hold: Option<u16>,
    /// Route targets: automatic, or `asn:vni`.
    #[serde(default)]
    pub route_targets: RouteTargetsConfig,
}

/// `bgp.route_targets`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTargetsConfig {
    /// FRR's own, which match across AS numbers.
    #[default]
    Auto,
    /// `bgp.asn:vni`.
    AsnVni,
}

/// `[[bgp.peers]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// The peer's address; or `interface`.
    pub address: Option<IpAddr>,
    /// The link on which the only neighbour is the peer; or `address`.
    pub interface: Option<IfName>,
    /// `"external"`, `"internal"`, or a number.
    #[serde(default = "external")]
    pub remote_as: RemoteAsConfig,
    /// Watch the session by BFD.
    #[serde(default)]
    pub bfd: bool,
}

/// `bgp.peers.remote_as`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RemoteAsConfig {
    /// The peer's AS.
    Number(u32),
    /// `external` or `internal`.
    Word(String),
}

fn external() -> RemoteAsConfig {
    RemoteAsConfig::Word("external".to_owned())
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            directory: "/var/lib/xpu-agent".into(),
        }
    }
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

impl Default for UnderlayConfig {
    fn default() -> Self {
        Self {
            vtep: None,
            mtu: 1_500,
        }
    }
}

impl Default for VrfConfig {
    fn default() -> Self {
        Self {
            table_first: 1_001,
            table_last: 65_000,
        }
    }
}

impl Default for PortsConfig {
    fn default() -> Self {
        Self {
            resolver: ResolverConfig::Name,
            map: BTreeMap::new(),
        }
    }
}

impl Default for FrrConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            socket_directory: "/run/frr".into(),
            save: true,
            config_directory: None,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or a key is unknown or of the wrong type.
    #[error("{origin} is not valid")]
    Parse {
        /// The file, or the environment.
        origin: String,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A value does not make sense.
    #[error("{key}: {problem}")]
    Value {
        /// The key's path.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

fn value(key: &str, problem: impl ToString) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        problem: problem.to_string(),
    }
}

/// Where the agent is started from must not matter.
fn absolute(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        return Ok(());
    }
    let problem = format!("`{}` is no absolute path", path.display());
    Err(value(key, problem))
}

impl Config {
    /// Reads the file (none: the defaults) and lays the environment over it.
    ///
    /// # Errors
    /// [`ConfigError`]; the configuration is checked as a whole, [`Self::node`] included.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let (text, origin) = match path {
            None => (String::new(), "the default configuration".to_owned()),
            Some(path) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|source| ConfigError::Read {
                    path: path.to_owned(),
                    source,
                })?;
                (text, path.display().to_string())
            }
        };
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
        let checked = self.access.check().and_then(|()| self.limits.check());
        checked.map_err(|(key, problem)| value(&key, problem))?;
        if self.tls.is_some() && self.access.insecure {
            return Err(value(
                "access.insecure",
                "contradicts [tls]; keep one of them",
            ));
        }
        let own = |(key, problem): (&str, String)| value(key, problem);
        self.log.check().map_err(own)?;
        self.telemetry.check().map_err(own)?;
        absolute("store.directory", &self.store.directory)?;
        absolute("frr.socket_directory", &self.frr.socket_directory)?;
        if !self.api.unix.as_os_str().is_empty() {
            absolute("api.unix", &self.api.unix)?;
        }
        if self.api.deadline_ms == 0 {
            return Err(value(
                "api.deadline_ms",
                "0 is no time to wait; set 1 or more, such as 5000",
            ));
        }
        if let Some(vtep) = self.underlay.vtep
            && (vtep.is_unspecified() || vtep.is_multicast() || vtep.is_loopback())
        {
            return Err(value(
                "underlay.vtep",
                format!("{vtep} is no address of a node that others can reach"),
            ));
        }
        if self.vrf.table_first == 0 || self.vrf.table_first > self.vrf.table_last {
            return Err(value("vrf.table_first", "must be from 1 to vrf.table_last"));
        }
        let (first, last) = (self.vrf.table_first, self.vrf.table_last);
        if first <= *KERNEL_TABLES.end() && last >= *KERNEL_TABLES.start() {
            let problem = format!(
                "{first} to {last} holds tables of the kernel's own, which are {} to {}; start \
                 above them",
                KERNEL_TABLES.start(),
                KERNEL_TABLES.end()
            );
            return Err(value("vrf.table_first", problem));
        }
        if self.api.unix.as_os_str().is_empty() && self.api.tcp.is_empty() {
            return Err(value(
                "api.unix",
                "neither api.unix nor api.tcp is set; set one",
            ));
        }
        Ok(())
    }

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

    /// The node as planners see it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key.
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
            ports: self.ports.resolver()?,
            bgp,
            route_targets,
        })
    }
}

impl FrrConfig {
    /// The directory of FRR's startup configuration, if it is to be kept.
    #[must_use]
    pub fn startup(&self) -> Option<PathBuf> {
        // Daemons started with `-N NAME` have both under that name.
        let beside = || {
            let space = ["/run/frr", "/var/run/frr"]
                .into_iter()
                .find_map(|run| self.socket_directory.strip_prefix(run).ok());
            Path::new("/etc/frr").join(space.unwrap_or(Path::new("")))
        };
        let directory = self.config_directory.clone().unwrap_or_else(beside);
        self.save.then_some(directory)
    }
}

impl PortsConfig {
    fn resolver(&self) -> Result<PortResolver, ConfigError> {
        match self.resolver {
            ResolverConfig::Name if self.map.is_empty() => Ok(PortResolver::Name),
            ResolverConfig::Name => Err(value(
                "ports.map",
                "is set, but ports.resolver is not \"mac-map\"",
            )),
            ResolverConfig::MacMap => {
                let (mut by_mac, mut by_id) = (BTreeMap::new(), BTreeMap::new());
                for (key, netdev) in &self.map {
                    if let Ok(mac) = key.parse::<Mac>() {
                        by_mac.insert(mac, netdev.clone());
                    } else if let Ok(id) = key.parse::<Id>() {
                        by_id.insert(id, netdev.clone());
                    } else {
                        let problem = format!("`{key}` is neither a MAC nor a port's id");
                        return Err(value("ports.map", problem));
                    }
                }
                Ok(PortResolver::Map { by_mac, by_id })
            }
        }
    }
}

impl BgpConfig {
    fn base(&self, vtep: Option<IpAddr>) -> Result<BgpBase, ConfigError> {
        let router_id = match (self.router_id, vtep) {
            (Some(id), _) | (None, Some(IpAddr::V4(id))) => id,
            (None, _) => {
                return Err(value(
                    "bgp.router_id",
                    "is needed, for there is no IPv4 VTEP",
                ));
            }
        };
        let timers = match (self.keepalive, self.hold) {
            (None, None) => None,
            (Some(_), None) => return Err(value("bgp.hold", "is not set; keepalive needs it")),
            (None, Some(_)) => return Err(value("bgp.keepalive", "is not set; hold needs it")),
            (_, Some(hold @ ..3)) => {
                return Err(value(
                    "bgp.hold",
                    format!("{hold} is too short; set 3 or more"),
                ));
            }
            // bgpd sends keepalives at a third of the hold time at the latest, whatever it is told.
            (Some(keepalive), Some(hold)) if keepalive > hold / 3 => {
                let most = hold / 3;
                let problem = format!(
                    "{keepalive} is more than a third of bgp.hold, {hold}; set {most} or less"
                );
                return Err(value("bgp.keepalive", problem));
            }
            (Some(keepalive), Some(hold)) => Some(BgpTimers { keepalive, hold }),
        };
        for (index, peer) in self.peers.iter().enumerate() {
            let twice =
                |it: &&PeerConfig| (&it.address, &it.interface) == (&peer.address, &peer.interface);
            if let Some(named) = peer.named()
                && self.peers[..index].iter().any(|it| twice(&it))
            {
                let problem = format!("{named} is a peer already");
                return Err(value(&format!("bgp.peers[{index}]"), problem));
            }
        }
        let asn = Asn::try_from(self.asn).map_err(|error| value("bgp.asn", error))?;
        let peers = self.peers.iter().enumerate().map(|(index, peer)| {
            peer.peer()
                .map_err(|problem| value(&format!("bgp.peers[{index}]"), problem))
        });
        Ok(BgpBase {
            asn,
            router_id,
            peers: peers.collect::<Result<_, _>>()?,
            timers,
        })
    }
}

impl PeerConfig {
    /// What the peer is called, for messages.
    fn named(&self) -> Option<String> {
        let address = self.address.map(|it| it.to_string());
        address.or_else(|| self.interface.as_ref().map(ToString::to_string))
    }

    fn peer(&self) -> Result<BgpPeer, String> {
        let at = match (&self.address, &self.interface) {
            (Some(address), None) => PeerAddress::Ip(*address),
            (None, Some(interface)) => PeerAddress::Interface(interface.clone()),
            _ => return Err("set either address or interface".to_owned()),
        };
        let remote_as = match &self.remote_as {
            RemoteAsConfig::Number(asn) => {
                RemoteAs::Is(Asn::try_from(*asn).map_err(|error| error.to_string())?)
            }
            RemoteAsConfig::Word(word) => match word.as_str() {
                "external" => RemoteAs::External,
                "internal" => RemoteAs::Internal,
                _ => {
                    return Err(format!(
                        "remote_as `{word}`: external, internal or a number"
                    ));
                }
            },
        };
        Ok(BgpPeer {
            at,
            remote_as,
            bfd: self.bfd,
        })
    }
}

/// Sets the keys that variables name.
fn overlay(
    table: &mut toml::Table,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, text) in env {
        // Others' variables may be any bytes.
        if !name.as_bytes().starts_with(ENV_PREFIX.as_bytes()) {
            continue;
        }
        let name = decoded(name)?;
        let path = name.strip_prefix(ENV_PREFIX).unwrap_or_default();
        if NOT_KEYS.contains(&name.as_str()) || is_service_link(path) {
            continue;
        }
        let text = text
            .into_string()
            .map_err(|_| value(&name, "is not UTF-8"))?;
        let path = path.to_ascii_lowercase();
        let mut keys: Vec<_> = path.split("__").collect();
        let Some(last) = keys.pop() else { continue };
        let mut at = &mut *table;
        for key in keys {
            let inner = at.entry(key).or_insert_with(|| toml::Table::new().into());
            at = inner
                .as_table_mut()
                .ok_or_else(|| value(&name, format!("`{key}` is a value, not a section")))?;
        }
        at.insert(last.to_owned(), toml_value(text));
    }
    Ok(())
}

fn decoded(name: OsString) -> Result<String, ConfigError> {
    name.into_string()
        .map_err(|name| value(&name.to_string_lossy(), "is not UTF-8"))
}

/// Whether a variable, named without its prefix, is one that Kubernetes sets in every pod beside
/// a Service `xpu-agent` (its documentation, "Accessing the Service", and Docker's links of old).
/// Of our own keys, none has `port` or `service` for a section.
fn is_service_link(path: &str) -> bool {
    path == "SERVICE_HOST"
        || ["SERVICE_PORT", "PORT"]
            .iter()
            .filter_map(|start| path.strip_prefix(start))
            // `PORT_…`, but not `PORT__…`, let alone `PORTS__…`.
            .any(|rest| rest.is_empty() || rest.starts_with('_') && !rest.starts_with("__"))
}

fn toml_value(text: String) -> toml::Value {
    let document = format!("value = {text}");
    let parsed = document
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or(toml::Value::String(text))
}

#[cfg(test)]
mod tests;
