//! FRR's startup configuration (`frr.conf`), so that an FRR that starts without the agent comes up
//! right: the same plan as for the running one, carried out on the file's text.
//!
//! Lines that are not the agent's stay byte for byte, with their comments, and nothing of an
//! operator's that only runs is saved for him: that is why FRR's own `write` is not used. A comment
//! inside a context that is wholly the agent's goes with it.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
};

use xpu_model::{Asn, ObjectKey};

use super::{
    Config, Daemon, FrrPlan, Inputs, Line, Observed, base_instance,
    config::{canonical, is_end, is_remark},
    diff::{has_trace, plan},
};

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
    let renamed = base_instance::renamed(inputs, &file.observed(inputs, running));
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
        let saved = file.observed(inputs, running);
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

/// The file, line by line.
struct File {
    lines: Vec<String>,
}

impl File {
    fn new(text: &str) -> Self {
        Self {
            lines: text.lines().map(ToOwned::to_owned).collect(),
        }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    fn observed(&self, inputs: &Inputs<'_>, running: &Observed) -> Observed {
        observed(inputs, running, Saved::new(self.text()).config)
    }

    /// Where lines stand that speak: by their contexts, outermost first, and their own words.
    fn places(&self) -> HashMap<Vec<Cow<'_, str>>, Vec<usize>> {
        let mut open: Vec<(usize, Cow<'_, str>)> = Vec::new();
        let mut places: HashMap<_, Vec<_>> = HashMap::new();
        for (number, line) in self.lines.iter().enumerate() {
            if is_remark(line) || is_end(line) {
                continue;
            }
            while open.last().is_some_and(|(outer, _)| *outer >= indent(line)) {
                open.pop();
            }
            open.push((indent(line), canonical(line.trim())));
            let place = open.iter().map(|(_, text)| text.clone()).collect();
            places.entry(place).or_default().push(number);
        }
        places
    }

    /// Gives outermost contexts other words.
    fn rename(&mut self, renamed: &[(String, String)]) {
        let renamed: HashMap<_, _> = renamed.iter().map(|(old, new)| (&**old, new)).collect();
        for line in &mut self.lines {
            if let Some(new) = renamed.get(&*canonical(line.trim())) {
                line.clone_from(new);
            }
        }
    }

    /// Takes lines away wherever they stand, a context with all that is in it.
    fn remove<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) {
        let places = self.places();
        let starts = lines.flat_map(|line| places.get(&place(&line.path, &line.text)));
        let gone = starts.flatten().map(|start| *start..self.end_of(*start));
        let mut stays = vec![true; self.lines.len()];
        for range in gone {
            stays[range].fill(false);
        }
        let mut stays = stays.into_iter();
        self.lines.retain(|_| stays.next().unwrap_or(true));
    }

    /// The number behind a line and all that belongs to it, its closing word included.
    fn end_of(&self, start: usize) -> usize {
        let header = &self.lines[start];
        let depth = indent(header);
        let rest = &self.lines[start + 1..];
        let belongs = |line: &&String| is_remark(line) || indent(line) > depth;
        let mut within = rest.iter().take_while(belongs).count();
        let closes = |line: &String| {
            indent(line) == depth && ["exit", closing(header.trim())].contains(&line.trim())
        };
        if rest.get(within).is_some_and(closes) {
            return start + within + 2;
        }
        // Remarks behind the last line may be about what comes next.
        while within > 0 && is_remark(&rest[within - 1]) {
            within -= 1;
        }
        start + within + 1
    }

    /// Adds lines to their contexts, which are made if they are not there, outer ones first.
    fn add<'a>(&mut self, lines: impl Iterator<Item = &'a Line> + Clone) {
        let deepest = lines.clone().map(|line| line.path.len()).max().unwrap_or(0);
        for depth in 1..=deepest {
            let contexts = lines.clone().filter_map(|line| line.path.get(..depth));
            self.open(contexts);
        }
        let places = self.places();
        let mut new: Vec<(usize, String)> = Vec::new();
        for Line { path, text, .. } in lines {
            let Some((context, outer)) = path.split_last() else {
                new.push((self.end_of_file(), text.clone()));
                continue;
            };
            let Some(header) = places.get(&place(outer, context)).and_then(|at| at.first()) else {
                continue;
            };
            let depth = indent(&self.lines[*header]) + 1;
            // Behind the lines that stand directly in the context, before contexts within.
            let rest = &self.lines[header + 1..];
            let is_direct =
                |line: &&String| !is_remark(line) && indent(line) == depth && !opens(line);
            let direct = rest.iter().take_while(is_direct).count();
            let line = format!("{}{text}", " ".repeat(depth));
            new.push((header + 1 + direct, line));
        }
        self.insert(new);
    }

    /// Makes those contexts that are not there, in outer ones that are.
    fn open<'a>(&mut self, contexts: impl Iterator<Item = &'a [String]>) {
        let places = self.places();
        let mut new: Vec<(usize, String)> = Vec::new();
        let mut seen = HashSet::new();
        for path in contexts {
            let Some((context, outer)) = path.split_last() else {
                continue;
            };
            if places.contains_key(&place(outer, context)) || !seen.insert(path) {
                continue;
            }
            let (at, depth) = match outer.split_last() {
                None => (self.end_of_file(), 0),
                Some((outer, above)) => {
                    let Some(header) = places.get(&place(above, outer)).and_then(|at| at.first())
                    else {
                        continue;
                    };
                    let end = self.end_of(*header);
                    let closed = end > header + 1 && is_end(&self.lines[end - 1]);
                    let depth = indent(&self.lines[*header]) + 1;
                    (if closed { end - 1 } else { end }, depth)
                }
            };
            let space = " ".repeat(depth);
            new.push((at, format!("{space}{context}")));
            new.push((at, format!("{space}{}", closing(context))));
        }
        self.insert(new);
    }

    /// Puts each line before the one of that number, those of the same number in their order.
    fn insert(&mut self, mut new: Vec<(usize, String)>) {
        new.sort_by_key(|(at, _)| *at);
        let mut new = new.into_iter().peekable();
        let old = std::mem::take(&mut self.lines);
        for (number, line) in old.into_iter().enumerate() {
            while let Some((_, text)) = new.next_if(|(at, _)| *at <= number) {
                self.lines.push(text);
            }
            self.lines.push(line);
        }
        self.lines.extend(new.map(|(_, text)| text));
    }

    /// The place for what is added at the end, before a last `end`.
    fn end_of_file(&self) -> usize {
        let said = |line: &&String| !is_remark(line);
        match self.lines.iter().rposition(|line| said(&line)) {
            Some(last) if self.lines[last].trim() == "end" => last,
            _ => self.lines.len(),
        }
    }
}

fn place<'a>(path: &'a [String], text: &'a str) -> Vec<Cow<'a, str>> {
    let path = path.iter().map(String::as_str);
    path.chain([text]).map(Cow::Borrowed).collect()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether the line opens a context within another.
fn opens(line: &str) -> bool {
    let text = line.trim();
    ["address-family ", "vni ", "vrf-policy ", "segment-routing "]
        .iter()
        .any(|start| text.starts_with(start))
}

/// The word that ends a context.
fn closing(context: &str) -> &'static str {
    match context {
        _ if context.starts_with("vrf ") => "exit-vrf",
        _ if context.starts_with("vni ") => "exit-vni",
        _ if context.starts_with("address-family ") => "exit-address-family",
        _ => "exit",
    }
}

#[cfg(test)]
mod tests;
