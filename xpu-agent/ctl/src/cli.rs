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
#[command(
    name = "xpuctl",
    version,
    after_help = "\
Examples:
  xpuctl create logical-bridge net-blue --vlan 100 --vni 10100
  xpuctl list logical-bridge
  xpuctl describe logical-bridge net-blue
  xpuctl doctor                             # what is wrong, and what mends it
  xpuctl export > tenant.yaml               # all objects as manifests
  xpuctl apply -f tenant.yaml               # after changing them"
)]
pub struct Cli {
    #[command(flatten)]
    pub settings: settings::Flags,

    /// How answers are shown; json and yaml are the API's canonical JSON
    #[arg(long, short, global = true, help_heading = EVERYWHERE, value_enum, default_value = "table")]
    pub output: Output,

    /// When to use colours
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Colour,

    /// How long one call may take, and how long `wait` may wait: 500ms, 10s, 2m [default: 10s;
    /// wait: 60s]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_parser = args::duration)]
    pub timeout: Option<Duration>,

    #[command(subcommand)]
    pub command: Command,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table that fits the terminal.
    Table,
    /// A table with what each component says, however wide.
    Wide,
    /// The API's JSON, for programs.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, for `xargs`.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the agent's objects what manifests say; shows the difference first
    Apply(Apply),
    /// Show what apply would change; exits with 4 if anything
    Diff(Wanted),
    /// Create an object and show its state
    #[command(subcommand)]
    Create(Create),
    /// Change some fields of an object
    #[command(subcommand)]
    Update(Update),
    /// Show one object, as a row of `list`
    Get(One),
    /// Show an object with every component's details
    Describe(One),
    /// Show all objects of a kind
    List {
        /// The kind of object
        kind: KindWord,
    },
    /// Delete an object that nothing refers to
    Delete {
        #[command(flatten)]
        one: One,
        /// Succeed also if there is no such object
        #[arg(long)]
        allow_missing: bool,
    },
    /// Show a kind's objects again and again: as a live table, or in a pipe what changes
    Watch {
        /// The kind of object
        kind: KindWord,
        /// Only the object of this name
        #[arg(add = complete::names_of_typed_kind())]
        name: Option<String>,
        /// How often to ask the agent; the API has no call that reports changes
        #[arg(long, short = 'n', value_parser = args::duration, default_value = "2s")]
        interval: Duration,
    },
    /// Wait until objects are up, or gone; asks every half second, for --timeout at most
    #[command(after_help = "\
Examples:
  xpuctl wait vrf                           # until every Vrf is up
  xpuctl wait port port-1 port-2 --timeout 2m
  xpuctl wait svi svi-blue --for deleted")]
    Wait {
        /// The kind of object
        kind: KindWord,
        /// Their names; without any, all objects of the kind
        #[arg(add = complete::names_of_typed_kind())]
        names: Vec<String>,
        /// What to wait for
        #[arg(long = "for", value_enum, default_value = "up")]
        goal: Goal,
    },
    /// Print the agent's objects as manifests, which `apply` takes
    Export {
        /// The kinds to print; without any, all
        kinds: Vec<KindWord>,
        #[command(flatten)]
        which: Which,
    },
    /// Draw Vrfs, Svis, LogicalBridges, ports and remote VTEPs with their states
    #[command(after_help = "\
Examples:
  xpuctl topology > topology.svg            # for a browser
  xpuctl topology -F dot | dot -Tpdf -o topology.pdf")]
    Topology {
        /// The format of the picture
        #[arg(long = "format", short = 'F', value_enum, default_value = "svg")]
        form: Form,
    },
    /// Look for what is wrong, and say what mends it; exits with 1 if anything is
    Doctor(Doctor),
    /// Print the script that makes a shell complete words and names: `source <(xpuctl completion
    /// bash)`
    Completion {
        /// The shell
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
    /// The kind of object
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

    /// The examples of a command's help and of those below, as typed, without what a shell does.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string);
        let lines = help.unwrap_or_default();
        let own = lines.lines().filter(|line| line.starts_with("  xpuctl "));
        let own = own.filter_map(|line| line.split(['#', '>', '|']).next().map(str::to_owned));
        let below = command.get_subcommands().flat_map(examples);
        own.chain(below).collect()
    }

    #[test]
    fn the_examples_of_the_help_can_be_typed() {
        let examples = examples(&Cli::command());
        assert!(examples.len() > 10, "{examples:?}");
        for example in examples {
            let parsed = Cli::try_parse_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}
