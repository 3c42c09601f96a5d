//! A plan as people read it: `+` made, `~` changed with each field's old and new value, `-`
//! removed. Pure.

use serde_json::Value;
use xpu_model::ObjectKey;

use super::plan::{Change, Plan};
use crate::manifest::{self, FieldChange};
use crate::screen::{Paint, Screen};

/// The whole plan, with its sum as the last line.
pub fn text(plan: &Plan, screen: Screen) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        match change {
            Change::Create(wanted) => {
                head(&mut text, screen, Paint::Good, '+', &wanted.key);
                for (field, value) in manifest::fields_of(&wanted.spec) {
                    text.push_str(&format!("    {field}: {}\n", shown(Some(&value))));
                }
            }
            Change::Update(wanted, fields) => {
                head(&mut text, screen, Paint::Notice, '~', &wanted.key);
                for FieldChange { field, old, new } in fields {
                    let (old, new) = (shown(old.as_ref()), shown(new.as_ref()));
                    text.push_str(&format!("    {field}: {old} -> {new}\n"));
                }
            }
            Change::Delete(key) => head(&mut text, screen, Paint::Bad, '-', key),
        }
    }
    text + &sum(plan)
}

fn head(text: &mut String, screen: Screen, paint: Paint, sign: char, key: &ObjectKey) {
    text.push_str(&screen.paint(paint, &format!("{sign} {key}")));
    text.push('\n');
}

fn sum(plan: &Plan) -> String {
    let (create, update, delete) = plan.counts();
    let unchanged = plan.unchanged;
    match create + update + delete {
        0 => format!("nothing to change; {unchanged} as wanted\n"),
        _ => format!(
            "{create} to create, {update} to change, {delete} to delete; {unchanged} as wanted\n"
        ),
    }
}

/// A value without the noise of JSON: texts bare, lists comma-separated.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| shown(Some(item))).collect();
            items.join(", ")
        }
        Some(other) => other.to_string(),
    }
}
