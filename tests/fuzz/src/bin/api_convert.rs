//! A spec from the wire: bytes are decoded as each kind's message and read into the domain.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use xpu_agent::api::Resource;
use xpu_model::{BridgePortSpec, LogicalBridgeSpec, SviSpec, VrfSpec};
use xpu_proto::evpn_gw::v1alpha1 as pb;

fuzz_target!(|data: &[u8]| {
    read::<VrfSpec, pb::VrfSpec>(data);
    read::<LogicalBridgeSpec, pb::LogicalBridgeSpec>(data);
    read::<BridgePortSpec, pb::BridgePortSpec>(data);
    read::<SviSpec, pb::SviSpec>(data);
});

fn read<R, M>(data: &[u8])
where
    R: Resource<SpecMessage = M>,
    M: Message + Default + std::fmt::Debug,
{
    let Ok(message) = M::decode(data) else { return };
    match R::parse(&message) {
        Ok(spec) => {
            let printed = spec.print();
            let again = R::parse(&printed);
            assert_eq!(again.as_ref(), Ok(&spec), "printed as {printed:?}");
            // What the store writes is read back, too.
            let json = serde_json::to_string(&spec).unwrap_or_default();
            assert_eq!(serde_json::from_str::<R>(&json).ok(), Some(spec), "{json}");
        }
        Err(violations) => {
            assert!(!violations.is_empty());
            for violation in violations {
                let (field, why) = (&violation.field, &violation.description);
                assert!(field.starts_with("spec."), "{field}");
                assert!(
                    !why.is_empty() && !why.contains(char::is_control),
                    "{why:?}"
                );
                assert!(why.len() < 1_000, "{} bytes", why.len());
            }
        }
    }
}
