//! What can go wrong, how it is reported, what to do next, and the exit code that scripts see.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
pub use xpu_model::cause::chain;

use crate::advice;
use crate::apply::Obstacle;
use crate::connect::TlsError;
use crate::manifest::SourceError;
use crate::render::printable;
use crate::settings::SettingsError;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong in a way that only shows after parsing.
    #[error("the command line is wrong")]
    Usage(#[source] clap::Error),
    /// No connection to the agent, or it was lost.
    #[error("the agent at {endpoint} can't be reached")]
    Unreachable {
        /// As given.
        endpoint: String,
        /// What the transport says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The agent answered with an error, or not in time.
    #[error("can't {what}")]
    Refused {
        /// Verb and object: `create vrfs/blue`.
        what: String,
        /// What to try: a sentence.
        next: String,
        /// The agent's word; boxed because it is large.
        source: Box<Status>,
    },
    /// The agent gives the same page for ever.
    #[error(
        "can't list {collection}: the agent gave page token `{token}` twice; is it an xpu-agent?"
    )]
    Paging {
        /// Whose pages.
        collection: &'static str,
        /// The token that came back.
        token: String,
    },
    /// The agent sent something that is no object of the API.
    #[error("the agent's object {name} can't be understood: {why}; is it as new as xpuctl?")]
    Answer {
        /// As the agent calls it.
        name: String,
        /// Field and value.
        why: String,
    },
    /// The manifests can't be read.
    #[error(transparent)]
    Source(SourceError),
    /// The configuration can't be read.
    #[error(transparent)]
    Settings(SettingsError),
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(TlsError),
    /// The manifests ask for what can't be done, or not at once; nothing was.
    #[error(transparent)]
    Impossible(Obstacle),
    /// Some changes of a plan were refused; each has been reported.
    #[error("{refused} of {all} changes were refused")]
    Partly {
        /// How many.
        refused: usize,
        /// Of how many.
        all: usize,
    },
    /// Deleting needs a yes, and nobody can be asked.
    #[error("{deletes} to delete, and no terminal to ask at; --yes deletes without asking")]
    Unconfirmed {
        /// How many objects.
        deletes: usize,
    },
    /// Asked, and not agreed.
    #[error("nothing was changed")]
    Declined,
    /// The answer can't be read.
    #[error("can't read the answer")]
    Input(#[source] io::Error),
    /// What was waited for has not come.
    #[error("after {after:?}: {what}")]
    NotYet {
        /// Which objects have not reached the goal, and why.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// All the time that there was, the agent gave no answer.
    #[error("after {after:?}: the agent at {endpoint} has not answered")]
    Silent {
        /// As given.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
    /// `doctor` found something; stdout has it.
    #[error("something is wrong")]
    Sick,
    /// There is a difference, or something was changed; stdout has it.
    #[error("different")]
    Different,
    /// Whoever read stdout has seen enough.
    #[error("nobody reads")]
    NobodyReads,
    /// A file can't be written.
    #[error("can't write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An answer can't be written as YAML.
    #[error("can't write the answer as YAML")]
    Yaml(#[source] serde_saphyr::SerializeError),
    /// The asynchronous runtime did not start.
    #[error("can't start")]
    Runtime(#[source] io::Error),
    /// An answer can't be written as JSON.
    #[error("can't write the answer as JSON")]
    Json(#[source] serde_json::Error),
    /// Stdout is gone in another way than by being closed.
    #[error("can't write to stdout")]
    Output(#[source] io::Error),
}

impl Failure {
    /// Everything for stderr, line ends included.
    pub fn report(&self) -> String {
        match self {
            Self::Usage(error) => return error.render().to_string(),
            // On stdout, or of interest to nobody.
            Self::Sick | Self::Different | Self::NobodyReads => return String::new(),
            _ => {}
        }
        let mut text = format!("xpuctl: {}\n", self.message());
        for line in self.details() {
            let _ = writeln!(text, "  {line}");
        }
        if let Some(next) = self.next() {
            let _ = writeln!(text, "  next: {next}");
        }
        text
    }

    /// What has happened, in one line. It has texts of the agent and of the system, so it is for
    /// people: no decision is made by what stands in it.
    pub fn message(&self) -> String {
        let cause = match self {
            Self::Refused { source, .. } => {
                let code = code_name(source.code());
                Some(format!("{} [{code}]", source.message()))
            }
            Self::Unreachable { source, .. } => Some(chain(source.as_ref())),
            other => other.source().map(chain),
        };
        let cause = cause.map(|cause| format!(": {cause}"));
        printable(&format!("{self}{}", cause.unwrap_or_default()))
    }

    /// What the agent adds to its word, a line each.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Refused { source, .. } => details(source),
            _ => Vec::new(),
        }
    }

    /// What to do next; never the agent's words.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Refused { next, .. } => Some(next.clone()),
            Self::Unreachable { endpoint, source } => {
                Some(advice::unreachable(endpoint, source.as_ref()))
            }
            Self::Impossible(obstacle) => Some(obstacle.next().to_owned()),
            _ => None,
        }
    }

    /// Whether the same may succeed in a moment: the agent is away, or too busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { source, .. } => matches!(
                source.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Unavailable
            ),
            _ => false,
        }
    }

    /// The code of `main.rs`'s table.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NobodyReads => 0,
            Self::Usage(_)
            | Self::Source(_)
            | Self::Settings(_)
            | Self::Tls(_)
            | Self::Impossible(_)
            | Self::Unconfirmed { .. } => 2,
            Self::Unreachable { .. } | Self::Silent { .. } => 3,
            Self::Different => 4,
            _ => 1,
        })
    }
}

/// `google.rpc.BadRequest` and `ErrorInfo`, a line each.
fn details(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().into_iter();
    let mut lines: Vec<_> = violations
        .flat_map(|bad| &bad.field_violations)
        .map(|it| printable(&format!("{}: {}", it.field, it.description)))
        .collect();
    if let Some(info) = details.error_info() {
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        let facts: String = metadata
            .into_iter()
            .map(|(key, value)| format!(" {key}={value}"))
            .collect();
        let line = format!("reason: {} ({}){facts}", info.reason, info.domain);
        lines.push(printable(&line));
    }
    lines
}

/// `InvalidArgument` as everybody writes it: `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_wire_names() {
        assert_eq!(code_name(Code::InvalidArgument), "INVALID_ARGUMENT");
        assert_eq!(code_name(Code::NotFound), "NOT_FOUND");
        assert_eq!(code_name(Code::Unavailable), "UNAVAILABLE");
    }

    #[test]
    fn causes_are_reported_once() {
        let io = io::Error::other("disk on fire");
        let failure = Failure::Output(io);
        assert_eq!(
            failure.report(),
            "xpuctl: can't write to stdout: disk on fire\n"
        );
    }
}
