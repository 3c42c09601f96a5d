//! Single fields of a manifest: each is read in the API's canonical JSON form and in the form
//! that people write, and written in the latter.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use xpu_model::{Id, IfAddr, Kind, Mac, ObjectKey};
use xpu_proto::opinetcommon::v1alpha1::IpPrefix;

use crate::wire;

/// An address with a length: `10.0.0.1/24`, or the API's
/// `{"addr": {"af": "IP_AF_INET", "v4Addr": 167772161}, "len": 24}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Prefix(pub IfAddr);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a length, like 10.0.0.1/24 or fd00::1/64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Prefix, E> {
                text.parse().map(Prefix).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Prefix, A::Error> {
                let canonical = IpPrefix::deserialize(MapAccessDeserializer::new(map))?;
                wire::read_prefix(&canonical)
                    .map(Prefix)
                    .map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

/// A MAC address: `02:00:00:00:00:01`, or base64 as the API writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MacText(pub Mac);

impl<'de> Deserialize<'de> for MacText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl Visitor<'_> for Forms {
            type Value = MacText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address, like 02:00:00:00:00:01")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MacText, E> {
                let mac = match STANDARD.decode(text) {
                    // Six bytes of base64 are eight characters without a colon.
                    Ok(bytes) => Mac::from_wire(&bytes),
                    Err(_) => text.parse(),
                };
                mac.map(MacText).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Forms)
    }
}

/// A port's type: `ACCESS` or `TRUNK`, or as the API's enum has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortType {
    /// Untagged, in one LogicalBridge.
    #[serde(rename = "ACCESS", alias = "BRIDGE_PORT_TYPE_ACCESS")]
    Access,
    /// Tagged.
    #[serde(rename = "TRUNK", alias = "BRIDGE_PORT_TYPE_TRUNK")]
    Trunk,
}

/// A reference to a Vrf, in any form of its name.
pub fn vrf<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    let text = String::deserialize(deserializer)?;
    reference(Kind::Vrf, &text).map_err(D::Error::custom)
}

/// A reference to a LogicalBridge.
pub fn logical_bridge<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    let text = String::deserialize(deserializer)?;
    reference(Kind::LogicalBridge, &text).map_err(D::Error::custom)
}

/// References to LogicalBridges: a set, so in order and each once.
pub fn logical_bridges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Id>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let ids = texts
        .iter()
        .map(|text| reference(Kind::LogicalBridge, text));
    let mut ids = ids
        .collect::<Result<Vec<_>, _>>()
        .map_err(D::Error::custom)?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn reference(kind: Kind, text: &str) -> Result<Id, xpu_model::name::NameError> {
    ObjectKey::parse(kind, text).map(|key| key.id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn prefixes_in_both_forms() {
        let text = read::<Prefix>(json!("10.0.0.1/24"));
        let canonical = json!({"addr": {"af": "IP_AF_INET", "v4Addr": 167_772_161}, "len": 24});
        assert_eq!(text, read(canonical));
        let text = read::<Prefix>(json!("fd00::1/64"));
        let canonical =
            json!({"addr": {"af": "IP_AF_INET6", "v6Addr": "/QAAAAAAAAAAAAAAAAAAAQ=="}, "len": 64});
        assert_eq!(text, read(canonical));
        for wrong in [
            json!("10.0.0.1"),
            json!("10.0.0.1/33"),
            json!(7),
            json!({"len": 24}),
            json!({"adr": 1}),
        ] {
            assert!(read::<Prefix>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn macs_in_both_forms() {
        let text = read::<MacText>(json!("02:00:00:00:00:01"));
        assert_eq!(text, read(json!("AgAAAAAB")));
        for wrong in [
            "",
            "AQAAAAAB",
            "01:00:5e:00:00:01",
            "02:00:00:00:00",
            "AgAA",
        ] {
            assert!(read::<MacText>(json!(wrong)).is_err(), "{wrong}");
        }
    }
}
