//! Objects as text: a table, names, a description, JSON. Pure; `commands.rs` writes it out.

use std::fmt::Write as _;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use xpu_proto::evpn_gw::v1alpha1::Component;

use crate::screen::{Paint, Screen};
use crate::view::{self, Oper, View};
use crate::wire;

/// One row per object, the status and what keeps it from being up at the end; `wide` adds what
/// each component says. On a terminal long cells are wrapped, so that rows fit it.
pub fn table<K: View>(objects: &[K], wide: bool, screen: Screen) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    match screen.width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    // Whether stdout is a terminal is the screen's to say.
    match screen.colour {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    // Labels are alike for all objects of a kind, so those of an empty one will do. A head is
    // one word: columns can be cut out by awk.
    let labels = K::default().facts().into_iter().map(|(label, _)| label);
    let heads = ["name"]
        .into_iter()
        .chain(labels)
        .chain(["status", "reason"])
        .chain(wide.then_some("components"));
    table.set_header(heads.map(|head| head.to_uppercase().replace(' ', "-")));
    for object in objects {
        let state = object.state();
        let mut row = vec![cell(wire::id_of(object.name()))];
        row.extend(object.facts().iter().map(|(_, value)| cell(value)));
        row.push(cell(state.oper.as_str()).fg(match paint(state.oper) {
            Paint::Good => Color::DarkGreen,
            Paint::Notice => Color::DarkYellow,
            Paint::Bad => Color::DarkRed,
        }));
        row.push(cell(&state.trouble().unwrap_or_default()));
        if wide {
            row.push(cell(&components(state.components)));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn cell(text: &str) -> Cell {
    Cell::new(printable(text))
}

/// `linux=SUCCESS{device=svi-100,mtu=8950} frr=PENDING{…}`.
fn components(components: &[Component]) -> String {
    let one = |component: &Component| {
        let details = view::details(component);
        let facts: Vec<_> = details
            .iter()
            .map(|(label, value)| format!("{label}={value}"))
            .collect();
        let status = view::component_status(component);
        match facts.is_empty() {
            true => format!("{}={status}", component.name),
            false => format!("{}={status}{{{}}}", component.name, facts.join(",")),
        }
    };
    components.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// What a state's colour says.
pub const fn paint(oper: Oper) -> Paint {
    match oper {
        Oper::Up => Paint::Good,
        Oper::ToBeDeleted | Oper::Unknown => Paint::Notice,
        Oper::Down => Paint::Bad,
    }
}

/// One canonical name a line.
pub fn names<K: View>(objects: &[K]) -> String {
    objects
        .iter()
        .map(|object| printable(object.name()) + "\n")
        .collect()
}

/// Everything about one object.
pub fn description<K: View>(object: &K, screen: Screen) -> String {
    let state = object.state();
    let mut lines = vec![("Name", object.name().to_owned())];
    lines.extend(object.facts());
    lines.push(("Status", state.oper.as_str().to_owned()));
    let width = lines
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();

    let mut text = String::new();
    for (label, value) in lines {
        let value = match label {
            "Status" => screen.paint(paint(state.oper), &value),
            _ => printable(&value),
        };
        line(
            &mut text,
            format_args!("{:<1$}  {2}", format!("{label}:"), width + 1, value),
        );
    }
    if !state.components.is_empty() {
        line(&mut text, format_args!("Components:"));
    }
    for component in state.components {
        let name = printable(&component.name);
        line(
            &mut text,
            format_args!("  {name:<8}  {}", view::component_status(component)),
        );
        for (label, value) in view::details(component) {
            line(
                &mut text,
                format_args!("    {}: {}", printable(&label), printable(&value)),
            );
        }
    }
    text
}

/// Canonical proto JSON, indented.
pub fn json<T: Serialize>(message: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(message).map(|text| without_controls(&text) + "\n")
}

/// The same in one line.
pub fn json_line<T: Serialize>(message: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(message).map(|text| without_controls(&text) + "\n")
}

/// JSON may have DEL and the C1 controls raw, and a terminal obeys the latter. They can only
/// stand in texts, where the escape means the same.
fn without_controls(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && c != '\n' {
            // Writing to a String can't fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// The same as YAML.
pub fn yaml<T: Serialize>(message: &T) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(message)
}

/// Texts come from the agent, and through it from FRR and the kernel: nothing in them may
/// steer the terminal or break a line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use xpu_proto::evpn_gw::v1alpha1::LogicalBridge;

    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(
            printable("a\u{1b}[31mb\nc\u{9b}ü"),
            "a\\u{1b}[31mb\\nc\\u{9b}ü"
        );
    }

    #[test]
    fn controls_are_escaped_in_json_and_yaml_and_mean_the_same() {
        let every: String = (0..0xa1).filter_map(char::from_u32).collect();
        let hostile = vec![every, "\u{9b}31m".to_owned(), "\u{7f}".to_owned()];
        let alike = |text: &str| {
            let raw = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(raw), "{text:?}");
        };
        for text in [json(&hostile), json_line(&hostile)] {
            let text = text.expect("is JSON");
            alike(&text);
            let back: Vec<String> = serde_json::from_str(&text).expect("is JSON");
            assert_eq!(back, hostile);
        }
        let text = yaml(&hostile).expect("is YAML");
        alike(&text);
        let back: Vec<String> = serde_saphyr::from_str(&text).expect("is YAML");
        assert_eq!(back, hostile);
    }

    #[test]
    fn an_object_without_spec_and_status_is_shown() {
        let bare = LogicalBridge {
            name: "logicalBridges/blue".into(),
            ..Default::default()
        };
        let text = table(std::slice::from_ref(&bare), false, Screen::PIPE);
        let cells: Vec<_> = text
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(cells, ["blue", "0", "-", "-", "UNKNOWN"]);
        assert!(!description(&bare, Screen::PIPE).contains("Components"));
    }
}
