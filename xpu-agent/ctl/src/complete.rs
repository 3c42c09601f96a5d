//! Shell completion: words from the grammar, names of objects from the agent.

use std::ffi::OsStr;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _, ValueEnum as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Zsh};
use xpu_model::Kind;

use crate::cli::{Cli, KindWord, Shell};
use crate::commands::Session;
use crate::connect::When;
use crate::failure::Failure;
use crate::screen::emit;

/// Set by the shell's script when it asks for words.
const VARIABLE: &str = "XPUCTL_COMPLETE";

/// Longer than this nobody waits after pressing the tab key.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers the shell's script, if it was the script that started `xpuctl`. Then there is nothing
/// else to do.
pub fn answered() -> bool {
    let answer = CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), None);
    // A shell can do nothing with an error but show it in the midst of the line.
    answer.unwrap_or(true)
}

/// Prints the script that makes a shell complete `xpuctl`'s words.
pub fn script(shell: Shell) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::Zsh => &Zsh,
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "xpuctl", "xpuctl", "xpuctl", &mut script)
        .map_err(Failure::Output)?;
    emit(&String::from_utf8_lossy(&script))
}

/// Completes names of a kind.
pub fn names(kind: Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| candidates(kind, current))
}

/// Completes names of the kind that stands before on the line.
pub fn names_of_typed_kind() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let typed = std::env::args()
            .skip_while(|word| word != "--")
            .find_map(|word| KindWord::from_str(&word, true).ok());
        typed.map_or_else(Vec::new, |kind| candidates(kind.into(), current))
    })
}

fn candidates(kind: Kind, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    // Without an agent there are no names; a shell has no place to show why.
    let names = known(kind).unwrap_or_default();
    names
        .into_iter()
        .filter(|name| name.starts_with(&*current))
        .map(CompletionCandidate::new)
        .collect()
}

fn known(kind: Kind) -> Result<Vec<String>, Failure> {
    // The line is unfinished, so only options that stand in the environment count.
    let cli = Cli::try_parse_from(["xpuctl", "list", crate::advice::word(kind)]);
    let flags = cli.map_err(Failure::Usage)?.settings;
    let settings = flags.settle().map_err(Failure::Settings)?;
    crate::run::block_on(async {
        let session = Session::open(settings, PATIENCE, When::Now).await?;
        let objects = session.objects(&[kind]).await?;
        Ok(objects.into_keys().map(|key| key.id.to_string()).collect())
    })
}
