//! The import rule of ARCHITECTURE.md, held against `cargo metadata` (read from stdin).
//!
//! Two checks: which of our crates names which, and that nothing that waits, speaks gRPC or
//! netlink, or starts processes is anywhere below the pure crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use anyhow::Context;
use serde::Deserialize;

/// Our crates, and what each may import of ours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("xpu-proto", &[]),
    ("xpu-model", &[]),
    ("xpu-plan", &["xpu-model"]),
    ("xpu-linux", &["xpu-model", "xpu-plan"]),
    ("xpu-backends", &["xpu-model", "xpu-plan"]),
    (
        "xpu-agent",
        &[
            "xpu-model",
            "xpu-plan",
            "xpu-linux",
            "xpu-backends",
            "xpu-proto",
        ],
    ),
    ("xpuctl", &["xpu-proto", "xpu-model"]),
    ("xpu-cni", &["xpu-proto", "xpu-model", "xpu-linux"]),
];

/// The crates that only compute.
const PURE: [&str; 2] = ["xpu-model", "xpu-plan"];

/// What must not be below a pure crate.
const IMPURE: [&str; 9] = [
    "async-process",
    "hyper",
    "mio",
    "netlink-sys",
    "nix",
    "rtnetlink",
    "socket2",
    "tokio",
    "tonic",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None is an ordinary dependency; `dev` and `build` do not ship.
    kind: Option<String>,
}

/// Names of what each crate ships with, direct only.
type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn main() -> anyhow::Result<ExitCode> {
    let metadata: Metadata =
        serde_json::from_reader(std::io::stdin()).context("pipe `cargo metadata` in")?;
    let graph = graph(&metadata)?;
    let broken = violations(&graph);
    for violation in &broken {
        eprintln!("import rule: {violation}");
    }
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn graph(metadata: &Metadata) -> anyhow::Result<Graph<'_>> {
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|it| (it.id.as_str(), it.name.as_str()))
        .collect();
    let name = |id: &str| {
        names
            .get(id)
            .copied()
            .with_context(|| format!("unknown package {id}"))
    };
    let mut graph = Graph::new();
    for node in &metadata.resolve.nodes {
        let ships = |it: &&Dependency| it.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let below = node.deps.iter().filter(ships).map(|it| name(&it.pkg));
        graph
            .entry(name(&node.id)?)
            .or_default()
            .extend(below.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(graph)
}

fn violations(graph: &Graph<'_>) -> Vec<String> {
    let ours: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let mut broken = Vec::new();
    for (name, allowed) in MAY_IMPORT {
        let Some(imports) = graph.get(name) else {
            broken.push(format!("{name} is not in the workspace"));
            continue;
        };
        for import in imports.intersection(&ours) {
            if !allowed.contains(import) {
                broken.push(format!("{name} imports {import}"));
            }
        }
    }
    for name in PURE {
        for impure in below(graph, name).intersection(&IMPURE.into()) {
            broken.push(format!(
                "{name} must only compute, but has {impure} below it"
            ));
        }
    }
    broken
}

fn below<'a>(graph: &Graph<'a>, name: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
    while let Some(name) = open.pop() {
        for next in graph.get(name).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, import: &'static str) -> Vec<String> {
        let mut graph: Graph<'_> = MAY_IMPORT
            .iter()
            .map(|(name, _)| (*name, BTreeSet::new()))
            .collect();
        assert!(violations(&graph).is_empty());
        graph.entry(name).or_default().insert(import);
        graph.entry("proptest").or_default().insert("tokio");
        violations(&graph)
    }

    #[test]
    fn a_wrong_import_is_found() {
        assert_eq!(
            with("xpu-plan", "xpu-linux"),
            ["xpu-plan imports xpu-linux"]
        );
        assert_eq!(with("xpuctl", "xpu-agent"), ["xpuctl imports xpu-agent"]);
        assert!(with("xpu-cni", "xpu-linux").is_empty());
    }

    #[test]
    fn what_is_deep_below_is_found() {
        let found = with("xpu-model", "proptest");
        assert_eq!(
            found,
            ["xpu-model must only compute, but has tokio below it",]
        );
    }
}
