//! Updates by mask, upserts, and deletes of what nothing refers to.

use serde_json::json;
use tonic::Code;

use super::{FACES, full, update};
use crate::{
    calls::{BRIDGE_PORT, Call, KINDS, LOGICAL_BRIDGE, SVI, VRF},
    world::{bridge, bytes, create, prefix, trunk, vrf},
};

/// Each step's answer is the spec that the next one starts from.
#[tokio::test]
async fn an_update_takes_the_masked_fields() {
    for face in FACES {
        let rig = full().await;
        for (spec, mask, expected) in [
            (bridge(7, None), "spec.vlanId", bridge(7, Some(10100))),
            (bridge(9, Some(5)), "vni", bridge(7, Some(5))),
            (bridge(8, None), "", bridge(8, Some(5))),
            (json!({}), "", bridge(8, Some(5))),
            (bridge(9, None), "spec.vni", json!({"vlanId": 8})),
            (bridge(8, Some(6)), "spec", bridge(8, Some(6))),
            (bridge(9, None), "*", json!({"vlanId": 9})),
            (
                bridge(10, Some(7)),
                "spec.vlanId,spec.vni",
                bridge(10, Some(7)),
            ),
        ] {
            let call = update(LOGICAL_BRIDGE, "net-blue", spec, mask, false);
            let updated = face.call(&rig, &call).await.unwrap();
            assert_eq!(updated["spec"], expected, "{face:?} {call:?}");
        }
    }
}

#[tokio::test]
async fn every_field_of_every_kind_can_be_changed() {
    for face in FACES {
        let rig = full().await;
        face.call(&rig, &create(VRF, "vrf-two", vrf(None)))
            .await
            .unwrap();
        for (kind, name, field, value) in [
            (VRF, "vrf-red", "vni", json!(77)),
            (VRF, "vrf-red", "loopbackIpPrefix", prefix("10.0.0.7/32")),
            (VRF, "vrf-red", "vtepIpPrefix", prefix("10.0.1.7/32")),
            (LOGICAL_BRIDGE, "net-blue", "vlanId", json!(77)),
            (LOGICAL_BRIDGE, "net-blue", "vni", json!(78)),
            (
                LOGICAL_BRIDGE,
                "net-blue",
                "vtepIpPrefix",
                prefix("fd00::9/128"),
            ),
            (
                BRIDGE_PORT,
                "port-1",
                "macAddress",
                json!(bytes(&[2, 7, 7, 7, 7, 7])),
            ),
            (
                BRIDGE_PORT,
                "port-1",
                "logicalBridges",
                json!(["logicalBridges/net-pink"]),
            ),
            (
                BRIDGE_PORT,
                "port-1",
                "ptype",
                json!("BRIDGE_PORT_TYPE_TRUNK"),
            ),
            (SVI, "svi-blue", "vrf", json!("vrfs/vrf-two")),
            (
                SVI,
                "svi-blue",
                "logicalBridge",
                json!("logicalBridges/net-pink"),
            ),
            (
                SVI,
                "svi-blue",
                "macAddress",
                json!(bytes(&[2, 7, 7, 7, 7, 7])),
            ),
            (
                SVI,
                "svi-blue",
                "gwIpPrefix",
                json!([prefix("10.7.0.1/24"), prefix("fd07::1/64")]),
            ),
        ] {
            let mask = format!("spec.{field}");
            let spec = json!({field: value.clone()});
            let updated = face
                .call(&rig, &update(kind, name, spec, &mask, false))
                .await
                .unwrap();
            assert_eq!(updated["spec"][field], value, "{face:?} {name}");
            let got = face
                .call(&rig, &Call::Get(kind, name.to_owned()))
                .await
                .unwrap();
            assert_eq!(got, updated);
        }
    }
}

#[tokio::test]
async fn with_allow_missing_an_update_creates_the_whole_and_a_delete_succeeds() {
    for face in FACES {
        let rig = full().await;
        let upsert = update(
            LOGICAL_BRIDGE,
            "net-new",
            bridge(50, Some(51)),
            "spec.vlanId",
            true,
        );
        let made = face.call(&rig, &upsert).await.unwrap();
        assert_eq!(made["spec"], bridge(50, Some(51)), "whatever the mask");
        let again = update(
            LOGICAL_BRIDGE,
            "net-new",
            bridge(52, None),
            "spec.vlanId",
            true,
        );
        let made = face.call(&rig, &again).await.unwrap();
        assert_eq!(made["spec"], bridge(52, Some(51)), "there is one now");
        for kind in KINDS {
            let gone = Call::Delete(kind, "none-such".to_owned(), true);
            assert_eq!(face.call(&rig, &gone).await.unwrap(), json!({}));
        }
    }
}

#[tokio::test]
async fn what_nothing_refers_to_any_more_can_go() {
    for face in FACES {
        let rig = full().await;
        // A transparent trunk refers to nothing.
        face.call(&rig, &create(BRIDGE_PORT, "port-all", trunk(9, &[])))
            .await
            .unwrap();
        for (kind, name) in [
            (SVI, "svi-blue"),
            (BRIDGE_PORT, "port-1"),
            (LOGICAL_BRIDGE, "net-blue"),
            (LOGICAL_BRIDGE, "net-pink"),
            (VRF, "vrf-red"),
        ] {
            let delete = Call::Delete(kind, name.to_owned(), false);
            face.call(&rig, &delete).await.unwrap();
            let got = face.call(&rig, &Call::Get(kind, name.to_owned())).await;
            assert_eq!(got.unwrap_err().code, Code::NotFound, "{name}");
            assert_eq!(
                face.call(&rig, &delete).await.unwrap_err().code,
                Code::NotFound
            );
        }
    }
}
