//! The built `xpuctl` against an agent in this process, over a unix socket: the agent's own API
//! ([`served`]), or one that does what no good agent does ([`fake_agent`]).
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking too"
)]

mod deleting;
mod doctor;
mod fake_agent;
mod manifests;
mod objects;
mod output;
mod pages;
mod refusals;
mod served;
mod settings;
mod terminal;
mod tls;
mod transport;
mod waiting;

use std::process::{Command, Output};
use std::time::Duration;

/// For what must come: far more than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(60);

/// An agent that `xpuctl` asks.
trait Asked {
    /// As `--endpoint` has it.
    fn endpoint(&self) -> &str;
}

/// What a run of `xpuctl` left behind.
#[derive(Debug, PartialEq)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `xpuctl` with words split at white space.
fn xpuctl(agent: &impl Asked, words: &str) -> Ran {
    run(command(words).env("XPUCTL_ENDPOINT", agent.endpoint()))
}

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xpuctl"));
    // What the person has who runs the tests must not matter.
    for variable in ["ENDPOINT", "CONTEXT", "CONFIG", "CA", "CERT", "KEY"] {
        command.env_remove(format!("XPUCTL_{variable}"));
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("NO_COLOR")
        .args(words.split_whitespace());
    command
}

fn run(command: &mut Command) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("xpuctl starts");
    Ran {
        code: status.code().expect("xpuctl exits, it is not killed"),
        stdout: String::from_utf8(stdout).expect("stdout is text"),
        stderr: String::from_utf8(stderr).expect("stderr is text"),
    }
}

/// Runs `xpuctl`, which must succeed without a word on stderr, and gives its stdout.
fn succeed(agent: &impl Asked, words: &str) -> String {
    let ran = xpuctl(agent, words);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words}");
    ran.stdout
}
