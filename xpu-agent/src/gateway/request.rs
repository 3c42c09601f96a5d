//! A request's message: path, query and body are put together as one JSON document, which is then
//! read as the message.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, error::Category};
use serde_path_to_error::{Path, Segment};

use super::{answer::Refusal, fields, json, rule::Rule, value};

/// Makes the message of what the rule takes from where ([`Rule::message`]).
pub(super) fn message(
    rule: &Rule,
    path: &[(String, String)],
    query: &str,
    body: &[u8],
) -> Result<DynamicMessage, Refusal> {
    let input = rule.rpc.input();
    let mut root = Map::new();
    match &rule.body {
        Some(field) if !body.is_empty() => {
            let value = json::parse(body).map_err(|error| match error.classify() {
                Category::Data => Refusal::malformed(error.to_string()),
                _ => Refusal::malformed(format!("the body is no JSON: {error}")),
            })?;
            if let Some(path) = json::given_twice(field, &value) {
                return Err(Refusal::field(&path, "is given twice"));
            }
            root.insert(field.json_name().to_owned(), value);
        }
        None if !body.is_empty() => {
            return Err(Refusal::malformed(format!(
                "{} {} takes no body",
                rule.verb.method,
                rule.template.route()
            )));
        }
        _ => {}
    }
    let mut bound = Vec::new();
    for variable in rule.template.variables() {
        let fields = fields::resolve(&input, &variable.field).unwrap_or_default();
        if !fields::put(&mut root, &fields, Value::String(variable.value(path))) {
            let body = rule.body.as_ref().map_or("body", FieldDescriptor::name);
            return Err(Refusal::field(body, "must be a JSON object"));
        }
        bound.push(fields::proto_path(&fields));
    }
    parameters(rule, query, &bound, &mut root)?;
    read(input, root)
}

/// Puts the query's parameters into the JSON.
fn parameters(
    rule: &Rule,
    query: &str,
    bound: &[String],
    root: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let mut seen: Vec<String> = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let unknown = || {
            Refusal::field(
                &name,
                format!("{} has no such query parameter", rule.rpc.name()),
            )
        };
        let path = fields::resolve(&rule.rpc.input(), &name).ok_or_else(unknown)?;
        let (Some(first), Some(last)) = (path.first(), path.last()) else {
            return Err(unknown());
        };
        let canonical = fields::proto_path(&path);
        if rule.body.as_ref() == Some(first) || bound.contains(&canonical) {
            return Err(unknown());
        }
        let value = parameter(last, &text).ok_or_else(|| {
            let text = Value::from(&*text);
            let problem = value::problem(Some(last), &text, &"it is no query parameter");
            Refusal::field(&canonical, problem)
        })?;
        let again = seen.contains(&canonical);
        let fits = if last.is_list() {
            push(root, &path, value)
        } else if again {
            return Err(Refusal::field(&canonical, "is given twice"));
        } else {
            fields::put(root, &path, value)
        };
        if !fits {
            return Err(unknown());
        }
        seen.push(canonical);
    }
    Ok(())
}

/// Appends to a list; a list's parameter is repeated.
fn push(root: &mut Map<String, Value>, path: &[FieldDescriptor], value: Value) -> bool {
    // Only lists of the request itself: the API has no others outside bodies.
    let [field] = path else { return false };
    let list = root
        .entry(field.json_name())
        .or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut().map(|list| list.push(value)).is_some()
}

/// A parameter's text as JSON; none if the field's type has no such value, or no text form.
fn parameter(field: &FieldDescriptor, text: &str) -> Option<Value> {
    match field.kind() {
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Enum(_) => Some(
            text.parse::<i32>()
                .map_or_else(|_| text.into(), Value::from),
        ),
        Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask" => {
            Some(mask(text).into())
        }
        Kind::Message(_) => None,
        // Numbers and bytes are read from JSON text, too.
        _ => Some(text.into()),
    }
}

/// A field mask whose paths are written with JSON's names, as its canonical JSON asks for: those
/// of the `.proto` file are accepted in a query.
fn mask(text: &str) -> String {
    let mut camel = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '_' && next.is_ascii_lowercase() => {
                camel.extend(chars.next().map(|next| next.to_ascii_uppercase()));
            }
            _ => camel.push(c),
        }
    }
    camel
}

fn read(input: MessageDescriptor, root: Map<String, Value>) -> Result<DynamicMessage, Refusal> {
    let mut track = serde_path_to_error::Track::new();
    let json = Value::Object(root);
    let deserializer = serde_path_to_error::Deserializer::new(&json, &mut track);
    DynamicMessage::deserialize(input.clone(), deserializer).map_err(|error| {
        let path = track.path();
        let (text, field) = field_at(&input, &path);
        let problem = value::problem(field.as_ref(), value::at(&json, &path), &error);
        Refusal::field(&text, problem)
    })
}

/// The path to a wrong value in the request, with the `.proto` file's names, and the field that it
/// ends at, if it is one.
fn field_at(input: &MessageDescriptor, path: &Path) -> (String, Option<FieldDescriptor>) {
    let mut at = Some(input.clone());
    let mut last = None;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                let field = at.as_ref().and_then(|message| fields::find(message, key));
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(field.as_ref().map_or(key, |field| field.name()));
                at = (field.as_ref()).and_then(|field| field.kind().as_message().cloned());
                last = field;
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    (text, last)
}
