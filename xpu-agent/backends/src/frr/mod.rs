//! FRR over its daemons' vty sockets: observe, apply, and know when it was restarted.
//!
//! A connection to each daemon stays open between passes. When one ends, the daemon was stopped
//! or restarted: [`Frr::changed`] completes, and the next pass reads and tells everything anew.
//! It completes, too, when a daemon that was away may be back.

mod readback;
mod sockets;
mod startup;
mod vty;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use tracing::debug;
use xpu_model::{cause::chain, requirements::ZEBRA_BY_MGMTD};
use xpu_plan::frr::{Command, Config, Daemon, FrrPlan, Observed, Outcome, observed::Version};

use sockets::Sockets;
pub use startup::{Startup, StartupError};
use vty::Vty;
pub use vty::VtyError;

/// The vty sockets that are spoken to, one per daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Of the daemon that takes zebra's configuration from FRR 10 on.
    Mgmtd,
    /// Of the daemon that works with the kernel.
    Zebra,
    /// Of the daemon that speaks BGP.
    Bgpd,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mgmtd => "mgmtd",
            Self::Zebra => "zebra",
            Self::Bgpd => "bgpd",
        })
    }
}

impl Socket {
    /// The socket that takes a daemon's configuration.
    const fn configuring(daemon: Daemon, version: Version) -> Self {
        match daemon {
            Daemon::Zebra if version.major >= ZEBRA_BY_MGMTD => Self::Mgmtd,
            Daemon::Zebra => Self::Zebra,
            Daemon::Bgpd => Self::Bgpd,
        }
    }

    /// The socket's name.
    const fn file(self) -> &'static str {
        match self {
            Self::Mgmtd => "mgmtd.vty",
            Self::Zebra => "zebra.vty",
            Self::Bgpd => "bgpd.vty",
        }
    }
}

/// The FRR whose sockets are in one directory.
#[derive(Debug)]
pub struct Frr {
    directory: PathBuf,
    sockets: Sockets,
    /// Zebra's, at the last observation.
    version: Version,
    mgmtd: Option<Vty>,
    zebra: Option<Vty>,
    bgpd: Option<Vty>,
}

