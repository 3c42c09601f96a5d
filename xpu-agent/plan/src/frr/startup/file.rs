//! The text of a configuration, line by line: lines come and go in their contexts, and all others
//! keep their text and their order.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::super::{
    Line,
    config::{canonical, is_end, is_remark},
};

/// The lines of the file.
pub(super) struct File {
    lines: Vec<String>,
}

impl File {
    pub(super) fn new(text: &str) -> Self {
        Self {
            lines: text.lines().map(ToOwned::to_owned).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
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
    pub(super) fn rename(&mut self, renamed: &[(String, String)]) {
        let renamed: HashMap<_, _> = renamed.iter().map(|(old, new)| (&**old, new)).collect();
        for line in &mut self.lines {
            if let Some(new) = renamed.get(&*canonical(line.trim())) {
                line.clone_from(new);
            }
        }
    }

    /// Takes lines away wherever they stand, a context with all that is in it.
    pub(super) fn remove<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) {
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
    pub(super) fn add<'a>(&mut self, lines: impl Iterator<Item = &'a Line> + Clone) {
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
            let followers = rest.iter().skip(1).map(Some).chain([None]);
            let is_direct = |(line, next): &(&String, Option<&String>)| {
                let is_context = opens(line) || next.is_some_and(|next| indent(next) > depth);
                !is_remark(line) && indent(line) == depth && !is_context
            };
            let direct = rest.iter().zip(followers).take_while(is_direct).count();
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

/// Whether the line opens a context within another, though it be empty.
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
