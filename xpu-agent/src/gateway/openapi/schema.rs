//! Messages as JSON Schema (2020-12, which OpenAPI 3.1 is made on): the form of their canonical
//! proto3 JSON.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value, json};

use super::comments::Comments;

/// Whether what the API requires is required in a schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Whole,
    /// For a body that may be any part of a resource.
    Partial,
}

/// `google.api.FieldBehavior`
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const IDENTIFIER: i32 = 8;

/// Both alphabets are read (RFC 4648, 4 and 5), with all of the padding, a part, or none.
const BASE64: &str = "^(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}={0,2}|[A-Za-z0-9+/_-]{3}=?)?$";

/// The schemas that were referred to.
pub(super) struct Schemas<'a> {
    pool: &'a DescriptorPool,
    comments: &'a Comments,
    behavior: Option<ExtensionDescriptor>,
    done: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(pool: &'a DescriptorPool, comments: &'a Comments) -> Self {
        Self {
            pool,
            comments,
            behavior: pool.get_extension_by_name("google.api.field_behavior"),
            done: BTreeMap::new(),
        }
    }

    /// All of them, by the names they are referred to with.
    pub(super) fn finish(self) -> Map<String, Value> {
        self.done.into_iter().collect()
    }

    /// A reference to a message known by its name; anything at all if it is not known.
    pub(super) fn reference_by_name(&mut self, name: &str) -> Value {
        match self.pool.get_message_by_name(name) {
            Some(message) => self.reference(&message, Variant::Whole),
            None => json!({}),
        }
    }

    /// The schema of a message: in place where JSON has a form of its own for it.
    pub(super) fn reference(&mut self, message: &MessageDescriptor, variant: Variant) -> Value {
        match message.full_name() {
            "google.protobuf.FieldMask" => return json!({"type": "string"}),
            "google.protobuf.Empty" => return json!({"type": "object"}),
            "google.protobuf.Any" => {
                return json!({
                    "type": "object",
                    "properties": {"@type": {"type": "string"}},
                    "required": ["@type"],
                    "additionalProperties": true,
                });
            }
            _ => {}
        }
        let name = match variant {
            Variant::Whole => message.full_name().to_owned(),
            Variant::Partial => format!("{}.Partial", message.full_name()),
        };
        if !self.done.contains_key(&name) {
            // Noted before its fields are looked at: messages may refer to each other.
            self.done.insert(name.clone(), Value::Null);
            let schema = self.message(message, variant);
            self.done.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn message(&mut self, message: &MessageDescriptor, variant: Variant) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields() {
            let behavior = self.behavior(&field);
            let mut schema = self.field(&field, variant);
            schema["description"] = self.description(&field).into();
            if behavior.contains(&OUTPUT_ONLY) || behavior.contains(&IDENTIFIER) {
                schema["readOnly"] = true.into();
            }
            if behavior.contains(&REQUIRED) && variant == Variant::Whole {
                required.push(Value::from(field.json_name()));
                given(&field, &mut schema);
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "description": self.comments.text(&message.parent_file(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        let together = exclusive(message);
        if !together.is_empty() {
            schema["not"] = json!({"anyOf": together});
        }
        schema
    }

    /// The schema of a field's values.
    pub(super) fn field(&mut self, field: &FieldDescriptor, variant: Variant) -> Value {
        let one = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let values = self.field(&entry.map_entry_value_field(), variant);
                return json!({"type": "object", "additionalProperties": values});
            }
            Kind::Message(message) => self.reference(&message, variant),
            _ => self.scalar(field),
        };
        if field.is_list() {
            json!({"type": "array", "items": one})
        } else {
            one
        }
    }

    /// The schema of a value that is no message, or of a field mask.
    pub(super) fn scalar(&self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "pattern": "^-?[0-9]+$"})
            }
            Kind::Float | Kind::Double => json!({"type": "number"}),
            Kind::Bytes => {
                json!({"type": "string", "contentEncoding": "base64", "pattern": BASE64})
            }
            Kind::Enum(values) => self.names(&values),
            Kind::String | Kind::Message(_) => json!({"type": "string"}),
        }
    }

    fn names(&self, values: &EnumDescriptor) -> Value {
        let names: Vec<_> = values
            .values()
            .map(|value| value.name().to_owned())
            .collect();
        let lines: Vec<_> = values
            .values()
            .map(|value| {
                let text = self.comments.text(&values.parent_file(), value.path());
                format!("{}: {text}", value.name())
            })
            .collect();
        json!({"type": "string", "enum": names, "description": lines.join(" ")})
    }

    /// What the `.proto` file says of a field.
    pub(super) fn description(&self, field: &FieldDescriptor) -> String {
        let file = field.parent_file();
        self.comments.text(&file, field.path()).to_owned()
    }

    fn behavior(&self, field: &FieldDescriptor) -> Vec<i32> {
        let Some(extension) = &self.behavior else {
            return Vec::new();
        };
        let options = field.options();
        let value = options.get_extension(extension);
        let numbers = value.as_list().into_iter().flatten();
        numbers.filter_map(|value| value.as_enum_number()).collect()
    }
}

/// What a required field has to be given as: where the message cannot tell its type's default
/// from absence, that is absence (AIP-203).
fn given(field: &FieldDescriptor, schema: &mut Value) {
    if field.is_list() {
        schema["minItems"] = 1.into();
        return;
    }
    if field.is_map() || field.supports_presence() {
        return;
    }
    match field.kind() {
        Kind::String | Kind::Bytes => schema["minLength"] = 1.into(),
        Kind::Uint32 | Kind::Fixed32 => schema["minimum"] = 1.into(),
        Kind::Enum(values) => {
            let default = values.default_value();
            if let Some(names) = schema["enum"].as_array_mut() {
                names.retain(|name| name != default.name());
            }
        }
        _ => {}
    }
}

/// The pairs of fields of which a message has one at most.
fn exclusive(message: &MessageDescriptor) -> Vec<Value> {
    let mut pairs = Vec::new();
    for oneof in message.oneofs() {
        let names: Vec<_> = oneof
            .fields()
            .map(|field| field.json_name().to_owned())
            .collect();
        for (index, name) in names.iter().enumerate() {
            let others = names.iter().skip(index + 1);
            pairs.extend(others.map(|other| json!({"required": [name, other]})));
        }
    }
    pairs
}
