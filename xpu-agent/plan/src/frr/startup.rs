//! FRR's startup configuration (`frr.conf`), so that an FRR that starts without the agent comes up
//! right: the same plan as for the running one, carried out on the file's text.
//!
//! Lines that are not the agent's stay byte for byte, with their comments, and nothing of an
//! operator's that only runs is saved for him: that is why FRR's own `write` is not used. A comment
//! inside a context that is wholly the agent's goes with it.

use super::{
    Command, Config, Daemon, FrrPlan, Inputs, Observed,
    config::{is_end, is_remark},
    diff::plan,
};

/// Rounds of planning until nothing is left: a VNI is taken in one and set in the next.
const ROUNDS: usize = 4;

/// The text that the file should have, from what it has (empty: there is none) and what runs.
#[must_use]
pub fn merge(inputs: &Inputs<'_>, running: &Observed, text: &str) -> String {
    let mut file = File::new(text);
    for _ in 0..ROUNDS {
        let FrrPlan { commands } = plan(inputs, &file.observed(running));
        if commands.is_empty() {
            break;
        }
        for command in commands {
            if command.add {
                file.add(&command.line.path, &command.line.text);
            } else {
                file.remove(&command);
            }
        }
    }
    file.text()
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

    /// The file as if it ran: with the profile and the version that will read it.
    fn observed(&self, running: &Observed) -> Observed {
        let mut config = Config::default();
        let text = self.text();
        for daemon in Daemon::ALL {
            config.read(daemon, &text);
        }
        let profile = running.config.outermost(Daemon::Bgpd);
        for line in profile.filter(|line| line.starts_with("frr defaults ")) {
            config.read(Daemon::Bgpd, line);
        }
        Observed {
            version: running.version,
            config,
            ..Observed::default()
        }
    }

    /// Where lines stand: their contexts, outermost first, as numbers of lines.
    fn contexts(&self) -> Vec<Vec<usize>> {
        let mut open: Vec<usize> = Vec::new();
        let mut all = Vec::with_capacity(self.lines.len());
        for (number, line) in self.lines.iter().enumerate() {
            let speaks = !is_remark(line) && !is_end(line);
            if speaks {
                while open
                    .last()
                    .is_some_and(|outer| indent(&self.lines[*outer]) >= indent(line))
                {
                    open.pop();
                }
            }
            all.push(open.clone());
            if speaks {
                open.push(number);
            }
        }
        all
    }

    /// The line's number where it speaks and stands in exactly these contexts.
    fn find(&self, path: &[String], text: &str) -> Option<usize> {
        let contexts = self.contexts();
        let is_it = |number: &usize| {
            let names = contexts[*number]
                .iter()
                .map(|outer| self.lines[*outer].trim());
            self.lines[*number].trim() == text
                && !is_remark(&self.lines[*number])
                && names.eq(path.iter().map(String::as_str))
        };
        (0..self.lines.len()).find(is_it)
    }

    /// Takes a line away wherever it stands, a context with all that is in it.
    fn remove(&mut self, command: &Command) {
        let line = &command.line;
        while let Some(start) = self.find(&line.path, &line.text) {
            let end = self.end_of(start);
            self.lines.drain(start..end);
        }
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

    /// Adds a line to its contexts, which are made if they are not there.
    fn add(&mut self, path: &[String], text: &str) {
        let Some((context, outer)) = path.split_last() else {
            let at = self.end_of_file();
            self.lines.insert(at, text.to_owned());
            return;
        };
        let header = match self.find(outer, context) {
            Some(header) => header,
            None => self.open(outer, context),
        };
        let depth = indent(&self.lines[header]) + 1;
        // Behind the lines that stand directly in the context, before contexts within.
        let rest = &self.lines[header + 1..];
        let is_direct = |line: &&String| !is_remark(line) && indent(line) == depth && !opens(line);
        let direct = rest.iter().take_while(is_direct).count();
        let line = format!("{}{text}", " ".repeat(depth));
        self.lines.insert(header + 1 + direct, line);
    }

    /// Makes a context and returns its number.
    fn open(&mut self, path: &[String], context: &str) -> usize {
        let (at, depth) = match path.split_last() {
            None => (self.end_of_file(), 0),
            Some((outer, above)) => {
                let header = match self.find(above, outer) {
                    Some(header) => header,
                    None => self.open(above, outer),
                };
                let end = self.end_of(header);
                let closed = end > header + 1 && is_end(&self.lines[end - 1]);
                let depth = indent(&self.lines[header]) + 1;
                (if closed { end - 1 } else { end }, depth)
            }
        };
        let space = " ".repeat(depth);
        let close = format!("{space}{}", closing(context));
        self.lines.insert(at, close);
        self.lines.insert(at, format!("{space}{context}"));
        at
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
        _ if context.starts_with("address-family ") => "exit-address-family",
        _ => "exit",
    }
}

#[cfg(test)]
mod tests;
