//! Several writers of one object.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::{
    calls::{Call, LOGICAL_BRIDGE},
    face::Face,
    rig::Rig,
    world::{bridge, create},
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
