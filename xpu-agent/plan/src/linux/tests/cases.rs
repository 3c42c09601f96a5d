//! Single cases that a reader can follow.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use xpu_model::{
    BridgePortSpec, Intent, LogicalBridgeSpec, Mtu, Node, PortMode, SviSpec, VrfSpec,
    node::{PortResolver, RouteTargets},
    status::{PassReport, State},
};

use super::{
    generate::{dummy, id, link, loopback, rules},
    kernel::Kernel,
};
use crate::{
    FrrFacts,
    linux::{Family, ForeignRule, Inputs, LinkKind, Outcome, Step, plan, report},
    ownership::fixed,
};

fn node() -> Node {
    Node {
        vtep: Some("192.0.2.1".parse().unwrap()),
        underlay_mtu: Mtu::try_from(9000).unwrap(),
        ports: PortResolver::Name,
        bgp: None,
        route_targets: RouteTargets::Auto,
    }
}

/// A tenant with one network, its gateway, its L3VNI, and one access port.
fn tenant() -> Intent {
    let mut intent = Intent::default();
    let rules = rules();
    let vrf = VrfSpec {
        vni: Some(10_000.try_into().unwrap()),
        loopback: "10.255.0.1/32".parse().unwrap(),
        vtep: None,
    };
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(1010.try_into().unwrap()),
        vtep: None,
    };
    let gateway = SviSpec {
        vrf: id("blue"),
        logical_bridge: id("net-a"),
        mac: "02:00:5e:00:00:10".parse().unwrap(),
        gateways: vec![
            "10.0.10.1/24".parse().unwrap(),
            "fd00:10::1/64".parse().unwrap(),
        ],
        bgp: None,
    };
    let port = BridgePortSpec {
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mode: PortMode::Access(id("net-a")),
    };
    intent.create(id("blue"), vrf, &rules).unwrap();
    intent.create(id("net-a"), net, &rules).unwrap();
    intent.create(id("gate-a"), gateway, &rules).unwrap();
    intent.create(id("port1"), port, &rules).unwrap();
    intent
}

fn with_vtep() -> Kernel {
    let mut kernel = Kernel::default();
    kernel.0.links.insert(fixed("lo"), loopback());
    kernel
}

fn with_port() -> Kernel {
    let mut kernel = with_vtep();
    kernel
        .0
        .links
        .insert(fixed("port1"), link(LinkKind::Other("dummy".to_owned())));
    kernel
}

fn words(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| step.action.to_string()).collect()
}

fn state(report: &PassReport, kind: xpu_model::Kind, name: &str) -> Option<State> {
    let key = xpu_model::ObjectKey::new(kind, id(name));
    report
        .objects
        .get(&key)
        .map(|component| component.state.clone())
}

#[test]
fn a_node_without_objects_has_its_bridges() {
    let (intent, node, frr) = (Intent::default(), node(), FrrFacts::Unknown);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = Kernel::default();
    let plan = kernel.pass(&inputs).unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "look IPv4 destinations up in VRFs before the node's own",
            "look IPv6 destinations up in VRFs before the node's own",
            "switch IPv4 forwarding on",
            "switch IPv6 forwarding on",
            "make br-l3",
            "make br-tenant",
            "make vxl3",
            "make vxlan",
            "set the port flags of vxl3",
            "set the port flags of vxlan",
            "set net.ipv6.conf.br-l3.disable_ipv6 to 1",
            "set net.ipv6.conf.br-tenant.disable_ipv6 to 1",
            "set net.ipv6.conf.vxl3.disable_ipv6 to 1",
            "set net.ipv6.conf.vxlan.disable_ipv6 to 1",
            "add VLAN 4094 to vxl3",
            "add VLAN 4094 to vxlan",
            "map VLAN 4094 to VNI 16777214 on vxl3",
            "map VLAN 4094 to VNI 16777215 on vxlan",
            "set br-l3 up",
            "set br-tenant up",
            "set vxl3 up",
            "set vxlan up",
        ]
    );
    assert_eq!(kernel.0.links[&fixed("vxlan")].mtu, 8950);
}

