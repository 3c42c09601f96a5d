//! A tenant is made, changed in place, and taken away.

use std::collections::BTreeSet;

use xpu_linux::kernel::Linux;
use xpu_model::{
    BridgePortSpec, LogicalBridgeSpec, Mtu, PortMode, SviSpec, VrfSpec, status::State,
};
use xpu_plan::linux::{self, Inputs};

use crate::{
    witness::{
        addresses, command, foreign, json, link, texts, vlans, witness_fabric, witness_ports,
        witness_routing,
    },
    world::{World, id, in_namespace, network},
};

#[test]
fn a_tenant_is_made_found_again_and_taken() {
    in_namespace(|| async {
        let mut world = World::new();
        let before = foreign();
        world.tenant();
        let report = world.pass().await;
        for (key, component) in &report.objects {
            assert_eq!(component.state, State::Success, "{key}");
        }
        witness_fabric();
        witness_routing();
        witness_ports();

        // Another agent, as after a restart: everything is recognised.
        world.linux = Linux::open().unwrap();
        assert!(world.plan().await.is_empty());
        assert_eq!(foreign(), before);

        world.intent.delete::<SviSpec>(&id("gate-a")).unwrap();
        world.intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
        world.intent.delete::<BridgePortSpec>(&id("port2")).unwrap();
        world.intent.delete::<VrfSpec>(&id("blue")).unwrap();
        world
            .intent
            .delete::<LogicalBridgeSpec>(&id("net-a"))
            .unwrap();
        world
            .intent
            .delete::<LogicalBridgeSpec>(&id("net-b"))
            .unwrap();
        let report = world.pass().await;
        assert!(report.objects.is_empty(), "{:?}", report.objects);
        let left: BTreeSet<String> = json("ip -j link show")
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect();
        let expected = [
            "br-l3",
            "br-tenant",
            "docker0",
            "flannel.1",
            "lo",
            "port1",
            "port2",
            "red",
            "up0",
            "vxl3",
            "vxlan",
        ];
        assert_eq!(left, texts(&expected));
        assert!(
            json("ip -j route show table 1001 proto redirect")
                .as_array()
                .unwrap()
                .is_empty()
        );
        assert!(link("port1").get("master").is_none());
        assert_eq!(foreign(), before);
    });
}

#[test]
fn changes_are_made_in_place() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        let index = link("svi-10")["ifindex"].clone();
        world.put(
            "redd",
            VrfSpec {
                vni: None,
                loopback: "10.255.0.2/32".parse().unwrap(),
                vtep: None,
            },
        );
        world.put(
            "gate-a",
            SviSpec {
                vrf: id("redd"),
                logical_bridge: id("net-a"),
                mac: "02:00:5e:00:00:20".parse().unwrap(),
                gateways: vec![
                    "10.0.20.1/24".parse::<xpu_model::IfAddr>().unwrap(),
                    "fd00:10::1/64".parse().unwrap(),
                ]
                .try_into()
                .unwrap(),
                bgp: None,
            },
        );
        world.put("net-a", network(10, 2020));
        world.put(
            "port1",
            BridgePortSpec {
                mac: "02:00:00:00:00:01".parse().unwrap(),
                mode: PortMode::Access(id("net-b")),
            },
        );
        world.node.underlay_mtu = Mtu::try_from(9000).unwrap();
        world.pass().await;
        let svi = link("svi-10");
        assert_eq!(svi["ifindex"], index);
        assert_eq!(
            (&svi["master"], &svi["mtu"]),
            (&"redd".into(), &8950.into())
        );
        assert_eq!(svi["address"], "02:00:5e:00:00:20");
        assert_eq!(
            addresses("svi-10"),
            texts(&["10.0.20.1/24", "fd00:10::1/64", "fe80::1/64"])
        );
        let fdb = command("bridge fdb show br br-tenant");
        assert!(
            !fdb.contains("02:00:5e:00:00:10") && fdb.contains("02:00:5e:00:00:20"),
            "{fdb}"
        );
        let flags = ["PVID", "Egress Untagged"];
        assert_eq!(
            vlans("port1"),
            serde_json::json!([{"vlan": 11, "flags": flags}])
        );
        let tunnels = command("bridge vlan tunnelshow dev vxlan");
        assert!(
            tunnels.contains("2020") && !tunnels.contains("1010"),
            "{tunnels}"
        );
    });
}

