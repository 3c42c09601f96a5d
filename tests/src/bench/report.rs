//! The rows of a run, and what is made of them.
//!
//! Environment: with `CHECK=1` a missed target makes the exit code 1; with `RECORD=1` the table
//! goes into `tests/bench/README.md`, between the markers of that benchmark.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::{Deserialize, Serialize};

use super::{
    facts::Facts,
    row::{Row, plain},
};

/// A benchmark's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `cni` for `target/bench/cni.json`.
    pub name: String,
    /// What makes this report again.
    pub command: String,
    /// The machines, by the word that a row's metric starts with.
    pub machines: Vec<(String, Facts)>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
            machines: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Takes the rows and machines of another part of the same benchmark.
    pub fn extend(&mut self, other: Self) {
        self.machines.extend(other.machines);
        self.rows.extend(other.rows);
    }

    /// The table, as Markdown that reads well on a terminal too.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "metric", "n", "value", "floor", "peer", "ratio", "target", "ok", "against",
        ]);
        for column in 1..=5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.rows {
            let number = |value: Option<f64>| value.map(plain).unwrap_or_default();
            let ok = match row.ok {
                None => "",
                Some(true) => "yes",
                Some(false) => "NO",
            };
            let target = row.target.as_ref();
            table.add_row([
                row.metric.clone(),
                row.n.to_string(),
                format!("{} {}", plain(row.value), row.unit)
                    .trim_end()
                    .to_owned(),
                number(row.floor),
                number(row.peer),
                number(row.ratio),
                target.map(|it| it.rule.clone()).unwrap_or_default(),
                ok.to_owned(),
                row.against.clone(),
            ]);
        }
        table.to_string()
    }

    /// The rows whose targets are missed.
    pub fn missed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.ok == Some(false))
    }

    /// Prints the table and writes the files; the exit code is what `CHECK` asks for.
    ///
    /// # Errors
    /// Where a file can't be written.
    pub fn finish(&self) -> Result<ExitCode> {
        println!("\n{}\n", self.table());
        for (name, facts) in &self.machines {
            println!("{name}: {}", facts.line());
        }
        let path = target_folder()
            .join("bench")
            .join(format!("{}.json", self.name));
        write(&path, &format!("{}\n", serde_json::to_string_pretty(self)?))?;
        println!("written: {}", path.display());
        if is_set("RECORD") {
            let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/README.md");
            let text = fs::read_to_string(&readme)
                .with_context(|| format!("cannot read {}", readme.display()))?;
            write(&readme, &self.recorded_in(&text)?)?;
            println!("recorded: {}", readme.display());
        }
        for row in self.missed() {
            let rule = row.target.as_ref().map(|target| target.rule.as_str());
            let (metric, value, unit) = (&row.metric, row.value, &row.unit);
            let rule = rule.unwrap_or_default();
            println!("missed: {metric}: {value:.2} {unit}, for {rule}");
        }
        Ok(if is_set("CHECK") && self.missed().next().is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// A text with this report in place of what stands between its markers.
    fn recorded_in(&self, text: &str) -> Result<String> {
        let (start, end) = (
            format!("<!-- bench:{} -->\n", self.name),
            format!("<!-- /bench:{} -->", self.name),
        );
        let begins = text.find(&start).map(|at| at + start.len());
        let ends = begins.and_then(|from| Some(from + text.get(from..)?.find(&end)?));
        let (Some(begins), Some(ends)) = (begins, ends) else {
            anyhow::bail!("no lines `{}` and `{end}` in the README", start.trim_end());
        };
        let machines: String = self
            .machines
            .iter()
            .map(|(name, facts)| format!("- {name}: {}\n", facts.line()))
            .collect();
        ensure!(!self.rows.is_empty(), "nothing was measured");
        Ok(format!(
            "{}`{}` made this table.\n\n{machines}\n{}\n{}",
            &text[..begins],
            self.command,
            self.table(),
            &text[ends..]
        ))
    }
}

/// Whether a switch of the environment is on.
#[must_use]
pub fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Where cargo builds to.
#[must_use]
pub fn target_folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(beside, PathBuf::from)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(path, text).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("x", "make bench-x");
        report.machines.push(("native".to_owned(), Facts::here()));
        let good = Row::new("good", 3, 1.0, "ms").at_most(2.0);
        let bad = Row::new("bad", 3, 3.0, "ms")
            .peer(2.0, "other")
            .at_most(2.0);
        report.rows.extend([good, bad]);
        report
    }

    #[test]
    fn a_missed_target_is_told_and_seen() {
        let report = report();
        let missed = report.missed().map(|row| row.metric.as_str());
        assert_eq!(missed.collect::<Vec<_>>(), ["bad"]);
        let table = report.table();
        let line = table
            .lines()
            .find(|line| line.contains("bad"))
            .unwrap_or_default();
        assert!(line.contains("NO") && line.contains("other"), "{table}");
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() -> Result<()> {
        let readme = "# A\n<!-- bench:x -->\nold\n<!-- /bench:x -->\n<!-- bench:y -->\nother\n";
        let told = report().recorded_in(readme)?;
        assert!(told.starts_with("# A\n<!-- bench:x -->\n`make bench-x` made"));
        assert!(told.ends_with("<!-- /bench:x -->\n<!-- bench:y -->\nother\n"));
        assert!(!told.contains("old") && told.contains("| good"), "{told}");
        assert_eq!(report().recorded_in(&told)?, told);
        assert!(report().recorded_in("# without markers").is_err());
        Ok(())
    }

    #[test]
    fn a_report_reads_back_as_it_was_written() -> Result<()> {
        let report = report();
        let text = serde_json::to_string(&report)?;
        assert_eq!(serde_json::from_str::<Report>(&text)?, report);
        Ok(())
    }
}
