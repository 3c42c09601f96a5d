//! Resource names: what an object is called in the API.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// The four kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// An L3 tenant: routing table and, with a VNI, L3 EVPN.
    Vrf,
    /// An L2 tenant network: a VLAN and, with a VNI, L2 EVPN.
    LogicalBridge,
    /// Where a VF meets the bridge.
    BridgePort,
    /// The gateway of a LogicalBridge in a Vrf.
    Svi,
}

impl Kind {
    /// All kinds, in the order in which they depend on each other.
    pub const ALL: [Self; 4] = [Self::Vrf, Self::LogicalBridge, Self::BridgePort, Self::Svi];

    /// The kind's name in the API: `Vrf`, `LogicalBridge`, `BridgePort`, `Svi`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vrf => "Vrf",
            Self::LogicalBridge => "LogicalBridge",
            Self::BridgePort => "BridgePort",
            Self::Svi => "Svi",
        }
    }

    /// The collection's name: `vrfs`, `logicalBridges`, `bridgePorts`, `svis`.
    #[must_use]
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Vrf => "vrfs",
            Self::LogicalBridge => "logicalBridges",
            Self::BridgePort => "bridgePorts",
            Self::Svi => "svis",
        }
    }

    /// Whether `collection` names this kind in `//network.opiproject.org/{collection}/{id}`,
    /// where public clients also write `bridges` and `ports`.
    fn accepts_full(self, collection: &str) -> bool {
        collection == self.collection()
            || matches!(
                (self, collection),
                (Self::LogicalBridge, "bridges") | (Self::BridgePort, "ports")
            )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last segment of a resource name: a user's id or a server-made UUID. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

/// Why a text is no id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The id breaks AIP-122's rules.
    #[error("`{0}` is no valid id; use 4 to 63 of a-z, 0-9 and `-`, a letter first, no `-` last")]
    Id(String),
    /// A user's id must not look like one the server makes.
    #[error("`{0}` is a UUID, which only the server gives; choose another id")]
    Uuid(String),
    /// The name belongs to another collection or is malformed.
    #[error("`{name}` is no name of a {kind}; write {}/{{id}} or the bare id", kind.collection())]
    Name {
        /// The text given.
        name: String,
        /// The kind it should name.
        kind: Kind,
    },
}

/// AIP-122: letters, digits and dashes, a letter first, no dash last, 4 to 63 characters.
fn is_user_id(text: &str) -> bool {
    (4..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

impl Id {
    /// An id chosen by a user.
    ///
    /// # Errors
    /// [`NameError`] when it breaks the rules or is a UUID.
    pub fn user(text: &str) -> Result<Self, NameError> {
        if is_uuid(text) {
            Err(NameError::Uuid(text.to_owned()))
        } else if is_user_id(text) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Id(shown(text)))
        }
    }

    /// An id the server made.
    #[must_use]
    pub fn server(uuid: uuid::Uuid) -> Self {
        Self(uuid.hyphenated().to_string().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = NameError;

    /// Any id that can exist: a user's or the server's.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_user_id(text) || (is_uuid(text) && text == text.to_ascii_lowercase()) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Id(shown(text)))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Kind and id: what identifies an object. Displays as its canonical name, `vrfs/blue`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The collection.
    pub kind: Kind,
    /// The id in it.
    pub id: Id,
}

impl ObjectKey {
    /// Joins kind and id.
    #[must_use]
    pub const fn new(kind: Kind, id: Id) -> Self {
        Self { kind, id }
    }

    /// Reads any accepted form of a name: `vrfs/blue`, `blue`, or
    /// `//network.opiproject.org/vrfs/blue`.
    ///
    /// # Errors
    /// [`NameError`] when it is none of these, or names another kind.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Name {
            name: shown(text),
            kind,
        };
        let id = if let Some(full) = text.strip_prefix("//network.opiproject.org/") {
            let (collection, id) = full.split_once('/').ok_or_else(wrong)?;
            if !kind.accepts_full(collection) {
                return Err(wrong());
            }
            id
        } else if let Some((collection, id)) = text.split_once('/') {
            if collection != kind.collection() {
                return Err(wrong());
            }
            id
        } else {
            text
        };
        id.parse().map(|id| Self { kind, id })
    }
}

/// The text is no canonical name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical;

impl FromStr for ObjectKey {
    type Err = NotCanonical;

    /// Reads exactly what [`fmt::Display`] writes: `vrfs/blue`.
    fn from_str(name: &str) -> Result<Self, NotCanonical> {
        let (collection, id) = name.split_once('/').ok_or(NotCanonical)?;
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.collection() == collection);
        let id = id.parse().map_err(|_| NotCanonical)?;
        Ok(Self::new(kind.ok_or(NotCanonical)?, id))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.collection(), self.id)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(Kind::Vrf, "vrfs/blue", Some("blue"))]
    #[case(Kind::Vrf, "blue", Some("blue"))]
    #[case(Kind::Vrf, "//network.opiproject.org/vrfs/blue", Some("blue"))]
    #[case(
        Kind::LogicalBridge,
        "//network.opiproject.org/bridges/blue",
        Some("blue")
    )]
    #[case(
        Kind::LogicalBridge,
        "//network.opiproject.org/logicalBridges/blue",
        Some("blue")
    )]
    #[case(
        Kind::BridgePort,
        "//network.opiproject.org/ports/port-1",
        Some("port-1")
    )]
    #[case(Kind::BridgePort, "ports/port-1", None)]
    #[case(Kind::Vrf, "svis/blue", None)]
    #[case(Kind::Vrf, "vrfs/blue/green", None)]
    #[case(Kind::Vrf, "//example.org/vrfs/blue", None)]
    #[case(Kind::Vrf, "vrfs/", None)]
    #[case(
        Kind::Vrf,
        "9f8b7a6c-0000-4000-8000-000000000001",
        Some("9f8b7a6c-0000-4000-8000-000000000001")
    )]
    fn names(#[case] kind: Kind, #[case] text: &str, #[case] id: Option<&str>) {
        let parsed = ObjectKey::parse(kind, text).ok();
        assert_eq!(parsed.as_ref().map(|key| key.id.as_str()), id);
        assert!(parsed.is_none_or(|key| key.kind == kind));
    }

    #[rstest::rstest]
    #[case("abc", false)]
    #[case("abcd", true)]
    #[case("1abc", false)]
    #[case("abc-", false)]
    #[case("aB-c", false)]
    #[case("9f8b7a6c-0000-4000-8000-000000000001", false)]
    #[case("a9f8b7a6c", true)]
    fn user_ids(#[case] text: &str, #[case] ok: bool) {
        assert_eq!(Id::user(text).is_ok(), ok, "{text}");
    }

    #[test]
    fn user_ids_end_at_63() {
        assert!(Id::user(&"a".repeat(63)).is_ok());
        assert!(Id::user(&"a".repeat(64)).is_err());
    }
}
