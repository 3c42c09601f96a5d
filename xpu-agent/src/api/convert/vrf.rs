//! `Vrf`.

use xpu_model::{FieldViolation, Object, Spec, VrfSpec};
use xpu_proto::evpn_gw::v1alpha1 as pb;

use super::{Violations, prefix, status};
use crate::{
    api::resource::{Field, Resource, field},
    reconcile::board::ObjectStatus,
};

impl Resource for VrfSpec {
    type Message = pb::Vrf;
    type SpecMessage = pb::VrfSpec;

    const ID_FIELD: &'static str = "vrf_id";
    const MESSAGE_FIELD: &'static str = "vrf";
    const FIELDS: &'static [Field<pb::VrfSpec>] = &[
        field!(pb::VrfSpec, vni),
        field!(pb::VrfSpec, loopback_ip_prefix),
        field!(pb::VrfSpec, vtep_ip_prefix),
    ];

    fn given(message: pb::Vrf) -> (String, Option<pb::VrfSpec>) {
        (message.name, message.spec)
    }

    fn parse(spec: &pb::VrfSpec) -> Result<Self, Vec<FieldViolation>> {
        let pb::VrfSpec {
            vni,
            loopback_ip_prefix,
            vtep_ip_prefix,
        } = spec;
        let mut violations = Violations::default();
        let vni = violations.vni(*vni);
        let loopback = violations.prefix("spec.loopback_ip_prefix", loopback_ip_prefix.as_ref());
        let vtep = violations.vtep(vtep_ip_prefix.as_ref());
        violations.finish(loopback.map(|loopback| Self {
            vni,
            loopback,
            vtep,
        }))
    }

    fn print(&self) -> pb::VrfSpec {
        pb::VrfSpec {
            vni: self.vni.map(u32::from),
            loopback_ip_prefix: Some(prefix::print(self.loopback)),
            vtep_ip_prefix: self.vtep.map(prefix::print),
        }
    }

    fn message(object: &Object<Self>, status: &ObjectStatus) -> pb::Vrf {
        pb::Vrf {
            name: Self::key(&object.id).to_string(),
            spec: Some(object.spec.print()),
            status: status::message!(VrfStatus, VrfOperStatus, object, status),
        }
    }
}
