//! What to write instead of a value that a field does not take.
//!
//! The message's reader says what was wrong with the text ("invalid digit found in string"), not
//! which text, nor what the field's type looks like in JSON.

use std::fmt::Display;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use xpu_model::shown::{listed, shown};

/// The problem with a field's value in words: the value, and what the field takes. Else, of messages
/// for one, the reader's own.
pub(super) fn problem(
    field: Option<&FieldDescriptor>,
    value: &Value,
    error: &dyn Display,
) -> String {
    let text = match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    };
    match field.map(FieldDescriptor::kind) {
        Some(Kind::Int32 | Kind::Sint32 | Kind::Sfixed32) => whole(&text, i32::MIN, i32::MAX),
        Some(Kind::Uint32 | Kind::Fixed32) => whole(&text, u32::MIN, u32::MAX),
        Some(Kind::Int64 | Kind::Sint64 | Kind::Sfixed64) => whole(&text, i64::MIN, i64::MAX),
        Some(Kind::Uint64 | Kind::Fixed64) => whole(&text, u64::MIN, u64::MAX),
        Some(Kind::Bool) => format!("`{text}` is neither true nor false"),
        Some(Kind::Bytes) => format!("`{text}` is no base64, in which JSON has bytes ({error})"),
        Some(Kind::Enum(values)) => format!("`{text}` is none of {}", names(&values)),
        _ => error.to_string(),
    }
}

fn whole(text: &str, least: impl Display, most: impl Display) -> String {
    format!("`{text}` is no whole number from {least} to {most}")
}

fn names(values: &EnumDescriptor) -> String {
    let names: Vec<_> = values.values().map(|it| it.name().to_owned()).collect();
    listed(&names)
}

/// The value at a path of the JSON that was read; where that ends earlier, the last on the way.
pub(super) fn at<'a>(json: &'a Value, path: &Path) -> &'a Value {
    path.iter().fold(json, |value, segment| {
        let inner = match segment {
            Segment::Seq { index } => value.get(index),
            Segment::Map { key } => value.get(key),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        inner.unwrap_or(value)
    })
}
