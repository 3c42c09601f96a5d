//! Where the agent is and which certificates to use: from flags, the environment, and a file of
//! contexts.
//!
//! ```toml
//! current = "lab"
//!
//! [contexts.lab]
//! endpoint = "https://xpu7.example.net:50151"
//! ca = "lab/ca.pem"              # relative to this file
//! cert = "lab/operator.pem"
//! key = "lab/operator.key"
//! http = "https://xpu7.example.net:8082" # where doctor asks /readyz of this endpoint
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::{self, Address};
use crate::toml_error::in_a_line;

/// The flags, each of which has a variable too.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where the agent listens: unix:///PATH, http://HOST:PORT or https://HOST:PORT
    /// [default: the context's, else unix:///run/xpu-agent/agent.sock]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_ENDPOINT", value_parser = args::address)]
    endpoint: Option<Address>,
    /// Which context of the configuration file [default: its `current`]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_CONTEXT")]
    context: Option<String>,
    /// The configuration file [default: ~/.config/xpuctl/config.toml, if there is one]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The CA certificates to check the agent's certificate by, PEM
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The client certificate, followed by its intermediate certificates, PEM
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The client certificate's private key, PEM
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "XPUCTL_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Keeps the options of all commands apart from a command's own in `--help`.
pub const EVERYWHERE: &str = "Options of every command";

/// Where the agent is if nobody says.
const DEFAULT: &str = "unix:///run/xpu-agent/agent.sock";

/// Where the agent's HTTP side is on its own machine, if nobody says.
const DEFAULT_HTTP: &str = "http://127.0.0.1:8082";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    http: Option<String>,
}

/// The agent to ask, and the certificates for that.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's address.
    pub address: Address,
    /// For `https`, of the HTTP side too.
    pub tls: TlsFiles,
    /// Where `/readyz` is, if it is known.
    pub http: Option<String>,
    /// The context whose endpoint this is; none where the endpoint was given beside it.
    pub context: Option<String>,
}

/// Files with certificates, where given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFiles {
    /// The CAs that may have signed the agent's certificate.
    pub ca: Option<PathBuf>,
    /// The own certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Why the settings can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("can't read the configuration {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not as it should be.
    #[error("the configuration {path} is wrong: {why}")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where in it, and what.
        why: String,
    },
    /// There is no such context.
    #[error("there is no context `{name}` in {path}; it has {known}")]
    NoContext {
        /// The one asked for.
        name: String,
        /// The file.
        path: String,
        /// Those there are.
        known: String,
    },
    /// A context's endpoint is none.
    #[error("context {context}: endpoint `{value}`: {why}")]
    Endpoint {
        /// Whose.
        context: String,
        /// As written.
        value: String,
        /// What it should be.
        why: String,
    },
}

impl Flags {
    /// Takes each value from the flag, else the environment, else the context, else the default.
    ///
    /// # Errors
    /// Where the file was named and is not there; where it is wrong, or has not the context.
    pub fn settle(self) -> Result<Settings, SettingsError> {
        let (path, file) = self.file()?;
        let folder = path.as_deref().and_then(Path::parent);
        let name = self.context.or(file.current);
        let context = match &name {
            None => Context::default(),
            Some(name) => context(name, &file.contexts, path.as_deref())?,
        };
        let beside = |file: PathBuf| folder.map_or_else(|| file.clone(), |it| it.join(&file));
        // Another agent than the context's has another HTTP side too.
        let (address, origin, http) = match (self.endpoint, context.endpoint) {
            (Some(address), _) => (address, None, None),
            (None, text) => {
                let text = text.unwrap_or_else(|| DEFAULT.to_owned());
                let address = args::address(&text).map_err(|why| SettingsError::Endpoint {
                    context: name.clone().unwrap_or_default(),
                    value: text,
                    why,
                })?;
                (address, name, context.http)
            }
        };
        let tls = TlsFiles {
            ca: self.ca.or(context.ca.map(beside)),
            cert: self.cert.or(context.cert.map(beside)),
            key: self.key.or(context.key.map(beside)),
        };
        let local = address.is_local().then(|| DEFAULT_HTTP.to_owned());
        Ok(Settings {
            http: http.or(local),
            context: origin,
            address,
            tls,
        })
    }

    /// The file that is named must be there; the usual one need not.
    fn file(&self) -> Result<(Option<PathBuf>, File), SettingsError> {
        let usual = || Some(config_home()?.join("xpuctl/config.toml"));
        let Some(path) = self.config.clone().or_else(usual) else {
            return Ok((None, File::default()));
        };
        match fs::read_to_string(&path) {
            Ok(text) => match toml::from_str(&text) {
                Ok(file) => Ok((Some(path), file)),
                Err(error) => Err(SettingsError::Wrong {
                    why: in_a_line(&text, &error),
                    path,
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => {
                Ok((None, File::default()))
            }
            Err(source) => Err(SettingsError::Unreadable { path, source }),
        }
    }
}

/// The context of a name, among those of the file.
fn context(
    name: &str,
    contexts: &BTreeMap<String, Context>,
    path: Option<&Path>,
) -> Result<Context, SettingsError> {
    contexts.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = contexts.keys().map(String::as_str).collect();
        SettingsError::NoContext {
            name: name.escape_debug().to_string(),
            path: path.map_or_else(
                || "the configuration".to_owned(),
                |it| it.display().to_string(),
            ),
            known: match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            },
        }
    })
}

/// XDG base directories: `$XDG_CONFIG_HOME`, else `~/.config`.
fn config_home() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("XDG_CONFIG_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => Some(path),
        _ => Some(Path::new(&set("HOME")?).join(".config")),
    }
}
