//! The picture as SVG 1.1 without scripts, fonts or links: any browser shows it.

use std::fmt::Write as _;

use super::layout::{BOX_WIDTH, HEAD, LINE, Layout, MARGIN, PAD, Place, layout};
use super::{Graph, Layer, Node};
use crate::view::Oper;

/// A monospaced character of 12 pixels is at most so wide; DejaVu's is 7.22.
const CHAR_TENTHS: u32 = 73;

/// Characters that fit a box.
const FITS: usize = ((BOX_WIDTH - 2 * PAD) * 10 / CHAR_TENTHS) as usize;

const STYLE: &str = "\
text{font:12px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#24292f}\
.name{font-weight:bold}.head{font-weight:bold;fill:#57606a}.fact{fill:#57606a}\
rect{stroke-width:1.5}path{fill:none;stroke:#8c959f;stroke-width:1.3}\
.up{fill:#dafbe1;stroke:#1a7f37}.down{fill:#ffebe9;stroke:#cf222e}\
.other{fill:#fff8c5;stroke:#9a6700}.vtep{fill:#ddf4ff;stroke:#0969da}";

/// Draws a graph.
pub fn picture(graph: &Graph) -> String {
    let layout = layout(graph);
    let Layout { width, height, .. } = layout;
    let mut svg = String::new();
    line(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\">"
        ),
    );
    line(&mut svg, format_args!("<style>{STYLE}</style>"));
    line(
        &mut svg,
        format_args!("<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"),
    );
    for (layer, x) in &layout.columns {
        let y = MARGIN + HEAD / 2;
        let title = title(*layer);
        line(
            &mut svg,
            format_args!("<text class=\"head\" x=\"{x}\" y=\"{y}\">{title}</text>"),
        );
    }
    for (from, to) in &graph.edges {
        edge(&mut svg, layout.places[*from], layout.places[*to]);
    }
    for (node, place) in graph.nodes.iter().zip(&layout.places) {
        draw(&mut svg, graph, node, *place);
    }
    legend(&mut svg, graph, height);
    svg.push_str("</svg>\n");
    svg
}

const fn title(layer: Layer) -> &'static str {
    match layer {
        Layer::Port => "Ports",
        Layer::Bridge => "Logical bridges",
        Layer::Svi => "Svis",
        Layer::Vrf => "Vrfs",
        Layer::Vtep => "Remote VTEPs",
    }
}

const fn class(oper: Option<Oper>) -> &'static str {
    match oper {
        None => "vtep",
        Some(Oper::Up) => "up",
        Some(Oper::Down) => "down",
        Some(Oper::Unknown | Oper::ToBeDeleted) => "other",
    }
}

/// From the right edge of the left box to the left edge of the right one, level at both ends.
fn edge(svg: &mut String, from: Place, to: Place) {
    let (x1, y1) = (from.x + BOX_WIDTH, from.y + from.height / 2);
    let (x2, y2) = (to.x, to.y + to.height / 2);
    let bend = u32::midpoint(x1, x2);
    line(
        svg,
        format_args!("<path d=\"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}\"/>"),
    );
}

fn draw(svg: &mut String, graph: &Graph, node: &Node, place: Place) {
    let Place { x, y, height } = place;
    let class = class(node.oper);
    line(svg, format_args!("<g>"));
    line(svg, format_args!("<title>{}</title>", escaped(&tip(node))));
    line(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
             height=\"{height}\" rx=\"5\"/>"
        ),
    );
    let (x, mut y) = (x + PAD, y + PAD + LINE - 5);
    // Not everybody sees colours.
    let state = node.oper.filter(|oper| *oper != Oper::Up);
    let state = state.map_or("", Oper::as_str);
    let room = FITS - if state.is_empty() { 0 } else { state.len() + 1 };
    let name = escaped(&shortened(&node.name, room));
    line(
        svg,
        format_args!("<text class=\"name\" x=\"{x}\" y=\"{y}\">{name}</text>"),
    );
    if !state.is_empty() {
        let right = x + BOX_WIDTH - 2 * PAD;
        line(
            svg,
            format_args!("<text x=\"{right}\" y=\"{y}\" text-anchor=\"end\">{state}</text>"),
        );
    }
    let vteps: Vec<_> = node.vteps.iter().map(|it| graph.short(*it)).collect();
    let vteps = vteps.join(" ");
    let vteps = (!vteps.is_empty()).then(|| format!("\u{2192} {vteps}"));
    for fact in node.facts.iter().chain(&vteps) {
        y += LINE;
        let fact = escaped(&shortened(fact, FITS));
        line(
            svg,
            format_args!("<text class=\"fact\" x=\"{x}\" y=\"{y}\">{fact}</text>"),
        );
    }
    line(svg, format_args!("</g>"));
}

/// What shows when the pointer rests on a box: everything.
fn tip(node: &Node) -> String {
    let mut tip = node.name.clone();
    if let Some(oper) = node.oper {
        tip = format!("{tip}: {}", oper.as_str());
    }
    if let Some(trouble) = &node.trouble {
        tip = format!("{tip}\n{trouble}");
    }
    node.facts
        .iter()
        .fold(tip, |tip, fact| format!("{tip}\n{fact}"))
}

fn legend(svg: &mut String, graph: &Graph, height: u32) {
    let y = height - MARGIN;
    let mut x = MARGIN;
    let states = [
        ("up", "up"),
        ("down", "down"),
        ("other", "unknown, or being deleted"),
    ];
    let vteps = !graph.layer(Layer::Vtep).is_empty();
    let vteps = vteps.then_some(("vtep", "remote VTEP; \u{2192} v1: reaches v1"));
    for (class, word) in states.into_iter().chain(vteps) {
        let top = y - 11;
        line(
            svg,
            format_args!(
                "<rect class=\"{class} key\" x=\"{x}\" y=\"{top}\" width=\"14\" height=\"14\" rx=\"3\"/>"
            ),
        );
        let text = x + 21;
        line(
            svg,
            format_args!("<text class=\"fact\" x=\"{text}\" y=\"{y}\">{word}</text>"),
        );
        let chars = u32::try_from(word.chars().count()).unwrap_or_default();
        x = text + chars * CHAR_TENTHS / 10 + 24;
    }
}

/// The beginning and the end, where a text is too long: names often differ in the end.
fn shortened(text: &str, room: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let (first, last) = (kept - kept / 3, kept / 3);
    let first: String = chars[..first].iter().collect();
    let last: String = chars[chars.len() - last..].iter().collect();
    format!("{first}\u{2026}{last}")
}

/// XML's own characters escaped; control characters, which XML can't have, left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push(c),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{content}");
}
