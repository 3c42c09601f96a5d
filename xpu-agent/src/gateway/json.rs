//! Bodies as JSON in which every field stands once.
//!
//! `serde_json` takes the last of equal keys, and of a field's two names (`vlanId`, `vlan_id`) the
//! message's reader takes either: what a client wrote would be lost without a word. The protobuf
//! JSON mapping refuses both.

use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use xpu_model::shown::shown;

use super::fields;

/// Reads a body.
///
/// # Errors
/// Where it is no JSON, or an object in it has two equal keys.
pub(super) fn parse(body: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The path of a field that the JSON of `field` gives under both of its names, if one is. What is
/// not as the messages have it is left to their reader.
pub(super) fn given_twice(field: &FieldDescriptor, value: &Value) -> Option<String> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    let Kind::Message(message) = kind else {
        return None;
    };
    let path = match value {
        Value::Array(values) if field.is_list() => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| Some(format!("[{index}].{}", in_message(&message, value)?))),
        Value::Object(values) if field.is_map() => values.iter().find_map(|(key, value)| {
            Some(format!("[{}].{}", shown(key), in_message(&message, value)?))
        }),
        value => in_message(&message, value).map(|path| format!(".{path}")),
    };
    path.map(|path| format!("{}{path}", field.name()))
}

fn in_message(message: &MessageDescriptor, value: &Value) -> Option<String> {
    let mut seen: Vec<FieldDescriptor> = Vec::new();
    for (key, value) in value.as_object()? {
        let Some(field) = fields::find(message, key) else {
            continue;
        };
        if seen.contains(&field) {
            return Some(field.name().to_owned());
        }
        if let Some(path) = given_twice(&field, value) {
            return Some(path);
        }
        seen.push(field);
    }
    None
}

/// Makes a [`Value`] as `serde_json` does, but for equal keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let text = format!("`{}` is given twice", shown(&key));
                return Err(de::Error::custom(text));
            }
            let value = entries.next_value_seed(Self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn without_equal_keys_it_is_what_serde_json_reads(value in json()) {
            let text = value.to_string();
            let usual: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), usual);
        }
    }

    #[rstest::rstest]
    #[case(r#"{"a": 1, "a": 1}"#)]
    #[case(r#"{"a": 1, "\u0061": 2}"#)]
    #[case(r#"[{"b": {"a": [], "c": 1, "a": {}}}]"#)]
    fn equal_keys(#[case] text: &str) {
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(error.is_data(), "{error}");
        assert!(
            error.to_string().starts_with("`a` is given twice at "),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_json_stays_so() {
        let deep = "[".repeat(1_000);
        for text in ["", "{", "{} {}", "{\"a\" 1}", "nul", "1e999", deep.as_str()] {
            let error = parse(text.as_bytes()).unwrap_err();
            let usual = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(error.to_string(), usual.to_string());
        }
    }
}
