//! `[store]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[store]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The directory of the store; made with mode 0700 if it is not there.
    pub directory: PathBuf,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            directory: "/var/lib/xpu-agent".into(),
        }
    }
}
