//! Every form of a name means the canonical one, and that is what comes back.

use serde_json::json;
use tonic::Code;

use super::{FACES, full, update};
use crate::{
    calls::{BRIDGE_PORT, Call, Kind, LOGICAL_BRIDGE, SVI, VRF},
    face::Face,
    world::{access, bridge, bytes, create, prefix, svi, trunk, vrf, with},
};

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
