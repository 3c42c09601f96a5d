//! `Svi`.

use xpu_model::{Asn, FieldViolation, Gateways, IfAddr, Kind, Object, Spec, SviBgp, SviSpec};
use xpu_proto::evpn_gw::v1alpha1 as pb;
use xpu_proto::opinetcommon::v1alpha1::IpPrefix;

use super::{Violations, name, prefix, status};
use crate::{
    api::resource::{Field, Resource, field},
    reconcile::board::ObjectStatus,
};

/// Each is an address in the kernel, and a listen range in FRR.
const MOST_GATEWAYS: usize = 256;

impl Resource for SviSpec {
    type Message = pb::Svi;
    type SpecMessage = pb::SviSpec;

    const ID_FIELD: &'static str = "svi_id";
    const MESSAGE_FIELD: &'static str = "svi";
    const FIELDS: &'static [Field<pb::SviSpec>] = &[
        field!(pb::SviSpec, vrf),
        field!(pb::SviSpec, logical_bridge),
        field!(pb::SviSpec, mac_address),
        field!(pb::SviSpec, gw_ip_prefix),
        field!(pb::SviSpec, enable_bgp),
        field!(pb::SviSpec, remote_as),
    ];

    fn given(message: pb::Svi) -> (String, Option<pb::SviSpec>) {
        (message.name, message.spec)
    }

    fn parse(spec: &pb::SviSpec) -> Result<Self, Vec<FieldViolation>> {
        let pb::SviSpec {
            vrf,
            logical_bridge,
            mac_address,
            gw_ip_prefix,
            enable_bgp,
            remote_as,
        } = spec;
        let mut violations = Violations::default();
        let vrf = violations.reference("spec.vrf", Kind::Vrf, vrf);
        let logical_bridge =
            violations.reference("spec.logical_bridge", Kind::LogicalBridge, logical_bridge);
        let mac = violations.mac(mac_address);
        let gateways = gateways(gw_ip_prefix, &mut violations);
        let bgp = bgp(*enable_bgp, *remote_as, &mut violations);
        let spec = vrf.zip(logical_bridge).zip(mac).zip(gateways).map(
            |(((vrf, logical_bridge), mac), gateways)| Self {
                vrf,
                logical_bridge,
                mac,
                gateways,
                bgp,
            },
        );
        violations.finish(spec)
    }

    fn print(&self) -> pb::SviSpec {
        pb::SviSpec {
            vrf: name(Kind::Vrf, &self.vrf),
            logical_bridge: name(Kind::LogicalBridge, &self.logical_bridge),
            mac_address: self.mac.octets().to_vec(),
            gw_ip_prefix: self.gateways.iter().copied().map(prefix::print).collect(),
            enable_bgp: self.bgp.is_some(),
            remote_as: self.bgp.map_or(0, |bgp| bgp.remote_as.get()),
        }
    }

    fn message(object: &Object<Self>, status: &ObjectStatus) -> pb::Svi {
        pb::Svi {
            name: Self::key(&object.id).to_string(),
            spec: Some(object.spec.print()),
            status: status::message!(SviStatus, SviOperStatus, object, status),
        }
    }
}

fn gateways(prefixes: &[IpPrefix], violations: &mut Violations) -> Option<Gateways> {
    let field = "spec.gw_ip_prefix";
    if prefixes.is_empty() {
        violations.add(field, "is required: at least one gateway address");
    }
    if !violations.at_most(field, MOST_GATEWAYS, prefixes.len()) {
        return None;
    }
    let mut gateways: Vec<IfAddr> = Vec::with_capacity(prefixes.len());
    for (index, prefix) in prefixes.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let Some(gateway) = violations.prefix(&field, Some(prefix)) else {
            continue;
        };
        if gateways.iter().any(|other| other.addr() == gateway.addr()) {
            violations.add(&field, format!("{} is given twice", gateway.addr()));
        }
        gateways.push(gateway);
    }
    // What is wrong with them is among the violations.
    Gateways::try_from(gateways).ok()
}

/// `enable_bgp` and `remote_as` come together or not at all.
fn bgp(enable: bool, remote_as: u32, violations: &mut Violations) -> Option<SviBgp> {
    let field = "spec.remote_as";
    match (enable, remote_as) {
        (false, 0) => None,
        (false, asn) => {
            violations.add(
                field,
                format!("{asn} is given without enable_bgp; set both"),
            );
            None
        }
        (true, 0) => {
            violations.add(field, "is required with enable_bgp: 1 to 4294967295");
            None
        }
        (true, asn) => violations
            .take(field, Asn::try_from(asn))
            .map(|remote_as| SviBgp { remote_as }),
    }
}
