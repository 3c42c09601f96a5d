//! `[ports]`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xpu_model::{Id, IfName, Mac, node::PortResolver};

use super::error::{ConfigError, value};

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

impl Default for PortsConfig {
    fn default() -> Self {
        Self {
            resolver: ResolverConfig::Name,
            map: BTreeMap::new(),
        }
    }
}

impl PortsConfig {
    pub(super) fn resolver(&self) -> Result<PortResolver, ConfigError> {
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
