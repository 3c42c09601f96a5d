//! A VNI that another had, or that FRR does not know of yet.

use pretty_assertions::assert_eq;

use super::*;

#[test]
fn a_vni_is_remapped_by_taking_it_first() {
    let mut intent = tenant();
    let mut kernel = with_port();
    pass(&mut kernel, &intent);
    let net = LogicalBridgeSpec {
        vlan: 10.try_into().unwrap(),
        vni: Some(2020.try_into().unwrap()),
        vtep: None,
    };
    intent.update(id("net-a"), net, &rules()).unwrap();
    let plan = pass(&mut kernel, &intent);
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
    let mut intent = Intent::default();
    let mut kernel = Kernel::default();
    pass(&mut kernel, &intent);
    let net = LogicalBridgeSpec {
        vlan: 4094.try_into().unwrap(),
        vni: Some(1010.try_into().unwrap()),
        vtep: None,
    };
    intent.create(id("net-a"), net, &rules()).unwrap();
    let plan = pass(&mut kernel, &intent);
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
        vrfs: BTreeMap::new(),
    };
    let inputs = Inputs {
        intent: &intent,
        node: &node,
        frr: &empty,
    };
    kernel.pass(&inputs).unwrap();
    assert!(!kernel.0.links.contains_key(&named("l3-1")));
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    let waits = State::Pending("waits for FRR to know vrf blue with vni 10000".to_owned());
    assert_eq!(state(&reported, xpu_model::Kind::Vrf, "blue"), Some(waits));
    assert_eq!(
        state(&reported, xpu_model::Kind::Svi, "gate-a"),
        Some(State::Success)
    );

    let known = in_frr(intent.live());
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
    let reported = report(&inputs, &kernel.observe(&inputs), &[]);
    assert_eq!(
        state(&reported, xpu_model::Kind::Vrf, "blue"),
        Some(State::Success)
    );
}
