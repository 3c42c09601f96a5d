//! The UDP port of VXLAN, and who else has it.

use pretty_assertions::assert_eq;
use xpu_model::{Kind, node::VXLAN_PORT};

use super::*;
use crate::linux::{link::VxlanParams, vxlan_port::holder};

/// Calico's device, up.
fn calico() -> VxlanParams {
    VxlanParams {
        local: Some("198.51.100.1".parse().unwrap()),
        port: VXLAN_PORT.get(),
        external: false,
        vnifilter: false,
        learning: false,
    }
}

fn with(vxlan: VxlanParams) -> Kernel {
    let mut kernel = with_port();
    let mut link = link(LinkKind::Vxlan(vxlan));
    link.up = true;
    kernel.0.links.insert(named("vxlan.calico"), link);
    kernel
}

#[rstest::rstest]
#[case::calico(calico(), true)]
#[case::at_another_port(VxlanParams { port: 8472, ..calico() }, false)]
#[case::of_all_vnis(VxlanParams { external: true, ..calico() }, true)]
#[case::of_vnis_that_it_is_told(VxlanParams { external: true, vnifilter: true, ..calico() }, false)]
fn somebodys_device_has_the_port(#[case] vxlan: VxlanParams, #[case] has: bool) {
    let calico = named("vxlan.calico");
    let ours = crate::ownership::l2_vxlan();
    let mut kernel = with(vxlan);
    let found = |kernel: &Kernel| holder(&kernel.0.links, &ours, VXLAN_PORT).cloned();
    assert_eq!(found(&kernel), has.then(|| calico.clone()));
    kernel.0.links.get_mut(&calico).unwrap().up = false;
    assert_eq!(
        found(&kernel),
        None,
        "it opens its socket when it is set up"
    );
}

#[test]
fn ours_is_no_excuse_at_another_port() {
    let ours = crate::ownership::l2_vxlan();
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with(VxlanParams {
        port: 8472,
        ..calico()
    });
    kernel.pass(&inputs).unwrap();
    let links = &mut kernel.0.links;
    assert!(links[&ours].up);
    let other = 8472.try_into().unwrap();
    assert_eq!(holder(links, &ours, other), Some(&named("vxlan.calico")));
    assert_eq!(holder(links, &ours, VXLAN_PORT), None);
    // Where ours is up, somebody's device that says the same came later and does not receive.
    let mut theirs = link(LinkKind::Vxlan(calico()));
    theirs.up = true;
    links.insert(named("vxlan.calico"), theirs);
    assert_eq!(holder(links, &ours, VXLAN_PORT), None);
}

#[test]
fn a_port_that_somebody_has_is_refused_until_he_lets_go() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &frr,
    };
    let mut kernel = with(calico());
    kernel.pass(&inputs).unwrap();
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    assert!(!reported.wants_retry(), "{reported:?}");
    let reason = "the VXLAN device vxlan.calico, which this agent did not make, has UDP port 4789; \
                  give it another, or set underlay.vxlan_port to another on all nodes of the fabric";
    assert_eq!(reported.refusals, [reason]);
    for (kind, name) in [(Kind::LogicalBridge, "net-a"), (Kind::Vrf, "blue")] {
        let refused = Some(State::Refused(reason.to_owned()));
        assert_eq!(state(&reported, kind, name), refused);
    }
    assert!(!kernel.0.links[&named("vxlan")].up);

    kernel.0.links.remove(&named("vxlan.calico"));
    let plan = kernel.pass(&inputs).unwrap();
    assert_eq!(words(&plan.steps), ["set vxl3 up", "set vxlan up"]);
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let success = Some(State::Success);
    assert_eq!(state(&reported, Kind::LogicalBridge, "net-a"), success);
    assert_eq!(reported.refusals, [""; 0]);

    // What comes later does not get the port.
    let mut theirs = link(LinkKind::Vxlan(calico()));
    theirs.up = false;
    kernel.0.links.insert(named("vxlan.calico"), theirs);
    assert_eq!(words(&kernel.pass(&inputs).unwrap().steps), [""; 0]);
}

#[test]
fn another_port_of_the_configuration_makes_the_devices_anew() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = |node| Inputs {
        intent: &intent,
        node,
        frr: &frr,
    };
    let mut kernel = with_port();
    kernel.pass(&inputs(&node)).unwrap();
    let other = Node {
        vxlan_port: 8472.try_into().unwrap(),
        ..node.clone()
    };
    kernel.pass(&inputs(&other)).unwrap();
    for device in ["vxlan", "vxl3"] {
        let link = &kernel.0.links[&named(device)];
        assert!(link.up, "{device}");
        let LinkKind::Vxlan(vxlan) = &link.kind else {
            panic!("{link:?}");
        };
        assert_eq!(vxlan.port, 8472, "{device}");
    }
}

#[test]
fn the_devices_stay_at_their_port_while_somebody_has_the_new_one() {
    let (node, intent, frr) = (node(), tenant(), FrrFacts::Unmanaged);
    let inputs = |node| Inputs {
        intent: &intent,
        node,
        frr: &frr,
    };
    let mut kernel = with(VxlanParams {
        port: 8472,
        ..calico()
    });
    kernel.pass(&inputs(&node)).unwrap();
    let other = Node {
        vxlan_port: 8472.try_into().unwrap(),
        ..node.clone()
    };
    let other = inputs(&other);
    assert_eq!(words(&kernel.pass(&other).unwrap().steps), [""; 0]);
    let ports = |kernel: &Kernel| {
        ["vxlan", "vxl3"].map(|device| {
            let link = &kernel.0.links[&named(device)];
            let LinkKind::Vxlan(vxlan) = &link.kind else {
                panic!("{link:?}");
            };
            (link.up, vxlan.port)
        })
    };
    assert_eq!(ports(&kernel), [(true, 4789); 2]);
    let reported = report(&other, &kernel.observe(&other), &[]);
    let [refusal] = &reported.refusals[..] else {
        panic!("{reported:?}");
    };
    assert!(refusal.contains("vxlan.calico"), "{refusal}");
    assert!(refusal.contains("has UDP port 8472"), "{refusal}");
    assert!(!reported.wants_retry(), "{reported:?}");

    kernel.0.links.remove(&named("vxlan.calico"));
    kernel.pass(&other).unwrap();
    assert_eq!(ports(&kernel), [(true, 8472); 2]);
    let reported = report(&other, &kernel.observe(&other), &[]);
    assert_eq!(reported.refusals, [""; 0]);
}
