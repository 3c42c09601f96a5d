//! The command line's grammar.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use xpu_model::{Kind, ObjectKey};

use crate::apply::{Apply, Wanted};
use crate::create::Create;
use crate::doctor::Doctor;
use crate::export::Which;
use crate::failure::Failure;
use crate::screen::Colour;
use crate::settings::{self, EVERYWHERE};
use crate::topology::Form;
use crate::update::Update;
use crate::wait::Goal;
use crate::{args, complete};

/// Creates, shows, changes and deletes the objects of an xPU EVPN gateway.
///
/// Exit codes: 0 done, 1 refused or failed, 2 wrong command line, manifest or configuration,
/// 3 agent unreachable, 4 there is a difference (diff, apply --dry-run, apply --exit-code).
#[derive(Debug, Parser)]
#[command(name = "xpuctl", version)]
pub struct Cli {
    #[command(flatten)]
    pub settings: settings::Flags,

    /// How answers are shown; json and yaml are the API's canonical JSON
    #[arg(long, short, global = true, help_heading = EVERYWHERE, value_enum, default_value = "table")]
    pub output: Output,

    /// When to use colours
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Colour,

    /// How long one call may take, and `wait` in all: 500ms, 10s, 2m [default: 10s; wait: 60s]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_parser = args::duration)]
    pub timeout: Option<Duration>,

    #[command(subcommand)]
    pub command: Command,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For reading; fits the terminal.
    Table,
    /// With what each component says, as wide as it takes.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// For `xargs`.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the agent's objects what manifests say; shows the difference first
    Apply(Apply),
    /// Show what apply would change; exits with 4 if anything
    Diff(Wanted),
    /// Create an object and show what has become of it
    #[command(subcommand)]
    Create(Create),
    /// Change some fields of an object
    #[command(subcommand)]
    Update(Update),
    /// Show an object in a line
    Get(One),
    /// Show an object with every component's details
    Describe(One),
    /// Show all objects of a kind
    List {
        /// What kind
        kind: KindWord,
    },
    /// Delete an object that nothing refers to
    Delete {
        #[command(flatten)]
        one: One,
        /// Succeed if it isn't there
        #[arg(long)]
        allow_missing: bool,
    },
    /// Show a kind's objects, again and again: as a live table, or in a pipe what changes
    Watch {
        /// What kind
        kind: KindWord,
        /// Only this one
        #[arg(add = complete::names_of_typed_kind())]
        name: Option<String>,
        /// How often to ask the agent, which has no call that reports changes
        #[arg(long, short = 'n', value_parser = args::duration, default_value = "2s")]
        interval: Duration,
    },
    /// Wait until objects are up, or gone; asks every half second, for --timeout at most
    Wait {
        /// What kind
        kind: KindWord,
        /// Which; none: all there are
        #[arg(add = complete::names_of_typed_kind())]
        names: Vec<String>,
        /// What to wait for
        #[arg(long = "for", value_enum, default_value = "up")]
        goal: Goal,
    },
    /// Print manifests of what there is, for apply to take back
    Export {
        /// Which kinds; none: all
        kinds: Vec<KindWord>,
        #[command(flatten)]
        which: Which,
    },
    /// Draw Vrfs, Svis, LogicalBridges, ports and remote VTEPs with their states
    Topology {
        /// As what
        #[arg(long = "format", short = 'F', value_enum, default_value = "svg")]
        form: Form,
    },
    /// Look for what is wrong, and say what mends it; exits with 1 if anything is
    Doctor(Doctor),
    /// Print the script that makes a shell complete words and names: `source <(xpuctl completion bash)`
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// A directory to write xpuctl.1, xpuctl-apply.1 and so on to
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// An object that exists.
#[derive(Debug, clap::Args)]
pub struct One {
    /// What kind
    pub kind: KindWord,
    /// Its name: `blue` or in full, `vrfs/blue`
    #[arg(add = complete::names_of_typed_kind())]
    pub name: String,
}

/// A kind as it may be typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindWord {
    #[value(alias = "vrfs")]
    Vrf,
    #[value(aliases = ["lb", "lbs", "logicalbridge", "logicalbridges", "logical-bridges"])]
    LogicalBridge,
    #[value(aliases = ["port", "ports", "bp", "bps", "bridgeport", "bridgeports", "bridge-ports"])]
    BridgePort,
    #[value(alias = "svis")]
    Svi,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Zsh,
}

impl From<KindWord> for Kind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Vrf => Self::Vrf,
            KindWord::LogicalBridge => Self::LogicalBridge,
            KindWord::BridgePort => Self::BridgePort,
            KindWord::Svi => Self::Svi,
        }
    }
}

impl One {
    /// The object that is meant.
    pub fn key(&self) -> Result<ObjectKey, Failure> {
        key(self.kind, &self.name)
    }
}

/// The object that `name` means.
pub fn key(kind: KindWord, name: &str) -> Result<ObjectKey, Failure> {
    ObjectKey::parse(kind.into(), name).map_err(|error| {
        let text = format!(
            "invalid value '{}' for '<NAME>': {error}",
            name.escape_debug()
        );
        Failure::Usage(Cli::command().error(ErrorKind::ValueValidation, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }
}
