//! The specs of the four kinds as manifests have them, and the way from and to the API's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xpu_model::{Asn, Id, Kind, Mac, ObjectKey, VlanId, Vni};
use xpu_proto::evpn_gw::v1alpha1 as api;
use xpu_proto::opinetcommon::v1alpha1::IpPrefix;

pub use super::fields::PortType;
use super::fields::{self, MacText, Prefix};
use crate::wire;

/// What is wanted of an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spec {
    /// A Vrf.
    Vrf(VrfText),
    /// A LogicalBridge.
    LogicalBridge(LogicalBridgeText),
    /// A BridgePort.
    BridgePort(BridgePortText),
    /// An Svi.
    Svi(SviText),
}

/// See the API's `VrfSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VrfText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    #[serde(alias = "loopback_ip_prefix")]
    pub loopback_ip_prefix: Prefix,
    #[serde(
        default,
        alias = "vtep_ip_prefix",
        skip_serializing_if = "Option::is_none"
    )]
    pub vtep_ip_prefix: Option<Prefix>,
}

/// See the API's `LogicalBridgeSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogicalBridgeText {
    #[serde(alias = "vlan_id")]
    pub vlan_id: VlanId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    #[serde(
        default,
        alias = "vtep_ip_prefix",
        skip_serializing_if = "Option::is_none"
    )]
    pub vtep_ip_prefix: Option<Prefix>,
}

/// See the API's `BridgePortSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BridgePortText {
    #[serde(alias = "mac_address")]
    pub mac_address: MacText,
    pub ptype: PortType,
    #[serde(
        default,
        alias = "logical_bridges",
        deserialize_with = "fields::logical_bridges",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub logical_bridges: Vec<Id>,
}

/// See the API's `SviSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SviText {
    #[serde(deserialize_with = "fields::vrf")]
    pub vrf: Id,
    #[serde(alias = "logical_bridge", deserialize_with = "fields::logical_bridge")]
    pub logical_bridge: Id,
    #[serde(alias = "mac_address")]
    pub mac_address: MacText,
    #[serde(alias = "gw_ip_prefix")]
    pub gw_ip_prefix: Vec<Prefix>,
    #[serde(
        default,
        alias = "enable_bgp",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub enable_bgp: bool,
    #[serde(
        default,
        alias = "remote_as",
        deserialize_with = "absent_or_asn",
        skip_serializing_if = "Option::is_none"
    )]
    pub remote_as: Option<Asn>,
}

/// The API writes 0 for "none".
fn absent_or_asn<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Asn>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        None | Some(0) => Ok(None),
        Some(number) => Asn::try_from(number)
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}

/// Why a value is no spec: where, and what.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SpecError {
    /// The field's path: `spec.gwIpPrefix[0]`.
    pub field: String,
    /// With the value and what is accepted.
    pub why: String,
}

