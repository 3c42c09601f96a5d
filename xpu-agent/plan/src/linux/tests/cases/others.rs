//! What is somebody else's, or already a port's.

use pretty_assertions::assert_eq;

use super::*;

/// Changes the world or the intent, and gives the words expected of `kind/name`.
#[rstest::rstest]
#[case::foreign_gateway("svi-10", LinkKind::Other("dummy".into()), xpu_model::Kind::Svi, "gate-a",
    "a device svi-10 exists that this agent did not make; rename or delete it")]
#[case::foreign_vrf("blue", LinkKind::Other("dummy".into()), xpu_model::Kind::Vrf, "blue",
    "a device blue exists that this agent did not make; rename or delete it")]
#[case::foreign_table("mgmt", LinkKind::Vrf(1001.try_into().unwrap()), xpu_model::Kind::Vrf, "blue",
    "routing table 1001 belongs to the VRF device mgmt, which this agent did not make; delete it, \
     or change the range of tables in the configuration")]
#[case::foreign_vrf_below("blue", LinkKind::Other("dummy".into()), xpu_model::Kind::Svi, "gate-a",
    "vrfs/blue is not available; see its status")]
#[case::foreign_bridge("br-tenant", LinkKind::Other("dummy".into()), xpu_model::Kind::BridgePort,
    "port1", "a device br-tenant exists that this agent did not make; rename or delete it")]
#[case::foreign_vxlan("vxlan", LinkKind::Other("dummy".into()), xpu_model::Kind::LogicalBridge,
    "net-a", "a device vxlan exists that this agent did not make; rename or delete it")]
fn a_foreign_device_in_the_way_is_left_alone_and_told(
    #[case] name: &str,
    #[case] kind: LinkKind,
    #[case] of: xpu_model::Kind,
    #[case] object: &str,
    #[case] reason: &str,
) {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.0.links.insert(named(name), link(kind));
    let before = kernel.0.links[&named(name)].clone();
    kernel.pass(&inputs).unwrap();
    assert_eq!(kernel.0.links[&named(name)], before);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&reported, of, object),
        Some(State::Refused(reason.to_owned()))
    );
}

/// A port that is called like a netdev which the node itself needs.
#[rstest::rstest]
#[case::address("has the address 198.51.100.7/24")]
#[case::routes("has routes")]
#[case::master("is the master of slave0")]
#[case::below("carries the VLAN device up0.7")]
#[case::bridge("is a bridge")]
#[case::peer("has a peer of bgp.peers on it")]
fn a_netdev_that_the_node_uses_is_no_port(#[case] used: &str) {
    use xpu_model::node::{BgpBase, BgpPeer, PeerAddress, RemoteAs};
    let (intent, mut node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let mut kernel = with_port();
    let port = named("port1");
    match used.split(' ').next_back().unwrap() {
        "198.51.100.7/24" => {
            let addr = "198.51.100.7/24".parse().unwrap();
            kernel
                .0
                .links
                .get_mut(&port)
                .unwrap()
                .addresses
                .insert(addr);
        }
        "routes" => drop(kernel.0.routed.insert(port.clone())),
        "slave0" => {
            let mut slave = dummy();
            slave.master = Some(port.clone());
            kernel.0.links.insert(named("slave0"), slave);
        }
        "up0.7" => {
            let vlan = LinkKind::Vlan {
                parent: Some(port.clone()),
                vlan: 7.try_into().unwrap(),
            };
            kernel.0.links.insert(named("up0.7"), link(vlan));
        }
        "bridge" => {
            let bridge = LinkKind::Bridge(crate::linux::link::BridgeParams::OURS);
            kernel.0.links.insert(port.clone(), link(bridge));
        }
        _ => {
            node.bgp = Some(BgpBase {
                asn: 65001.try_into().unwrap(),
                router_id: "10.255.0.1".parse().unwrap(),
                peers: vec![BgpPeer {
                    at: PeerAddress::Interface(port.clone()),
                    remote_as: RemoteAs::External,
                    bfd: false,
                }],
                timers: None,
            });
        }
    }
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let before = kernel.0.links[&port].clone();
    kernel.pass(&inputs).unwrap();
    assert_eq!(kernel.0.links[&port], before);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let reason = format!(
        "netdev port1 is in use by the node: it {used}; name the port's own netdev, or free this one"
    );
    let state = state(&reported, xpu_model::Kind::BridgePort, "port1");
    // Whoever has it may be about to let go of it.
    assert_eq!(state, Some(State::Error(reason)));
}

#[test]
fn a_port_keeps_its_netdev_when_it_gets_an_address() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs).unwrap();
    let port = kernel.0.links.get_mut(&named("port1")).unwrap();
    port.addresses.insert("198.51.100.7/24".parse().unwrap());
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
}

