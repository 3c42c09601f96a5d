//! `xpu-cni install`: puts the program where the runtime looks for plugins.
//!
//! Every file is written beside its place and renamed: a runtime that executes the plugin at that
//! moment gets the old one or the new one, never half of one ("text file busy" neither).

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::agent::{AgentAddr, Peer, TlsFiles};

/// The name that networks have in `type`, and that of the public plugin, for its networks.
pub(crate) const NAMES: [&str; 2] = ["xpu-cni", "evpn-gw"];

/// Below the folder of network configurations: the host-wide file.
const CONFIG: &str = "xpu-cni.d/xpu-cni.conf";

const USAGE: &str = "usage: xpu-cni install --bin-dir DIR [--conf-dir DIR [--agent ADDRESS [--ca FILE --cert FILE --key FILE]]]

  --bin-dir DIR     where the runtime looks for plugins, as /opt/cni/bin
  --conf-dir DIR    where network configurations are, as /etc/cni/net.d; the host-wide
                    file below it is made to pin the agent, and keeps its other keys
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

/// Installs by the words behind `install`; gives what was written.
///
/// # Errors
/// [`InstallError`] for words that go together with nothing, and for a file that can't be written.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<Vec<PathBuf>, InstallError> {
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
            pinned(&path, &agent).map(|text| (path, text))
        })
        .transpose()?;

    let mut written = Vec::new();
    let [name, alias] = NAMES;
    let path = bin.join(name);
    replace(&path, &program, 0o755).map_err(failed(&path))?;
    written.push(path);
    let path = bin.join(alias);
    link(&path, name).map_err(failed(&path))?;
    written.push(path);
    if let Some((path, text)) = conf {
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(failed(folder))?;
        replace(&path, text.as_bytes(), 0o644).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
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
    let mut words = words;
    while let Some(word) = words.next() {
        let slot = match word.to_str() {
            Some("--bin-dir") => &mut bin,
            Some("--conf-dir") => &mut conf,
            Some("--agent") => &mut agent,
            Some("--ca") => &mut ca,
            Some("--cert") => &mut cert,
            Some("--key") => &mut key,
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
        (None, None) if tls.is_none() => None,
        (Some(conf), agent) => {
            let parse = |agent: OsString| agent.to_string_lossy().parse::<AgentAddr>();
            let addr = agent.map(parse).transpose().map_err(usage)?;
            let addr = addr.unwrap_or_default();
            let agent = Peer::new(addr, tls);
            let agent = agent.map_err(|why| usage(format!("`--ca`, `--cert`, `--key`: {why}")))?;
            Some((conf.into(), agent))
        }
        (None, _) => {
            let message =
                "`--agent` and its files are written below `--conf-dir`, which is missing";
            return Err(usage(message.to_owned()));
        }
    };
    let bin = bin.into();
    Ok(Plan { bin, conf })
}

/// A name beside `path` that no other installer uses at the same time.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        // Whatever the umask: a runtime need not be who installs.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    let done = write();
    if done.is_err() {
        // What was begun is of no use; the first error is the one that counts.
        let _gone = fs::remove_file(&temporary);
    }
    done
}

