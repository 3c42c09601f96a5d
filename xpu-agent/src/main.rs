//! `xpu-agent`: command line, configuration, runtime; everything else is in the library.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use xpu_agent::{
    app::App,
    config::Config,
    lifecycle::{
        STOP_DEADLINE,
        checks::{self, Verdict},
        instance::{self, Instance},
        signals::Signals,
    },
    purge,
    telemetry::{Telemetry, config::LogFormat, logs::LogFilter},
};

/// Serves the OPI EVPN Gateway API and makes this node's bridges, VRFs and FRR match it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; without one the defaults hold.
    #[arg(long, env = "XPU_AGENT_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Check the configuration, print it with all defaults, and exit.
    #[arg(long)]
    check_config: bool,
    /// What to log, over `log.filter` until the next SIGHUP: a level, or targets with levels
    /// (`info,xpu_linux=debug`).
    #[arg(long, env = "XPU_AGENT_LOG")]
    log: Option<String>,
    /// Log as JSON, one object a line, over `log.format`.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Look whether this machine has what the agent needs, and exit: 0 if it can start.
    Check {
        /// As a JSON list.
        #[arg(long)]
        json: bool,
    },
    /// Take away from this node all that the agent made, and nothing else. The store stays: an
    /// agent that is started again makes everything anew.
    Purge,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xpu-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut config = load(arguments.config.as_deref())?;
    if arguments.check_config {
        let text = toml::to_string(&config).context("cannot print the configuration")?;
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before the runtime has threads.
    let signals = match arguments.command {
        None => Some(Signals::take().context("signals cannot be waited for")?),
        Some(Command::Check { .. } | Command::Purge) => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // The agent waits on the kernel and on FRR, not on the processor.
        .worker_threads(2)
        .build()
        .context("cannot start the runtime")?;
    let facts = runtime.block_on(checks::observe(&config));
    let checks = checks::judge(&facts);
    if let Some(Command::Check { json }) = arguments.command {
        return show(&checks, json);
    }
    if let Some(Command::Purge) = arguments.command {
        let _instance = Instance::lock(Path::new(instance::DIRECTORY))?;
        runtime.block_on(purge::purge(&config, |what| {
            // Whoever reads it may have gone; the purge goes on.
            let _ = writeln!(std::io::stdout(), "{what}");
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(filter) = &arguments.log {
        config.log.filter.clone_from(filter);
    }
    if arguments.log_json {
        config.log.format = LogFormat::Json;
    }
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::start(&config.log, &config.telemetry)?
    };
    for check in checks.iter().filter(|it| it.verdict != Verdict::Good) {
        let (found, mend) = (&check.found, check.mend.as_deref().unwrap_or_default());
        if check.verdict == Verdict::Bad {
            error!(check = check.name, %found, %mend, "the agent cannot start");
        } else {
            warn!(check = check.name, %found, %mend, "needs attention");
        }
    }
    anyhow::ensure!(
        checks::may_start(&checks),
        "this machine lacks what the agent needs:\n{}",
        listed(checks.iter().filter(|it| it.verdict == Verdict::Bad)),
    );
    let _instance = Instance::lock(Path::new(instance::DIRECTORY))?;
    let stop = CancellationToken::new();
    let signals = signals.context("signals were not taken")?;
    let hangup = Arc::new(Notify::new());
    let reload = reload(
        arguments.config.clone(),
        config.clone(),
        telemetry.filter.clone(),
        hangup.clone(),
    );
    let stopping = signals
        .watch(stop.clone(), STOP_DEADLINE, reload)
        .context("the thread for signals cannot be started")?;
    let result = runtime.block_on(async {
        let app = App::start(&config, &telemetry.exports, stop, hangup).await?;
        app.run(&stopping).await
    });
    telemetry.finish();
    // What is abandoned is not waited for.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    Ok(Config::load(path, std::env::vars_os())?)
}

fn listed<'a>(checks: impl Iterator<Item = &'a checks::Check>) -> String {
    checks
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn show(checks: &[checks::Check], json: bool) -> anyhow::Result<ExitCode> {
    let text = if json {
        serde_json::to_string_pretty(checks)?
    } else {
        listed(checks.iter())
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if checks::may_start(checks) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What SIGHUP does: reads certificates and configuration again, takes the log filter from it, and
/// says what of the rest needs a restart.
fn reload(
    path: Option<PathBuf>,
    running: Config,
    filter: LogFilter,
    hangup: Arc<Notify>,
) -> impl Fn() + Send {
    move || {
        hangup.notify_one();
        let read = load(path.as_deref()).and_then(|config| {
            filter.set(&config.log.filter)?;
            Ok(config)
        });
        match read {
            Ok(config) => {
                info!(filter = %config.log.filter, "the configuration was read again");
                let rest = Config {
                    log: running.log.clone(),
                    ..config
                };
                if rest != running {
                    warn!(
                        "the configuration has changes beside log.filter, which hold after a \
                         restart: systemctl restart xpu-agent (no packet is lost)"
                    );
                }
            }
            Err(error) => warn!(
                error = format!("{error:#}"),
                "the configuration cannot be read again and stays as it was; check it with \
                 xpu-agent --check-config"
            ),
        }
    }
}
