//! The API's calls as data, with specs as JSON.

use serde_json::{Value, json};

/// One kind's names in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `Vrf`
    pub message: &'static str,
    /// `vrf`
    pub field: &'static str,
    /// `vrfs`, in names, paths and the JSON of lists.
    pub collection: &'static str,
}

pub const VRF: Kind = Kind {
    message: "Vrf",
    field: "vrf",
    collection: "vrfs",
};
pub const LOGICAL_BRIDGE: Kind = Kind {
    message: "LogicalBridge",
    field: "logical_bridge",
    collection: "logicalBridges",
};
pub const BRIDGE_PORT: Kind = Kind {
    message: "BridgePort",
    field: "bridge_port",
    collection: "bridgePorts",
};
pub const SVI: Kind = Kind {
    message: "Svi",
    field: "svi",
    collection: "svis",
};
pub const KINDS: [Kind; 4] = [VRF, LOGICAL_BRIDGE, BRIDGE_PORT, SVI];

/// A call, whatever it is made over.
#[derive(Clone, Debug)]
pub enum Call {
    Create(Kind, String, Value),
    Get(Kind, String),
    List(Kind, i32, String),
    Update {
        kind: Kind,
        name: String,
        spec: Value,
        mask: Option<String>,
        allow_missing: bool,
    },
    Delete(Kind, String, bool),
}

/// A call as HTTP/JSON has it.
pub struct HttpCall {
    pub method: &'static str,
    /// With the query.
    pub path: String,
    pub body: Option<Value>,
}

impl Call {
    /// What HTTP paths there are is written here by hand, as the public API has them: the gateway
    /// must agree.
    pub fn http(&self) -> HttpCall {
        let of = |method, path: String, query: &[(&str, &str)], spec: Option<&Value>| {
            let given = query.iter().filter(|(_, value)| !value.is_empty());
            let mut query = form_urlencoded::Serializer::new(String::new());
            let query = query.extend_pairs(given).finish();
            HttpCall {
                method,
                path: format!("/v1/{path}?{query}"),
                body: spec.map(|spec| json!({"spec": spec})),
            }
        };
        match self {
            Self::Create(kind, id, spec) => {
                let id_field = format!("{}_id", kind.field);
                let query = [(id_field.as_str(), id.as_str())];
                of("POST", kind.collection.to_owned(), &query, Some(spec))
            }
            Self::Get(kind, name) => of("GET", at(*kind, name), &[], None),
            Self::List(kind, size, token) => {
                let size = size.to_string();
                let query = [("pageSize", size.as_str()), ("pageToken", token)];
                of("GET", kind.collection.to_owned(), &query, None)
            }
            Self::Update {
                kind,
                name,
                spec,
                mask,
                allow_missing,
            } => {
                let allow_missing = allow_missing.to_string();
                let query = [
                    ("updateMask", mask.as_deref().unwrap_or_default()),
                    ("allowMissing", &allow_missing),
                ];
                of("PATCH", at(*kind, name), &query, Some(spec))
            }
            Self::Delete(kind, name, allow_missing) => {
                let query = [("allow_missing", allow_missing.to_string())];
                let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
                of("DELETE", at(*kind, name), &query, None)
            }
        }
    }
}

/// The path of an object: a name of the canonical form stands as it is, a bare id after its
/// collection.
fn at(kind: Kind, name: &str) -> String {
    match name.strip_prefix(kind.collection) {
        Some(rest) if rest.starts_with('/') => name.to_owned(),
        _ => format!("{}/{name}", kind.collection),
    }
}
