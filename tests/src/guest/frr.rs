//! An FRR instance: its daemons in a namespace, its sockets under a name of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::command;
use super::netns::Netns;

const LIBRARY: &str = "/usr/lib/frr";

/// mgmtd and zebra first: the others connect to them.
const CORE: [&str; 2] = ["mgmtd", "zebra"];
const PROTOCOLS: [&str; 3] = ["bgpd", "staticd", "bfdd"];

/// One instance. Its name is its namespace's, and FRR's "pathspace" (`-N`): the vty sockets are
/// `/run/frr/NAME/*.vty`.
#[derive(Debug, Clone)]
pub struct Frr {
    netns: Netns,
}

impl Frr {
    /// The instance of a namespace, whether it runs or not.
    pub fn of(netns: &Netns) -> Self {
        Self {
            netns: netns.clone(),
        }
    }

    /// Starts all daemons and gives them a configuration; with an empty one they are as bare as
    /// they can be.
    ///
    /// # Errors
    /// Where a daemon does not start or refuses the configuration.
    pub fn start(&self, configuration: &str) -> Result<()> {
        let name = self.netns.name();
        for folder in ["/etc/frr", "/run/frr", "/var/lib/frr", "/var/log/frr"] {
            let folder = format!("{folder}/{name}");
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {folder}"))?;
            command::run(&format!("chown frr:frr {folder}"))?;
        }
        fs::write(
            format!("/etc/frr/{name}/vtysh.conf"),
            "service integrated-vtysh-config\n",
        )?;
        for daemon in CORE {
            self.start_daemon(daemon)?;
        }
        std::thread::scope(|scope| {
            let started: Vec<_> = PROTOCOLS
                .iter()
                .map(|daemon| scope.spawn(move || self.start_daemon(daemon)))
                .collect();
            started
                .into_iter()
                .try_for_each(|daemon| match daemon.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })?;
        if configuration.is_empty() {
            // The last start's, with what the agent kept there.
            self.remove_startup()
        } else {
            self.load(configuration)
        }
    }

    /// Enters a configuration as FRR's files have it.
    ///
    /// # Errors
    /// Where FRR refuses a line.
    pub fn load(&self, configuration: &str) -> Result<()> {
        let name = self.netns.name();
        fs::write(format!("/etc/frr/{name}/frr.conf"), configuration)?;
        // `vtysh -b` goes on after errors and exits 0; what it refused, it prints.
        let said = self.netns.run(&format!("vtysh -N {name} -b"))?;
        anyhow::ensure!(
            !said.contains('%'),
            "FRR {name} refused its configuration: {said}"
        );
        Ok(())
    }

    fn startup(&self) -> PathBuf {
        PathBuf::from("/etc/frr")
            .join(self.netns.name())
            .join("frr.conf")
    }

    /// What the instance would start with.
    ///
    /// # Errors
    /// Where there is no such file.
    pub fn startup_configuration(&self) -> Result<String> {
        let path = self.startup();
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn remove_startup(&self) -> Result<()> {
        match fs::remove_file(self.startup()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn start_daemon(&self, daemon: &str) -> Result<()> {
        let name = self.netns.name();
        // zebra's netlink buffer as in Debian's own configuration for large tables.
        let extra = if daemon == "zebra" {
            " -s 67108864"
        } else {
            ""
        };
        let line = format!(
            "{LIBRARY}/{daemon} -d -N {name} -A 127.0.0.1 -F datacenter \
             --log file:/var/log/frr/{name}/{daemon}.log{extra}"
        );
        let words: Vec<_> = line.split_whitespace().collect();
        let said = PathBuf::from(format!("/run/frr/{name}/{daemon}.out"));
        command::run_daemon(&self.netns.words(&words), &said)
    }

    /// The folder of the daemons' vty sockets.
    pub fn sockets(&self) -> PathBuf {
        PathBuf::from("/run/frr").join(self.netns.name())
    }

    /// Forgets sockets and process ids of daemons that were killed.
    ///
    /// # Errors
    /// What the file system said.
    pub fn forget(&self) -> Result<()> {
        let folder = self.sockets();
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }

    /// Runs vty commands; answers with what FRR printed.
    ///
    /// # Errors
    /// Where `vtysh` fails: a daemon is down, or a command is unknown.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut words = vec!["vtysh", "-N", self.netns.name()];
        words.extend(commands.iter().flat_map(|line| ["-c", line]));
        command::run_words(&self.netns.words(&words))
    }

    /// Runs one vty command that answers in JSON (it ends in `json`).
    ///
    /// # Errors
    /// As of [`Self::vtysh`], and where the answer is no JSON.
    pub fn json(&self, show: &str) -> Result<Value> {
        command::parse_json(show, &self.vtysh(&[show])?)
    }

    /// Enters configuration, one line an argument.
    ///
    /// # Errors
    /// Where FRR refuses a line.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        let said = self.vtysh(&[&["configure terminal"], lines].concat())?;
        anyhow::ensure!(
            !said.contains('%'),
            "FRR {} refused: {said}",
            self.netns.name()
        );
        Ok(())
    }

    /// The process of a daemon.
    ///
    /// # Errors
    /// Where it left no process id.
    pub fn pid(&self, daemon: &str) -> Result<i32> {
        let path = self.sockets().join(format!("{daemon}.pid"));
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{daemon} does not run: {}", path.display()))?;
        text.trim()
            .parse()
            .with_context(|| format!("{}: {text:?}", path.display()))
    }

    /// The processes of the daemons that run.
    pub fn pids(&self) -> Vec<i32> {
        let alive = |pid: &i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        let daemons = CORE.iter().chain(&PROTOCOLS);
        daemons
            .filter_map(|daemon| self.pid(daemon).ok())
            .filter(alive)
            .collect()
    }

    /// Whether every daemon runs.
    pub fn all_run(&self) -> bool {
        self.pids().len() == CORE.len() + PROTOCOLS.len()
    }

    /// Asserts that the BGP session with a peer is up and has exchanged EVPN routes.
    ///
    /// # Errors
    /// Where it is not; the message has its state.
    pub fn evpn_session_up(&self, peer: &str) -> Result<()> {
        let summary = self.json("show bgp l2vpn evpn summary json")?;
        let state = summary["peers"][peer]["state"]
            .as_str()
            .unwrap_or("not configured");
        let name = self.netns.name();
        anyhow::ensure!(
            state == "Established",
            "{name}'s session with {peer} is {state}"
        );
        Ok(())
    }

    /// The EVPN routes of a type (2 MAC/IP, 3 inclusive multicast, 5 prefix), as their text.
    ///
    /// # Errors
    /// As of [`Self::json`].
    pub fn evpn_routes(&self, route_type: u8) -> Result<Vec<String>> {
        let table = self.json("show bgp l2vpn evpn json")?;
        let distinguishers = table.as_object().into_iter().flatten();
        let routes = distinguishers
            .flat_map(|(_, routes)| routes.as_object())
            .flatten();
        let wanted = format!("[{route_type}]:");
        Ok(routes
            .map(|(route, _)| route)
            .filter(|r| r.starts_with(&wanted))
            .cloned()
            .collect())
    }

    /// The EVPN routes of a type as a person reads them: distinguisher, route, and by whom.
    ///
    /// # Errors
    /// As of [`Self::json`], and where a route has no next hop.
    pub fn evpn_listing(&self, route_type: u8) -> Result<Vec<String>> {
        let table = self.json("show bgp l2vpn evpn json")?;
        let wanted = format!("[{route_type}]:");
        let mut lines = Vec::new();
        for (distinguisher, routes) in table.as_object().into_iter().flatten() {
            let routes = routes.as_object().into_iter().flatten();
            for (route, entry) in routes.filter(|(route, _)| route.starts_with(&wanted)) {
                let from = entry["paths"][0]["nexthops"][0]["ip"].as_str();
                let from = from.with_context(|| format!("{route} has no next hop: {entry}"))?;
                lines.push(format!("{distinguisher}  {route}  by {from}"));
            }
        }
        Ok(lines)
    }

    /// Whether there are EVPN routes that come from a VTEP.
    ///
    /// # Errors
    /// As of [`Self::json`].
    pub fn evpn_knows(&self, vtep: &str) -> Result<bool> {
        let multicast = self.evpn_routes(3)?;
        Ok(multicast
            .iter()
            .any(|route| route.ends_with(&format!("[{vtep}]"))))
    }
}
