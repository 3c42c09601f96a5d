//! What is said of each object.

use xpu_model::status::{Component, PassReport};

use super::*;

#[rstest::rstest]
#[case(65535, 65536, true)]
#[case(65536, 65535, true)]
#[case(65536, 65536, false)]
fn a_route_target_that_does_not_exist_is_refused(
    #[case] asn: u32,
    #[case] vni: u32,
    #[case] exists: bool,
) {
    let (mut node, mut intent) = (node(true), Intent::default());
    node.route_targets = RouteTargets::Fixed(Asn::try_from(asn).unwrap());
    l2vni(&mut intent, Some(vni));
    intent
        .create(id("vrf-0"), vrf(Some(vni + 100_000)), &rules())
        .unwrap();
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    let refused = |key: &xpu_model::ObjectKey| {
        let report = report(&inputs, &observed, &[]);
        matches!(&report.objects[key].state, State::Refused(reason) if reason.contains("65535"))
    };
    assert_eq!(refused(&LogicalBridgeSpec::key(&id("net-0"))), !exists);
    assert_eq!(refused(&VrfSpec::key(&id("vrf-0"))), asn > 65535);
    let target = format!("route-target import {asn}:{vni}");
    let has = observed.config.lines.iter().any(|it| it.text == target);
    assert_eq!(has, exists);
}

#[test]
fn an_l2vni_without_a_base_instance_says_so() {
    let (node, mut intent) = (node(false), Intent::default());
    l2vni(&mut intent, Some(100));
    let observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let report = report(&given(&intent, &node), &observed, &[]);
    let state = &report.objects[&LogicalBridgeSpec::key(&id("net-0"))].state;
    assert!(
        matches!(state, State::Pending(reason) if reason.contains("no base instance")),
        "{state:?}"
    );
}

#[test]
fn a_vrf_is_up_when_frr_says_so_and_says_what_it_waits_for() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    let inputs = given(&intent, &node);
    observed.version = FRR_10_3;
    pass(&inputs, &mut observed);
    let key = intent.vrfs[&id("vrf-0")].key();
    let state = |observed: &Observed| report(&inputs, observed, &[]).objects[&key].state.clone();
    assert_eq!(
        state(&observed),
        State::Pending("zebra does not show L3VNI 5000 yet".into())
    );
    let mut l3 = L3Vni {
        vni: Vni::try_from(5000).unwrap(),
        up: false,
        vxlan: Some("vxl3".into()),
        svi: None,
        router_mac: None,
    };
    let device = intent.vrfs[&id("vrf-0")].allocation.device.clone();
    observed.l3vnis.insert(device.clone(), l3.clone());
    assert!(
        state(&observed)
            .reason()
            .unwrap()
            .ends_with("it has no routing device yet")
    );
    l3.up = true;
    observed.l3vnis.insert(device, l3);
    assert_eq!(state(&observed), State::Success);
    observed.version = Version { major: 8, minor: 4 };
    assert!(report(&inputs, &observed, &[]).notices[0].contains("install 9.0"));
}

#[test]
fn a_refusal_is_told_with_the_command_and_frrs_words() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    let inputs = given(&intent, &node);
    let observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let outcomes: Vec<_> = plan(&inputs, &observed)
        .commands
        .into_iter()
        .map(|command| Outcome {
            command,
            result: Err("% VNI is in use".to_owned()),
        })
        .collect();
    let report = report(&inputs, &observed, &outcomes);
    let reason = report.objects[&intent.vrfs[&id("vrf-0")].key()]
        .state
        .reason()
        .unwrap()
        .to_owned();
    assert_eq!(reason, "FRR refuses `vni 5000`: % VNI is in use");
    assert!(report.wants_retry());
}

/// A node with an L3VNI and an L2VNI in an FRR that says both are fine.
fn all_up(intent: &mut Intent, version: Version) -> Observed {
    let mut observed = Observed {
        version,
        ..Observed::default()
    };
    intent
        .create(id("vrf-0"), vrf(Some(5000)), &rules())
        .unwrap();
    let bridge = LogicalBridgeSpec {
        vlan: VlanId::try_from(100).unwrap(),
        vni: Some(Vni::try_from(100).unwrap()),
        vtep: None,
    };
    intent.create(id("net-0"), bridge, &rules()).unwrap();
    let l3 = L3Vni {
        vni: Vni::try_from(5000).unwrap(),
        up: true,
        vxlan: Some("vxl3".into()),
        svi: Some("l3-1".into()),
        router_mac: None,
    };
    observed.l3vnis.insert("vrf-0".parse().unwrap(), l3);
    observed
        .l2vnis
        .insert(Vni::try_from(100).unwrap(), L2Vni::default());
    observed
}

