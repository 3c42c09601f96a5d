//! What the configuration of the agent on this machine says, as far as it matters here.
//!
//! Only its file is read. What the agent's service has in variables (`XPU_AGENT_…`) can't be seen.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xpu_model::node::VXLAN_PORT;

use super::Finding;
use crate::toml_error::in_a_line;

/// Where the file is if nobody says.
const USUAL: &str = "/etc/xpu-agent/agent.toml";

/// What is known of the agent's configuration.
#[derive(Debug)]
pub enum AgentConfig {
    /// What the file says. Without a file: the defaults, with which the agent runs then.
    Known {
        /// Which file, where there is one.
        file: Option<PathBuf>,
        /// What it says.
        settings: Settings,
    },
    /// Nothing: the file can't be read.
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Nothing: an agent would not start with this file.
    Malformed {
        /// Which.
        file: PathBuf,
        /// Where in it, and what.
        why: String,
    },
}

/// The keys that `doctor` judges by. What else is in the file the agent judges itself, with
/// `--check-config`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `[api]`
    pub api: Api,
    /// `[http]`
    pub http: Http,
    /// `[underlay]`
    pub underlay: Underlay,
    /// `[frr]`
    pub frr: Frr,
    /// `[bgp]`
    pub bgp: Bgp,
}

/// `[api]`
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Api {
    /// The TCP address of gRPC; empty: none.
    pub tcp: String,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            tcp: "127.0.0.1:50151".to_owned(),
        }
    }
}

/// `[http]`
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Http {
    /// The TCP address of HTTP; empty: none.
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8082".to_owned(),
        }
    }
}

/// `[underlay]`
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Underlay {
    /// The local VTEP's address.
    pub vtep: Option<IpAddr>,
    /// The UDP port of VXLAN.
    pub vxlan_port: NonZeroU16,
}

impl Default for Underlay {
    fn default() -> Self {
        Self {
            vtep: None,
            vxlan_port: VXLAN_PORT,
        }
    }
}

/// `[frr]`
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Frr {
    /// Whether the node has FRR.
    pub enabled: bool,
    /// Where FRR's daemons have their sockets.
    pub socket_directory: PathBuf,
}

impl Default for Frr {
    fn default() -> Self {
        Self {
            enabled: true,
            socket_directory: "/run/frr".into(),
        }
    }
}

/// `[bgp]`
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Bgp {
    /// `[[bgp.peers]]`
    pub peers: Vec<Peer>,
}

/// `[[bgp.peers]]`, which has one of the two.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Where the peer is.
    pub address: Option<IpAddr>,
    /// The device on whose link it is the only neighbour.
    pub interface: Option<String>,
}

impl AgentConfig {
    /// Reads the file that was named; without one the usual file, which need not be there.
    pub fn read(named: Option<&Path>) -> Self {
        Self::read_or(named, Path::new(USUAL))
    }

