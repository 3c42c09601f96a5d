//! Creates: retries, ids that the server makes, what is no conflict.

use serde_json::json;

use super::{FACES, full, update};
use crate::{
    calls::{BRIDGE_PORT, Call, LOGICAL_BRIDGE, SVI, VRF},
    rig::Rig,
    world::{access, bridge, create, everything, prefix, svi, vrf},
};

#[tokio::test]
async fn a_vrf_may_have_an_ipv6_loopback() {
    for face in FACES {
        let rig = Rig::start().await;
        let spec = json!({"loopbackIpPrefix": prefix("fd00:10::1/128")});
        let make = create(VRF, "vrf-six", spec.clone());
        let made = face.call(&rig, &make).await.unwrap();
        assert_eq!(made["spec"], spec);
        let loopback = json!({"loopbackIpPrefix": prefix("fd00:10::2/64")});
        let change = update(VRF, "vrf-six", loopback.clone(), "", false);
        let changed = face.call(&rig, &change).await.unwrap();
        assert_eq!(changed["spec"], loopback);
        let vrf = rig.store.intent().vrfs.values().next().unwrap().clone();
        assert_eq!(vrf.spec.loopback.to_string(), "fd00:10::2/64");
    }
}

#[tokio::test]
async fn a_retry_of_create_is_safe_and_writes_nothing() {
    for face in FACES {
        let rig = full().await;
        let before = rig.store.intent();
        for call in everything() {
            let Call::Create(kind, id, _) = &call else {
                unreachable!()
            };
            let stored = face
                .call(&rig, &Call::Get(*kind, id.clone()))
                .await
                .unwrap();
            assert_eq!(face.call(&rig, &call).await.unwrap(), stored);
        }
        assert_eq!(rig.store.intent().generation, before.generation);
    }
}

#[tokio::test]
async fn without_an_id_the_server_makes_a_uuid() {
    for face in FACES {
        let rig = full().await;
        let made = face
            .call(&rig, &create(LOGICAL_BRIDGE, "", bridge(7, None)))
            .await
            .unwrap();
        let name = made["name"].as_str().unwrap();
        let id = name.strip_prefix("logicalBridges/").unwrap();
        assert!(uuid::Uuid::try_parse(id).is_ok(), "{id}");
        // It is a name like any other.
        let refers = create(BRIDGE_PORT, "port-2", access(2, id));
        assert_eq!(
            face.call(&rig, &refers).await.unwrap()["spec"]["logicalBridges"],
            json!([name])
        );
    }
}

#[tokio::test]
async fn the_same_numbers_are_free_elsewhere() {
    for face in FACES {
        let rig = full().await;
        for call in [
            // The same MAC in two networks; the same subnet in two Vrfs.
            create(BRIDGE_PORT, "port-2", access(1, "net-pink")),
            create(VRF, "vrf-two", vrf(None)),
            create(
                SVI,
                "svi-pink",
                svi("vrf-two", "net-pink", &["10.1.0.1/24"]),
            ),
            // An AS number as large as they get.
            Call::Update {
                kind: SVI,
                name: "svi-pink".to_owned(),
                spec: json!({"enableBgp": true, "remoteAs": u32::MAX}),
                mask: None,
                allow_missing: false,
            },
        ] {
            face.call(&rig, &call).await.unwrap();
        }
    }
}
