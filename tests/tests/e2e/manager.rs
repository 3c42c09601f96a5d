//! What the agent tells the manager of services that started it.

use std::{fs, os::unix::net::UnixDatagram, time::Instant};

use anyhow::{Context, Result};
use xpu_tests::guest::agent;

use crate::CONVERGENCE;

/// `systemd`, as far as `Type=notify` needs it: what it was told.
pub struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    pub const PATH: &str = "/run/lab/notify";

    pub fn new() -> Result<Self> {
        fs::create_dir_all("/run/lab")?;
        let _ = fs::remove_file(Self::PATH);
        let socket = UnixDatagram::bind(Self::PATH)?;
        socket.set_read_timeout(Some(CONVERGENCE))?;
        Ok(Self {
            socket,
            told: Vec::new(),
        })
    }

    /// All that it was told.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Waits until a line begins like this, and answers with it.
    pub fn hears(&mut self, beginning: &str) -> Result<String> {
        let end = Instant::now() + CONVERGENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            let length = self.socket.recv(&mut buffer).with_context(|| {
                format!(
                    "no `{beginning}`, but {:?}; {}",
                    self.told,
                    agent::log_tail()
                )
            })?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            self.told.extend(lines.iter().cloned());
            if let Some(line) = lines.into_iter().find(|it| it.starts_with(beginning)) {
                return Ok(line);
            }
        }
        anyhow::bail!("no `{beginning}`, but {:?}", self.told)
    }
}
