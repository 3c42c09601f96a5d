//! `[frr]`

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