#[test]
fn without_a_vtep_there_are_bridges_alone() {
    let (intent, node) = (
        Intent::default(),
        Node {
            vtep: None,
            ..node()
        },
    );
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &FrrFacts::Unknown,
    };
    let mut kernel = Kernel::default();
    kernel.pass(&inputs).unwrap();
    let names: Vec<_> = kernel.0.links.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["br-l3", "br-tenant"]);
}

#[test]
fn a_tenant_comes_in_order_and_goes_in_reverse() {
    let (mut intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let mut kernel = with_port();
    let nobody = Intent::default();
    kernel
        .pass(&Inputs {
            intent: &nobody,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "make blue",
            "make l3-1",
            "make svi-10",
            "set net.ipv6.conf.blue.disable_ipv6 to 0",
            "set net.ipv6.conf.l3-1.disable_ipv6 to 0",
            "set net.ipv4.conf.l3-1.rp_filter to 0",
            "set net.ipv6.conf.svi-10.disable_ipv6 to 0",
            "set net.ipv4.conf.svi-10.arp_accept to 1",
            "set net.ipv4.conf.svi-10.rp_filter to 0",
            "set net.ipv6.conf.svi-10.accept_untracked_na to 2",
            "keep port1 from making a link-local address",
            "put port1 into the tenant bridge",
            "add VLAN 1 to br-l3",
            "add VLAN 10 to br-tenant",
            "add VLAN 10 to port1",
            "add VLAN 1 to vxl3",
            "add VLAN 10 to vxlan",
            "add VNI 10000 to vxl3",
            "add VNI 1010 to vxlan",
            "map VLAN 1 to VNI 10000 on vxl3",
            "map VLAN 10 to VNI 1010 on vxlan",
            "set blue up",
            "set svi-10 up",
            "set port1 up",
            "add 10.255.0.1/32 to blue",
            "add 10.0.10.1/24 to svi-10",
            "add fd00:10::1/64 to svi-10",
            "add fe80::1/64 to svi-10",
            "add the gateway's entry 02:00:5e:00:00:10 in VLAN 10",
            "add the unreachable IPv4 default route to table 1001",
            "add the unreachable IPv6 default route to table 1001",
            "set l3-1 up",
        ]
    );
    intent.delete::<SviSpec>(&id("gate-a")).unwrap();
    intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
    intent.delete::<VrfSpec>(&id("blue")).unwrap();
    intent.delete::<LogicalBridgeSpec>(&id("net-a")).unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "delete l3-1",
            "delete svi-10",
            "remove the gateway's entry 02:00:5e:00:00:10 in VLAN 10",
            "remove VLAN 1 from vxl3",
            "remove VLAN 10 from vxlan",
            "remove VNI 10000 from vxl3",
            "remove VNI 1010 from vxlan",
            "remove VLAN 1 from br-l3",
            "remove VLAN 10 from br-tenant",
            "take port1 out of its bridge",
            "remove the unreachable IPv4 default route from table 1001",
            "remove the unreachable IPv6 default route from table 1001",
            "delete blue",
        ]
    );
}

#[test]
fn thousands_of_networks_are_a_handful_of_actions() {
    let mut intent = Intent::default();
    for n in 1..=4000_u32 {
        let net = LogicalBridgeSpec {
            vlan: n.try_into().unwrap(),
            vni: Some((10_000 + n).try_into().unwrap()),
            vtep: None,
        };
        intent
            .create(id(&format!("net-{n}")), net, &rules())
            .unwrap();
    }
    let (node, frr) = (node(), FrrFacts::Unmanaged);
    let mut kernel = Kernel::default();
    let nobody = Intent::default();
    kernel
        .pass(&Inputs {
            intent: &nobody,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "add VLANs 1 to 4000 to vxlan",
            "add VNIs 10001 to 14000 to vxlan",
            "map VLANs 1 to 4000 to VNIs 10001 to 14000 on vxlan",
        ]
    );
}

