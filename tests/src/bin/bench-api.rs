//! `make bench-api`: see `tests/bench/README.md`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use xpu_tests::bench::{
    api::{server, suite},
    facts::Facts,
    report::Report,
};

/// Measure the agent's API under many clients.
#[derive(Debug, Parser)]
enum Arguments {
    /// Measure.
    Run,
    /// Be the server that is measured.
    #[command(hide = true)]
    Serve {
        /// Where.
        directory: PathBuf,
    },
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
    if let Arguments::Serve { directory } = arguments {
        server::serve(&directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new("api", "make bench-api");
    report.machines.push(("native".to_owned(), Facts::here()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    report.rows = runtime.block_on(suite::run())?;
    report.finish()
}
