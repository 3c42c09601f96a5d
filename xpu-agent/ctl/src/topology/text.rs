//! The picture for programs that lay it out themselves: Mermaid and Graphviz.

use std::fmt::Write as _;

use super::{Graph, Layer, Node};
use crate::view::Oper;

/// A Mermaid flowchart.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, node) in graph.nodes.iter().enumerate() {
        let label = label(node, "<br/>").replace('"', "#quot;");
        let class = class(node);
        let _ = writeln!(text, "  n{number}[\"{label}\"]:::{class}");
    }
    for (from, to) in links(graph) {
        let _ = writeln!(text, "  n{from} --- n{to}");
    }
    for (class, (fill, stroke)) in CLASSES {
        let _ = writeln!(text, "  classDef {class} fill:{fill},stroke:{stroke}");
    }
    text
}

/// A Graphviz graph.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from(
        "graph topology {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", \
         fontname=\"monospace\"];\n",
    );
    for (number, node) in graph.nodes.iter().enumerate() {
        let label = label(node, "\n");
        let label = label
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let class = class(node);
        let colours = CLASSES.into_iter().find(|(name, _)| *name == class);
        let (fill, stroke) = colours.map_or(("white", "black"), |(_, colours)| colours);
        let _ = writeln!(
            text,
            "  n{number} [label=\"{label}\", fillcolor=\"{fill}\", color=\"{stroke}\"];"
        );
    }
    for (from, to) in links(graph) {
        let _ = writeln!(text, "  n{from} -- n{to};");
    }
    text.push_str("}\n");
    text
}

const CLASSES: [(&str, (&str, &str)); 4] = [
    ("up", ("#dafbe1", "#1a7f37")),
    ("down", ("#ffebe9", "#cf222e")),
    ("other", ("#fff8c5", "#9a6700")),
    ("vtep", ("#ddf4ff", "#0969da")),
];

const fn class(node: &Node) -> &'static str {
    match node.oper {
        None => "vtep",
        Some(Oper::Up) => "up",
        Some(Oper::Down) => "down",
        Some(Oper::Unknown | Oper::ToBeDeleted) => "other",
    }
}

fn label(node: &Node, separator: &str) -> String {
    let kind = match node.layer {
        Layer::Port => "port",
        Layer::Bridge => "bridge",
        Layer::Svi => "svi",
        Layer::Vrf => "vrf",
        Layer::Vtep => "vtep",
    };
    let state = node.oper.filter(|oper| *oper != Oper::Up);
    let state = state.map(|oper| format!(" {}", oper.as_str()));
    let head = format!("{kind} {}{}", node.name, state.unwrap_or_default());
    let lines: Vec<_> = [head].into_iter().chain(node.facts.clone()).collect();
    lines.join(separator)
}

/// The lines of the picture, and those to remote VTEPs.
fn links(graph: &Graph) -> Vec<(usize, usize)> {
    let nodes = graph.nodes.iter().enumerate();
    let vteps = nodes.flat_map(|(number, node)| node.vteps.iter().map(move |it| (number, *it)));
    graph.edges.iter().copied().chain(vteps).collect()
}