#[rstest::rstest]
#[case::too_old(8, 5, "10.255.0.1", None, "FRR 8.5 has no single VXLAN devices")]
#[case::ipv6_node(10, 5, "fd00::1", None, "FRR 10.5 has no IPv6 VTEPs")]
#[case::ipv6_object(10, 5, "", Some("fd00::1/128"), "FRR 10.5 has no IPv6 VTEPs")]
#[case::ipv4(10, 5, "10.255.0.1", None, "")]
#[case::ipv6_new_enough(10, 6, "fd00::1", None, "")]
fn what_this_frr_cannot_do_is_refused_on_every_vni(
    #[case] major: u32,
    #[case] minor: u32,
    #[case] vtep: &str,
    #[case] brought: Option<&str>,
    #[case] refusal: &str,
) {
    let (mut node, mut intent) = (node(true), Intent::default());
    node.vtep = vtep.parse().ok();
    let mut observed = all_up(&mut intent, Version { major, minor });
    if let Some(vtep) = brought {
        let spec = VrfSpec {
            vtep: Some(vtep.parse().unwrap()),
            ..vrf(Some(5000))
        };
        intent.update(id("vrf-0"), spec, &rules()).unwrap();
    }
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    let report = report(&inputs, &observed, &[]);
    assert_eq!(report.objects.len(), 2);
    for (key, component) in &report.objects {
        match &component.state {
            State::Refused(reason) => assert!(
                !refusal.is_empty() && reason.starts_with(refusal),
                "{key}: {reason}"
            ),
            state => assert!(
                refusal.is_empty() && *state == State::Success,
                "{key}: {state:?}"
            ),
        }
    }
}

/// Zebra has the VNIs of every VXLAN device, flannel's too.
#[rstest::rstest]
#[case::ours("vxlan", &[], "UP", true)]
#[case::a_namesake("vxlan", &["vxlan"], "is on vxlan, which this agent did not make", false)]
#[case::theirs("flannel.1", &["flannel.1"], "delete flannel.1", false)]
#[case::still_an_l3vni("vxl3", &[], "zebra does not show VNI 100 yet", false)]
fn a_vni_counts_on_our_device_only(
    #[case] device: &str,
    #[case] foreign: &[&str],
    #[case] live: &str,
    #[case] is_waited_for: bool,
) {
    let (node, mut intent) = (node(true), Intent::default());
    let mut observed = all_up(&mut intent, FRR_10_3);
    let vni = Vni::try_from(100).unwrap();
    observed.l2vnis.get_mut(&vni).unwrap().vxlan = Some(device.to_owned());
    let foreign = foreign.iter().map(|it| it.parse().unwrap()).collect();
    let key = LogicalBridgeSpec::key(&id("net-0"));
    let mut word = |intent: &Intent| {
        let inputs = Inputs {
            foreign: &foreign,
            ..given(intent, &node)
        };
        pass(&inputs, &mut observed);
        let report = report(&inputs, &observed, &[]);
        report.objects.get(&key).map(|it| match &it.state {
            State::Success => "UP".to_owned(),
            state => state.reason().unwrap().to_owned(),
        })
    };
    let reason = word(&intent).unwrap();
    assert!(reason.contains(live), "{reason}");
    intent.delete::<LogicalBridgeSpec>(&id("net-0")).unwrap();
    assert_eq!(word(&intent).is_some(), is_waited_for);
}

#[test]
fn an_l3vni_on_somebody_elses_device_is_not_up() {
    let (node, mut intent) = (node(true), Intent::default());
    let mut observed = all_up(&mut intent, FRR_10_3);
    let device: IfName = "vrf-0".parse().unwrap();
    observed.l3vnis.get_mut(&device).unwrap().vxlan = Some("flannel.1".to_owned());
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    let report = report(&inputs, &observed, &[]);
    let state = &report.objects[&VrfSpec::key(&id("vrf-0"))].state;
    assert!(
        matches!(state, State::Error(reason) if reason.contains("VNI 5000 is on flannel.1")),
        "{state:?}"
    );
}