impl Frr {
    /// FRR with its sockets in `directory`: `/run/frr`, or `/run/frr/NAME` where the daemons run
    /// with `-N NAME`. Connects when first used.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            sockets: Sockets::new(directory.clone()),
            directory,
            version: Version::default(),
            mgmtd: None,
            zebra: None,
            bgpd: None,
        }
    }

    /// The version that zebra tells, once bgpd has answered too.
    ///
    /// # Errors
    /// [`VtyError`] when one of them is not there or does not answer.
    pub async fn version(&mut self) -> Result<Version, VtyError> {
        let answer = self.run(Socket::Zebra, "show version").await?;
        self.run(Socket::Bgpd, "show version").await?;
        Ok(readback::version(&answer).unwrap_or_default())
    }

    /// Reads what the planner compares with.
    ///
    /// # Errors
    /// [`VtyError`] when a daemon is not there or does not answer.
    pub async fn observe(&mut self) -> Result<Observed, VtyError> {
        // Before the sockets are tried, so that one which appears after that is an event.
        self.sockets.catch_up();
        let version = self.run(Socket::Zebra, "show version").await?;
        self.version = readback::version(&version).unwrap_or_default();
        let mut config = Config::default();
        for daemon in Daemon::ALL {
            let socket = Socket::configuring(daemon, self.version);
            config.read(daemon, &self.run(socket, "show running-config").await?);
        }
        let vrfs = self.run(Socket::Zebra, "show vrf").await?;
        let (active_vrfs, inactive_vrfs) = readback::vrfs(&vrfs);
        let l3vnis = self.run(Socket::Zebra, "show vrf vni json").await?;
        let l2vnis = self.run(Socket::Zebra, "show evpn vni detail json").await?;
        // Refused while there is no BGP instance at all.
        let bgp_vnis = match self.run(Socket::Bgpd, "show bgp l2vpn evpn vni json").await {
            Err(error) if error.is_refusal() => String::new(),
            answer => answer?,
        };
        Ok(Observed {
            version: self.version,
            config,
            active_vrfs,
            inactive_vrfs,
            l3vnis: readback::l3vnis(&l3vnis),
            l2vnis: readback::l2vnis(&l2vnis),
            named: readback::named(&l3vnis, &l2vnis),
            bgp_vnis: readback::bgp_vnis(&bgp_vnis),
        })
    }

    /// Applies a plan in its order. Goes on past refusals and reports each; a daemon that is
    /// gone or does not answer fails the rest of its commands unasked, since each would wait as
    /// long for it as the first.
    pub async fn apply(&mut self, plan: FrrPlan) -> Vec<Outcome> {
        let FrrPlan { commands } = plan;
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut lost: BTreeMap<Daemon, String> = BTreeMap::new();
        for command in commands {
            let daemon = command.line.daemon;
            let result = match lost.get(&daemon) {
                Some(reason) => Err(reason.clone()),
                None => {
                    debug!(line = %command.line, add = command.add, "telling FRR");
                    let result = self.configure(&command).await;
                    if let Err(error) = &result
                        && !error.is_refusal()
                    {
                        lost.insert(daemon, chain(error));
                    }
                    result.map_err(|error| chain(&error))
                }
            };
            outcomes.push(Outcome { command, result });
        }
        outcomes
    }

    /// Runs a command in its contexts. Starts over from the top each time: FRR leaves contexts
    /// by itself where a line belongs to an outer one.
    async fn configure(&mut self, command: &Command) -> Result<(), VtyError> {
        let socket = Socket::configuring(command.line.daemon, self.version);
        self.run(socket, "configure terminal").await?;
        let entered = self.enter(socket, command).await;
        if let Err(error) = &entered
            && !error.is_refusal()
        {
            return entered;
        }
        // Also after a refusal: `show` works in the enable node alone.
        let left = self.run(socket, "end").await;
        entered?;
        left.map(drop)
    }

    async fn enter(&mut self, socket: Socket, command: &Command) -> Result<(), VtyError> {
        for context in &command.line.path {
            self.run(socket, context).await?;
        }
        self.run(socket, &command.text()).await.map(drop)
    }

    async fn run(&mut self, socket: Socket, command: &str) -> Result<String, VtyError> {
        let path = self.directory.join(socket.file());
        let slot = match socket {
            Socket::Mgmtd => &mut self.mgmtd,
            Socket::Zebra => &mut self.zebra,
            Socket::Bgpd => &mut self.bgpd,
        };
        let mut vty = match slot.take() {
            Some(vty) => vty,
            None => Vty::connect(socket, &path).await?,
        };
        let result = vty.run(command).await;
        let usable = match &result {
            Ok(_) => true,
            Err(error) => error.is_refusal(),
        };
        if usable {
            *slot = Some(vty);
        }
        result
    }

    /// How long ago the youngest of the daemons started that there is a connection to; `None` where
    /// that can't be told.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let all = [&self.mgmtd, &self.zebra, &self.bgpd];
        all.into_iter().flatten().filter_map(Vty::age).min()
    }

    /// Completes when a daemon ends the connection to it, or when one may have started since the
    /// last observation. Cancel-safe.
    pub async fn changed(&mut self) {
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            () = gone(self.mgmtd.as_ref()) => self.mgmtd = None,
            () = gone(self.zebra.as_ref()) => self.zebra = None,
            () = gone(self.bgpd.as_ref()) => self.bgpd = None,
            () = self.sockets.appeared() => {}
        }
    }
}

/// Completes when the connection ends; pends if there is none.
async fn gone(vty: Option<&Vty>) {
    match vty {
        Some(vty) => vty.closed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
