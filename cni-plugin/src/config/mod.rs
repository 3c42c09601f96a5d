//! The network configuration on stdin, merged with the host-wide file, as one value
//! that is right or an error that names key and value.
//!
//! Keys this plugin doesn't know are the runtime's or another plugin's and pass.
//! Keys it knows but can't honour are refused: a setting is never silently dropped.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use xpu_linux::sysfs::PciAddr;
use xpu_model::{Mac, Mtu};

use crate::{agent::Peer, ipam, pf::VfSettings, port::PortMode, result::Dns, version::Version};

mod add;
mod agent;
mod attach;
mod defaults;
mod raw;
mod section;

pub use add::no_ipam;
pub use defaults::left_out;
pub use raw::{LogSettings, Raw};
pub use section::Section;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or no object; code 6.
    #[error("the network configuration can't be decoded: {0}; it must be one JSON object")]
    Decode(String),
    /// A key that can't be honoured; code 2.
    #[error("`{key}`: {value} {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: Value,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A value that is wrong; code 7.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A host-wide file that exists, but can't be used; code 7.
    #[error("the host-wide configuration {}: {reason}; mend the file, or remove it", path.display())]
    HostFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ConfigError {
    /// A value that is wrong.
    #[must_use]
    pub fn invalid(key: &str, reason: impl ToString) -> Self {
        Self::Invalid {
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}

pub(crate) fn invalid(key: &str, reason: impl ToString) -> ConfigError {
    ConfigError::invalid(key, reason)
}

/// What ADD needs.
#[derive(Debug)]
pub struct AddConfig {
    /// What every command needs.
    pub common: Common,
    /// The specification's version to answer in.
    pub version: Version,
    /// The VF.
    pub device: PciAddr,
    /// Where its frames go.
    pub attach: PortMode,
    /// The MAC asked for, besides `CNI_ARGS`.
    pub mac: Option<AskedMac>,
    /// What its PF is asked to set; the MAC is decided together with `CNI_ARGS`.
    pub asked: VfSettings,
    /// The MTU asked for.
    pub mtu: Option<Mtu>,
    /// Whether that is the host's default, where there is one.
    pub is_mtu_default: bool,
    /// The host's file of PCI addresses and MACs.
    pub macs: PathBuf,
    /// Name servers for the result.
    pub dns: Option<Dns>,
    /// The result of the plugin before this one in a chain.
    pub prev_result: Option<Map<String, Value>>,
    /// What of the host's defaults was left out, for the log.
    pub remarks: Vec<String>,
}

/// A MAC, by who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedMac {
    /// The runtime (`runtimeConfig`), which wins over `CNI_ARGS`.
    Runtime(Mac),
    /// The rest of the configuration, over which `CNI_ARGS` win.
    Network(Mac),
}

/// What every command needs.
#[derive(Debug)]
pub struct Common {
    /// The network's name.
    pub network: String,
    /// Who makes ports.
    pub agent: Peer,
    /// Who gives addresses: the name of its executable.
    pub ipam: Option<String>,
}

impl Common {
    /// Whether IPAM works on the pod's interface, and so can't be asked before that is there.
    #[must_use]
    pub fn asks_ipam_late(&self) -> bool {
        self.ipam.as_deref().is_some_and(ipam::needs_interface)
    }
}

/// Compared as written: `..` and the like have no second meaning then.
fn is_right_below(folder: &Path, path: &Path) -> bool {
    let parent = path.parent().map(Path::as_os_str);
    path.file_name().is_some() && parent == Some(folder.as_os_str())
}

#[cfg(test)]
#[path = "../../tests/unit/config.rs"]
mod tests;
