//! `make bench-cni` and `make gates`: see `tests/bench/README.md`.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use xpu_tests::bench::{
    cni::{
        counts, growth,
        lab::Lab,
        native::Node,
        site::Site,
        suite::{self, Size},
    },
    facts::Facts,
    report::Report,
};

/// Measure the CNI plugin.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_values_t = [Part::Counts, Part::Native, Part::Growth, Part::Lab])]
    parts: Vec<Part>,
    /// Samples of each kind, natively.
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Samples of each kind, in the lab.
    #[arg(long, default_value_t = 20)]
    lab_samples: usize,
    /// Samples of each size of a node.
    #[arg(long, default_value_t = 25)]
    growth_samples: usize,
    /// Bursts.
    #[arg(long, default_value_t = 5)]
    bursts: usize,
    /// How long a static C program's start takes natively, in ms; limits in absolute times are
    /// for that machine.
    #[arg(long)]
    reference: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// System calls and netlink messages: the same on every machine.
    Counts,
    /// Times on this machine, with veth pairs for VFs.
    Native,
    /// Times with many pods and links on the node.
    Growth,
    /// Times in the lab's machine, with igb's VFs.
    Lab,
    /// The same, said from within that machine; prints the report as JSON.
    InLab,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-cni: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut report = Report::new("cni", "make bench-cni");
    for part in &arguments.parts {
        match part {
            Part::Counts => {
                let node = Node::new(COUNTED_VFS, 0)?;
                report.rows.extend(on(&node, counts::run)?);
            }
            Part::Native => {
                report.machines.push(("native".to_owned(), Facts::here()));
                let node = Node::new(BURST, BURST)?;
                let size = Size {
                    samples: arguments.samples,
                    bursts: arguments.bursts,
                    burst: BURST,
                    reference: None,
                };
                report
                    .rows
                    .extend(on(&node, |node| suite::run(node, size))?);
            }
            Part::Growth => report.rows.extend(growth::run(arguments.growth_samples)?),
            Part::Lab => report.extend(in_lab(arguments)?),
            Part::InLab => {
                let mut report = Report::new("cni", "");
                report.machines.push(("lab".to_owned(), Facts::here()));
                let size = Size {
                    samples: arguments.samples,
                    bursts: arguments.bursts,
                    burst: BURST,
                    reference: arguments.reference,
                };
                let lab = Lab::start()?;
                report.rows = suite::run(&lab as &dyn Site, size)?;
                println!("{}", serde_json::to_string(&report)?);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    report.finish()
}

/// Pods that start at once.
const BURST: usize = 100;
/// VFs of one card.
const COUNTED_VFS: usize = 56;

/// Works on a node, on a thread that lives in its namespace.
fn on<T: Send>(node: &Node, work: impl FnOnce(&Node) -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            node.enter()?;
            work(node)
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Has this program run in the lab's machine, and reads its report.
fn in_lab(arguments: &Arguments) -> Result<Report> {
    let here = std::env::current_exe()?;
    let lab = here.with_file_name("lab");
    let output = Command::new(&lab)
        .arg("test")
        .arg(&here)
        .arg("in-lab")
        .arg(format!("--samples={}", arguments.lab_samples))
        .arg(format!("--bursts={}", arguments.bursts))
        .arg(format!("--reference={}", suite::start_of_c(100)?))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", lab.display()))?;
    ensure!(output.status.success(), "the lab's part failed");
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().rfind(|line| line.starts_with('{'));
    let line = line.context("the lab's part printed no report")?;
    Ok(serde_json::from_str(line)?)
}
