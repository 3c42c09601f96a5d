//! `BridgePort`.

use std::collections::BTreeSet;

use xpu_model::{BridgePortSpec, FieldViolation, Id, Kind, Object, PortMode, Spec};
use xpu_proto::evpn_gw::v1alpha1 as pb;

use super::{Violations, name, status};
use crate::{
    api::resource::{Field, Resource, field},
    reconcile::board::ObjectStatus,
};

/// A node has one for each VLAN (IEEE 802.1Q-2022, 9.6).
const MOST_BRIDGES: usize = 4094;

impl Resource for BridgePortSpec {
    type Message = pb::BridgePort;
    type SpecMessage = pb::BridgePortSpec;

    const ID_FIELD: &'static str = "bridge_port_id";
    const MESSAGE_FIELD: &'static str = "bridge_port";
    const FIELDS: &'static [Field<pb::BridgePortSpec>] = &[
        field!(pb::BridgePortSpec, mac_address),
        field!(pb::BridgePortSpec, ptype),
        field!(pb::BridgePortSpec, logical_bridges),
    ];

    fn given(message: pb::BridgePort) -> (String, Option<pb::BridgePortSpec>) {
        (message.name, message.spec)
    }

    fn parse(spec: &pb::BridgePortSpec) -> Result<Self, Vec<FieldViolation>> {
        let pb::BridgePortSpec {
            mac_address,
            ptype,
            logical_bridges,
        } = spec;
        let mut violations = Violations::default();
        let mac = violations.mac(mac_address);
        let mode = mode(*ptype, logical_bridges, &mut violations);
        violations.finish(mac.zip(mode).map(|(mac, mode)| Self { mac, mode }))
    }

    fn print(&self) -> pb::BridgePortSpec {
        let ptype = match self.mode {
            PortMode::Access(_) => pb::BridgePortType::Access,
            PortMode::Trunk(_) | PortMode::TransparentTrunk => pb::BridgePortType::Trunk,
        };
        let named = self.mode.named();
        pb::BridgePortSpec {
            mac_address: self.mac.octets().to_vec(),
            ptype: ptype.into(),
            logical_bridges: named
                .into_iter()
                .map(|id| name(Kind::LogicalBridge, id))
                .collect(),
        }
    }

    fn message(object: &Object<Self>, status: &ObjectStatus) -> pb::BridgePort {
        pb::BridgePort {
            name: Self::key(&object.id).to_string(),
            spec: Some(object.spec.print()),
            status: status::message!(BridgePortStatus, BpOperStatus, object, status),
        }
    }
}

fn mode(ptype: i32, names: &[String], violations: &mut Violations) -> Option<PortMode> {
    let field = "spec.logical_bridges";
    if !violations.at_most(field, MOST_BRIDGES, names.len()) {
        return None;
    }
    let references = names.iter().enumerate().map(|(index, name)| {
        violations.reference(&format!("{field}[{index}]"), Kind::LogicalBridge, name)
    });
    // All are read, so that each violation is in the answer and not only the first.
    let references: Vec<Option<Id>> = references.collect();
    let ids: Option<BTreeSet<Id>> = references.into_iter().collect();
    match pb::BridgePortType::try_from(ptype) {
        Ok(pb::BridgePortType::Trunk) => ids.map(PortMode::trunk),
        Ok(pb::BridgePortType::Access) => match names.len() {
            1 => ids
                .and_then(|ids| ids.into_iter().next())
                .map(PortMode::Access),
            count => {
                violations.add(
                    field,
                    format!("an access port has exactly one, not {count}"),
                );
                None
            }
        },
        Ok(pb::BridgePortType::Unspecified) | Err(_) => {
            violations.add(
                "spec.ptype",
                format!("{ptype} is no type; give BRIDGE_PORT_TYPE_ACCESS or _TRUNK"),
            );
            None
        }
    }
}