/// Without `promote_secondaries` the kernel takes a subnet's other addresses along with its first.
#[test]
fn of_two_gateways_in_a_subnet_the_first_goes_alone() {
    in_namespace(|| async {
        command("sysctl -q net.ipv4.conf.all.promote_secondaries=0");
        command("sysctl -q net.ipv4.conf.default.promote_secondaries=0");
        let mut world = World::new();
        world.tenant();
        let gateways = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|it| it.parse().unwrap());
            SviSpec {
                vrf: id("blue"),
                logical_bridge: id("net-a"),
                mac: "02:00:5e:00:00:10".parse().unwrap(),
                gateways: addresses
                    .collect::<Vec<xpu_model::IfAddr>>()
                    .try_into()
                    .unwrap(),
                bgp: None,
            }
        };
        world.put("gate-a", gateways(&["10.0.10.1/24", "10.0.10.2/24"]));
        world.pass().await;
        world.put("gate-a", gateways(&["10.0.10.2/24"]));
        world.pass().await;
        assert_eq!(addresses("svi-10"), texts(&["10.0.10.2/24", "fe80::1/64"]));
    });
}

/// Less than IPv6 needs, and then enough.
#[test]
fn links_too_small_for_ipv6_are_made_and_marked() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link set port1 mtu 1000");
        world.node.underlay_mtu = Mtu::try_from(1300).unwrap();
        world.tenant();
        let report = world.pass().await;
        let wrong = report
            .objects
            .iter()
            .filter(|it| it.1.state != State::Success);
        let wrong: Vec<_> = wrong.map(|(key, _)| key.to_string()).collect();
        assert_eq!(wrong, ["svis/gate-a"], "its IPv6 gateway can't be had");
        for (device, mark) in [
            ("br-tenant", "xpu:node"),
            ("vxl3", "xpu:node"),
            ("svi-10", "xpu:svis/gate-a"),
        ] {
            let link = link(device);
            assert_eq!(
                (&link["ifalias"], &link["mtu"]),
                (&mark.into(), &1250.into())
            );
        }
        world.node.underlay_mtu = Mtu::try_from(1500).unwrap();
        // Devices that are up make a link-local address the moment they have IPv6, before they
        // can be told not to: one more pass takes it away.
        let plan = world.plan().await;
        let outcomes = world.linux.apply(plan).await;
        assert!(outcomes.iter().all(|it| it.result.is_ok()), "{outcomes:#?}");
        world.pass().await;
        witness_fabric();
        witness_routing();
    });
}

#[test]
fn a_purge_leaves_the_node_as_it_was() {
    in_namespace(|| async {
        let mut world = World::new();
        let rules = || (json("ip -j rule show"), json("ip -j -6 rule show"));
        let links = || {
            let links = json("ip -j link show");
            let links = links.as_array().unwrap().iter();
            let names = links.map(|link| link["ifname"].as_str().unwrap().to_owned());
            names.collect::<BTreeSet<_>>()
        };
        let before = (foreign(), rules(), links());
        world.tenant();
        world.pass().await;
        assert_ne!((rules(), links()), (before.1.clone(), before.2.clone()));
        let inputs = Inputs {
            intent: &world.intent,
            node: &world.node,
            frr: &world.frr,
        };
        let plan = linux::purge(&inputs, &world.linux.observe(&inputs).await.unwrap());
        let outcomes = world.linux.apply(plan).await;
        let failed: Vec<_> = outcomes.iter().filter(|it| it.result.is_err()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!((foreign(), rules(), links()), before);
        let left = world.linux.observe(&inputs).await.unwrap();
        assert!(linux::purge(&inputs, &left).is_empty());
        for family in ["-4", "-6"] {
            let routes = json(&format!(
                "ip -j {family} route show table all proto redirect"
            ));
            assert_eq!(routes, serde_json::json!([]));
        }
    });
}
