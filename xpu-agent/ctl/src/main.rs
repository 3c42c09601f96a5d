//! `xpuctl`, the operator's command line: creates, shows, changes and deletes the agent's
//! objects over gRPC.
//!
//! Does: checks what was typed or written in manifests with the domain's own types, asks the
//! agent, shows the answer.
//! Never: touches the kernel, FRR or the store; refuses by a rule that involves more than one
//! object (the agent tells; `apply` knows which values are unique to bring changes in order).
//! `doctor` looks at the machine, and changes nothing.
//!
//! Start reading at `cli.rs`, then `run.rs` and `commands.rs`.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; an object that is stored but not up, or deleted but not gone, is warned about on stderr |
//! | 1 | the agent refused or failed; `wait` waited in vain; `doctor` found something |
//! | 2 | the command line, a manifest or the configuration is wrong; nothing was changed |
//! | 3 | the agent could not be reached; for `wait`, not once in its time |
//! | 4 | there is a difference: `diff`, `apply --dry-run`, and `apply --exit-code` after changes |

mod advice;
mod apply;
mod args;
mod cli;
mod commands;
mod complete;
mod connect;
mod create;
mod delete;
mod doctor;
mod export;
mod failure;
mod live;
mod man;
mod manifest;
mod presented;
mod remote;
mod rename;
mod render;
mod run;
mod screen;
mod settings;
mod toml_error;
mod topology;
mod update;
mod view;
mod wait;
mod watch;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if complete::answered() {
        return ExitCode::SUCCESS;
    }
    let cli = cli::Cli::parse();
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever closed stderr does not want to read this.
            let _ = write!(std::io::stderr(), "{}", failure.report());
            failure.exit_code()
        }
    }
}
