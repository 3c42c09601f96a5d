//! FRR on a local agent's machine: its version and its daemons, by their vty sockets. First it is
//! looked at, then judged: the judging is pure.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use xpu_model::requirements::{LEAST_FRR, ZEBRA_BY_MGMTD};

use super::agent_config::AgentConfig;
use super::{Finding, entries, numbers};

const WHAT: &str = "frr";

/// What was seen.
#[derive(Debug)]
pub enum Frr {
    /// Nothing: it is not known whether and where FRR should run.
    Unknown,
    /// The agent's configuration says that the node has none.
    Disabled {
        /// The configuration.
        file: PathBuf,
    },
    /// What there is in a directory of vty sockets.
    In(Sockets),
}

/// A directory of vty sockets.
#[derive(Debug)]
pub struct Sockets {
    directory: PathBuf,
    /// Those of bgpd and mgmtd that listen there.
    daemons: BTreeSet<&'static str>,
    /// What zebra answers to `show version`, or why it does not; none: it has no socket.
    version: Option<Result<String, Silence>>,
}

/// Why zebra says no version.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    /// Who runs doctor may not ask it.
    Forbidden,
    /// Nobody listens at its socket, which is left from before.
    Dead,
    /// Something else, in words.
    Other(String),
}

impl Frr {
    /// Looks into the directory that was named, whatever the agent's configuration says of FRR;
    /// without one into that of the configuration.
    pub fn look(named: Option<&Path>, config: &AgentConfig) -> Self {
        if let Some(directory) = named {
            return Self::In(Sockets::look(directory));
        }
        match config {
            AgentConfig::Unreadable { .. } | AgentConfig::Malformed { .. } => Self::Unknown,
            AgentConfig::Known {
                file: Some(file),
                settings,
            } if !settings.frr.enabled => Self::Disabled { file: file.clone() },
            AgentConfig::Known { settings, .. } => {
                Self::In(Sockets::look(&settings.frr.socket_directory))
            }
        }
    }

    /// Judges it. Where nothing is known nothing is said: [`AgentConfig::findings`] has said why.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Unknown => Vec::new(),
            Self::Disabled { file } => vec![Finding::fine(
                WHAT,
                format!("this node has none, by frr.enabled of {}", file.display()),
            )],
            Self::In(sockets) => sockets.findings(),
        }
    }
}

