//! The call's environment: which command, for which container, interface, namespace
//! (CNI specification 1.1.0, section 2, "Parameters").

use std::path::PathBuf;

use xpu_model::{IfName, Mac};

mod attachment;
mod command;

pub use attachment::Attachment;
use attachment::is_container_id;
pub use command::{Command, Verb};

/// What is wrong with the environment; code 4.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A variable that this command needs.
    #[error("{0} is not set; a CNI runtime sets it for this command")]
    Missing(&'static str),
    /// A variable with a value the specification doesn't allow.
    #[error("{key}=`{}` is invalid: {why}", value.escape_debug())]
    Invalid {
        /// The variable.
        key: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks.
        why: String,
    },
}

/// The variables as they came.
#[derive(Debug, Clone, Default)]
pub struct Vars {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: Option<String>,
    /// `CNI_PATH`.
    pub path: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub netns_override: bool,
    /// `TRACEPARENT` (W3C Trace Context), passed on to the agent.
    pub traceparent: Option<String>,
}

impl Vars {
    /// Reads the process's environment. An empty variable counts as unset, as the
    /// runtimes mean it.
    #[must_use]
    pub fn from_process() -> Self {
        let get = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        Self {
            command: get("CNI_COMMAND"),
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            path: get("CNI_PATH"),
            args: get("CNI_ARGS"),
            netns_override: get("CNI_NETNS_OVERRIDE").is_some_and(|text| is_true(&text)),
            traceparent: get("TRACEPARENT"),
        }
    }

    /// The command.
    ///
    /// # Errors
    /// [`EnvError`] when it is missing or none of ours.
    pub fn command(&self) -> Result<Command, EnvError> {
        match self.command.as_deref() {
            None => Err(EnvError::Missing("CNI_COMMAND")),
            Some("ADD") => Ok(Command::Add),
            Some("DEL") => Ok(Command::Del),
            Some("CHECK") => Ok(Command::Check),
            Some("STATUS") => Ok(Command::Status),
            Some("GC") => Ok(Command::Gc),
            Some("VERSION") => Ok(Command::Version),
            Some(other) => Err(EnvError::Invalid {
                key: "CNI_COMMAND",
                value: other.to_owned(),
                why: "this plugin does ADD, DEL, CHECK, STATUS, GC and VERSION".to_owned(),
            }),
        }
    }

    /// What is asked of this node; `None` for `VERSION`, which asks nothing of it.
    ///
    /// # Errors
    /// [`EnvError`] for a variable that the command needs and that is missing or breaks its rule.
    pub fn verb(&self) -> Result<Option<Verb>, EnvError> {
        Ok(Some(match self.command()? {
            Command::Add => Verb::Add(self.attachment()?),
            Command::Del => Verb::Del(self.attachment()?),
            Command::Check => Verb::Check(self.attachment()?),
            Command::Status => Verb::Status,
            Command::Gc => Verb::Gc,
            Command::Version => return Ok(None),
        }))
    }

    /// The attachment that ADD, DEL and CHECK are about.
    ///
    /// # Errors
    /// [`EnvError`] for a variable that is missing or breaks its rule.
    pub fn attachment(&self) -> Result<Attachment, EnvError> {
        let container_id = self
            .container_id
            .clone()
            .ok_or(EnvError::Missing("CNI_CONTAINERID"))?;
        let ifname = self.ifname.clone().ok_or(EnvError::Missing("CNI_IFNAME"))?;
        if !is_container_id(&container_id) {
            return Err(EnvError::Invalid {
                key: "CNI_CONTAINERID",
                value: container_id,
                why: "a letter or digit, then letters, digits, `_`, `.`, `-`".to_owned(),
            });
        }
        let ifname = ifname
            .parse::<IfName>()
            .map_err(|error| EnvError::Invalid {
                key: "CNI_IFNAME",
                value: ifname,
                why: error.to_string(),
            })?;
        Ok(Attachment {
            container_id,
            ifname,
            netns: self.netns.clone().map(PathBuf::from),
        })
    }

    /// The addresses that `IP=` in `CNI_ARGS` asks for: for IPAM to read.
    #[must_use]
    pub fn ips(&self) -> Option<&str> {
        self.arg("IP=").filter(|ips| !ips.is_empty())
    }

    fn arg(&self, key: &str) -> Option<&str> {
        let pairs = self.args.as_deref().unwrap_or_default().split(';');
        pairs.rev().find_map(|pair| pair.strip_prefix(key))
    }