#[test]
fn a_vni_is_remapped_by_taking_it_first() {
    let (mut intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let mut kernel = with_port();
    kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(2020.try_into().unwrap()),
        vtep: None,
    };
    intent.update(id("net-a"), net, &rules()).unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "unmap VLAN 10 on vxlan",
            "remove VNI 1010 from vxlan",
            "add VNI 2020 to vxlan",
            "map VLAN 10 to VNI 2020 on vxlan",
        ]
    );
}

#[test]
fn the_sentinel_moves_out_of_the_way_before_it_is_taken() {
    let (mut intent, node, frr) = (Intent::default(), node(), FrrFacts::Unmanaged);
    let mut kernel = Kernel::default();
    kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let net = LogicalBridgeSpec {
        vlan: 4094.try_into().unwrap(),
        vni: Some(1010.try_into().unwrap()),
        vtep: None,
    };
    intent.create(id("net-a"), net, &rules()).unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "add VLAN 4093 to vxlan",
            "map VLAN 4093 to VNI 16777213 on vxlan",
            "unmap VLAN 4094 on vxlan",
            "add VNI 1010 to vxlan",
            "map VLAN 4094 to VNI 1010 on vxlan",
        ]
    );
}

#[test]
fn an_l3vni_waits_for_frr_and_says_so() {
    let (intent, node) = (tenant(), node());
    let mut kernel = with_port();
    let empty = FrrFacts::Known {
        l3vni: BTreeMap::new(),
    };
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &empty,
    };
    kernel.pass(&inputs).unwrap();
    assert!(!kernel.0.links.contains_key(&fixed("l3-1")));
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let waits = State::Pending("waits for FRR to know vrf blue with vni 10000".to_owned());
    assert_eq!(state(&told, xpu_model::Kind::Vrf, "blue"), Some(waits));
    assert_eq!(
        state(&told, xpu_model::Kind::Svi, "gate-a"),
        Some(State::Success)
    );

    let l3vni = BTreeMap::from([(id("blue"), 10_000.try_into().unwrap())]);
    let known = FrrFacts::Known { l3vni };
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &known,
    };
    let plan = kernel.pass(&inputs).unwrap();
    assert_eq!(
        words(&plan.steps).last().map(String::as_str),
        Some("set l3-1 up")
    );
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&told, xpu_model::Kind::Vrf, "blue"),
        Some(State::Success)
    );
}

#[test]
fn a_port_comes_up_when_its_netdev_does() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = Kernel::default();
    kernel.pass(&inputs).unwrap();
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let waits = State::Pending("netdev port1 isn't there yet".to_owned());
    assert_eq!(
        state(&told, xpu_model::Kind::BridgePort, "port1"),
        Some(waits)
    );
    kernel.0.links.extend(with_port().0.links);
    kernel.pass(&inputs).unwrap();
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&told, xpu_model::Kind::BridgePort, "port1"),
        Some(State::Success)
    );
}

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
    "vrfs/blue can't be had; see its status")]
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
    kernel.0.links.insert(fixed(name), link(kind));
    let before = kernel.0.links[&fixed(name)].clone();
    kernel.pass(&inputs).unwrap();
    assert_eq!(kernel.0.links[&fixed(name)], before);
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&told, of, object),
        Some(State::Error(reason.to_owned()))
    );
}

