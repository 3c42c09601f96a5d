//! Several writers of one object.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::json;
use tonic::Code;
use xpu_model::{BridgePortSpec, Id, status::State};

use crate::{
    calls::{BRIDGE_PORT, Call, LOGICAL_BRIDGE},
    face::Face,
    rig::{Rig, Script},
    world::{access, bridge, create},
};

fn update(spec: serde_json::Value, mask: &str) -> Call {
    Call::Update {
        kind: LOGICAL_BRIDGE,
        name: "net-blue".to_owned(),
        spec,
        mask: Some(mask.to_owned()),
        allow_missing: true,
    }
}

/// One writes the VLAN, the other the VNI: neither takes the other's back.
#[tokio::test]
async fn writers_of_different_fields_lose_nothing() {
    let rig = Arc::new(Rig::start().await);
    let net = create(LOGICAL_BRIDGE, "net-blue", bridge(1, Some(1)));
    Face::Grpc.call(&rig, &net).await.unwrap();
    let vlans = async {
        for vlan in 2..=100 {
            let call = update(json!({"vlanId": vlan}), "spec.vlanId");
            let answer = Face::Grpc.call(&rig, &call).await.unwrap();
            assert_eq!(answer["spec"]["vlanId"], vlan, "nobody else writes it");
        }
    };
    let vnis = async {
        for vni in 2..=100 {
            let call = update(json!({"vni": vni}), "spec.vni");
            let answer = Face::Http.call(&rig, &call).await.unwrap();
            assert_eq!(answer["spec"]["vni"], vni, "nobody else writes it");
        }
    };
    tokio::join!(vlans, vnis);
    let get = Call::Get(LOGICAL_BRIDGE, "net-blue".to_owned());
    let stored = Face::Grpc.call(&rig, &get).await.unwrap();
    assert_eq!(stored["spec"], bridge(100, Some(100)));
}

/// Both fields are always written together; whoever looks never sees one without the other.
#[tokio::test]
async fn nobody_sees_half_of_a_write() {
    let rig = Arc::new(Rig::start().await);
    let net = create(LOGICAL_BRIDGE, "net-blue", bridge(1, Some(1001)));
    Face::Grpc.call(&rig, &net).await.unwrap();
    let whole = |answer: &serde_json::Value| {
        let of = |field: &str| answer["spec"][field].as_u64().unwrap();
        assert_eq!(of("vlanId") + 1000, of("vni"), "{answer}");
    };
    let writers = (0..4_u32).map(|writer| {
        let rig = rig.clone();
        async move {
            for step in 0..25 {
                let vlan = 1 + writer * 1_000 + step;
                let face = if writer % 2 == 0 {
                    Face::Grpc
                } else {
                    Face::Http
                };
                let call = update(bridge(vlan, Some(vlan + 1_000)), "spec.vlanId,spec.vni");
                whole(&face.call(&rig, &call).await.unwrap());
            }
        }
    });
    let readers = (0..4).map(|reader| {
        let rig = rig.clone();
        async move {
            for _ in 0..100 {
                let face = if reader % 2 == 0 {
                    Face::Grpc
                } else {
                    Face::Http
                };
                let get = Call::Get(LOGICAL_BRIDGE, "net-blue".to_owned());
                whole(&face.call(&rig, &get).await.unwrap());
            }
        }
    });
    tokio::join!(join_all(writers), join_all(readers));
}

/// Of creates of one id with different specs one wins, the others learn that they lost.
#[tokio::test]
async fn one_of_many_creates_wins() {
    let rig = Arc::new(Rig::start().await);
    let creates = (1..=20).map(|vlan| {
        let rig = rig.clone();
        async move {
            let face = if vlan % 2 == 0 {
                Face::Grpc
            } else {
                Face::Http
            };
            let call = create(LOGICAL_BRIDGE, "net-blue", bridge(vlan, None));
            (vlan, face.call(&rig, &call).await)
        }
    });
    let get = Call::Get(LOGICAL_BRIDGE, "net-blue".to_owned());
    let answers = join_all(creates).await;
    let stored = Face::Grpc.call(&rig, &get).await.unwrap();
    let won: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| answer.is_ok())
        .collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(stored["spec"]["vlanId"], won[0].0);
    for (_, answer) in &answers {
        if let Err(refusal) = answer {
            assert_eq!(refusal.code, Code::AlreadyExists);
        }
    }
}

/// One waits for its port's netdev, another takes the port away: nobody is told that it is up.
#[tokio::test]
async fn a_port_that_is_deleted_while_its_creator_waits_is_not_up() {
    for face in [Face::Grpc, Face::Http] {
        for keeps in [false, true] {
            let script = Script {
                live: State::Pending("netdev eth9 isn't there yet".to_owned()),
                keeps,
                deadline: Duration::from_secs(3_600),
            };
            let rig = Arc::new(Rig::with(script).await);
            let bridge = xpu_model::LogicalBridgeSpec {
                vlan: xpu_model::VlanId::MIN,
                vni: None,
                vtep: None,
            };
            let net = Id::user("net-blue").unwrap();
            rig.store.create(net, bridge).await.unwrap();
            let creator = {
                let rig = rig.clone();
                let port = create(BRIDGE_PORT, "port-1", access(1, "net-blue"));
                tokio::spawn(async move { face.call(&rig, &port).await })
            };
            let mut intent = rig.store.watch();
            let made = intent.wait_for(|intent| !intent.bridge_ports.is_empty());
            drop(made.await.unwrap());
            let port = Id::user("port-1").unwrap();
            rig.store.delete::<BridgePortSpec>(port).await.unwrap();
            match creator.await.unwrap() {
                // It looked while there was a tombstone.
                Ok(shown) => {
                    let status = &shown["status"]["operStatus"];
                    assert_eq!(status, "BP_OPER_STATUS_TO_BE_DELETED", "{shown}");
                }
                Err(refusal) => {
                    assert!(!keeps, "{refusal:?}");
                    assert_eq!(refusal.code, Code::Aborted, "{refusal:?}");
                    assert_eq!(refusal.info.unwrap().0, "OBJECT_DELETED");
                }
            }
        }
    }
}
