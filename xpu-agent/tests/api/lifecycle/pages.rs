//! Pages across changes and a restart.

use serde_json::Value;

use super::FACES;
use crate::{
    calls::{Call, LOGICAL_BRIDGE},
    rig::Rig,
};

#[tokio::test]
async fn pages_cover_everything_once_across_changes_and_a_restart() {
    for face in FACES {
        let rig = Rig::start().await;
        for vlan in 1..=300 {
            let id = xpu_model::Id::user(&format!("net-{vlan:03}")).unwrap();
            let spec = xpu_model::LogicalBridgeSpec {
                vlan: xpu_model::VlanId::try_from(vlan).unwrap(),
                vni: None,
                vtep: None,
            };
            rig.store.create(id, spec).await.unwrap();
        }
        let list = |size, token: &str| Call::List(LOGICAL_BRIDGE, size, token.to_owned());
        let count = |page: &Value| page["logicalBridges"].as_array().map_or(0, Vec::len);
        let token = |page: &Value| {
            page["nextPageToken"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let first = face.call(&rig, &list(0, "")).await.unwrap();
        assert_eq!(count(&first), 50);
        // The object at the seam goes, and so does the agent; the token still works.
        let seam = first["logicalBridges"][49]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        face.call(&rig, &Call::Delete(LOGICAL_BRIDGE, seam, false))
            .await
            .unwrap();
        let rig = rig.restart().await;
        let second = face.call(&rig, &list(1_000, &token(&first))).await.unwrap();
        assert_eq!((count(&second), token(&second)), (250, String::new()));
        let most = face.call(&rig, &list(i32::MAX, "")).await.unwrap();
        assert_eq!(count(&most), 250);
        let last = face.call(&rig, &list(0, &token(&most))).await.unwrap();
        assert_eq!((count(&last), token(&last)), (49, String::new()));
        let names: Vec<_> = [&first, &second]
            .into_iter()
            .flat_map(|page| page["logicalBridges"].as_array().unwrap())
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert!(
            names.is_sorted() && names.len() == 300,
            "each once, by name"
        );
    }
}