#[rstest::rstest]
#[case::no_vtep(
    None,
    None,
    "VNI 1010 needs a local VTEP; set underlay.vtep in the agent's \
    configuration, or the object's vtep_ip_prefix"
)]
#[case::another_vtep(
    Some("192.0.2.1"),
    Some("192.0.2.7/32"),
    "VTEP 192.0.2.7 differs from this \
    node's, 192.0.2.1; one VTEP per node is supported today"
)]
fn a_vni_needs_the_nodes_vtep(
    #[case] of_node: Option<&str>,
    #[case] of_object: Option<&str>,
    #[case] reason: &str,
) {
    let node = Node {
        vtep: of_node.map(|vtep| vtep.parse().unwrap()),
        ..node()
    };
    let mut intent = Intent::default();
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(1010.try_into().unwrap()),
        vtep: of_object.map(|vtep| vtep.parse().unwrap()),
    };
    intent.create(id("net-a"), net, &rules()).unwrap();
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &FrrFacts::Unmanaged,
    };
    let told = report(&inputs, &Kernel::default().observe(&inputs), &[]);
    let expected = Some(State::Error(reason.to_owned()));
    assert_eq!(
        state(&told, xpu_model::Kind::LogicalBridge, "net-a"),
        expected
    );
}

#[test]
fn an_objects_vtep_serves_where_the_node_has_none() {
    let node = Node {
        vtep: None,
        ..node()
    };
    let mut intent = Intent::default();
    let net = |vlan: u32, vtep: &str| LogicalBridgeSpec {
        vlan: vlan.try_into().unwrap(),
        vni: Some((1000 + vlan).try_into().unwrap()),
        vtep: Some(vtep.parse().unwrap()),
    };
    intent
        .create(id("net-b"), net(11, "192.0.2.2/32"), &rules())
        .unwrap();
    let mut kernel = with_vtep();
    kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &FrrFacts::Unmanaged,
        })
        .unwrap();
    // Sorted before, but later: it takes nothing away.
    intent
        .create(id("net-a"), net(10, "192.0.2.1/32"), &rules())
        .unwrap();
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &FrrFacts::Unmanaged,
    };
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let kind = xpu_model::Kind::LogicalBridge;
    assert_eq!(state(&told, kind, "net-b"), Some(State::Success));
    assert!(matches!(state(&told, kind, "net-a"), Some(State::Error(_))));
}

#[test]
fn a_vtep_whose_address_is_nowhere_is_told() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.0.links.insert(fixed("lo"), dummy());
    kernel.pass(&inputs).unwrap();
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let absent = State::Error(
        "no device of this node has the VTEP's address 192.0.2.1; add it (`ip addr add \
         192.0.2.1/32 dev lo`), or correct the VTEP"
            .to_owned(),
    );
    for (kind, name) in [
        (xpu_model::Kind::LogicalBridge, "net-a"),
        (xpu_model::Kind::Vrf, "blue"),
    ] {
        assert_eq!(state(&told, kind, name), Some(absent.clone()), "{name}");
    }
    kernel.0.links.insert(fixed("lo"), loopback());
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let bridge = state(&told, xpu_model::Kind::LogicalBridge, "net-a");
    assert_eq!(bridge, Some(State::Success));
}