fn link(path: &Path, target: &str) -> io::Result<()> {
    let temporary = beside(path);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &temporary)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        words.into_iter()
    }

    #[test]
    fn a_command_line_is_read_or_told() {
        let read = plan(words("--bin-dir /opt --conf-dir /etc --agent unix:///a")).unwrap();
        assert_eq!(read.bin, Path::new("/opt"));
        assert_eq!(read.conf.unwrap().1.addr().to_string(), "unix:///a");
        let read = plan(words("--bin-dir /opt --conf-dir /etc")).unwrap();
        let addr = read.conf.unwrap().1.addr().to_string();
        assert_eq!(addr, "unix:///run/xpu-agent/agent.sock");
        let line = "--bin-dir /opt --conf-dir /etc --agent https://h:1 --ca /a --cert /b --key /c";
        let tls = plan(words(line)).unwrap().conf.unwrap().1;
        assert_eq!(tls.tls().unwrap().key, Path::new("/c"));
        for (line, told) in [
            (
                "--conf-dir /etc --agent unix:///a",
                "`--bin-dir` is missing",
            ),
            ("--bin-dir", "needs a value"),
            (
                "--bin-dir /opt --agent unix:///a",
                "`--conf-dir`, which is missing",
            ),
            (
                "--bin-dir /opt --ca /a --cert /b --key /c",
                "`--conf-dir`, which is missing",
            ),
            (
                "--bin-dir /opt --conf-dir /e --ca /a --cert /b --key /c",
                "only for https://",
            ),
            ("--bin-dir /opt --ca /a", "go together"),
            (
                "--bin-dir /opt --conf-dir /e --agent https://h:1",
                "required for https://h:1",
            ),
            ("--bin-dir /opt --what", "`--what` is unknown"),
            (
                "--bin-dir /opt --conf-dir /e --agent x",
                "`x` is no address",
            ),
        ] {
            let error = plan(words(line)).unwrap_err().to_string();
            assert!(error.contains(told), "{line}: {error}");
        }
    }

    #[test]
    fn programs_and_file_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, conf) = (dir.path().join("bin"), dir.path().join("conf"));
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("xpu-cni"), "an older one").unwrap();
        let line = format!(
            "--bin-dir {} --conf-dir {} --agent unix:///run/a.sock",
            bin.display(),
            conf.display()
        );
        for _again in 0..2 {
            assert_eq!(run(words(&line)).unwrap().len(), 3);
        }
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(fs::read(bin.join("evpn-gw")).unwrap(), own);
        let mode = fs::metadata(bin.join("xpu-cni")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
        let text = fs::read_to_string(conf.join(CONFIG)).unwrap();
        assert!(text.contains("unix:///run/a.sock"), "{text}");
        let names = fs::read_dir(&bin).unwrap().count();
        assert_eq!(names, 2, "no temporary file is left");
    }

    fn install(dir: &Path, rest: &str) -> Result<Vec<PathBuf>, InstallError> {
        let (bin, conf) = (dir.join("bin"), dir.join("conf"));
        fs::create_dir_all(&bin).unwrap();
        run(words(&format!(
            "--bin-dir {} --conf-dir {}{rest}",
            bin.display(),
            conf.display()
        )))
    }

    #[test]
    fn what_an_operator_added_to_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("conf").join(CONFIG);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let theirs = json!({"logFile": "/var/log/cni.log", "mtu": 9000, "pci_to_mac_path": "/m"});
        fs::write(&path, theirs.to_string()).unwrap();
        let with = |ours: Value| {
            let mut all = theirs.as_object().unwrap().clone();
            all.extend(ours.as_object().unwrap().clone());
            Value::Object(all)
        };
        let read = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();

        let tls = " --agent https://h:1 --ca /a --cert /b --key /c";
        install(dir.path(), tls).unwrap();
        let files = json!({"ca": "/a", "cert": "/b", "key": "/c"});
        let pinned = with(json!({"agent": "https://h:1", "tls": files}));
        assert_eq!(read(), pinned);
        // The certificates go with the agent that needed them.
        install(dir.path(), "").unwrap();
        let pinned = with(json!({"agent": "unix:///run/xpu-agent/agent.sock"}));
        assert_eq!(read(), pinned);
    }

    #[test]
    fn a_file_that_is_no_json_is_named_and_nothing_is_written() {
        for text in ["{\"logFile\": ", "[]", ""] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("conf").join(CONFIG);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let error = install(dir.path(), "").unwrap_err();
            let told = error.to_string();
            assert!(told.contains(&path.display().to_string()), "{told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let programs = fs::read_dir(dir.path().join("bin")).unwrap().count();
            assert_eq!(programs, 0, "{text:?}");
        }
    }

    /// A runtime starts the plugin whenever it likes.
    #[test]
    fn who_reads_meanwhile_reads_a_whole_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xpu-cni");
        let programs = [vec![b'a'; 1 << 20], vec![b'b'; 3 << 20]];
        replace(&path, &programs[0], 0o755).unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0; 2];
                while !is_done.load(Ordering::Relaxed) {
                    let read = fs::read(&path).unwrap();
                    let which = programs.iter().position(|program| *program == read);
                    seen[which.unwrap_or_else(|| panic!("{} bytes", read.len()))] += 1;
                }
                seen
            });
            for round in 1..=40 {
                replace(&path, &programs[round % 2], 0o755).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
            let seen = reader.join().unwrap();
            assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
        });
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let error = run(words("--bin-dir /nonexistent/bin")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/bin"), "{error}");
    }
}
