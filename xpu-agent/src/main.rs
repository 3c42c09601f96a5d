//! `xpu-agent`: command line, configuration, runtime; everything else is in the library.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;
use xpu_agent::{
    access::tls::Tls,
    app::App,
    config::{Config, ConfigError, ConfigFile, ConfigText, LogFormat},
    lifecycle::{
        STOP_DEADLINE, checks,
        instance::{self, Instance},
        reload::Reload,
        signals::Signals,
    },
    purge,
    telemetry::{Telemetry, logs},
};

/// The exit status where the configuration has to be corrected first: `EX_CONFIG` of sysexits.h. Of
/// arguments it is clap's, 2. The unit names both, since trying again mends neither.
const UNUSABLE_CONFIGURATION: u8 = 78;

/// Serves the OPI EVPN Gateway API and makes this node's bridges, VRFs and FRR match it.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 when it was stopped or is done; 2 for arguments and 78 for a \
                  configuration that cannot be used, which systemd does not try again; 1 for what \
                  else is wrong, which it does; 130 at a second signal."
)]
struct Arguments {
    /// The configuration file. Without one named it is /etc/xpu-agent/agent.toml, if that is
    /// there, else the defaults hold.
    #[arg(long, env = "XPU_AGENT_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Check the configuration and the certificates that it names, print it with all defaults,
    /// and exit.
    #[arg(long)]
    check_config: bool,
    /// What to log, over `log.filter` until the next SIGHUP: a level, or targets with levels
    /// (`info,xpu_linux=debug`).
    #[arg(long, env = "XPU_AGENT_LOG", value_parser = log_filter)]
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
    let configured = match Configured::read(arguments.config.clone()) {
        Ok(configured) => configured,
        Err(error) => return failed(&error.into(), UNUSABLE_CONFIGURATION.into()),
    };
    run(&arguments, configured).unwrap_or_else(|error| failed(&error, ExitCode::FAILURE))
}

fn failed(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    eprintln!("xpu-agent: {error:#}");
    code
}

/// Refuses what is no filter before anything starts.
fn log_filter(text: &str) -> anyhow::Result<String> {
    logs::parse(text)?;
    Ok(text.to_owned())
}

/// The configuration, and where it came from.
struct Configured {
    file: ConfigFile,
    origin: String,
    config: Config,
}

impl Configured {
    fn read(named: Option<PathBuf>) -> Result<Self, ConfigError> {
        let file = ConfigFile::chosen(named);
        let ConfigText { text, origin } = file.read()?;
        let config = Config::read(&text, &origin, std::env::vars_os())?;
        Ok(Self {
            file,
            origin,
            config,
        })
    }
}

fn run(arguments: &Arguments, configured: Configured) -> anyhow::Result<ExitCode> {
    let Configured { origin, config, .. } = &configured;
    if arguments.check_config {
        // What there is to warn about: a certificate that ends soon, say.
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .without_time()
            .with_target(false)
            .init();
        config.tls.clone().map(Tls::open).transpose()?;
        config.ports.read()?;
        let text = toml::to_string(config).context("cannot print the configuration")?;
        // A comment, so that what is printed is a configuration again.
        std::io::stdout().write_all(format!("# {origin}\n{text}").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.command {
        Some(Command::Check { json }) => {
            let facts = runtime()?.block_on(checks::observe(config));
            show(&checks::judge(&facts), json)
        }
        Some(Command::Purge) => {
            let _instance = Instance::lock(Path::new(instance::DIRECTORY))?;
            runtime()?.block_on(purge::purge(config, |what| {
                // Whoever reads it may have gone; the purge goes on.
                let _ = writeln!(std::io::stdout(), "{what}");
            }))?;
            Ok(ExitCode::SUCCESS)
        }
        None => serve(arguments, configured).map(|()| ExitCode::SUCCESS),
    }
}

fn serve(arguments: &Arguments, configured: Configured) -> anyhow::Result<()> {
    let Configured {
        file,
        origin,
        mut config,
    } = configured;
    if let Some(filter) = &arguments.log {
        config.log.filter.clone_from(filter);
    }
    if arguments.log_json {
        config.log.format = LogFormat::Json;
    }
    // Before the runtime has threads.
    let signals = Signals::take().context("signals cannot be waited for")?;
    let runtime = runtime()?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::start(&config.log, &config.telemetry)?
    };
    tracing::info!(from = origin, "the configuration was read");
    let facts = runtime.block_on(checks::observe(&config));
    checks::demand(&checks::judge(&facts))?;
    let _instance = Instance::lock(Path::new(instance::DIRECTORY))?;
    let stop = CancellationToken::new();
    let (hangup, hangups) = watch::channel(());
    let reload = Reload {
        file,
        running: config.clone(),
        filter: telemetry.filter.clone(),
        hangup,
    };
    let stopping = signals
        .watch(stop.clone(), STOP_DEADLINE, move || reload.reload())
        .context("the thread for signals cannot be started")?;
    let result = runtime.block_on(async {
        let app = App::start(&config, &telemetry.exports, stop, hangups).await?;
        app.run(&stopping).await
    });
    telemetry.finish();
    // What is abandoned is not waited for.
    runtime.shutdown_background();
    result
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // The agent waits on the kernel and on FRR, not on the processor.
        .worker_threads(2)
        .build()
        .context("cannot start the runtime")
}

fn show(checks: &[checks::Check], json: bool) -> anyhow::Result<ExitCode> {
    let text = if json {
        serde_json::to_string_pretty(checks)?
    } else {
        checks::listed(checks)
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if checks::may_start(checks) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
