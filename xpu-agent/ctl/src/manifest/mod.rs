//! Objects as files have them: `kind`, `name` and a `spec` with the API's JSON names, in
//! which addresses are written as people write them.
//!
//! ```yaml
//! kind: LogicalBridge
//! name: net-blue
//! spec: {vlanId: 100, vni: 10100}
//! ```
//!
//! What a manifest holds is valid in itself; rules between objects are the agent's.

mod fields;
mod read;
mod spec;

pub use fields::{MacText, Prefix};
pub use read::{Source, SourceError, read};
pub use spec::{BridgePortText, LogicalBridgeText, PortType, Spec, SviText, VrfText};

use serde::Serialize;
use serde_json::{Map, Value};
use xpu_model::ObjectKey;

use crate::render;

/// One object as it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Kind and id.
    pub key: ObjectKey,
    /// What is wanted of it.
    pub spec: Spec,
}

/// How a manifest is written out. The order of the fields is the order in the file.
#[derive(Serialize)]
struct Written<'a> {
    kind: &'static str,
    name: &'a str,
    spec: &'a Spec,
}

impl Manifest {
    fn written(&self) -> Written<'_> {
        Written {
            kind: self.key.kind.as_str(),
            name: self.key.id.as_str(),
            spec: &self.spec,
        }
    }
}

/// Manifests as YAML, one document each.
///
/// # Errors
/// None that these values could cause; the serializer's type has one.
pub fn yaml(manifests: &[Manifest]) -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::new();
    for manifest in manifests {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&serde_saphyr::to_string(&manifest.written())?);
    }
    Ok(text)
}

/// Manifests as one JSON array.
///
/// # Errors
/// As of [`yaml`].
pub fn json(manifests: &[Manifest]) -> Result<String, serde_json::Error> {
    let written: Vec<_> = manifests.iter().map(Manifest::written).collect();
    render::json(&written)
}

/// A field in which two specs differ.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The JSON name: `vtepIpPrefix`.
    pub field: String,
    /// The value there is; `None`: the field is not set.
    pub old: Option<Value>,
    /// The value wanted.
    pub new: Option<Value>,
}

impl FieldChange {
    /// The field's path in an update mask: `spec.vtep_ip_prefix`.
    pub fn mask_path(&self) -> String {
        let mut path = "spec.".to_owned();
        for c in self.field.chars() {
            if c.is_ascii_uppercase() {
                path.push('_');
            }
            path.push(c.to_ascii_lowercase());
        }
        path
    }
}

/// The fields in which `wanted` differs from `live`, by name.
pub fn differences(live: &Spec, wanted: &Spec) -> Vec<FieldChange> {
    let (old, new) = (fields_of(live), fields_of(wanted));
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
        })
        .collect()
}

/// A spec's fields with their values, those that are not set left out.
pub fn fields_of(spec: &Spec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        // A spec is a struct of texts and numbers.
        _ => Map::new(),
    }
}
