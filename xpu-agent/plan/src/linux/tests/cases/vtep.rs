//! The VTEP, and the node's own devices.

use pretty_assertions::assert_eq;

use super::*;

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
    let reported = report(&inputs, &Kernel::default().observe(&inputs), &[]);
    let expected = Some(State::Refused(reason.to_owned()));
    assert_eq!(
        state(&reported, xpu_model::Kind::LogicalBridge, "net-a"),
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
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let kind = xpu_model::Kind::LogicalBridge;
    assert_eq!(state(&reported, kind, "net-b"), Some(State::Success));
    assert!(matches!(
        state(&reported, kind, "net-a"),
        Some(State::Refused(_))
    ));
}

/// FRR may still work with an L3VNI, and the other VXLAN device's name is somebody else's.
#[test]
fn the_vtep_in_use_is_that_of_either_device() {
    let node = Node {
        vtep: None,
        ..node()
    };
    let spec = |vni: Option<u32>| VrfSpec {
        vni: vni.map(|vni| vni.try_into().unwrap()),
        loopback: "10.255.0.1/32".parse().unwrap(),
        vtep: vni.map(|_| "192.0.2.1/32".parse().unwrap()),
    };
    let mut intent = Intent::default();
    intent
        .create(id("blue"), spec(Some(10_000)), &rules())
        .unwrap();
    let mut kernel = with_vtep();
    kernel.0.links.insert(named("vxlan"), dummy());
    let mut pass = |intent: &Intent, frr: &FrrFacts| {
        let inputs = Inputs {
            intent,
            node: &node,
            frr,
        };
        kernel.pass(&inputs).unwrap();
        kernel.0.ours(&named("vxl3")).is_some()
    };
    assert!(pass(&intent, &in_frr(intent.live::<VrfSpec>())));
    intent.update(id("blue"), spec(None), &rules()).unwrap();
    assert!(pass(&intent, &FrrFacts::Unknown), "FRR may work with it");
    assert!(!pass(&intent, &in_frr(intent.live::<VrfSpec>())));
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
    kernel.0.links.insert(named("lo"), dummy());
    kernel.pass(&inputs).unwrap();
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let absent = State::Error(
        "no device of this node has the VTEP's address 192.0.2.1; add it (`ip addr add \
         192.0.2.1/32 dev lo`), or correct the VTEP"
            .to_owned(),
    );
    for (kind, name) in [
        (xpu_model::Kind::LogicalBridge, "net-a"),
        (xpu_model::Kind::Vrf, "blue"),
    ] {
        assert_eq!(state(&reported, kind, name), Some(absent.clone()), "{name}");
    }
    kernel.0.links.insert(named("lo"), loopback());
    assert!(plan(&inputs, &kernel.observe(&inputs)).is_empty());
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let bridge = state(&reported, xpu_model::Kind::LogicalBridge, "net-a");
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
        kernel.0.links.remove(&named(device));
        kernel.0.links.retain(|_, link| {
            !matches!(&link.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent.as_str() == device)
        });
    } else {
        kernel.0.links.get_mut(&named(device)).unwrap().up = false;
    }
    let observed = kernel.observe(&inputs);
    let of_device = |step: &Step| step.action.device() == Some(&named(device));
    let step = plan(&inputs, &observed).steps.into_iter().find(of_device);
    let outcome = Outcome {
        step: step.unwrap(),
        result: Err("no room".to_owned()),
    };
    let outcomes = if fails { vec![outcome] } else { Vec::new() };
    let reported = report(&inputs, &observed, &outcomes);
    let wrong: Vec<_> = reported
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
