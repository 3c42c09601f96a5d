//! `/healthz` and `/readyz`.

use serde_json::{Value, json};

use crate::rig::{Rig, World, until};

async fn ready(rig: &Rig) -> (u16, Value) {
    let (status, body) = rig.get("/readyz", "*/*").await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn it_is_ready_once_every_backend_has_looked_and_says_who_has_not() {
    let rig = Rig::start().await;
    until("ready", async || (ready(&rig).await.0 == 200).then_some(())).await;
    assert_eq!(ready(&rig).await.1, json!({ "ready": true, "waiting": [] }));

    rig.frr.send_replace(World {
        there: false,
        ..World::default()
    });
    until("not ready", async || {
        (ready(&rig).await.0 == 503).then_some(())
    })
    .await;
    let waiting = json!([{ "for": "frr", "reason": "gone" }]);
    assert_eq!(
        ready(&rig).await.1,
        json!({ "ready": false, "waiting": waiting })
    );
    assert_eq!(rig.get("/healthz", "*/*").await, (200, "ok\n".to_owned()));

    rig.frr.send_replace(World::default());
    until("ready again", async || {
        (ready(&rig).await.0 == 200).then_some(())
    })
    .await;
}