/// Packets of an object pass devices that belong to the node.
#[rstest::rstest]
#[case("vxlan", &["logicalBridges/net-a"])]
#[case("vxl3", &["vrfs/blue"])]
#[case("br-l3", &["vrfs/blue"])]
#[case("br-tenant", &["bridgePorts/port1", "logicalBridges/net-a", "svis/gate-a"])]
fn a_device_of_the_nodes_that_is_down_or_gone_is_told(
    #[case] device: &str,
    #[case] concerned: &[&str],
    #[values(true, false)] gone: bool,
    #[values(true, false)] fails: bool,
) {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs).unwrap();
    if gone {
        // What stands on it is no matter here.
        kernel.0.links.remove(&fixed(device));
        kernel.0.links.retain(|_, link| {
            !matches!(&link.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent.as_str() == device)
        });
    } else {
        kernel.0.links.get_mut(&fixed(device)).unwrap().up = false;
    }
    let observed = kernel.observe(&inputs);
    let of_device = |step: &Step| step.action.device() == Some(&fixed(device));
    let step = plan(&inputs, &observed).steps.into_iter().find(of_device);
    let outcome = Outcome {
        step: step.unwrap(),
        result: Err("no room".to_owned()),
    };
    let outcomes = if fails { vec![outcome] } else { Vec::new() };
    let told = report(&inputs, &observed, &outcomes);
    let wrong: Vec<_> = told
        .objects
        .iter()
        .filter(|(_, component)| component.state != State::Success)
        .map(|(key, component)| (key.to_string(), component.state.reason().unwrap()))
        .collect();
    for name in concerned {
        let reason = wrong.iter().find(|(key, _)| key == name).unwrap().1;
        // What an object has on the device itself may be missing along with it.
        let own = gone && reason.starts_with("still to do: ");
        assert!(reason.contains(device) || own, "{name}: {reason}");
        assert_eq!(
            reason.contains("no room"),
            fails && !own,
            "{name}: {reason}"
        );
    }
    if !gone {
        assert_eq!(wrong.len(), concerned.len(), "{wrong:?}");
    }
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
    let port = fixed("port1");
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
            kernel.0.links.insert(fixed("slave0"), slave);
        }
        "up0.7" => {
            let vlan = LinkKind::Vlan {
                parent: Some(port.clone()),
                vlan: 7.try_into().unwrap(),
            };
            kernel.0.links.insert(fixed("up0.7"), link(vlan));
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
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let reason = format!(
        "netdev port1 is in use by the node: it {used}; name the port's own netdev, or free this one"
    );
    let state = state(&told, xpu_model::Kind::BridgePort, "port1");
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
    let port = kernel.0.links.get_mut(&fixed("port1")).unwrap();
    port.addresses.insert("198.51.100.7/24".parse().unwrap());
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
}

