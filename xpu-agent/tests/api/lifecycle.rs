//! What is accepted, and what it becomes: names, retries, masks, upserts, pages, deadlines,
//! tombstones. Over both faces where both can say it.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;
use xpu_model::status::State;

use crate::{
    calls::{BRIDGE_PORT, Call, KINDS, Kind, LOGICAL_BRIDGE, SVI, VRF},
    face::{Face, unary},
    rig::{Rig, Script},
    world::{access, bridge, bytes, create, everything, prefix, svi, trunk, vrf, with},
};

const FACES: [Face; 2] = [Face::Grpc, Face::Http];

/// A rig with one object of each kind.
async fn full() -> Rig {
    let rig = Rig::start().await;
    for call in everything() {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    rig
}

#[tokio::test]
async fn every_form_of_a_name_means_the_canonical_one() {
    let rig = full().await;
    for (kind, id, collections) in [
        (VRF, "vrf-red", ["vrfs", "vrfs"]),
        (LOGICAL_BRIDGE, "net-blue", ["logicalBridges", "bridges"]),
        (BRIDGE_PORT, "port-1", ["bridgePorts", "ports"]),
        (SVI, "svi-blue", ["svis", "svis"]),
    ] {
        let canonical = format!("{}/{id}", kind.collection);
        let full = collections.map(|it| format!("//network.opiproject.org/{it}/{id}"));
        for name in [id, &canonical, &full[0], &full[1]] {
            let get = Call::Get(kind, name.to_owned());
            let got = Face::Grpc.call(&rig, &get).await.unwrap();
            assert_eq!(got["name"], canonical.as_str(), "{name}");
        }
        let get = Call::Get(kind, canonical.clone());
        let got = Face::Http.call(&rig, &get).await.unwrap();
        assert_eq!(got["name"], canonical.as_str());
    }
}

/// The four forms of a name; HTTP's paths have room for the first two.
fn forms(kind: Kind, id: &str) -> [String; 4] {
    let old = match kind {
        LOGICAL_BRIDGE => "bridges",
        BRIDGE_PORT => "ports",
        other => other.collection,
    };
    [
        id.to_owned(),
        format!("{}/{id}", kind.collection),
        format!("//network.opiproject.org/{}/{id}", kind.collection),
        format!("//network.opiproject.org/{old}/{id}"),
    ]
}

#[tokio::test]
async fn every_form_of_a_name_is_changed_and_deleted_by() {
    for face in FACES {
        let rig = full().await;
        let fits = if face == Face::Grpc { 4 } else { 2 };
        for (kind, id, spec) in [
            (VRF, "vrf-new", vrf(None)),
            (LOGICAL_BRIDGE, "net-new", bridge(7, None)),
            (BRIDGE_PORT, "port-new", access(7, "net-pink")),
            (SVI, "svi-new", svi("vrf-red", "net-pink", &["10.7.0.1/24"])),
        ] {
            let canonical = &forms(kind, id)[1];
            for name in forms(kind, id).iter().take(fits) {
                let make = create(kind, id, spec.clone());
                let made = face.call(&rig, &make).await.unwrap();
                let nothing = update(kind, name, json!({}), "", false);
                assert_eq!(face.call(&rig, &nothing).await.unwrap(), made, "{name}");
                let delete = Call::Delete(kind, name.clone(), false);
                face.call(&rig, &delete).await.unwrap();
                let get = Call::Get(kind, canonical.clone());
                let gone = face.call(&rig, &get).await.unwrap_err();
                assert_eq!(gone.code, Code::NotFound, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn every_form_of_a_reference_means_the_canonical_one() {
    for face in FACES {
        let rig = full().await;
        let delete = Call::Delete(BRIDGE_PORT, "port-new".to_owned(), false);
        for form in forms(LOGICAL_BRIDGE, "net-pink") {
            for spec in [access(7, &form), trunk(7, &[&form])] {
                let make = create(BRIDGE_PORT, "port-new", spec);
                let made = face.call(&rig, &make).await.unwrap();
                let bridges = json!(["logicalBridges/net-pink"]);
                assert_eq!(made["spec"]["logicalBridges"], bridges, "{form}");
                face.call(&rig, &delete).await.unwrap();
            }
        }
        let delete = Call::Delete(SVI, "svi-new".to_owned(), false);
        for (vrf, bridge) in forms(VRF, "vrf-red")
            .iter()
            .zip(forms(LOGICAL_BRIDGE, "net-pink"))
        {
            let make = create(SVI, "svi-new", svi(vrf, &bridge, &["10.7.0.1/24"]));
            let made = face.call(&rig, &make).await.unwrap();
            assert_eq!(made["spec"]["vrf"], "vrfs/vrf-red", "{vrf}");
            let canonical = "logicalBridges/net-pink";
            assert_eq!(made["spec"]["logicalBridge"], canonical, "{bridge}");
            face.call(&rig, &delete).await.unwrap();
        }
    }
}

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
async fn references_and_macs_in_every_form_come_back_canonical() {
    for face in FACES {
        let rig = full().await;
        let spec = svi(
            "//network.opiproject.org/vrfs/vrf-red",
            "//network.opiproject.org/bridges/net-pink",
            &["10.2.0.1/24"],
        );
        let made = face
            .call(&rig, &create(SVI, "svi-pink", spec))
            .await
            .unwrap();
        assert_eq!(made["spec"]["vrf"], "vrfs/vrf-red");
        assert_eq!(made["spec"]["logicalBridge"], "logicalBridges/net-pink");
        // A public client sends a MAC as text.
        let text = bytes(b"02:00:00:00:00:AA");
        let spec = with(
            trunk(0, &["net-pink", "logicalBridges/net-blue", "net-pink"]),
            json!({"macAddress": text}),
        );
        let made = face
            .call(&rig, &create(BRIDGE_PORT, "port-2", spec))
            .await
            .unwrap();
        assert_eq!(
            made["spec"]["macAddress"],
            bytes(&[2, 0, 0, 0, 0, 0xaa]).as_str()
        );
        assert_eq!(
            made["spec"]["logicalBridges"],
            json!(["logicalBridges/net-blue", "logicalBridges/net-pink"])
        );
        // A VTEP is an address; the length that stands with it means nothing.
        let spec = with(
            bridge(9, None),
            json!({"vtepIpPrefix": prefix("10.9.0.1/24")}),
        );
        let made = face
            .call(&rig, &create(LOGICAL_BRIDGE, "net-vtep", spec.clone()))
            .await
            .unwrap();
        assert_eq!(made["spec"]["vtepIpPrefix"], spec["vtepIpPrefix"]);
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

fn update(kind: Kind, name: &str, spec: Value, mask: &str, allow_missing: bool) -> Call {
    Call::Update {
        kind,
        name: name.to_owned(),
        spec,
        mask: (!mask.is_empty()).then(|| mask.to_owned()),
        allow_missing,
    }
}

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
