//! `LogicalBridge`.

use xpu_model::{FieldViolation, LogicalBridgeSpec, Object, Spec, VlanId};
use xpu_proto::evpn_gw::v1alpha1 as pb;

use super::{Violations, prefix, status};
use crate::{
    api::resource::{Field, Resource, field},
    reconcile::board::ObjectStatus,
};

impl Resource for LogicalBridgeSpec {
    type Message = pb::LogicalBridge;
    type SpecMessage = pb::LogicalBridgeSpec;

    const ID_FIELD: &'static str = "logical_bridge_id";
    const MESSAGE_FIELD: &'static str = "logical_bridge";
    const FIELDS: &'static [Field<pb::LogicalBridgeSpec>] = &[
        field!(pb::LogicalBridgeSpec, vlan_id),
        field!(pb::LogicalBridgeSpec, vni),
        field!(pb::LogicalBridgeSpec, vtep_ip_prefix),
    ];

    fn given(message: pb::LogicalBridge) -> (String, Option<pb::LogicalBridgeSpec>) {
        (message.name, message.spec)
    }

    fn parse(spec: &pb::LogicalBridgeSpec) -> Result<Self, Vec<FieldViolation>> {
        let pb::LogicalBridgeSpec {
            vlan_id,
            vni,
            vtep_ip_prefix,
        } = spec;
        let mut violations = Violations::default();
        let vlan = violations.take("spec.vlan_id", VlanId::try_from(*vlan_id));
        let vni = violations.vni(*vni);
        let vtep = violations.vtep(vtep_ip_prefix.as_ref());
        violations.finish(vlan.map(|vlan| Self { vlan, vni, vtep }))
    }

    fn print(&self) -> pb::LogicalBridgeSpec {
        pb::LogicalBridgeSpec {
            vlan_id: self.vlan.into(),
            vni: self.vni.map(u32::from),
            vtep_ip_prefix: self.vtep.map(prefix::print),
        }
    }

    fn message(object: &Object<Self>, status: &ObjectStatus) -> pb::LogicalBridge {
        pb::LogicalBridge {
            name: Self::key(&object.id).to_string(),
            spec: Some(object.spec.print()),
            status: status::message!(LogicalBridgeStatus, LbOperStatus, object, status),
        }
    }
}