#[test]
fn of_two_ports_with_one_netdev_the_first_keeps_it() {
    let (mut intent, mut node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let mac = "02:00:00:00:00:01".parse().unwrap();
    node.ports = PortResolver::Map {
        by_mac: BTreeMap::from([(mac, named("port1"))]),
        by_id: BTreeMap::new(),
    };
    let mut kernel = with_port();
    kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let net = LogicalBridgeSpec {
        vlan: 11.try_into().unwrap(),
        vni: None,
        vtep: None,
    };
    intent.create(id("net-b"), net, &rules()).unwrap();
    // Sorted before the other by its name, and allowed: its LogicalBridge is another.
    let port = BridgePortSpec {
        mac,
        mode: PortMode::Access(id("net-b")),
    };
    intent.create(id("a-port"), port, &rules()).unwrap();
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let kind = xpu_model::Kind::BridgePort;
    assert_eq!(state(&reported, kind, "port1"), Some(State::Success));
    let taken = "netdev port1 is bridgePorts/port1's; give each port its own".to_owned();
    assert_eq!(
        state(&reported, kind, "a-port"),
        Some(State::Refused(taken))
    );
}

#[test]
fn an_alias_on_a_vf_makes_it_nobodys() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    let mut home = dummy();
    home.mark = Some("xpu:svis/gone".parse().unwrap());
    kernel.0.links.insert(named("vf0"), home.clone());
    kernel.0.links.get_mut(&named("port1")).unwrap().mark = Some("xpu:node".parse().unwrap());
    kernel.pass(&inputs).unwrap();
    assert_eq!(kernel.0.links[&named("vf0")], home);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let port = state(&reported, xpu_model::Kind::BridgePort, "port1");
    assert_eq!(port, Some(State::Success));
}

/// A VRF of somebody's may come with a table that one of ours has for long.
#[test]
fn a_foreign_vrf_with_our_table_takes_nothing_down() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs).unwrap();
    let theirs = link(LinkKind::Vrf(1001.try_into().unwrap()));
    kernel.0.links.insert(named("theirs"), theirs.clone());
    let before = kernel.clone();
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    assert_eq!(kernel, before);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let Some(State::Refused(reason)) = state(&reported, xpu_model::Kind::Vrf, "blue") else {
        panic!("{reported:?}");
    };
    assert!(
        reason.contains("table 1001 belongs to the VRF device theirs"),
        "{reason}"
    );
    let svi = state(&reported, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(svi, Some(State::Success));
    // Nothing new is made in it either.
    let l3 = crate::ownership::l3_device(intent.vrfs[&id("blue")].allocation.l3_vlan);
    let made = [l3, named("svi-10")];
    for device in &made {
        assert!(kernel.0.links.remove(device).is_some(), "{device}");
    }
    kernel.pass(&inputs).unwrap();
    for device in &made {
        assert!(!kernel.0.links.contains_key(device), "{device}");
    }
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let svi = state(&reported, xpu_model::Kind::Svi, "gate-a");
    assert!(matches!(svi, Some(State::Refused(_))), "{svi:?}");
    // Without ours there is nothing to keep, and nothing is made.
    let mut kernel = with_port();
    kernel.0.links.insert(named("theirs"), theirs);
    kernel.pass(&inputs).unwrap();
    assert!(!kernel.0.links.contains_key(&named("blue")));
}

#[test]
fn a_changed_port_keeps_the_netdev_it_was_first_to_have() {
    let (mut intent, frr) = (tenant(), FrrFacts::Unmanaged);
    let node = Node {
        ports: PortResolver::Map {
            by_mac: BTreeMap::new(),
            by_id: BTreeMap::from([(id("port1"), named("port1")), (id("port2"), named("port1"))]),
        },
        ..node()
    };
    let port = |mac: &str, mode| BridgePortSpec {
        mac: mac.parse().unwrap(),
        mode,
    };
    let second = port("02:00:00:00:00:02", PortMode::Access(id("net-a")));
    intent.create(id("port2"), second, &rules()).unwrap();
    let trunk = port("02:00:00:00:00:01", PortMode::trunk([id("net-a")].into()));
    intent.update(id("port1"), trunk, &rules()).unwrap();
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs).unwrap();
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let of = |name| state(&reported, xpu_model::Kind::BridgePort, name).unwrap();
    assert_eq!(of("port1"), State::Success);
    assert!(
        of("port2")
            .reason()
            .unwrap()
            .contains("is bridgePorts/port1's")
    );
}

#[test]
fn rules_are_not_ordered_around_somebodys() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.0.rules_in_way.insert(Family::V4);
    let plan = kernel.pass(&inputs).unwrap();
    let first: Vec<_> = words(&plan.steps);
    assert_eq!(
        first[0],
        "look IPv6 destinations up in VRFs before the node's own"
    );
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    // A retry would find the same.
    assert!(!reported.wants_retry(), "{reported:?}");
    let reported = reported.notices;
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains("IPv4") && reported[0].contains("a rule at 0"),
        "{reported:?}"
    );
}

#[test]
fn rules_without_a_priority_beside_ours_are_told() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs).unwrap();
    let reported = |kernel: &Kernel| report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(reported(&kernel).notices, [""; 0]);
    kernel.0.rules_beside.insert(Family::V6);
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    let reported = reported(&kernel);
    assert!(!reported.wants_retry(), "{reported:?}");
    assert_eq!(
        reported.notices,
        [
            "IPv6: a rule at 0 (`ip rule`), which is not this agent's, stands behind the agent's: \
             rules that are added without a priority get this one, and are asked in the order in \
             which they were added; give them priorities (`ip rule add … pref N`)"
        ]
    );
}
