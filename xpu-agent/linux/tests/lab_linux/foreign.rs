//! What is not ours stays as it is, whatever it is called and whatever it says of itself.

use std::time::Duration;

use serde_json::Value;
use xpu_linux::kernel::Follower;
use xpu_model::{BridgePortSpec, Kind, ObjectKey, PortMode, Spec, status::State};

use crate::{
    witness::{command, json, link, setting, vlans},
    world::{World, id, in_namespace},
};

#[test]
fn foreign_devices_of_our_names_stay_and_are_told() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link add svi-10 type dummy");
        command("ip link set port1 master docker0");
        let before = (link("svi-10"), link("port1"), vlans("port1"));
        world.tenant();
        let report = world.pass().await;
        assert_eq!((link("svi-10"), link("port1"), vlans("port1")), before);
        let errors: Vec<String> = report
            .objects
            .values()
            .filter_map(|component| component.state.reason().map(ToOwned::to_owned))
            .collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors.iter().any(|error| error.contains("docker0")),
            "{errors:?}"
        );
        assert!(
            errors.iter().any(|error| error.contains("svi-10")),
            "{errors:?}"
        );
    });
}

/// One that could not be read would keep the whole node from being seen.
#[test]
fn devices_of_any_kind_are_read() {
    in_namespace(|| async {
        let mut world = World::new();
        // Else the modules of the tunnels put devices of their own into every namespace.
        command("nsenter -t 1 -n sysctl -q -w net.core.fb_tunnels_only_for_init_net=2");
        for device in [
            "du0 type dummy",
            "du2 type dummy",
            "b1 type bond mode 802.3ad",
            "mv1 link du0 type macvlan mode bridge",
            "mt1 link du0 type macvtap mode vepa",
            "iv1 link du2 type ipvlan mode l3",
            "vl1 link du0 type vlan protocol 802.1ad id 7",
            "g1 type gre local 192.0.2.1 remote 192.0.2.2",
            "gt1 type gretap local 192.0.2.1 remote 192.0.2.2 key 5",
            "er1 type erspan local 192.0.2.1 remote 192.0.2.2 seq key 1 erspan_ver 2",
            "g6 type ip6gre local 2001:db8::1 remote 2001:db8::2",
            "ii1 type ipip local 192.0.2.1 remote 192.0.2.2",
            "si1 type sit local 192.0.2.1 remote 192.0.2.2",
            "i6 type ip6tnl local 2001:db8::1 remote 2001:db8::2",
            "vt1 type vti local 192.0.2.1 remote 192.0.2.2 key 4",
            "xf1 type xfrm dev du0 if_id 9",
            "ge1 type geneve external",
            "vx1 type vxlan external dstport 8472",
            "du1 type dummy",
            "if1 type ifb",
            "nm1 type nlmon",
            "ve1 type veth peer name ve2",
            "vr1 type vrf table 77",
            "br1 type bridge mcast_snooping 1 vlan_filtering 1",
            "ps1 type netkit",
        ] {
            command(&format!("ip link add {device}"));
        }
        command("ip link set du1 master b1");
        command("ip link property add dev du1 altname another");
        let before = [link("b1"), link("du1"), link("br1")];
        world.tenant();
        let report = world.pass().await;
        let failed = report.objects.values();
        let failed: Vec<_> = failed.filter(|it| it.state.reason().is_some()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(["b1", "du1", "br1"].map(link), before);
    });
}

/// Between the look and the work somebody takes a name, as a name and as an alternative one.
#[test]
fn a_device_that_takes_the_name_meanwhile_is_not_touched() {
    for take in [
        "ip link set thief name svi-10",
        "ip link property add dev thief altname svi-10",
    ] {
        in_namespace(move || async move {
            let mut world = World::new();
            command("ip link add thief type dummy");
            let before = (link("thief"), setting("ipv4/conf/thief/arp_accept"));
            world.tenant();
            let plan = world.plan().await;
            command(take);
            let outcomes = world.linux.apply(plan).await;
            let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
            let failed: Vec<_> = failed.map(|it| it.step.action.to_string()).collect();
            assert!(failed.contains(&"make svi-10".to_owned()), "{failed:#?}");
            // By its index: that is what stays.
            let index = &before.0["ifindex"];
            let links = json("ip -j -d addr show");
            let mut links = links.as_array().unwrap().iter();
            let mut after = links
                .find(|link| link["ifindex"] == *index)
                .unwrap()
                .clone();
            let name = after["ifname"].as_str().unwrap().to_owned();
            let mode = |link: &Value| link["inet6_addr_gen_mode"].clone();
            assert_eq!(mode(&after), mode(&before.0), "after `{take}`");
            assert_eq!(setting(&format!("ipv4/conf/{name}/arp_accept")), before.1);
            after["ifname"] = "thief".into();
            after.as_object_mut().unwrap().remove("altnames");
            assert_eq!(after, before.0, "after `{take}`");
        });
    }
}

#[test]
fn netdevs_that_the_node_uses_are_no_ports() {
    in_namespace(|| async {
        let mut world = World::new();
        let used: &[(&str, &[&str])] = &[
            ("used1", &["ip addr add 203.0.113.1/24 dev used1"]),
            (
                "used2",
                &[
                    "ip link set used2 up",
                    "ip route add 203.0.113.128/25 dev used2",
                ],
            ),
            (
                "used3",
                &["ip link add link used3 name used3.7 type vlan id 7"],
            ),
            (
                "used4",
                &[
                    "ip link set used4 up",
                    "ip -6 route add 2001:db8::/64 dev used4",
                ],
            ),
        ];
        world.tenant();
        for (number, (name, lines)) in used.iter().enumerate() {
            command(&format!("ip link add {name} type dummy"));
            lines.iter().for_each(|line| drop(command(line)));
            let spec = BridgePortSpec {
                mac: format!("02:00:00:00:01:0{number}").parse().unwrap(),
                mode: PortMode::Access(id("net-a")),
            };
            world.put(name, spec);
        }
        let report = world.pass().await;
        for (name, _) in used {
            assert!(link(name).get("master").is_none(), "{name} was taken");
            let key = BridgePortSpec::key(&id(name));
            let reason = report.objects[&key].state.reason().unwrap_or("none");
            assert!(reason.contains("is in use by the node"), "{name}: {reason}");
        }
    });
}

/// Nobody tries again what is refused: the kernel has to tell when the obstacle goes.
#[test]
fn what_is_refused_comes_up_by_the_event_of_its_obstacles_end() {
    for (kind, object, obstacle, end) in [
        (
            Kind::Svi,
            "gate-a",
            "ip link add svi-10 type dummy",
            "ip link del svi-10",
        ),
        (
            Kind::Svi,
            "gate-a",
            "ip link add blue type dummy",
            "ip link set blue name green",
        ),
        (
            Kind::Vrf,
            "blue",
            "ip link add theirs type vrf table 1001",
            "ip link del theirs",
        ),
        (
            Kind::LogicalBridge,
            "net-a",
            "ip link add vxlan type dummy",
            "ip link del vxlan",
        ),
        (
            Kind::LogicalBridge,
            "net-a",
            "ip addr del 192.0.2.1/32 dev up0",
            "ip addr add 192.0.2.1/32 dev up0",
        ),
        (
            Kind::BridgePort,
            "port1",
            "ip addr add 203.0.113.1/24 dev port1",
            "ip addr del 203.0.113.1/24 dev port1",
        ),
        (
            Kind::BridgePort,
            "port1",
            "ip link add link port1 name port1.7 type vlan id 7",
            "ip link del port1.7",
        ),
        (
            Kind::BridgePort,
            "port1",
            "ip link set port1 master docker0",
            "ip link set port1 nomaster",
        ),
    ] {
        in_namespace(move || async move {
            let key = ObjectKey::new(kind, id(object));
            let mut world = World::new();
            command(obstacle);
            world.tenant();
            let report = world.pass().await;
            let state = &report.objects[&key].state;
            // What may pass in a moment is tried again, too.
            let is_error = matches!(state, State::Error(_));
            assert!(
                is_error || matches!(state, State::Refused(_)),
                "{obstacle}: {state:?}"
            );
            assert_eq!(report.wants_retry(), is_error, "{obstacle}: {report:#?}");

            let mut follower = Follower::new().unwrap();
            command(end);
            let event = tokio::time::timeout(Duration::from_secs(5), follower.changed());
            event.await.expect(end).unwrap();
            let report = world.pass().await;
            let state = &report.objects[&key].state;
            assert_eq!(state, &State::Success, "{end}");
        });
    }
}

/// What a pod may write on its VF comes home with it.
#[test]
fn an_alias_alone_makes_nothing_ours() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link set port1 alias xpu:node");
        command("ip link add vf0 type dummy");
        command("ip link set vf0 alias xpu:svis/gone");
        world.tenant();
        world.pass().await;
        assert_eq!(link("vf0")["ifalias"], "xpu:svis/gone");
        assert_eq!(link("port1")["master"], "br-tenant");
    });
}

/// A kernel that forwards IPv6 forgets what routers advertise.
#[test]
fn the_nodes_advertised_default_route_is_not_risked() {
    in_namespace(|| async {
        let forwards = || command("sysctl -n net.ipv6.conf.all.forwarding");
        let mut world = World::new();
        command("ip -6 route add default via fe80::99 dev up0 proto ra");
        world.tenant();
        let report = world.pass().await;
        assert_eq!(forwards().trim(), "0");
        let notice = report.notices.join("\n");
        assert!(notice.contains("net.ipv6.conf.up0.accept_ra=2"), "{notice}");
        command("sysctl -q net.ipv6.conf.up0.accept_ra=2");
        let report = world.pass().await;
        assert_eq!(forwards().trim(), "1");
        assert!(report.notices.is_empty(), "{:?}", report.notices);
    });
}
