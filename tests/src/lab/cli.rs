//! The commands of the `lab` program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};

use super::client::{self, Gone, Input};
use super::paths::Paths;
use super::preflight::ensure_packages;
use super::progress::Progress;
use super::{deal, image, recipe, share, vm};
use crate::runner::protocol::{EXIT_LAB, JobSpec, PORTS};
use crate::runner::terminal;

/// Seconds that a test's binary may run, where `XPU_LAB_TEST_TIMEOUT` says nothing else.
const TEST_TIMEOUT_S: u64 = 3600;

/// Variables that a test's binary gets from the host: those with one of these beginnings.
const TEST_VARIABLES: [&str; 5] = ["RUST_", "CARGO_", "XPU_", "INSTA_", "PROPTEST_"];

/// The lab: a VM with SR-IOV network cards, FRR and strongSwan, built and booted on demand.
#[derive(Debug, Parser)]
#[command(name = "lab", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the guest image, if it isn't cached.
    Image,
    /// Boot the machine, if it isn't up.
    Up,
    /// Run a command in the guest, with its exit code, output and (piped) input.
    Run {
        /// End the command after so many seconds, with exit code 124.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Working directory in the guest.
        #[arg(long, value_name = "FOLDER", default_value = "/")]
        cwd: String,
        /// Set a variable for the command.
        #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a test's binary in the guest: a `runner` for cargo.
    Test {
        /// The binary, on the host.
        binary: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Put programs into the guest's PATH.
    Push {
        /// Programs on the host.
        #[arg(required = true)]
        programs: Vec<PathBuf>,
    },
    /// Open a shell in the guest.
    Shell,
    /// Say whether the machine is up, and what it is made of.
    Status,
    /// Print what the guest's console said.
    Console,
    /// End the machine, and further ones.
    Down,
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let code = run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        EXIT_LAB
    });
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(action: Action) -> Result<i32> {
    let paths = Paths::of_this_tree()?;
    match action {
        Action::Image => build_image(&paths)?,
        Action::Up => vm::ensure_up(&paths)?,
        Action::Run {
            timeout,
            cwd,
            env,
            command,
        } => {
            let env = env.into_iter().collect();
            let spec = JobSpec {
                argv: command,
                env,
                cwd,
                timeout_s: timeout,
                pty: None,
            };
            let piped = !io::stdin().is_terminal();
            return in_guest(
                &paths,
                spec,
                if piped {
                    Input::Inherited
                } else {
                    Input::Empty
                },
            );
        }
        Action::Test { binary, arguments } => return run_test(&paths, &binary, arguments),
        Action::Push { programs } => {
            for program in programs {
                println!("{}", share::push(&paths, &program)?.display());
            }
        }
        Action::Shell => return in_guest(&paths, shell()?, Input::Inherited),
        Action::Status => return status(&paths),
        Action::Console => io::stdout().write_all(&console(&paths)?)?,
        Action::Down => {
            let mut were_up = 0;
            for paths in Paths::of_all_machines()? {
                were_up += usize::from(vm::down(&paths)?);
            }
            match were_up {
                0 => eprintln!("lab: no machine was up"),
                1 => eprintln!("lab: the machine is down"),
                more => eprintln!("lab: {more} machines are down"),
            }
        }
    }
    Ok(0)
}

fn in_guest(paths: &Paths, spec: JobSpec, input: Input) -> Result<i32> {
    vm::ensure_up(paths)?;
    client::run(paths, spec, input).map_err(|error| match error.is::<Gone>() {
        true => anyhow!("{error} during the job; {}", vm::last_words(paths)),
        false => error,
    })
}

fn build_image(paths: &Paths) -> Result<()> {
    let progress = Progress::start();
    ensure_packages(progress, &mut io::sink())?;
    let image = image::ensure(paths, progress)?;
    println!("{}", image.rootfs.display());
    Ok(())
}

