//! Single cases that a reader can follow.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use xpu_model::{
    BridgePortSpec, Intent, LogicalBridgeSpec, Mtu, Node, PortMode, SviSpec, VrfSpec,
    node::{PortResolver, RouteTargets},
    status::{PassReport, State},
};

use super::{
    generate::{dummy, id, in_frr, link, loopback, rules},
    kernel::Kernel,
    named,
};
use crate::{
    FrrFacts,
    linux::{Family, Inputs, LinkKind, LinuxPlan, Outcome, Step, plan, report},
};

mod forwarding;
mod gateway;
mod leaving;
mod news;
mod others;
mod repaired;
mod vnis;
mod vtep;
mod vxlan_port;

fn node() -> Node {
    Node {
        vtep: Some("192.0.2.1".parse().unwrap()),
        underlay_mtu: Mtu::try_from(9000).unwrap(),
        vxlan_port: xpu_model::node::VXLAN_PORT,
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
            "10.0.10.1/24".parse::<xpu_model::IfAddr>().unwrap(),
            "fd00:10::1/64".parse().unwrap(),
        ]
        .try_into()
        .unwrap(),
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
    kernel.0.links.insert(named("lo"), loopback());
    kernel
}

fn with_port() -> Kernel {
    let mut kernel = with_vtep();
    kernel
        .0
        .links
        .insert(named("port1"), link(LinkKind::Other("dummy".to_owned())));
    kernel
}

/// A pass of a node without FRR.
fn pass(kernel: &mut Kernel, intent: &Intent) -> LinuxPlan {
    let inputs = Inputs {
        intent,
        node: &node(),
        frr: &FrrFacts::Unmanaged,
    };
    kernel.pass(&inputs).unwrap()
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
    assert_eq!(kernel.0.links[&named("vxlan")].mtu, 8950);
}

#[test]
fn a_tenant_comes_in_order_and_goes_in_reverse() {
    let mut intent = tenant();
    let mut kernel = with_port();
    let nobody = Intent::default();
    pass(&mut kernel, &nobody);
    let plan = pass(&mut kernel, &intent);
    assert_eq!(
        words(&plan.steps),
        [
            "make blue",
            "add the unreachable IPv4 default route to table 1001",
            "add the unreachable IPv6 default route to table 1001",
            "make l3-1",
            "make svi-10",
            "set net.ipv6.conf.blue.disable_ipv6 to 0",
            "set net.ipv6.conf.l3-1.disable_ipv6 to 0",
            "set net.ipv4.conf.l3-1.rp_filter to 0",
            "set net.ipv6.conf.l3-1.accept_ra to 0",
            "set net.ipv6.conf.svi-10.disable_ipv6 to 0",
            "set net.ipv4.conf.svi-10.arp_accept to 1",
            "set net.ipv4.conf.svi-10.rp_filter to 0",
            "set net.ipv4.conf.svi-10.promote_secondaries to 1",
            "set net.ipv6.conf.svi-10.accept_untracked_na to 2",
            "set net.ipv6.conf.svi-10.accept_ra to 0",
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
            "set l3-1 up",
        ]
    );
    intent.delete::<SviSpec>(&id("gate-a")).unwrap();
    intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
    intent.delete::<VrfSpec>(&id("blue")).unwrap();
    intent.delete::<LogicalBridgeSpec>(&id("net-a")).unwrap();
    let plan = pass(&mut kernel, &intent);
    assert_eq!(
        words(&plan.steps),
        [
            "remove the gateway's entry 02:00:5e:00:00:10 in VLAN 10",
            "delete l3-1",
            "delete svi-10",
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
    let mut kernel = Kernel::default();
    let nobody = Intent::default();
    pass(&mut kernel, &nobody);
    let plan = pass(&mut kernel, &intent);
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
fn a_port_comes_up_when_its_netdev_does() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = Kernel::default();
    kernel.pass(&inputs).unwrap();
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let waits = State::Pending("netdev port1 isn't there yet".to_owned());
    assert_eq!(
        state(&reported, xpu_model::Kind::BridgePort, "port1"),
        Some(waits)
    );
    kernel.0.links.extend(with_port().0.links);
    kernel.pass(&inputs).unwrap();
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&reported, xpu_model::Kind::BridgePort, "port1"),
        Some(State::Success)
    );
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
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let reason = "fd00:10::1/64 is not available: this kernel has no IPv6; start it without \
                  ipv6.disable=1";
    let svi = state(&reported, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(svi, Some(State::Refused(reason.to_owned())));
    let vrf = state(&reported, xpu_model::Kind::Vrf, "blue");
    assert_eq!(vrf, Some(State::Success));
}

/// As 5.18 is, the oldest that has the rest.
#[test]
fn a_kernel_without_untracked_neighbours_is_not_asked_for_them() {
    let (intent, node, frr) = (tenant(), node(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.0.no_untracked_na = true;
    let plan = kernel.pass(&inputs).unwrap();
    let words = words(&plan.steps);
    let sets = |setting: &str| words.iter().any(|word| word.contains(setting));
    assert!(!sets("accept_untracked_na"), "{words:#?}");
    assert!(sets("svi-10.arp_accept") && sets("svi-10.accept_ra"));
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let svi = state(&reported, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(svi, Some(State::Success));
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
    let working = LinuxPlan {
        steps: working,
        ..Default::default()
    };
    kernel.apply(&working).unwrap();
    let outcome = Outcome {
        step: failing[0].clone(),
        result: Err("no room".to_owned()),
    };
    let reported = report(
        &inputs,
        &kernel.observe(&inputs),
        std::slice::from_ref(&outcome),
    );
    let expected = State::Error("can't add 10.0.10.1/24 to svi-10: no room".to_owned());
    assert_eq!(
        state(&reported, xpu_model::Kind::Svi, "gate-a"),
        Some(expected)
    );
    assert_eq!(
        state(&reported, xpu_model::Kind::Vrf, "blue"),
        Some(State::Success)
    );
    assert_eq!((reported.planned, reported.failed), (1, 1));
    kernel.pass(&inputs).unwrap();
    let reported = report(&inputs, &kernel.observe(&inputs), &[outcome]);
    assert_eq!(
        state(&reported, xpu_model::Kind::Svi, "gate-a"),
        Some(State::Success)
    );
}

#[test]
fn gateways_of_a_moved_svi_keep_their_ipv6_addresses() {
    let mut intent = tenant();
    let red = VrfSpec {
        vni: None,
        loopback: "10.255.0.2/32".parse().unwrap(),
        vtep: None,
    };
    intent.create(id("redd"), red, &rules()).unwrap();
    let mut kernel = with_port();
    pass(&mut kernel, &intent);
    let before = kernel.addresses("svi-10");
    let mut svi = intent.get::<SviSpec>(&id("gate-a")).unwrap().spec.clone();
    svi.vrf = id("redd");
    intent.update(id("gate-a"), svi, &rules()).unwrap();
    let plan = pass(&mut kernel, &intent);
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
