//! Where a network's frames go.

use xpu_model::{Kind, ObjectKey};

use super::{ConfigError, Raw, Section, invalid};
use crate::port::PortMode;

impl Raw {
    /// One bridge, several, or all of them.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], also where it isn't said.
    pub(crate) fn attach(&self) -> Result<PortMode, ConfigError> {
        // The public plugin's NADs carry empty values for what they don't use.
        let named = |keys: &Section<'_>| -> Result<_, ConfigError> {
            let many: Option<Vec<String>> = keys.get("logical_bridges")?;
            let many = many.filter(|names| !names.is_empty());
            Ok((keys.text("logical_bridge")?, many))
        };
        let network = self.network();
        // Whoever may have every bridge says so itself: a host-wide file opens them to no network
        // that forgot to name its own.
        let trunk = network.text("trunk")?;
        let (one, many) = match named(&network)? {
            // The host's default counts only for a network that names no bridge itself.
            (None, None) if trunk.is_none() => named(&self.host())?,
            said => said,
        };
        match (one, many, trunk.as_deref()) {
            (Some(one), None, None) => Ok(PortMode::Access(bridge("logical_bridge", &one)?)),
            (None, Some(many), None) => {
                let mut keys = Vec::with_capacity(many.len());
                for name in &many {
                    let key = bridge("logical_bridges", name)?;
                    if keys.contains(&key) {
                        return Err(invalid(
                            "logical_bridges",
                            format!("names `{name}` twice; remove one"),
                        ));
                    }
                    keys.push(key);
                }
                Ok(PortMode::Trunk(keys))
            }
            (None, None, Some("all")) => Ok(PortMode::Transparent),
            (None, None, Some(_)) => Err(invalid("trunk", "the only value is \"all\"")),
            (None, None, None) if network.get::<String>("type")?.as_deref() == Some("evpn-gw") => {
                Ok(PortMode::Transparent)
            }
            (None, None, None) => Err(invalid(
                "logical_bridge",
                "is missing; give logical_bridge, logical_bridges or \"trunk\": \"all\"",
            )),
            _ => Err(invalid(
                "logical_bridge",
                "give only one of logical_bridge, logical_bridges and trunk",
            )),
        }
    }
}

fn bridge(key: &str, name: &str) -> Result<ObjectKey, ConfigError> {
    ObjectKey::parse(Kind::LogicalBridge, name).map_err(|error| invalid(key, error))
}
