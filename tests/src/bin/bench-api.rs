//! `make bench-api`: see `tests/bench/README.md`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use xpu_tests::bench::{
    api::{
        server,
        suite::{self, Effort},
    },
    facts::Facts,
    report::Report,
};

/// Measure the agent's API under many clients.
#[derive(Debug, Parser)]
enum Arguments {
    /// Measure.
    Run {
        /// What to measure.
        #[arg(value_enum, default_value_t = Part::All)]
        part: Part,
    },
    /// Be the server that is measured.
    #[command(hide = true)]
    Serve {
        /// Where.
        directory: PathBuf,
    },
}

/// A part of the figures.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// All of them, as long as good figures take.
    All,
    /// What the server holds, in one short round: no figure that depends on the machine's speed.
    Bounds,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let part = match arguments {
        Arguments::Run { part } => part,
        Arguments::Serve { directory } => {
            server::serve(&directory)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    // A part is no table for the README, which is found by the name.
    let (mut report, effort) = match part {
        Part::All => (Report::new("api", "make bench-api"), Effort::FULL),
        Part::Bounds => (Report::new("api-bounds", "make gates"), Effort::SHORT),
    };
    report.machines.push(("native".to_owned(), Facts::here()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    report.rows = runtime.block_on(suite::run(effort))?;
    if matches!(part, Part::Bounds) {
        report.rows.retain(|row| !row.is_time());
    }
    report.finish()
}
