//! `xpu-cni install`: puts the program where the runtime looks for plugins, and the host-wide file
//! where the plugin looks for it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

mod place;

use place::{link, replace};

use crate::{
    agent::{AgentAddr, Peer, TlsFiles},
    host::CONFIG_FILES,
};

/// The name that networks have in `type`, and that of the public plugin, for its networks.
pub(crate) const NAMES: [&str; 2] = ["xpu-cni", "evpn-gw"];

/// The one folder of network configurations below which the plugin looks for its host-wide file,
/// from the node's root.
const FOLDER: &str = "etc/cni/net.d";

/// Below it: the host-wide file.
const CONFIG: &str = "xpu-cni.d/xpu-cni.conf";

const USAGE: &str = "usage: xpu-cni install --bin-dir DIR [--conf-dir DIR [--mounted-elsewhere] [--agent ADDRESS [--ca FILE --cert FILE --key FILE]]]

  --bin-dir DIR     where the runtime looks for plugins, as /opt/cni/bin
  --conf-dir DIR    the node's /etc/cni/net.d, as /host/etc/cni/net.d where it is mounted there;
                    the host-wide file below it is made to pin the agent, and keeps its other
                    keys. The plugin reads it there alone, wherever the runtime has its networks
  --mounted-elsewhere
                    DIR is the node's /etc/cni/net.d, though it doesn't end so
  --agent ADDRESS   the agent of this host, as https://10.0.0.1:50151; without it
                    unix:///run/xpu-agent/agent.sock
  --ca, --cert, --key FILE
                    for https: the agent's CA, this host's certificate and its key";

/// Why nothing, or not all, was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The command line.
    #[error("{0}\n{USAGE}")]
    Usage(String),
    /// A file.
    #[error("can't write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A host-wide file that is there and can't be read; nothing was written.
    #[error("can't read {}; nothing was installed", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A host-wide file that is there and is no JSON object; nothing was written.
    #[error("{} is no JSON object; mend it or remove it, nothing was installed", path.display())]
    NoObject {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    bin: PathBuf,
    conf: Option<(PathBuf, Peer)>,
}

/// What was installed.
#[derive(Debug, Default)]
pub struct Installed {
    /// The files that were written.
    pub written: Vec<PathBuf>,
    /// A host-wide file that isn't read, and the one that was written and counts before it.
    pub shadowed: Option<(PathBuf, PathBuf)>,
}

/// Installs by the words behind `install`.
///
/// # Errors
/// [`InstallError`] for words that go together with nothing, and for a file that can't be written.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<Installed, InstallError> {
    let Plan { bin, conf } = plan(words)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::File { path, source }
    };
    // Our own file, even if it was replaced since we started.
    let mut program = Vec::new();
    let own = Path::new("/proc/self/exe");
    io::copy(&mut File::open(own).map_err(failed(own))?, &mut program).map_err(failed(own))?;

    // Before anything is written: what is in the way is told while all is as it was.
    let conf = conf
        .map(|(folder, agent)| {
            let path = folder.join(CONFIG);
            pinned(&path, &agent).map(|text| (folder, path, text))
        })
        .transpose()?;

    let mut installed = Installed::default();
    let written = &mut installed.written;
    let [name, alias] = NAMES;
    let path = bin.join(name);
    replace(&path, &program, 0o755).map_err(failed(&path))?;
    written.push(path);
    let path = bin.join(alias);
    link(&path, name).map_err(failed(&path))?;
    written.push(path);
    if let Some((folder, path, text)) = conf {
        let below = path.parent().unwrap_or(&path);
        fs::create_dir_all(below).map_err(failed(below))?;
        replace(&path, text.as_bytes(), 0o644).map_err(failed(&path))?;
        written.push(path.clone());
        installed.shadowed = next_of(&folder).map(|other| (other, path));
    }
    Ok(installed)
}