    /// `MAC=` in `CNI_ARGS`. Other keys, and keys given twice, are the runtime's own
    /// affair; the last one counts, and an empty one is as none.
    ///
    /// # Errors
    /// [`EnvError`] when the value is no MAC address.
    pub fn mac(&self) -> Result<Option<Mac>, EnvError> {
        let Some(text) = self.arg("MAC=").filter(|mac| !mac.is_empty()) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error: xpu_model::mac::MacError| EnvError::Invalid {
                key: "CNI_ARGS",
                value: text.to_owned(),
                why: error.to_string(),
            })
    }
}

/// What the reference library takes for true; anything else is false.
fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(container_id: &str, ifname: &str) -> Vars {
        let (container_id, ifname) = (Some(container_id.to_owned()), Some(ifname.to_owned()));
        Vars {
            container_id,
            ifname,
            ..Vars::default()
        }
    }

    #[test]
    fn container_ids_and_interface_names_follow_the_specification() {
        assert!(vars("cont-1_a.b", "net1").attachment().is_ok());
        for (container_id, ifname) in [
            ("-c", "net1"),
            ("a/b", "net1"),
            ("a b", "net1"),
            ("a", ".."),
            ("a", "net/1"),
            ("a", "net:1"),
            ("a", "a name"),
            ("a", "net%d"),
            ("a", "sixteen-bytes-xx"),
        ] {
            assert!(
                vars(container_id, ifname).attachment().is_err(),
                "{container_id} {ifname}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let told = Vars::default().attachment().unwrap_err().to_string();
        assert!(told.starts_with("CNI_CONTAINERID"), "{told}");
        let told = Vars::default().command().unwrap_err().to_string();
        assert!(told.starts_with("CNI_COMMAND"), "{told}");
    }

    #[test]
    fn each_command_reads_back_and_has_its_first_version() {
        use Command::{Add, Check, Del, Gc, Status};
        for (command, since) in [
            (Add, "0.3.0"),
            (Del, "0.3.0"),
            (Check, "0.4.0"),
            (Status, "1.1.0"),
            (Gc, "1.1.0"),
            (Command::Version, "0.3.0"),
        ] {
            let vars = Vars {
                command: Some(command.as_str().to_owned()),
                ..Vars::default()
            };
            assert_eq!(vars.command().unwrap(), command);
            assert_eq!(command.since().as_str(), since);
        }
    }

    #[test]
    fn a_verb_has_its_command_and_the_attachment_that_it_needs() {
        use Command::{Add, Check, Del, Gc, Status};
        for (command, is_about_one) in [
            (Add, true),
            (Del, true),
            (Check, true),
            (Status, false),
            (Gc, false),
        ] {
            let with = |vars| Vars {
                command: Some(command.as_str().to_owned()),
                ..vars
            };
            let verb = with(vars("c1", "net1")).verb().unwrap().unwrap();
            assert_eq!(verb.command(), command);
            assert_eq!(verb.attachment().is_some(), is_about_one);
            assert_eq!(with(Vars::default()).verb().is_err(), is_about_one);
            assert_eq!(with(vars("c1", "..")).verb().is_err(), is_about_one);
        }
        let version = Vars {
            command: Some("VERSION".to_owned()),
            ..Vars::default()
        };
        assert_eq!(version.verb().unwrap(), None);
    }

    #[test]
    fn only_a_clear_word_is_true() {
        for text in ["1", "true", "TRUE", "True"] {
            assert!(is_true(text), "{text}");
        }
        for text in ["", "0", "yes", "false", "true "] {
            assert!(!is_true(text), "{text}");
        }
    }

    #[test]
    fn mac_is_found_among_what_multus_sends() {
        let args =
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=ns1;IgnoreUnknown=1;MAC=02:00:00:00:00:07;IP=1";
        let vars = Vars {
            args: Some(args.to_owned()),
            ..Vars::default()
        };
        assert_eq!(
            vars.mac().unwrap().unwrap().to_string(),
            "02:00:00:00:00:07"
        );
        let vars = Vars {
            args: Some("MAC=bad".to_owned()),
            ..Vars::default()
        };
        assert!(vars.mac().is_err());
        // How Go programs write "not set".
        let vars = Vars {
            args: Some("MAC=;IP=".to_owned()),
            ..Vars::default()
        };
        assert_eq!((vars.mac().unwrap(), vars.ips()), (None, None));
    }
}
