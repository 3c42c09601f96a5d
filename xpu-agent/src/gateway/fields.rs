//! Paths of fields, in a message's descriptor and in its JSON.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

/// A field by either of its names: the one in the `.proto` file, or JSON's.
pub(super) fn find(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_name(name)
        .or_else(|| message.get_field_by_json_name(name))
}

/// The fields along a dotted path; none if a step is no field, or leads on from none that holds
/// one message.
pub(super) fn resolve(message: &MessageDescriptor, path: &str) -> Option<Vec<FieldDescriptor>> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let field = match fields.last() {
            None => find(message, name)?,
            Some(field) if field.is_list() || field.is_map() => return None,
            Some(field) => match field.kind() {
                Kind::Message(message) => find(&message, name)?,
                _ => return None,
            },
        };
        fields.push(field);
    }
    Some(fields)
}

/// Puts a value at a path into a message's JSON, over what is there under either name. False where
/// something else than an object is in the way.
pub(super) fn put(root: &mut Map<String, Value>, path: &[FieldDescriptor], value: Value) -> bool {
    let Some((field, rest)) = path.split_first() else {
        return false;
    };
    if rest.is_empty() {
        root.remove(field.name());
        root.insert(field.json_name().to_owned(), value);
        return true;
    }
    let key = if root.contains_key(field.name()) {
        field.name()
    } else {
        field.json_name()
    };
    let inner = root.entry(key).or_insert(Value::Null);
    if inner.is_null() {
        *inner = Value::Object(Map::new());
    }
    inner
        .as_object_mut()
        .is_some_and(|inner| put(inner, rest, value))
}

/// The path as it stands in the `.proto` file: `spec.vlan_id`.
pub(super) fn proto_path(path: &[FieldDescriptor]) -> String {
    let names: Vec<_> = path.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}
