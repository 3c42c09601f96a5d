//! What SIGHUP does.

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    config::{Config, ConfigFile},
    telemetry::logs::LogFilter,
};

/// What of the running agent can be read again.
#[derive(Debug)]
pub struct Reload {
    /// The file that is read again.
    pub file: ConfigFile,
    /// What the agent was started with.
    pub running: Config,
    /// What is logged.
    pub filter: LogFilter,
    /// Wakes who follows files: certificates, the map of ports.
    pub hangup: watch::Sender<()>,
}

impl Reload {
    /// Reads certificates, the map of ports and the configuration again, takes the log filter from
    /// that, and says what of the rest needs a restart.
    pub fn reload(&self) {
        self.hangup.send_replace(());
        match self.read() {
            Ok(config) => {
                info!(filter = %config.log.filter, "the configuration was read again");
                let rest = Config {
                    log: self.running.log.clone(),
                    ..config
                };
                if rest != self.running {
                    warn!(
                        "the configuration has changes beside log.filter, which hold after a \
                         restart: systemctl restart xpu-agent (no packet is lost)"
                    );
                }
            }
            Err(error) => warn!(
                error = format!("{error:#}"),
                "the configuration cannot be read again and stays as it was; check it with \
                 xpu-agent --check-config"
            ),
        }
    }

    fn read(&self) -> anyhow::Result<Config> {
        let config = Config::load(&self.file, std::env::vars_os())?;
        self.filter.set(&config.log.filter)?;
        Ok(config)
    }
}