fn run_test(paths: &Paths, binary: &std::path::Path, arguments: Vec<String>) -> Result<i32> {
    let timeout_s = match std::env::var("XPU_LAB_TEST_TIMEOUT") {
        Ok(text) => text.parse().with_context(|| {
            format!("XPU_LAB_TEST_TIMEOUT is {text:?}: it takes a number of seconds")
        })?,
        Err(_) => TEST_TIMEOUT_S,
    };
    let hands = deal::hands(binary, &arguments)?;
    if !hands.is_empty() {
        // Image and packages, once.
        vm::ensure_up(paths)?;
        return deal::run(binary, &arguments, &hands);
    }
    // Booting empties the folder that tests are staged in.
    vm::ensure_up(paths)?;
    let first = Paths::of_machine(1)?;
    if first.share != paths.share {
        share::push_all_of(paths, &first)?;
    }
    let staged = share::stage_test(paths, binary)?;
    let mut argv = vec![staged.to_string_lossy().into_owned()];
    argv.extend(arguments);
    let here = std::env::current_dir()?;
    // The guest has the work tree and nothing else of the host.
    let cwd = if here.starts_with(&paths.tree) {
        here
    } else {
        paths.tree.clone()
    };
    let cwd = cwd.to_string_lossy().into_owned();
    let spec = JobSpec {
        argv,
        env: test_variables(),
        cwd,
        timeout_s: Some(timeout_s),
        pty: None,
    };
    in_guest(paths, spec, Input::Empty)
}

fn test_variables() -> BTreeMap<String, String> {
    let wanted = |name: &str| TEST_VARIABLES.iter().any(|prefix| name.starts_with(prefix));
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| wanted(name) && !name.starts_with("XPU_LAB_"))
        // Programs for the guest are stripped: a backtrace would name nothing.
        .chain([("RUST_BACKTRACE".to_owned(), "0".to_owned())])
        .collect()
}

fn shell() -> Result<JobSpec> {
    let size = terminal::size(io::stdin().as_fd()).context("a shell needs a terminal")?;
    let term = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    Ok(JobSpec {
        argv: ["bash", "-l"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("TERM".to_owned(), term)]),
        cwd: "/root".to_owned(),
        timeout_s: None,
        pty: Some(size),
    })
}

fn status(paths: &Paths) -> Result<i32> {
    let image = match image::cached(paths) {
        Some(image) => format!("{} (cached)", image.rootfs.display()),
        None => format!("{} (not built yet)", recipe::hash()),
    };
    let process = vm::process(paths);
    match process {
        Some(pid) => println!("machine: up, process {pid}"),
        None => println!("machine: down"),
    }
    println!(
        "jobs:    {} of {PORTS} ports busy",
        client::busy_ports(paths)
    );
    println!("image:   {image}");
    println!(
        "share:   {} (in the guest {})",
        paths.share.display(),
        share::IN_GUEST
    );
    println!("run:     {}", paths.run.display());
    Ok(if process.is_some() { 0 } else { 1 })
}

fn console(paths: &Paths) -> Result<Vec<u8>> {
    let log = paths.serial_log();
    fs::read(&log).with_context(|| format!("no machine was booted yet: {}", log.display()))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it takes NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_after_the_program_are_the_programs() {
        let line = [
            "lab",
            "run",
            "--timeout",
            "3",
            "--env",
            "A=b=c",
            "--",
            "ls",
            "--help",
        ];
        let Action::Run {
            timeout,
            env,
            command,
            ..
        } = Arguments::parse_from(line).command
        else {
            panic!("not a run");
        };
        assert_eq!(timeout, Some(3));
        assert_eq!(env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(command, ["ls", "--help"]);
    }

    #[test]
    fn a_tests_arguments_are_its_own() {
        let line = [
            "lab",
            "test",
            "/target/debug/e2e-1",
            "--exact",
            "name",
            "--nocapture",
        ];
        let Action::Test { binary, arguments } = Arguments::parse_from(line).command else {
            panic!("not a test");
        };
        assert_eq!(binary, PathBuf::from("/target/debug/e2e-1"));
        assert_eq!(arguments, ["--exact", "name", "--nocapture"]);
    }
}
