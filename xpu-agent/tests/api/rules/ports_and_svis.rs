//! What a BridgePort and an Svi may be, and refer to.

use std::convert::Infallible;

use serde_json::json;
use xpu_agent::store::Missing;
use xpu_model::{IfAddr, SviSpec};

use super::{Face, ID_RULE, dangling, delete, get, hold, invalid, taken, update};
use crate::{
    calls::{BRIDGE_PORT, SVI},
    rig::Rig,
    world::{access, bytes, create, everything, mac, prefix, svi, trunk, with},
};

#[tokio::test]
async fn bridge_ports() {
    let new = |spec| create(BRIDGE_PORT, "port-new", spec);
    let with_mac = |bytes: &[u8]| {
        let mac = crate::world::bytes(bytes);
        new(with(access(2, "net-blue"), json!({"macAddress": mac})))
    };
    let (field, bridges) = (
        "bridge_port.spec.mac_address",
        "bridge_port.spec.logical_bridges",
    );
    let mac_1 = "02:00:00:00:00:01";
    hold(vec![
        invalid(with_mac(&[]), &[(field, "is required: 6 bytes, unicast")]),
        invalid(
            with_mac(&[0; 6]),
            &[(
                field,
                "the MAC address is all zero; give the interface's own address",
            )],
        ),
        invalid(
            with_mac(&[1, 0, 0x5e, 0, 0, 1]),
            &[(
                field,
                "01:00:5e:00:00:01 is a multicast or broadcast address; an interface needs a \
                 unicast one",
            )],
        ),
        invalid(
            with_mac(&[2; 5]),
            &[(
                field,
                r"`\x02\x02\x02\x02\x02` (5 bytes) is no MAC address; send its six bytes",
            )],
        ),
        invalid(
            with_mac(b"02-00-00-00-00-01"),
            &[(
                field,
                "`02-00-00-00-00-01` is no MAC address; write six bytes as aa:bb:cc:dd:ee:ff",
            )],
        ),
        taken(
            new(access(1, "net-blue")),
            field,
            mac_1,
            "bridgePorts/port-1",
        ),
        taken(
            new(trunk(1, &["net-pink", "net-blue"])),
            field,
            mac_1,
            "bridgePorts/port-1",
        ),
        // A transparent trunk is in every LogicalBridge.
        taken(new(trunk(1, &[])), field, mac_1, "bridgePorts/port-1"),
        dangling(
            new(access(2, "net-none")),
            bridges,
            "logicalBridges/net-none",
        ),
        dangling(
            new(trunk(2, &["net-blue", "net-none"])),
            bridges,
            "logicalBridges/net-none",
        ),
        invalid(
            new(access(2, "svis/net-blue")),
            &[(
                "bridge_port.spec.logical_bridges[0]",
                "`svis/net-blue` is no name of a LogicalBridge; write logicalBridges/{id} or the \
                 bare id",
            )],
        ),
        invalid(
            new(with(access(2, "net-blue"), json!({"logicalBridges": []}))),
            &[(bridges, "an access port has exactly one, not 0")],
        ),
        invalid(
            new(with(
                access(2, "net-blue"),
                json!({"logicalBridges": ["net-blue", "net-pink"]}),
            )),
            &[(bridges, "an access port has exactly one, not 2")],
        ),
        invalid(
            new(with(
                access(2, "net-blue"),
                json!({"logicalBridges": vec!["net-blue"; 4095]}),
            )),
            &[(bridges, "has 4095 entries; give at most 4094")],
        ),
        invalid(
            new(with(access(2, "net-blue"), json!({"ptype": null}))),
            &[(
                "bridge_port.spec.ptype",
                "0 is no type; give BRIDGE_PORT_TYPE_ACCESS or _TRUNK",
            )],
        ),
        invalid(
            new(json!({"macAddress": mac(2), "ptype": 7, "logicalBridges": ["", "x"]})),
            &[
                (
                    "bridge_port.spec.logical_bridges[0]",
                    "is required: the name of a LogicalBridge",
                ),
                (
                    "bridge_port.spec.logical_bridges[1]",
                    &format!("`x` is no valid id; {ID_RULE}"),
                ),
                (
                    "bridge_port.spec.ptype",
                    "7 is no type; give BRIDGE_PORT_TYPE_ACCESS or _TRUNK",
                ),
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn svis() {
    let new = |spec| create(SVI, "svi-new", spec);
    let fine = || svi("vrf-red", "net-pink", &["10.2.0.1/24"]);
    let (gateways, remote_as) = ("svi.spec.gw_ip_prefix", "svi.spec.remote_as");
    hold(vec![
        dangling(
            new(svi("vrf-none", "net-pink", &["10.2.0.1/24"])),
            "svi.spec.vrf",
            "vrfs/vrf-none",
        ),
        dangling(
            new(svi("vrf-red", "net-none", &["10.2.0.1/24"])),
            "svi.spec.logical_bridge",
            "logicalBridges/net-none",
        ),
        taken(
            new(svi("vrf-red", "net-blue", &["10.2.0.1/24"])),
            "svi.spec.logical_bridge",
            "logicalBridges/net-blue",
            "svis/svi-blue",
        ),
        taken(
            new(svi(
                "vrf-red",
                "net-pink",
                &["10.2.0.1/24", "10.1.0.200/30"],
            )),
            gateways,
            "10.1.0.200/30",
            "svis/svi-blue",
        ),
        taken(
            new(svi("vrf-red", "net-pink", &["fd00::2/48"])),
            gateways,
            "fd00::2/48",
            "svis/svi-blue",
        ),
        invalid(
            new(json!({})),
            &[
                ("svi.spec.vrf", "is required: the name of a Vrf"),
                (
                    "svi.spec.logical_bridge",
                    "is required: the name of a LogicalBridge",
                ),
                ("svi.spec.mac_address", "is required: 6 bytes, unicast"),
                (gateways, "is required: at least one gateway address"),
            ],
        ),
        invalid(
            new(svi("vrf-red", "net-pink", &["10.2.0.1/24", "10.2.0.1/16"])),
            &[("svi.spec.gw_ip_prefix[1]", "10.2.0.1 is given twice")],
        ),
        invalid(
            new(svi("vrf-red", "net-pink", &["10.2.0.1/24"; 257])),
            &[(gateways, "has 257 entries; give at most 256")],
        ),
        invalid(
            new(with(
                fine(),
                json!({"gwIpPrefix": [prefix("10.2.0.1/24"), {}]}),
            )),
            &[("svi.spec.gw_ip_prefix[1]", "addr is required")],
        ),
        invalid(
            new(svi("vrf-red", "net-pink", &["10.2.0.1/0"])),
            &[(
                "svi.spec.gw_ip_prefix[0]",
                "len is 0 or missing; give the prefix length, 1 to 32",
            )],
        ),
        invalid(
            new(svi("vrf-red", "net-pink", &["10.2.0.1/33"])),
            &[(
                "svi.spec.gw_ip_prefix[0]",
                "10.2.0.1/33: the length must be from 1 to 32",
            )],
        ),
        invalid(
            new(with(fine(), json!({"macAddress": bytes(&[0xff; 6])}))),
            &[(
                "svi.spec.mac_address",
                "ff:ff:ff:ff:ff:ff is a multicast or broadcast address; an interface needs a \
                 unicast one",
            )],
        ),
        invalid(
            new(with(fine(), json!({"enableBgp": true}))),
            &[(remote_as, "is required with enable_bgp: 1 to 4294967295")],
        ),
        invalid(
            new(with(fine(), json!({"remoteAs": 65001}))),
            &[(remote_as, "65001 is given without enable_bgp; set both")],
        ),
    ])
    .await;
}

/// An earlier agent took a gateway without a length.
#[tokio::test]
async fn a_gateway_that_was_stored_without_a_length_can_be_mended_and_deleted() {
    let rig = Rig::start().await;
    for call in everything() {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let edit = |spec: Option<&SviSpec>| {
        let gateway: IfAddr = "10.1.0.1/0".parse().unwrap();
        let gateways = vec![gateway].try_into().unwrap();
        let spec = spec.unwrap().clone();
        Ok::<_, Infallible>(SviSpec { gateways, ..spec })
    };
    let id = "svi-blue".parse().unwrap();
    rig.store.update(id, Missing::Refuse, edit).await.unwrap();
    let rig = rig.restart().await;

    let stored = Face::Http.call(&rig, &get(SVI, "svi-blue")).await.unwrap();
    assert_eq!(
        stored["spec"]["gwIpPrefix"][0]["addr"]["v4Addr"],
        0x0a01_0001
    );
    // A change of something else has to mend it, too.
    let other = update(
        SVI,
        "svi-blue",
        json!({"macAddress": mac(9)}),
        "spec.macAddress",
    );
    let refusal = Face::Grpc.call(&rig, &other).await.unwrap_err();
    assert_eq!(refusal.fields[0].0, "svi.spec.gw_ip_prefix[0]");
    let gateways = json!({"gwIpPrefix": [prefix("10.1.0.1/24")]});
    let mended = update(SVI, "svi-blue", gateways, "spec.gwIpPrefix");
    Face::Grpc.call(&rig, &mended).await.unwrap();
    Face::Grpc
        .call(&rig, &delete(SVI, "svi-blue"))
        .await
        .unwrap();
}
