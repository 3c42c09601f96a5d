//! What a record looks like on disk: JSON in a versioned envelope, one per object.
//!
//! Version 1 is `{"version":1,"object":{…}}` with the model's own serde form. A change of that
//! form needs version 2, a reader for version 1, and a golden file beside the old one.

use serde::{Deserialize, Serialize};
use xpu_model::{
    BridgePortSpec, Id, Intent, Kind, LogicalBridgeSpec, Object, ObjectKey, Spec, SviSpec, VrfSpec,
};

/// The version written.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(bound = "S: Spec", deny_unknown_fields)]
struct Envelope<S: Spec> {
    version: u32,
    object: Object<S>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The key is no resource name.
    #[error("`{0}` is no resource name")]
    Key(String),
    /// Written by a newer agent.
    #[error("{key} has version {version}, this agent reads {VERSION}; run the newer agent again")]
    Version {
        /// The record's key.
        key: String,
        /// Its version.
        version: u32,
    },
    /// Not JSON of that version.
    #[error("{key} is damaged")]
    Damaged {
        /// The record's key.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// An object's record.
pub(super) fn encode<S: Spec>(object: &Object<S>) -> Vec<u8> {
    let envelope = Envelope {
        version: VERSION,
        object: object.clone(),
    };
    // The model's types serialise to plain maps, texts and numbers, which cannot fail.
    serde_json::to_vec(&envelope).unwrap_or_else(|error| unreachable!("{error}"))
}

/// Reads a record into the intent.
pub(super) fn decode(key: &str, record: &[u8], intent: &mut Intent) -> Result<(), RecordError> {
    match parse_key(key)?.kind {
        Kind::Vrf => intent.restore(object::<VrfSpec>(key, record)?),
        Kind::LogicalBridge => intent.restore(object::<LogicalBridgeSpec>(key, record)?),
        Kind::BridgePort => intent.restore(object::<BridgePortSpec>(key, record)?),
        Kind::Svi => intent.restore(object::<SviSpec>(key, record)?),
    }
    Ok(())
}

fn object<S: Spec>(key: &str, record: &[u8]) -> Result<Object<S>, RecordError> {
    let damaged = |source| RecordError::Damaged {
        key: key.to_owned(),
        source,
    };
    let Version { version } = serde_json::from_slice(record).map_err(damaged)?;
    if version != VERSION {
        return Err(RecordError::Version {
            key: key.to_owned(),
            version,
        });
    }
    let envelope: Envelope<S> = serde_json::from_slice(record).map_err(damaged)?;
    Ok(envelope.object)
}

fn parse_key(key: &str) -> Result<ObjectKey, RecordError> {
    let wrong = || RecordError::Key(key.escape_debug().to_string());
    let (collection, id) = key.split_once('/').ok_or_else(wrong)?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.collection() == collection);
    let id = id.parse::<Id>().map_err(|_| wrong())?;
    Ok(ObjectKey::new(kind.ok_or_else(wrong)?, id))
}