impl Spec {
    /// Reads a manifest's `spec`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(kind: Kind, value: Value) -> Result<Self, SpecError> {
        let spec = match kind {
            Kind::Vrf => Self::Vrf(typed(value)?),
            Kind::LogicalBridge => Self::LogicalBridge(typed(value)?),
            Kind::BridgePort => Self::BridgePort(typed(value)?),
            Kind::Svi => Self::Svi(typed(value)?),
        };
        spec.check()?;
        Ok(spec)
    }

    /// The rules over more than one field.
    fn check(&self) -> Result<(), SpecError> {
        let wrong = |field: &str, why: String| {
            Err(SpecError {
                field: format!("spec.{field}"),
                why,
            })
        };
        match self {
            Self::Vrf(_) | Self::LogicalBridge(_) => Ok(()),
            Self::BridgePort(port) => match (port.ptype, port.logical_bridges.len()) {
                (PortType::Access, 1) | (PortType::Trunk, _) => Ok(()),
                (PortType::Access, named) => wrong(
                    "logicalBridges",
                    format!("an ACCESS port is in exactly one; {named} are named"),
                ),
            },
            Self::Svi(svi) => match (svi.enable_bgp, svi.remote_as) {
                _ if svi.gw_ip_prefix.is_empty() => {
                    wrong("gwIpPrefix", "at least one gateway is needed".to_owned())
                }
                (true, None) => wrong("remoteAs", "enableBgp needs the tenants' AS".to_owned()),
                (false, Some(asn)) => {
                    wrong("remoteAs", format!("{asn} is of no use without enableBgp"))
                }
                _ => Ok(()),
            },
        }
    }

    /// The objects that must be there first.
    pub fn references(&self) -> Vec<ObjectKey> {
        let bridge = |id: &Id| ObjectKey::new(Kind::LogicalBridge, id.clone());
        match self {
            Self::Vrf(_) | Self::LogicalBridge(_) => Vec::new(),
            Self::BridgePort(port) => port.logical_bridges.iter().map(bridge).collect(),
            Self::Svi(svi) => vec![
                ObjectKey::new(Kind::Vrf, svi.vrf.clone()),
                bridge(&svi.logical_bridge),
            ],
        }
    }

    /// Replaces references by the new names of what they refer to.
    pub fn rename(&mut self, names: &BTreeMap<ObjectKey, ObjectKey>) {
        let rename = |kind, id: &mut Id| {
            if let Some(new) = names.get(&ObjectKey::new(kind, id.clone())) {
                *id = new.id.clone();
            }
        };
        match self {
            Self::Vrf(_) | Self::LogicalBridge(_) => {}
            Self::BridgePort(port) => {
                for id in &mut port.logical_bridges {
                    rename(Kind::LogicalBridge, id);
                }
                // A set is kept in order, as it is read.
                port.logical_bridges.sort_unstable();
            }
            Self::Svi(svi) => {
                rename(Kind::Vrf, &mut svi.vrf);
                rename(Kind::LogicalBridge, &mut svi.logical_bridge);
            }
        }
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, SpecError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = match path.as_str() {
            "." => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        let why = error.into_inner().to_string();
        SpecError { field, why }
    })
}

fn prefix(prefix: Prefix) -> IpPrefix {
    wire::prefix(prefix.0)
}

impl From<VrfText> for api::VrfSpec {
    fn from(spec: VrfText) -> Self {
        Self {
            vni: spec.vni.map(u32::from),
            loopback_ip_prefix: Some(prefix(spec.loopback_ip_prefix)),
            vtep_ip_prefix: spec.vtep_ip_prefix.map(prefix),
        }
    }
}

impl From<LogicalBridgeText> for api::LogicalBridgeSpec {
    fn from(spec: LogicalBridgeText) -> Self {
        Self {
            vlan_id: spec.vlan_id.into(),
            vni: spec.vni.map(u32::from),
            vtep_ip_prefix: spec.vtep_ip_prefix.map(prefix),
        }
    }
}

impl From<BridgePortText> for api::BridgePortSpec {
    fn from(spec: BridgePortText) -> Self {
        let ptype = match spec.ptype {
            PortType::Access => api::BridgePortType::Access,
            PortType::Trunk => api::BridgePortType::Trunk,
        };
        Self {
            mac_address: mac(spec.mac_address.0),
            ptype: ptype.into(),
            logical_bridges: spec
                .logical_bridges
                .into_iter()
                .map(|id| ObjectKey::new(Kind::LogicalBridge, id).to_string())
                .collect(),
        }
    }
}

impl From<SviText> for api::SviSpec {
    fn from(spec: SviText) -> Self {
        Self {
            vrf: ObjectKey::new(Kind::Vrf, spec.vrf).to_string(),
            logical_bridge: ObjectKey::new(Kind::LogicalBridge, spec.logical_bridge).to_string(),
            mac_address: mac(spec.mac_address.0),
            gw_ip_prefix: spec.gw_ip_prefix.into_iter().map(prefix).collect(),
            enable_bgp: spec.enable_bgp,
            remote_as: spec.remote_as.map_or(0, u32::from),
        }
    }
}

fn mac(mac: Mac) -> Vec<u8> {
    mac.octets().to_vec()
}

macro_rules! object_of {
    ($($text:ident => $object:ident),*) => {$(
        impl From<$text> for api::$object {
            /// The object with this spec; the agent gives it name and status.
            fn from(spec: $text) -> Self {
                Self {
                    spec: Some(spec.into()),
                    ..Self::default()
                }
            }
        }
    )*};
}

object_of!(
    VrfText => Vrf,
    LogicalBridgeText => LogicalBridge,
    BridgePortText => BridgePort,
    SviText => Svi
);
