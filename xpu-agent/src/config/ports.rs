//! `[ports]`

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use xpu_model::{Id, IfName, Mac, node::PortResolver};

use super::error::{ConfigError, absolute, value};

/// `[ports]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortsConfig {
    /// Which resolver.
    pub resolver: ResolverConfig,
    /// For `mac-map`: a file with more entries of `map`, read again when it changes.
    pub map_file: Option<PathBuf>,
    /// For `mac-map`: a VF's MAC or a port's id → the netdev that carries it here.
    pub map: BTreeMap<String, IfName>,
}

/// The resolvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolverConfig {
    /// The netdev whose name is the port's id.
    Name,
    /// The table `ports.map`, and that of `ports.map_file`.
    MacMap,
}

impl Default for PortsConfig {
    fn default() -> Self {
        Self {
            resolver: ResolverConfig::Name,
            map_file: None,
            map: BTreeMap::new(),
        }
    }
}

impl PortsConfig {
    /// The resolver without what its file has; refuses what is wrong whatever that has.
    pub(crate) fn resolver(&self) -> Result<PortResolver, ConfigError> {
        match (self.resolver, &self.map_file) {
            (ResolverConfig::MacMap, file) => {
                if let Some(file) = file {
                    absolute("ports.map_file", file)?;
                }
                let mut map = Map::default();
                map.add("ports.map", &self.map)?;
                Ok(map.into())
            }
            (ResolverConfig::Name, None) if self.map.is_empty() => Ok(PortResolver::Name),
            (ResolverConfig::Name, file) => {
                let key = file.as_ref().map_or("ports.map", |_| "ports.map_file");
                Err(value(key, "is set, but ports.resolver is not \"mac-map\""))
            }
        }
    }

    /// The resolver, its file read now.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or has what cannot be used.
    pub fn read(&self) -> Result<PortResolver, ConfigError> {
        let Some(path) = &self.map_file else {
            return self.resolver();
        };
        self.resolver()?;
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        let entries = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            origin: path.display().to_string(),
            source,
        })?;
        let mut map = Map::default();
        map.add("ports.map", &self.map)?;
        map.add(&format!("ports.map_file {}", path.display()), &entries)?;
        Ok(map.into())
    }
}

/// Entries, each of them once.
#[derive(Default)]
struct Map {
    by_mac: BTreeMap<Mac, IfName>,
    by_id: BTreeMap<Id, IfName>,
}

impl Map {
    fn add(&mut self, key: &str, entries: &BTreeMap<String, IfName>) -> Result<(), ConfigError> {
        for (name, netdev) in entries {
            let before = if let Ok(mac) = name.parse::<Mac>() {
                self.by_mac.insert(mac, netdev.clone())
            } else if let Ok(id) = name.parse::<Id>() {
                self.by_id.insert(id, netdev.clone())
            } else {
                let problem = format!("`{name}` is neither a MAC nor a port's id");
                return Err(value(key, problem));
            };
            if let Some(before) = before {
                let problem = format!("`{name}` is {before} already; keep one entry for it");
                return Err(value(key, problem));
            }
        }
        Ok(())
    }
}

impl From<Map> for PortResolver {
    fn from(Map { by_mac, by_id }: Map) -> Self {
        Self::Map { by_mac, by_id }
    }
}
