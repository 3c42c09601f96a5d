//! Bytes and canonical JSON of each kind of object, written by Google's protobuf
//! library from the public descriptors, read and written back by our generated code.
//! `public_descriptors.py` wrote the fixture.
#![cfg(feature = "json")]
#![expect(clippy::expect_used, reason = "a test's helpers fail by panicking too")]

use std::fmt::Debug;

use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xpu_proto::FieldMask;
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, ListVrfsResponse, LogicalBridge, Svi, UpdateLogicalBridgeRequest, Vrf,
};

#[derive(Deserialize)]
struct PublicObject {
    message: String,
    /// Hexadecimal.
    wire: String,
    json: serde_json::Value,
}

#[test]
fn wire_and_json_agree_with_the_public_client() {
    let objects: Vec<PublicObject> =
        serde_json::from_str(include_str!("fixtures/public_objects.json")).expect("fixture");
    assert_eq!(objects.len(), 9);
    for object in &objects {
        match object.message.rsplit('.').next().expect("rsplit gives one") {
            "LogicalBridge" => check::<LogicalBridge>(object),
            "BridgePort" => check::<BridgePort>(object),
            "Vrf" => check::<Vrf>(object),
            "Svi" => check::<Svi>(object),
            "UpdateLogicalBridgeRequest" => check::<UpdateLogicalBridgeRequest>(object),
            "ListVrfsResponse" => check::<ListVrfsResponse>(object),
            other => panic!("no check for {other}"),
        }
    }
}

fn check<M>(public: &PublicObject)
where
    M: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let wire = unhex(&public.wire);
    let message = M::decode(wire.as_slice()).expect("our code reads the public bytes");
    assert_eq!(message.encode_to_vec(), wire, "{message:?} as bytes");
    let json = serde_json::to_value(&message).expect("is JSON");
    assert_eq!(json, public.json, "{message:?} as JSON");
    let back: M = serde_json::from_value(json).expect("our code reads the public JSON");
    assert_eq!(back, message);
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn snake_case_and_numbers_for_enums_are_read() {
    let camel = r#"{"spec":{"macAddress":"AgAAAAD+","ptype":"BRIDGE_PORT_TYPE_TRUNK"}}"#;
    let snake = r#"{"spec":{"mac_address":"AgAAAAD+","ptype":2}}"#;
    let read = |text| serde_json::from_str::<BridgePort>(text).expect("is a port");
    assert_eq!(read(camel), read(snake));
}

#[test]
fn unknown_fields_and_enum_names_are_refused() {
    for (text, named) in [
        (r#"{"spec":{"vlanID":5}}"#, "vlanID"),
        (r#"{"status":{"operStatus":"UP"}}"#, "UP"),
    ] {
        let error = serde_json::from_str::<LogicalBridge>(text)
            .expect_err(text)
            .to_string();
        assert!(error.contains(named), "{error} does not name {named}");
    }
}

#[test]
fn a_field_mask_that_json_cannot_carry_is_refused() {
    for path in ["spec.vlanId", "spec.x_", "spec.a_1", "spec.a__b"] {
        let mask = FieldMask {
            paths: vec![path.to_owned()],
        };
        assert!(serde_json::to_string(&mask).is_err(), "{path} was written");
    }
    assert!(serde_json::from_str::<FieldMask>(r#""spec.vlan_id""#).is_err());
    assert_eq!(
        serde_json::from_str::<FieldMask>(r#""""#).expect("empty"),
        FieldMask::default()
    );
}
