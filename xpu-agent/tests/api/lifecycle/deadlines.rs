//! What is told at the deadline, and what is told at once: waits, tombstones, refusals for good.

use std::time::Duration;

use serde_json::json;
use tonic::Code;
use xpu_model::status::State;

use super::{FACES, update};
use crate::{
    calls::{BRIDGE_PORT, Call, LOGICAL_BRIDGE, VRF},
    face::unary,
    rig::{Rig, Script},
    world::{access, bridge, create, vrf},
};

/// Backends that neither make nor let go.
fn stuck() -> Script {
    Script {
        live: State::Pending("netdev eth9 isn't there yet".to_owned()),
        keeps: true,
        // Enough for the store, on a busy machine, too.
        deadline: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn at_the_deadline_the_object_is_shown_as_it_stands() {
    for face in FACES {
        let rig = Rig::with(stuck()).await;
        let net = |vlan| create(LOGICAL_BRIDGE, "net-blue", bridge(vlan, None));
        let made = face.call(&rig, &net(100)).await.unwrap();
        assert_eq!(
            made["status"],
            json!({
                "operStatus": "LB_OPER_STATUS_DOWN",
                "components": [{
                    "name": "linux",
                    "status": "COMP_STATUS_PENDING",
                    "details": "{\"reason\":\"netdev eth9 isn't there yet\",\"routingTable\":1001}",
                }],
            })
        );
        let delete = Call::Delete(LOGICAL_BRIDGE, "net-blue".to_owned(), false);
        face.call(&rig, &delete).await.unwrap();
        let get = Call::Get(LOGICAL_BRIDGE, "net-blue".to_owned());
        let shown = face.call(&rig, &get).await.unwrap();
        assert_eq!(
            shown["status"]["operStatus"],
            "LB_OPER_STATUS_TO_BE_DELETED"
        );
        // Deleted already: a retry succeeds, a change is too late, its VLAN is not free yet.
        face.call(&rig, &delete).await.unwrap();
        let late = update(LOGICAL_BRIDGE, "net-blue", bridge(7, None), "", false);
        assert_eq!(
            face.call(&rig, &late).await.unwrap_err().code,
            Code::NotFound
        );
        let other = create(LOGICAL_BRIDGE, "net-two", bridge(100, None));
        let refused = face.call(&rig, &other).await.unwrap_err();
        assert_eq!(refused.fields[0].0, "logical_bridge.spec.vlan_id");
        let port = create(BRIDGE_PORT, "port-1", access(1, "net-blue"));
        assert_eq!(
            face.call(&rig, &port).await.unwrap_err().code,
            Code::FailedPrecondition
        );
        // A tombstone comes to life again, with the new spec.
        let again = face.call(&rig, &net(101)).await.unwrap();
        assert_eq!(again["spec"], json!({"vlanId": 101}));
        assert_eq!(again["status"]["operStatus"], "LB_OPER_STATUS_DOWN");
    }
}

/// A retry of Delete waits like the first one did: only a deadline ends it before the object is
/// gone.
#[tokio::test]
async fn a_repeated_delete_waits_too() {
    let rig = Rig::with(Script {
        deadline: Duration::from_secs(3_600),
        ..stuck()
    })
    .await;
    let id = xpu_model::Id::user("net-blue").unwrap();
    let spec = xpu_model::LogicalBridgeSpec {
        vlan: xpu_model::VlanId::MIN,
        vni: None,
        vtep: None,
    };
    rig.store.create(id.clone(), spec).await.unwrap();
    rig.store
        .delete::<xpu_model::LogicalBridgeSpec>(id.clone())
        .await
        .unwrap();
    let request = json!({"name": "net-blue"});
    let waiting = unary(&rig, &LOGICAL_BRIDGE, "DeleteLogicalBridge", request);
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err(), "answered while the object is there");
    let generation = rig.store.intent().generation;
    let collected = rig
        .store
        .collect::<xpu_model::LogicalBridgeSpec>(id, generation);
    collected.await.unwrap();
    waiting.await.unwrap();
}

/// Nothing is waited for where no retry mends it, and the details say so.
#[tokio::test]
async fn a_refusal_for_good_is_told_as_such_and_at_once() {
    for face in FACES {
        let rig = Rig::with(Script {
            live: State::Refused("the table of the switch is full".to_owned()),
            deadline: Duration::from_secs(3_600),
            ..Script::default()
        })
        .await;
        let call = create(LOGICAL_BRIDGE, "net-blue", bridge(100, None));
        let made = face.call(&rig, &call).await.unwrap();
        assert_eq!(
            made["status"],
            json!({
                "operStatus": "LB_OPER_STATUS_DOWN",
                "components": [{
                    "name": "linux",
                    "status": "COMP_STATUS_ERROR",
                    "details": "{\"reason\":\"the table of the switch is full\",\"retried\":false,\
                                \"routingTable\":1001}",
                }],
            })
        );
    }
}

/// The range of routing tables in the rig has 100.
#[tokio::test]
async fn a_range_that_is_used_up_is_told_with_what_to_do() {
    let rig = Rig::start().await;
    for number in 0..100 {
        let id = xpu_model::Id::user(&format!("vrf-{number}")).unwrap();
        let loopback = "10.0.0.1/32".parse().unwrap();
        let spec = xpu_model::VrfSpec {
            vni: None,
            loopback,
            vtep: None,
        };
        rig.store.create(id, spec).await.unwrap();
    }
    for face in FACES {
        let refused = face
            .call(&rig, &create(VRF, "vrf-more", vrf(None)))
            .await
            .unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(
            refused.message,
            "no free routing table is left in 1001..=1100; widen vrf.table_first to \
             vrf.table_last in the agent's configuration"
        );
        assert_eq!(refused.info.unwrap().0, "RANGE_EXHAUSTED");
    }
}

/// Nobody waits for a store that does not come to it: what is known is told, and the change goes
/// on. The rest of it is in the API's own tests, on a clock that they wind.
#[tokio::test]
async fn a_store_that_is_late_is_told_at_the_deadline() {
    for face in FACES {
        let rig = Rig::with(Script {
            deadline: Duration::from_millis(100),
            ..Script::default()
        })
        .await;
        let (begins, begun) = tokio::sync::oneshot::channel();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let store = rig.store.clone();
        tokio::spawn(async move {
            let hold = move |_: Option<&xpu_model::VrfSpec>| {
                begins.send(()).unwrap();
                let _ = waits.recv();
                Err(())
            };
            let id = xpu_model::Id::user("nobody-s").unwrap();
            let missing = xpu_agent::store::Missing::Create;
            store.update(id, missing, hold).await
        });
        begun.await.unwrap();
        let call = create(LOGICAL_BRIDGE, "net-blue", bridge(100, None));
        let late = face.call(&rig, &call).await.unwrap_err();
        assert_eq!(late.code, Code::DeadlineExceeded, "{late:?}");
        let (reason, facts) = late.info.unwrap();
        assert_eq!(reason, "NOT_STORED_YET");
        assert_eq!(facts["name"], "logicalBridges/net-blue");
        drop(go_on);
        assert!(rig.store.answers().await);
        let get = Call::Get(LOGICAL_BRIDGE, "net-blue".to_owned());
        assert_eq!(
            face.call(&rig, &get).await.unwrap()["spec"],
            json!({"vlanId": 100})
        );
    }
}