/// The host-wide file that would count if ours weren't there.
fn next_of(folder: &Path) -> Option<PathBuf> {
    let root = folder
        .ancestors()
        .nth(Path::new(FOLDER).iter().count())
        .filter(|_| folder.ends_with(FOLDER));
    let others = CONFIG_FILES.iter().filter_map(|file| {
        let file = Path::new(file).strip_prefix("/").ok()?;
        match file.strip_prefix(FOLDER) {
            Ok(below) => Some(folder.join(below)),
            Err(_) => Some(root?.join(file)),
        }
    });
    let ours = folder.join(CONFIG);
    others
        .into_iter()
        .find(|path| *path != ours && path.exists())
}

/// The host-wide file with the agent pinned. Its other keys are the operator's and stay: an
/// installer may run at each start of a node.
fn pinned(path: &Path, agent: &Peer) -> Result<String, InstallError> {
    let mut document: Map<String, Value> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| InstallError::NoObject {
            path: path.to_owned(),
            source,
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(source) => {
            return Err(InstallError::Unreadable {
                path: path.to_owned(),
                source,
            });
        }
    };
    document.insert("agent".to_owned(), json!(agent.addr().to_string()));
    match agent.tls() {
        Some(tls) => document.insert("tls".to_owned(), json!(tls)),
        // An earlier agent's: certificates without an address for them are refused.
        None => document.remove("tls"),
    };
    Ok(format!("{:#}\n", Value::Object(document)))
}

fn plan(words: impl Iterator<Item = OsString>) -> Result<Plan, InstallError> {
    let usage = |text: String| InstallError::Usage(text);
    let (mut bin, mut conf, mut agent) = (None, None, None);
    let (mut ca, mut cert, mut key) = (None, None, None);
    let mut is_elsewhere = false;
    let mut words = words;
    while let Some(word) = words.next() {
        let slot = match word.to_str() {
            Some("--bin-dir") => &mut bin,
            Some("--conf-dir") => &mut conf,
            Some("--agent") => &mut agent,
            Some("--ca") => &mut ca,
            Some("--cert") => &mut cert,
            Some("--key") => &mut key,
            Some("--mounted-elsewhere") => {
                is_elsewhere = true;
                continue;
            }
            _ => return Err(usage(format!("`{}` is unknown", word.display()))),
        };
        let value = words.next().filter(|value| !value.is_empty());
        *slot = Some(value.ok_or_else(|| usage(format!("`{}` needs a value", word.display())))?);
    }
    let bin = bin.ok_or_else(|| usage("`--bin-dir` is missing".to_owned()))?;
    let tls = match (ca, cert, key) {
        (None, None, None) => None,
        (Some(ca), Some(cert), Some(key)) => Some(TlsFiles {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
        }),
        _ => return Err(usage("`--ca`, `--cert` and `--key` go together".to_owned())),
    };
    let conf = match (conf, agent) {
        (None, None) if tls.is_none() && !is_elsewhere => None,
        (Some(conf), agent) => {
            let conf = PathBuf::from(conf);
            if !is_elsewhere && !conf.ends_with(FOLDER) {
                return Err(usage(format!(
                    "`--conf-dir` {} doesn't end in {FOLDER}: the plugin would not read the \
                     host-wide file there, wherever the runtime has its networks. Give the node's \
                     /{FOLDER}; if this is it, add `--mounted-elsewhere`",
                    conf.display()
                )));
            }
            let parse = |agent: OsString| agent.to_string_lossy().parse::<AgentAddr>();
            let addr = agent.map(parse).transpose().map_err(usage)?;
            let addr = addr.unwrap_or_default();
            let agent = Peer::new(addr, tls);
            let agent = agent.map_err(|why| usage(format!("`--ca`, `--cert`, `--key`: {why}")))?;
            Some((conf, agent))
        }
        (None, _) => {
            let message =
                "what is said of the agent is written below `--conf-dir`, which is missing";
            return Err(usage(message.to_owned()));
        }
    };
    let bin = bin.into();
    Ok(Plan { bin, conf })
}

#[cfg(test)]
#[path = "../tests/unit/install.rs"]
mod tests;
