//! Pages across changes and a restart, and of objects that are large.

use futures::future::join_all;
use serde_json::Value;
use xpu_model::{BridgePortSpec, Id, LogicalBridgeSpec, Mac, PortMode, Spec, VlanId};

use super::FACES;
use crate::{
    calls::{BRIDGE_PORT, Call, LOGICAL_BRIDGE},
    rig::Rig,
};

fn bridge(vlan: u32) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: VlanId::try_from(vlan).unwrap(),
        vni: None,
        vtep: None,
    }
}

fn token(page: &Value) -> String {
    let token = page["nextPageToken"].as_str();
    token.unwrap_or_default().to_owned()
}

/// Creates objects, many with one write.
async fn create_all<S: Spec>(rig: &Rig, objects: Vec<(Id, S)>) {
    for some in objects.chunks(200) {
        let created = some.iter().cloned();
        let created = created.map(|(id, spec)| rig.store.create(id, spec));
        for created in join_all(created).await {
            created.unwrap();
        }
    }
}

#[tokio::test]
async fn pages_cover_everything_once_across_changes_and_a_restart() {
    for face in FACES {
        let rig = Rig::start().await;
        for vlan in 1..=300 {
            let id = Id::user(&format!("net-{vlan:03}")).unwrap();
            rig.store.create(id, bridge(vlan)).await.unwrap();
        }
        let list = |size, token: &str| Call::List(LOGICAL_BRIDGE, size, token.to_owned());
        let count = |page: &Value| page["logicalBridges"].as_array().map_or(0, Vec::len);
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

/// 150 trunks of 500 names: more than the 4 MiB that gRPC's clients read as they come.
#[tokio::test]
async fn a_page_of_large_objects_ends_early() {
    let rig = Rig::start().await;
    let name = |number| Id::user(&format!("net-{number:059}")).unwrap();
    let bridges = (1..=500).map(|vlan| (name(vlan), bridge(vlan)));
    create_all(&rig, bridges.collect()).await;
    let trunk = |number| BridgePortSpec {
        mac: Mac::try_from([2, 0, 0, 0, 0, number]).unwrap(),
        mode: PortMode::trunk((1..=500).map(name).collect()),
    };
    let id = |number| Id::user(&format!("port-{number:03}")).unwrap();
    let trunks = (0..150).map(|number| (id(number), trunk(number)));
    create_all(&rig, trunks.collect()).await;

    for face in FACES {
        let (mut names, mut sizes, mut next) = (Vec::new(), Vec::new(), String::new());
        loop {
            let call = Call::List(BRIDGE_PORT, 250, next);
            let page = face.call(&rig, &call).await.unwrap();
            let ports = page["bridgePorts"].as_array().unwrap();
            sizes.push(ports.len());
            names.extend(
                ports
                    .iter()
                    .map(|it| it["name"].as_str().unwrap().to_owned()),
            );
            next = token(&page);
            if next.is_empty() {
                break;
            }
        }
        // Each has 500 names of 78 bytes and 2 before each, so 1 MiB has room for 26.
        assert_eq!(sizes, [26, 26, 26, 26, 26, 20]);
        assert!(names.is_sorted() && names.len() == 150, "each once");
    }
}