impl Sockets {
    fn look(directory: &Path) -> Self {
        let sockets: BTreeSet<String> = entries(directory)
            .filter_map(|file| Some(file.strip_suffix(".vty")?.to_owned()))
            .collect();
        let socket = |daemon: &str| directory.join(format!("{daemon}.vty"));
        // Where the socket may not be used, it is not known that nobody listens.
        let listens = |daemon: &str| {
            let refused = connect(&socket(daemon)).err();
            refused.is_none_or(|error| error.kind() != ErrorKind::ConnectionRefused)
        };
        let others = ["bgpd", "mgmtd"].into_iter();
        let others = others.filter(|daemon| sockets.contains(*daemon) && listens(daemon));
        Self {
            version: sockets.contains("zebra").then(|| version(&socket("zebra"))),
            daemons: others.collect(),
            directory: directory.to_owned(),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let directory = self.directory.display();
        let (first, is_managed) = match &self.version {
            None => {
                return vec![Finding::wrong(
                    WHAT,
                    format!("zebra has no socket in {directory}; VNIs need FRR"),
                    "apt install frr\nsystemctl enable --now frr\n\
                     for daemons started with -N, set frr.socket_directory in the agent's \
                     configuration\n\
                     on a node without FRR, set frr.enabled = false there",
                )];
            }
            Some(Ok(version)) => {
                let numbers = numbers(version).unwrap_or_default();
                (new_enough(version, numbers), numbers.0 >= ZEBRA_BY_MGMTD)
            }
            Some(Err(silence)) => (silence.finding(&self.directory), false),
        };
        let mut findings = vec![first];
        let mut misses = |daemon: &str, mend: &str| {
            if !self.daemons.contains(daemon) {
                findings.push(Finding::wrong(
                    WHAT,
                    format!("{daemon} does not run: nobody listens at its socket in {directory}"),
                    mend,
                ));
            }
        };
        misses(
            "bgpd",
            "set bgpd=yes in /etc/frr/daemons\nsystemctl restart frr",
        );
        if is_managed {
            // FRR starts it, whatever its file of daemons says.
            misses("mgmtd", "systemctl restart frr");
        }
        findings
    }
}

impl Silence {
    fn finding(&self, directory: &Path) -> Finding {
        let directory = directory.display();
        match self {
            Self::Forbidden => Finding::notice(
                WHAT,
                format!("zebra's socket in {directory} may not be used by this user"),
                "run doctor as root, or as a member of the group frrvty",
            ),
            Self::Dead => Finding::wrong(
                WHAT,
                format!("zebra does not run: nobody listens at its socket in {directory}"),
                "systemctl restart frr\njournalctl -u frr says why it ended",
            ),
            Self::Other(why) => Finding::notice(
                WHAT,
                format!("zebra does not say its version at its socket in {directory}: {why}"),
                "journalctl -u frr says more\nsystemctl restart frr",
            ),
        }
    }
}

fn new_enough(version: &str, numbers: (u32, u32)) -> Finding {
    let (major, minor) = LEAST_FRR;
    match numbers >= LEAST_FRR {
        true => Finding::fine(WHAT, format!("{version}, at least {major}.{minor}")),
        false => Finding::wrong(
            WHAT,
            format!("{version} has no single VXLAN devices; {major}.{minor} is the first that has"),
            "install FRR from https://deb.frrouting.org or a newer Debian",
        ),
    }
}

/// Connects without waiting: a daemon that hangs has its queue full, which a connection would
/// stand in for ever.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&stream, &address)?;
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Asks zebra over its vty socket: the command and NUL; the answer's first NUL ends its text.
fn version(socket: &Path) -> Result<String, Silence> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let ask = || -> io::Result<String> {
        let mut zebra = connect(socket)?;
        zebra.set_read_timeout(Some(PATIENCE))?;
        zebra.set_write_timeout(Some(PATIENCE))?;
        zebra.write_all(b"show version\0")?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        while !answer.contains(&0) && answer.len() < 1 << 16 {
            match zebra.read(&mut part)? {
                0 => break,
                read => answer.extend_from_slice(&part[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = ask().map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Silence::Forbidden,
        ErrorKind::ConnectionRefused => Silence::Dead,
        // What a socket's time limit is told as (socket(7), SO_RCVTIMEO), and a full queue of
        // connections (unix(7)).
        ErrorKind::WouldBlock => Silence::Other("it does not answer".to_owned()),
        _ => Silence::Other(error.to_string()),
    })?;
    // `FRRouting 10.3 (host) on Linux(6.12.48).`
    let words = text.split_whitespace().skip_while(|it| *it != "FRRouting");
    match words.clone().nth(1) {
        Some(version) => Ok(version.to_owned()),
        None => Err(Silence::Other("there is none in its answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::doctor::tests::{FakeRoot, Fault, each_is_found, troubles};

    fn healthy() -> Sockets {
        Sockets {
            directory: "/run/frr".into(),
            daemons: ["bgpd", "mgmtd"].into(),
            version: Some(Ok("10.3".into())),
        }
    }

    #[test]
    fn each_fault_is_found_with_what_mends_it() {
        let faults: [Fault<Sockets>; 6] = [
            (
                |it| it.version = None,
                &["/run/frr", "systemctl enable --now frr"],
            ),
            (
                |it| it.version = Some(Ok("8.5.2".into())),
                &["8.5.2", "install FRR"],
            ),
            (
                |it| it.version = Some(Err(Silence::Forbidden)),
                &["may not be used", "root"],
            ),
            (
                |it| it.version = Some(Err(Silence::Dead)),
                &["zebra does not run", "systemctl restart frr"],
            ),
            (
                |it| it.version = Some(Err(Silence::Other("no answer".into()))),
                &["no answer", "journalctl -u frr"],
            ),
            (
                |it| {
                    it.daemons.remove("bgpd");
                },
                &["bgpd does not run", "bgpd=yes"],
            ),
        ];
        each_is_found(healthy, Sockets::findings, &faults);
    }

    #[test]
    fn mgmtd_is_missed_from_frr_10_on() {
        let mut sockets = healthy();
        sockets.daemons.remove("mgmtd");
        assert!(troubles(&sockets.findings()).contains("mgmtd does not run"));
        sockets.version = Some(Ok("9.1".into()));
        assert_eq!(troubles(&sockets.findings()), "");
    }

    #[test]
    fn zebra_is_asked_for_its_version() {
        let root = FakeRoot::new();
        let directory = root.path().join("run/frr");
        root.write("run/frr/README", "");
        let _bgpd = UnixListener::bind(directory.join("bgpd.vty")).expect("a socket");
        // What stays of a daemon that was killed.
        drop(UnixListener::bind(directory.join("mgmtd.vty")).expect("a socket"));
        let zebra = UnixListener::bind(directory.join("zebra.vty")).expect("a socket");
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = zebra.accept().expect("a connection");
            let mut asked = [0; 13];
            stream.read_exact(&mut asked).expect("a command");
            stream
                .write_all(b"FRRouting 10.3 (host) on Linux(6.12).\n\0\0\0\0")
                .expect("is read");
            asked
        });
        let sockets = Sockets::look(&directory);
        // Else nobody was asked, and the thread would wait for ever.
        assert_eq!(sockets.version, Some(Ok("10.3".into())));
        assert_eq!(&answers.join().expect("answers"), b"show version\0");
        assert_eq!(sockets.daemons, ["bgpd"].into());
        let sockets = Sockets::look(&directory);
        assert_eq!(sockets.version, Some(Err(Silence::Dead)), "it has ended");
    }

    /// Its queue is full: nobody takes connections from it.
    #[test]
    fn a_zebra_that_hangs_is_told_and_not_waited_for() {
        let root = FakeRoot::new();
        root.write("run/frr/README", "");
        let directory = root.path().join("run/frr");
        let sockets = ["zebra", "bgpd"].map(|daemon| {
            UnixListener::bind(directory.join(format!("{daemon}.vty"))).expect("a socket")
        });
        let queue = |listener: &UnixListener| {
            rustix::net::listen(listener, 0).expect("a shorter queue");
            let at = listener.local_addr().expect("an address");
            UnixStream::connect_addr(&at).expect("a place in it")
        };
        let _first = sockets.each_ref().map(queue);
        let looked = Sockets::look(&directory);
        assert!(
            matches!(&looked.version, Some(Err(Silence::Other(_)))),
            "{looked:?}"
        );
        assert_eq!(looked.daemons, ["bgpd"].into());
    }

    /// Where FRR is looked for, with a configuration of this text.
    fn place(text: &str, flag: Option<&str>) -> Frr {
        let root = FakeRoot::new();
        root.write("agent.toml", text);
        let config = AgentConfig::read(Some(&root.path().join("agent.toml")));
        Frr::look(flag.map(Path::new), &config)
    }

    #[test]
    fn what_the_configuration_says_holds_unless_a_flag_does() {
        let disabled = place("[frr]\nenabled = false\n", None).findings();
        assert_eq!(troubles(&disabled), "");
        assert!(disabled[0].seen.contains("this node has none"));
        assert!(disabled[0].seen.contains("agent.toml"));
        let blue = "[frr]\nsocket_directory = \"/none/blue\"\n";
        for (text, flag, expected) in [
            ("", None, "/run/frr"),
            ("[frr]\nenabled = true\n", None, "/run/frr"),
            (blue, None, "/none/blue"),
            (blue, Some("/none/red"), "/none/red"),
            // A directory is named to have the FRR there looked at.
            ("[frr]\nenabled = false\n", Some("/none/red"), "/none/red"),
        ] {
            let Frr::In(sockets) = place(text, flag) else {
                panic!("{text:?} {flag:?}: FRR is looked for nowhere");
            };
            assert_eq!(sockets.directory, Path::new(expected), "{text:?} {flag:?}");
        }
        let text = troubles(&place(blue, None).findings());
        assert!(text.contains("no socket in /none/blue"), "{text}");
        assert!(text.contains("frr.enabled = false"), "{text}");
    }

    #[test]
    fn without_the_configuration_nothing_is_said_of_frr() {
        let unreadable = AgentConfig::Unreadable {
            file: "/etc/xpu-agent/agent.toml".into(),
            why: io::ErrorKind::PermissionDenied.into(),
        };
        assert_eq!(Frr::look(None, &unreadable).findings(), []);
        assert_eq!(place("[frr", None).findings(), []);
        // Unless it is said where FRR is.
        let named = Frr::look(Some(Path::new("/none/red")), &unreadable).findings();
        assert!(troubles(&named).contains("no socket in /none/red"));
    }
}