    fn read_or(named: Option<&Path>, usual: &Path) -> Self {
        let file = named.unwrap_or(usual).to_owned();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Self::Known {
                    file: None,
                    settings: Settings::default(),
                };
            }
            Err(why) => return Self::Unreadable { file, why },
        };
        match toml::from_str(&text) {
            Ok(settings) => Self::Known {
                file: Some(file),
                settings,
            },
            Err(error) => Self::Malformed {
                file,
                why: in_a_line(&text, &error),
            },
        }
    }

    /// What it says, where that is known.
    pub const fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Known { settings, .. } => Some(settings),
            Self::Unreadable { .. } | Self::Malformed { .. } => None,
        }
    }

    /// The VTEP's address, where one is known to be configured.
    pub fn vtep(&self) -> Option<IpAddr> {
        self.settings()?.underlay.vtep
    }

    /// The UDP port of VXLAN: the usual one where it is not known.
    pub fn vxlan_port(&self) -> NonZeroU16 {
        self.settings()
            .map_or(VXLAN_PORT, |it| it.underlay.vxlan_port)
    }

    /// Says what is not known, and why.
    pub fn findings(&self) -> Vec<Finding> {
        const WHAT: &str = "config";
        match self {
            Self::Known { .. } => Vec::new(),
            Self::Unreadable { file, why } => {
                let file = file.display();
                let seen = format!(
                    "the agent's configuration {file} can't be read: {why}; so its VTEP, its BGP \
                     peers, its listeners and whether and where FRR runs are not known"
                );
                let mend = match why.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "run doctor as root\n\
                         or name a copy that you may read with --agent-config, or FRR's sockets \
                         with --frr-sockets"
                    }
                    _ => {
                        "name the agent's configuration with --agent-config, or FRR's sockets \
                         with --frr-sockets"
                    }
                };
                vec![Finding::notice(WHAT, seen, mend)]
            }
            Self::Malformed { file, why } => {
                let file = file.display();
                vec![Finding::wrong(
                    WHAT,
                    format!("{file} is no configuration that an agent starts with: {why}"),
                    format!("correct it, then: xpu-agent --config {file} --check-config"),
                )]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    /// A folder with a file of this text.
    fn with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("agent.toml");
        fs::write(&file, text).expect("a file");
        (folder, file)
    }

    fn only(config: &AgentConfig) -> Finding {
        let mut findings = config.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.remove(0)
    }

    #[test]
    fn what_matters_is_read_and_the_rest_left_to_the_agent() {
        let (_folder, file) = with(
            "[api]\ntcp = \"10.0.0.5:50151\"\nunix = \"\"\n[http]\nlisten = \"\"\n\
             [underlay]\nvtep = \"fd00::1\"\nmtu = 9000\nvxlan_port = 8472\n\
             [frr]\nenabled = false\n[bgp]\nasn = 1\n\
             [[bgp.peers]]\naddress = \"10.254.1.0\"\n[[bgp.peers]]\ninterface = \"up0\"\n\
             [of_a_later_version]\nkey = 1\n",
        );
        let config = AgentConfig::read(Some(&file));
        assert!(config.findings().is_empty());
        let address = |text: &str| Some(text.parse().expect("an address"));
        let expected = Settings {
            api: Api {
                tcp: "10.0.0.5:50151".into(),
            },
            http: Http {
                listen: String::new(),
            },
            underlay: Underlay {
                vtep: address("fd00::1"),
                vxlan_port: 8472.try_into().expect("a port"),
            },
            frr: Frr {
                enabled: false,
                ..Frr::default()
            },
            bgp: Bgp {
                peers: vec![
                    Peer {
                        address: address("10.254.1.0"),
                        interface: None,
                    },
                    Peer {
                        address: None,
                        interface: Some("up0".into()),
                    },
                ],
            },
        };
        assert_eq!(config.settings(), Some(&expected));
        assert_eq!(config.vxlan_port().get(), 8472);
    }

    #[test]
    fn the_defaults_are_the_agents() {
        let agents = xpu_agent::config::Config::default();
        let ours = Settings::default();
        assert_eq!(ours.frr.enabled, agents.frr.enabled);
        assert_eq!(ours.frr.socket_directory, agents.frr.socket_directory);
        assert_eq!(ours.api.tcp, agents.api.tcp);
        assert_eq!(ours.http.listen, agents.http.listen);
        assert_eq!(ours.underlay.vxlan_port, agents.underlay.vxlan_port);
        assert_eq!(
            Path::new(USUAL),
            xpu_agent::config::ConfigFile::chosen(None).path()
        );
    }

    #[test]
    fn only_the_usual_file_may_be_absent() {
        let nowhere = Path::new("/nowhere/agent.toml");
        let usual = AgentConfig::read_or(None, nowhere);
        assert!(usual.findings().is_empty());
        assert_eq!(usual.settings(), Some(&Settings::default()));
        let named = AgentConfig::read(Some(nowhere));
        assert_eq!(named.settings(), None);
        let finding = only(&named);
        assert_eq!(finding.level, Level::Notice);
        assert!(finding.seen.contains("/nowhere/agent.toml"), "{finding:?}");
        let mend = finding.mend.expect("a way out");
        assert!(mend.contains("--agent-config"), "{mend}");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_said_to_be_there() {
        // Root may read everything, so the refusal is made.
        let config = AgentConfig::Unreadable {
            file: USUAL.into(),
            why: io::ErrorKind::PermissionDenied.into(),
        };
        assert_eq!(config.settings(), None);
        let finding = only(&config);
        assert_eq!(finding.level, Level::Notice);
        assert!(finding.seen.contains(USUAL), "{finding:?}");
        assert!(finding.seen.contains("permission denied"), "{finding:?}");
        let mend = finding.mend.expect("a way out");
        assert!(mend.contains("as root"), "{mend}");
        assert!(mend.contains("--frr-sockets"), "{mend}");
        // What is there and no file can't be read either, whoever asks.
        let folder = tempfile::tempdir().expect("a temporary directory");
        let config = AgentConfig::read_or(None, folder.path());
        assert!(matches!(config, AgentConfig::Unreadable { .. }));
    }

    #[test]
    fn a_file_that_no_agent_starts_with_is_wrong() {
        for (text, part) in [
            ("[underlay]\nvtep = \n", "line 2: "),
            ("\n[frr]\nenabled = \"no\"\n", "line 3: "),
            ("[underlay]\nvtep = \"10.255.0\"\n", "line 2: "),
        ] {
            let (_folder, file) = with(text);
            let config = AgentConfig::read(Some(&file));
            assert_eq!(config.settings(), None, "{text}");
            let finding = only(&config);
            assert_eq!(finding.level, Level::Wrong, "{text}");
            assert!(finding.seen.contains(part), "{finding:?}");
            assert!(!finding.seen.contains('\n'), "{finding:?}");
            let mend = finding.mend.expect("a way out");
            assert!(mend.contains("--check-config"), "{mend}");
        }
    }
}
