//! FRR's startup configuration (`frr.conf`), so that an FRR that starts without the agent comes up
//! right: the same plan as for the running one, carried out on the file's text.
//!
//! Lines that are not the agent's stay byte for byte, with their comments, and nothing of an
//! operator's that only runs is saved for him: that is why FRR's own `write` is not used. A comment
//! inside a context that is wholly the agent's goes with it.

mod file;

use std::collections::BTreeSet;

use xpu_model::{Asn, ObjectKey};

use super::{
    Config, Daemon, FrrPlan, Inputs, Line, Observed, base_instance,
    diff::{has_trace, plan},
};
use file::File;

/// Rounds of planning until nothing is left: a VNI is taken in one and set in the next.
const ROUNDS: usize = 4;

/// The file as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    text: String,
    config: Config,
}

impl Saved {
    /// From the file's text; empty: there is none.
    #[must_use]
    pub fn new(text: String) -> Self {
        let mut config = Config::default();
        for daemon in Daemon::ALL {
            config.read(daemon, &text);
        }
        Self { text, config }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as both daemons read it.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The AS of the file's base BGP instance: [`Inputs::saved_asn`].
    #[must_use]
    pub fn base_asn(&self) -> Option<Asn> {
        self.config.base_asn()
    }

    /// Whether FRR has all the Vrfs and BGP instances of the file: one that has just started
    /// answers before it has loaded it.
    #[must_use]
    pub fn is_loaded(&self, running: &Observed) -> bool {
        // One text for all daemons: each loads its own.
        let own = [(Daemon::Zebra, "vrf "), (Daemon::Bgpd, "router bgp ")];
        own.into_iter().all(|(daemon, kind)| {
            let all = self.config.outermost(daemon);
            all.filter(|text| text.starts_with(kind))
                .all(|context| running.config.has_context(daemon, context))
        })
    }

    /// What the file lacks or has too much of, without working out the text that it should have.
    #[must_use]
    pub fn gap(&self, inputs: &Inputs<'_>, running: &Observed) -> Gap {
        let inputs = &loaded(inputs);
        let saved = observed(inputs, running, self.config.clone());
        let left = plan(inputs, &saved);
        let vrfs = inputs.intent.vrfs.values();
        let deleted = vrfs.filter(|vrf| vrf.deleting && has_trace(vrf, &left));
        Gap {
            is_behind: !left.is_empty()
                || !base_instance::renamed(inputs, &saved).is_empty()
                || !base_instance::replaced(inputs, &saved).is_empty(),
            deleted: deleted.map(|vrf| vrf.key()).collect(),
        }
    }
}

/// How far the file is from the intent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// It is to be written.
    pub is_behind: bool,
    /// The deleted Vrfs that it still has. Once they are forgotten, nobody knows their lines.
    pub deleted: Vec<ObjectKey>,
}

/// What the file is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The text.
    pub text: String,
    /// The ledger of the base instance ([`Inputs::made`]) with the lines that only the file gets,
    /// under another AS than the running one, say. Kept durably before the text is.
    pub made: BTreeSet<Line>,
}

/// What the file should be, from its text (empty: there is none) and what runs.
#[must_use]
pub fn merge(inputs: &Inputs<'_>, running: &Observed, text: &str) -> Merged {
    let inputs = &loaded(inputs);
    let mut ledger = inputs.made.clone();
    let mut file = File::new(text);
    let read = |file: &File| observed(inputs, running, Saved::new(file.text()).config);
    let renamed = base_instance::renamed(inputs, &read(&file));
    file.rename(&renamed);
    let mut made = inputs.made.clone();
    if !renamed.is_empty() {
        made.append(&mut base_instance::renamed_lines(inputs));
    }
    let inputs = &Inputs {
        made: &made,
        ..*inputs
    };
    for _ in 0..ROUNDS {
        let saved = read(&file);
        let FrrPlan { commands } = plan(inputs, &saved);
        let replaced = base_instance::replaced(inputs, &saved);
        if commands.is_empty() && replaced.is_empty() {
            break;
        }
        let (add, remove): (Vec<_>, Vec<_>) = commands.into_iter().partition(|it| it.add);
        file.remove(remove.iter().map(|it| &it.line).chain(replaced));
        file.add(add.iter().map(|it| &it.line));
        // A line that runs and is not in the ledger is an operator's who has not saved it.
        let only_here = add.into_iter().map(|it| it.line);
        let only_here = only_here.filter(|line| !running.config.lines.contains(line));
        ledger.extend(only_here.filter(Line::is_in_base));
    }
    Merged {
        text: file.text(),
        made: ledger,
    }
}

/// The inputs for a file: nothing is still to be loaded into that. Nor is a line lost on the way,
/// as no VRF is active in what [`observed`] makes of it.
const fn loaded<'a>(inputs: &Inputs<'a>) -> Inputs<'a> {
    Inputs {
        saved_asn: None,
        ..*inputs
    }
}

/// A configuration as if it ran: with the profile and the version that will read it, and without
/// a device for what is deleted.
fn observed(inputs: &Inputs<'_>, running: &Observed, mut config: Config) -> Observed {
    let profile = running.config.outermost(Daemon::Bgpd);
    for line in profile.filter(|line| line.starts_with("frr defaults ")) {
        config.read(Daemon::Bgpd, line);
    }
    let vrfs = inputs.intent.vrfs.values();
    let deleted = vrfs.filter(|vrf| vrf.deleting);
    Observed {
        version: running.version,
        config,
        inactive_vrfs: deleted.map(|vrf| vrf.allocation.device.clone()).collect(),
        ..Observed::default()
    }
}

#[cfg(test)]
mod tests;
