//! Collections of a spec that are never empty.

use std::{collections::BTreeSet, net::IpAddr, ops::Deref};

use serde::{Deserialize, Serialize};

use crate::{addr::IfAddr, name::Id};

/// The gateway addresses of an Svi: at least one, and none twice. Stored as a plain list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IfAddr>")]
pub struct Gateways(Vec<IfAddr>);

/// Why addresses are no gateways of an Svi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewaysError {
    /// There is none.
    #[error("there is no gateway address; name at least one")]
    Empty,
    /// One is there twice.
    #[error("the gateway address {0} is given twice; name it once")]
    Twice(IpAddr),
}

impl TryFrom<Vec<IfAddr>> for Gateways {
    type Error = GatewaysError;

    fn try_from(addresses: Vec<IfAddr>) -> Result<Self, GatewaysError> {
        if addresses.is_empty() {
            return Err(GatewaysError::Empty);
        }
        let mut seen = BTreeSet::new();
        match addresses.iter().find(|it| !seen.insert(it.addr())) {
            Some(twice) => Err(GatewaysError::Twice(twice.addr())),
            None => Ok(Self(addresses)),
        }
    }
}

impl Deref for Gateways {
    type Target = [IfAddr];

    fn deref(&self) -> &[IfAddr] {
        &self.0
    }
}

/// The LogicalBridges that a trunk names: at least one. Stored as a plain list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<Id>")]
pub struct TrunkBridges(BTreeSet<Id>);

/// A trunk names no LogicalBridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trunk names no LogicalBridge; name at least one, or make it a transparent one")]
pub struct NoTrunkBridges;

impl TryFrom<BTreeSet<Id>> for TrunkBridges {
    type Error = NoTrunkBridges;

    fn try_from(ids: BTreeSet<Id>) -> Result<Self, NoTrunkBridges> {
        if ids.is_empty() {
            Err(NoTrunkBridges)
        } else {
            Ok(Self(ids))
        }
    }
}

impl Deref for TrunkBridges {
    type Target = BTreeSet<Id>;

    fn deref(&self) -> &BTreeSet<Id> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_stored_as_a_list_and_read_with_the_same_rules() {
        let read = |json: &str| serde_json::from_str::<Gateways>(json);
        let stored = r#"["10.1.0.1/24","fd00:1::1/64"]"#;
        let gateways = read(stored).unwrap();
        assert_eq!(gateways.len(), 2);
        assert_eq!(serde_json::to_string(&gateways).unwrap(), stored);
        for (json, reason) in [
            ("[]", "no gateway address"),
            (
                r#"["10.1.0.1/24","10.1.0.1/16"]"#,
                "10.1.0.1 is given twice",
            ),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_trunks_bridges_are_stored_as_a_list_and_never_empty() {
        let stored = r#"["blue","green"]"#;
        let bridges: TrunkBridges = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&bridges).unwrap(), stored);
        assert!(serde_json::from_str::<TrunkBridges>("[]").is_err());
    }
}
