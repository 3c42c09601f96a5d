//! What a record looks like on disk: JSON in a versioned envelope, one per object.
//!
//! A record is `{"version":2,"object":{…}}` with the model's own serde form. A change of that form
//! needs another version, a reader for those before, and a golden file beside theirs.
//!
//! - 1: as the first release wrote it.
//! - 2: with the commit that created the object. One of version 1 counts as created by the commit
//!   that last changed it.

use serde::{Deserialize, Serialize};
use xpu_model::{
    BridgePortSpec, Intent, Kind, LogicalBridgeSpec, Object, ObjectKey, Spec, SviSpec, VrfSpec,
};

/// The version written.
const VERSION: u32 = 2;
/// The oldest version read.
const OLDEST: u32 = 1;

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
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(RecordError::Version {
            key: key.to_owned(),
            version,
        });
    }
    let envelope: Envelope<S> = serde_json::from_slice(record).map_err(damaged)?;
    let mut object = envelope.object;
    if version == OLDEST {
        object.created = object.generation;
    }
    Ok(object)
}

fn parse_key(key: &str) -> Result<ObjectKey, RecordError> {
    key.parse()
        .map_err(|_| RecordError::Key(key.escape_debug().to_string()))
}