#[test]
fn of_two_ports_with_one_netdev_the_first_keeps_it() {
    let (mut intent, mut node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let mac = "02:00:00:00:00:01".parse().unwrap();
    node.ports = PortResolver::Map {
        by_mac: BTreeMap::from([(mac, fixed("port1"))]),
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
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let kind = xpu_model::Kind::BridgePort;
    assert_eq!(state(&told, kind, "port1"), Some(State::Success));
    let taken = "netdev port1 is bridgePorts/port1's; give each port its own".to_owned();
    assert_eq!(state(&told, kind, "a-port"), Some(State::Error(taken)));
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
    kernel.0.links.insert(fixed("vf0"), home.clone());
    kernel.0.links.get_mut(&fixed("port1")).unwrap().mark = Some("xpu:node".parse().unwrap());
    kernel.pass(&inputs).unwrap();
    assert_eq!(kernel.0.links[&fixed("vf0")], home);
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let port = state(&told, xpu_model::Kind::BridgePort, "port1");
    assert_eq!(port, Some(State::Success));
}

#[test]
fn a_kernel_without_ipv6_gets_none_and_it_is_told() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.0.no_ipv6 = true;
    for link in kernel.0.links.values_mut() {
        link.addr_gen_none = true;
        link.settings.clear();
    }
    let plan = kernel.pass(&inputs).unwrap();
    let ipv6 =
        |word: &String| word.contains("IPv6") || word.contains("ipv6") || word.contains("::");
    let words = words(&plan.steps);
    assert!(!words.iter().any(ipv6), "{words:#?}");
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let reason = "fd00:10::1/64 can't be had: this kernel has no IPv6; start it without \
                  ipv6.disable=1";
    let svi = state(&told, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(svi, Some(State::Error(reason.to_owned())));
    let vrf = state(&told, xpu_model::Kind::Vrf, "blue");
    assert_eq!(vrf, Some(State::Success));
}

#[test]
fn a_failure_is_told_to_whom_it_concerns_until_it_is_mended() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    let plan = plan(&inputs, &kernel.observe(&inputs));
    let (failing, working): (Vec<Step>, Vec<Step>) = plan
        .steps
        .into_iter()
        .partition(|step| step.action.to_string().contains("10.0.10.1/24"));
    let working = crate::linux::LinuxPlan {
        steps: working,
        ..Default::default()
    };
    kernel.apply(&working).unwrap();
    let outcome = Outcome {
        step: failing[0].clone(),
        result: Err("no room".to_owned()),
    };
    let told = report(
        &inputs,
        &kernel.observe(&inputs),
        std::slice::from_ref(&outcome),
    );
    let expected = State::Error("can't add 10.0.10.1/24 to svi-10: no room".to_owned());
    assert_eq!(state(&told, xpu_model::Kind::Svi, "gate-a"), Some(expected));
    assert_eq!(
        state(&told, xpu_model::Kind::Vrf, "blue"),
        Some(State::Success)
    );
    assert_eq!((told.planned, told.failed), (1, 1));
    kernel.pass(&inputs).unwrap();
    let told = report(&inputs, &kernel.observe(&inputs), &[outcome]);
    assert_eq!(
        state(&told, xpu_model::Kind::Svi, "gate-a"),
        Some(State::Success)
    );
}

#[test]
fn gateways_of_a_moved_svi_keep_their_ipv6_addresses() {
    let (mut intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let red = VrfSpec {
        vni: None,
        loopback: "10.255.0.2/32".parse().unwrap(),
        vtep: None,
    };
    intent.create(id("redd"), red, &rules()).unwrap();
    let mut kernel = with_port();
    kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    let before = kernel.addresses("svi-10");
    let mut svi = intent.get::<SviSpec>(&id("gate-a")).unwrap().spec.clone();
    svi.vrf = id("redd");
    intent.update(id("gate-a"), svi, &rules()).unwrap();
    let plan = kernel
        .pass(&Inputs {
            intent: &intent,
            node: &node,
            frr: &frr,
        })
        .unwrap();
    assert_eq!(
        words(&plan.steps),
        [
            "put svi-10 into redd",
            "add fd00:10::1/64 to svi-10",
            "add fe80::1/64 to svi-10"
        ]
    );
    assert_eq!(kernel.addresses("svi-10"), before);
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
    kernel.0.links.insert(fixed("theirs"), theirs.clone());
    let before = kernel.clone();
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    assert_eq!(kernel, before);
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let Some(State::Error(reason)) = state(&told, xpu_model::Kind::Vrf, "blue") else {
        panic!("{told:?}");
    };
    assert!(
        reason.contains("table 1001 belongs to the VRF device theirs"),
        "{reason}"
    );
    let svi = state(&told, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(svi, Some(State::Success));
    // Without ours there is nothing to keep, and nothing is made.
    let mut kernel = with_port();
    kernel.0.links.insert(fixed("theirs"), theirs);
    kernel.pass(&inputs).unwrap();
    assert!(!kernel.0.links.contains_key(&fixed("blue")));
}

#[test]
fn a_changed_port_keeps_the_netdev_it_was_first_to_have() {
    let (mut intent, frr) = (tenant(), FrrFacts::Unmanaged);
    let node = Node {
        ports: PortResolver::Map {
            by_mac: BTreeMap::new(),
            by_id: BTreeMap::from([(id("port1"), fixed("port1")), (id("port2"), fixed("port1"))]),
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
    let told = report(&inputs, &kernel.observe(&inputs), &[]);
    let of = |name| state(&told, xpu_model::Kind::BridgePort, name).unwrap();
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
    let rule = ForeignRule {
        priority: 100,
        is_local: true,
    };
    kernel.0.rules_in_way.insert(Family::V4, rule);
    let plan = kernel.pass(&inputs).unwrap();
    let first: Vec<_> = words(&plan.steps);
    assert_eq!(
        first[0],
        "look IPv6 destinations up in VRFs before the node's own"
    );
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    let told = report(&inputs, &kernel.observe(&inputs), &[]).node;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("IPv4") && told[0].contains("the rule 100"),
        "{told:?}"
    );
}
