//! Pages, and errors that have much to say.

use serde_json::json;
use tonic::Code;

use super::{delete, hold, invalid};
use crate::{
    calls::{BRIDGE_PORT, Call, LOGICAL_BRIDGE, VRF},
    face::Face,
    rig::Rig,
    world::{access, bridge, create, mac},
};

#[tokio::test]
async fn pages() {
    let foreign = "is none of this collection's; start without a token";
    let list = |size, token: &str| Call::List(VRF, size, token.to_owned());
    let mut cases = vec![
        invalid(
            list(-1, ""),
            &[("page_size", "-1 is negative; give 0 to 250")],
        ),
        invalid(
            list(i32::MIN, ""),
            &[("page_size", "-2147483648 is negative; give 0 to 250")],
        ),
    ];
    // The second is a true token of another collection: `svis/svi-blue`.
    for token in ["junk", "737669732f7376692d626c7565", "\u{e9}", "%"] {
        cases.push(invalid(list(1, token), &[("page_token", foreign)]));
    }
    hold(cases).await;
}

/// A page of referrers would not fit in an error: the first are told, and how many more.
#[tokio::test]
async fn long_lists_in_errors_are_cut() {
    let rig = Rig::start().await;
    Face::Grpc
        .call(&rig, &create(LOGICAL_BRIDGE, "net-blue", bridge(1, None)))
        .await
        .unwrap();
    for number in 0..12 {
        let call = create(
            BRIDGE_PORT,
            &format!("port-{number:02}"),
            access(number, "net-blue"),
        );
        // 02:00:00:00:00:00 is an address like any other.
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let many: Vec<_> = (0..4_000).map(|number| format!("X{number}")).collect();
    let wrong =
        json!({"macAddress": mac(99), "ptype": "BRIDGE_PORT_TYPE_TRUNK", "logicalBridges": many});
    for face in [Face::Grpc, Face::Http] {
        let refused = face
            .call(&rig, &delete(LOGICAL_BRIDGE, "net-blue"))
            .await
            .unwrap_err();
        assert!(
            refused.message.contains("bridgePorts/port-09 and 2 more;"),
            "{}",
            refused.message
        );
        let refused = face
            .call(&rig, &create(BRIDGE_PORT, "port-99", wrong.clone()))
            .await
            .unwrap_err();
        assert_eq!(refused.fields.len(), 20);
        assert!(
            refused.message.ends_with("; and 3980 more"),
            "{}",
            refused.message
        );
    }
}

/// Names that are longer as they travel than as they stand.
#[tokio::test]
async fn an_error_with_long_texts_arrives() {
    let rig = Rig::start().await;
    for letter in ["\u{200b}", "\u{20ac}", "%"] {
        let many: Vec<_> = (0..30)
            .map(|number| format!("{}{number}", letter.repeat(100)))
            .collect();
        let wrong = json!({
            "macAddress": mac(99), "ptype": "BRIDGE_PORT_TYPE_TRUNK", "logicalBridges": many,
        });
        let call = create(BRIDGE_PORT, "port-99", wrong);
        for face in [Face::Grpc, Face::Http] {
            let refused = face.call(&rig, &call).await.unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{letter:?}");
            let (field, _) = &refused.fields[0];
            assert_eq!(field, "bridge_port.spec.logical_bridges[0]");
            let more = format!("; and {} more", 30 - refused.fields.len());
            assert!(refused.message.ends_with(&more), "{}", refused.message);
        }
    }
}