#[test]
fn an_svi_with_bgp_waits_for_a_base_instance() {
    let (with, without, mut intent) = (node(true), node(false), Intent::default());
    reshape(&mut intent, &[Some((None, true)), None, None]);
    let state = |node: &Node| {
        let inputs = given(&intent, node);
        let mut observed = Observed {
            version: FRR_10_3,
            ..Observed::default()
        };
        pass(&inputs, &mut observed);
        let report = report(&inputs, &observed, &[]);
        report.objects[&SviSpec::key(&id("svi-0"))].state.clone()
    };
    assert_eq!(state(&with), State::Success);
    let waits = state(&without);
    assert!(matches!(&waits, State::Pending(reason) if reason.contains("no base instance")));
}

#[test]
fn without_frr_what_needs_it_is_refused_and_nothing_else() {
    let mut intent = Intent::default();
    all_up(&mut intent, FRR_10_3);
    reshape(
        &mut intent,
        &[None, Some((None, false)), Some((None, true))],
    );
    let report = unmanaged(&intent);
    let keys: Vec<_> = report.objects.keys().map(ToString::to_string).collect();
    assert_eq!(
        keys,
        ["logicalBridges/net-0", "svis/svi-2"],
        "a tombstone has no trace"
    );
    for component in report.objects.values() {
        let State::Refused(reason) = &component.state else {
            panic!("{:?}", component.state);
        };
        assert!(reason.contains("frr.enabled is false"), "{reason}");
    }
    assert_eq!(report.generation, intent.generation);
    assert!(!report.wants_retry());
}

#[test]
fn a_deleted_vrf_concerns_frr_even_without_a_vni() {
    let mut intent = Intent::default();
    reshape(
        &mut intent,
        &[Some((None, true)), Some((None, false)), None],
    );
    reshape(&mut intent, &[None, Some((None, false)), None]);
    let concerned = concerned(&intent);
    assert!(concerned.contains(&VrfSpec::key(&id("vrf-0"))));
    assert!(!concerned.contains(&VrfSpec::key(&id("vrf-1"))));
}

#[test]
fn lines_of_what_was_well_are_repaired_and_of_what_was_awaited_are_not() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(
        &mut intent,
        &[Some((Some(500), true)), Some((Some(501), false)), None],
    );
    let inputs = given(&intent, &node);
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let told = |plan: FrrPlan| -> Vec<Outcome> {
        let commands = plan.commands.into_iter();
        let well = |command| Outcome {
            command,
            result: Ok(()),
        };
        commands.map(well).collect()
    };
    let all = told(plan(&inputs, &observed));
    pass(&inputs, &mut observed);
    let state = |name: &str, state: State| (VrfSpec::key(&id(name)), Component::new(state));
    let waits = || State::Pending("not up yet".to_owned());
    let svi = SviSpec::key(&id("svi-0"));
    let count = |objects: &[(ObjectKey, Component)]| {
        let before = PassReport {
            objects: objects.iter().cloned().collect(),
            ..PassReport::default()
        };
        repaired(&inputs, &all, &before)
    };
    let (well, second_waits) = (state("vrf-0", State::Success), state("vrf-1", waits()));
    let about = |text: &str| {
        let outcomes = all
            .iter()
            .filter(|it| it.command.line.to_string().contains(text));
        outcomes.count()
    };
    let (first, second) = (about("vrf vrf-0"), about("vrf vrf-1"));
    let gateway = about("svi-100");
    assert!(first > gateway && gateway > 0 && second > 0, "{all:#?}");
    assert_eq!(count(std::slice::from_ref(&well)), all.len());
    assert_eq!(
        count(&[well.clone(), second_waits.clone()]),
        all.len() - second
    );
    let neither = [
        state("vrf-0", waits()),
        second_waits,
        (svi, Component::new(waits())),
    ];
    assert_eq!(
        count(&neither),
        all.len() - first - second,
        "the node's are left"
    );
}
