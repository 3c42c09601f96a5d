//! What `tests/README.md` says: each test that the plugin's promises name is there, and each fuzz
//! target stands in its table.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// The words of a row's second column that are in backquotes, and whether they follow `fuzz`.
fn named(cell: &str) -> Vec<(&str, bool)> {
    let parts: Vec<_> = cell.split('`').collect();
    let pairs = parts.chunks_exact(2);
    pairs
        .map(|pair| (pair[1], pair[0].trim_end().ends_with("fuzz")))
        .collect()
}

/// The rows of the table below a heading, as far as their first two cells.
fn rows<'a>(readme: &'a str, heading: &'static str) -> Result<Vec<(&'a str, &'a str)>> {
    let (_, section) = readme.split_once(heading).context(heading)?;
    let section = section.split("\n## ").next().context("it is empty")?;
    let cells = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?, cells.next()?))
    });
    // Without the heading and the line below it.
    Ok(cells.skip(2).collect())
}

struct Tree {
    root: PathBuf,
    makefile: String,
    /// The names of the plugin's tests.
    tests: Vec<String>,
}

impl Tree {
    fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut tests = Vec::new();
        for folder in ["node", "unit"] {
            for file in fs::read_dir(root.join("cni-plugin/tests").join(folder))? {
                let text = fs::read_to_string(file?.path())?;
                let lines: Vec<_> = text.lines().map(str::trim).collect();
                let found = lines.windows(2).filter(|pair| pair[0] == "#[test]");
                let name = |pair: &[&str]| {
                    let name = pair[1].strip_prefix("fn ")?.split('(').next()?;
                    Some(name.to_owned())
                };
                tests.extend(found.filter_map(name));
            }
        }
        let makefile = fs::read_to_string(root.join("Makefile"))?;
        Ok(Self {
            root,
            makefile,
            tests,
        })
    }

    fn has(&self, name: &str, is_fuzz: bool) -> bool {
        let file = |path: String| self.root.join(path).is_file();
        if is_fuzz {
            return file(format!("tests/fuzz/src/bin/{name}.rs"));
        }
        if let Some(target) = name.strip_prefix("make ") {
            return self
                .makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:")));
        }
        if let Some(file_name) = name.strip_prefix("unit/") {
            return file(format!("cni-plugin/tests/unit/{file_name}.rs"));
        }
        if name.contains('/') {
            return file(format!("tests/tests/{name}.rs"));
        }
        match name.strip_suffix('…') {
            Some(start) => self.tests.iter().any(|test| test.starts_with(start)),
            None => {
                self.tests.iter().any(|test| test == name)
                    || file(format!("cni-plugin/tests/node/{name}.rs"))
            }
        }
    }
}

#[test]
fn each_promise_of_the_plugin_names_tests_that_exist() -> Result<()> {
    let tree = Tree::read()?;
    let readme = fs::read_to_string(tree.root.join("tests/README.md"))?;
    let rows = rows(&readme, "## What the plugin promises")?;
    ensure!(rows.len() > 10, "the table is not where it was: {rows:?}");
    let mut missing = Vec::new();
    for (promise, held) in rows {
        let named = named(held);
        ensure!(!named.is_empty(), "nothing holds: {promise}");
        let gone = named
            .iter()
            .filter(|(name, is_fuzz)| !tree.has(name, *is_fuzz));
        missing.extend(gone.map(|(name, _)| format!("`{name}` ({promise})")));
    }
    ensure!(missing.is_empty(), "there is no {}", missing.join(", no "));
    Ok(())
}

#[test]
fn each_fuzz_target_stands_in_the_table_and_has_seeds() -> Result<()> {
    let tree = Tree::read()?;
    let readme = fs::read_to_string(tree.root.join("tests/README.md"))?;
    let rows = rows(&readme, "## Fuzzing")?;
    let listed: BTreeSet<_> = rows
        .iter()
        .map(|(target, _)| target.trim_matches('`').to_owned())
        .collect();
    let mut there = BTreeSet::new();
    for file in fs::read_dir(tree.root.join("tests/fuzz/src/bin"))? {
        let path = file?.path();
        let name = path.file_stem().context("a file has a name")?;
        there.insert(name.to_string_lossy().into_owned());
    }
    ensure!(
        listed == there,
        "tests/README.md lists {listed:?}, tests/fuzz/src/bin has {there:?}"
    );
    for target in &there {
        let seeds = tree.root.join("tests/fuzz/seeds").join(target);
        let number = fs::read_dir(&seeds).with_context(|| format!("{}", seeds.display()))?;
        ensure!(number.count() > 0, "{} is empty", seeds.display());
    }
    Ok(())
}
