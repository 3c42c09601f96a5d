//! The same calls give the same answers over gRPC and over HTTP, before and after a restart.

use serde_json::{Value, json};

use crate::{
    calls::{Call, KINDS, LOGICAL_BRIDGE, SVI, VRF},
    face::{Face, Refusal},
    rig::Rig,
    world::everything,
};

async fn answers(rig: &Rig, face: Face, calls: &[Call]) -> Vec<Result<Value, Refusal>> {
    let mut answers = Vec::new();
    for call in calls {
        answers.push(face.call(rig, call).await);
    }
    answers
}

#[tokio::test]
async fn both_faces_answer_alike() {
    let mut calls = everything();
    // Retries, and another spec for the same id.
    calls.extend(everything());
    calls.push(Call::Create(
        LOGICAL_BRIDGE,
        "net-blue".to_owned(),
        json!({"vlanId": 101}),
    ));
    for kind in KINDS {
        calls.push(Call::Get(kind, "none-such".to_owned()));
        calls.push(Call::List(kind, 0, String::new()));
        calls.push(Call::Delete(kind, "none-such".to_owned(), true));
    }
    calls.push(Call::Update {
        kind: SVI,
        name: "svi-blue".to_owned(),
        spec: json!({"enableBgp": false}),
        mask: Some("spec.enableBgp,spec.remoteAs".to_owned()),
        allow_missing: false,
    });
    calls.push(Call::Delete(VRF, "vrf-red".to_owned(), false));
    let grpc = answers(&Rig::start().await, Face::Grpc, &calls).await;
    let http = answers(&Rig::start().await, Face::Http, &calls).await;
    for ((call, grpc), http) in calls.iter().zip(grpc).zip(http) {
        assert_eq!(grpc, http, "{call:?}");
    }
}

#[tokio::test]
async fn a_restart_changes_no_answer() {
    let rig = Rig::start().await;
    for answer in answers(&rig, Face::Http, &everything()).await {
        answer.unwrap();
    }
    let reads: Vec<_> = KINDS
        .into_iter()
        .map(|kind| Call::List(kind, 0, String::new()))
        .collect();
    let before = answers(&rig, Face::Grpc, &reads).await;
    let rig = rig.restart().await;
    assert_eq!(answers(&rig, Face::Grpc, &reads).await, before);
}
