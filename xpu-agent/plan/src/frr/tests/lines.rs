//! What FRR is told.

use super::*;

#[test]
fn the_lines_of_a_node_with_one_tenant() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let plan = plan(&given(&intent, &node), &Observed::default());
    let planned: Vec<_> = plan.commands.iter().map(|it| it.line.to_string()).collect();
    let expected = "\
zebra: vrf vrf-0 / vni 5000
bgpd: router bgp 65001 vrf vrf-0 / neighbor svi-100 peer-group
bgpd: router bgp 65001 / neighbor 10.254.1.1 remote-as external
bgpd: router bgp 65001 vrf vrf-0 / neighbor svi-100 remote-as 65100
bgpd: router bgp 65001 / bgp bestpath as-path multipath-relax
bgpd: router bgp 65001 / bgp router-id 10.255.0.1
bgpd: router bgp 65001 / neighbor 10.254.1.1 bfd
bgpd: router bgp 65001 / no bgp default ipv4-unicast
bgpd: router bgp 65001 / no bgp ebgp-requires-policy
bgpd: router bgp 65001 vrf vrf-0 / bgp listen range 10.1.0.0/24 peer-group svi-100
bgpd: router bgp 65001 vrf vrf-0 / bgp listen range fd00:1::/64 peer-group svi-100
bgpd: router bgp 65001 vrf vrf-0 / bgp router-id 10.255.100.1
bgpd: router bgp 65001 vrf vrf-0 / no bgp default ipv4-unicast
bgpd: router bgp 65001 vrf vrf-0 / no bgp ebgp-requires-policy
bgpd: router bgp 65001 / address-family ipv4 unicast / neighbor 10.254.1.1 activate
bgpd: router bgp 65001 / address-family l2vpn evpn / neighbor 10.254.1.1 activate
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv4 unicast / neighbor svi-100 activate
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv6 unicast / neighbor svi-100 activate
bgpd: router bgp 65001 / address-family ipv4 unicast / network 10.255.0.1/32
bgpd: router bgp 65001 / address-family l2vpn evpn / advertise-all-vni
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv4 unicast / neighbor svi-100 as-override
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv4 unicast / redistribute connected
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv4 unicast / redistribute static
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv6 unicast / neighbor svi-100 as-override
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv6 unicast / redistribute connected
bgpd: router bgp 65001 vrf vrf-0 / address-family ipv6 unicast / redistribute static
bgpd: router bgp 65001 vrf vrf-0 / address-family l2vpn evpn / advertise ipv4 unicast
bgpd: router bgp 65001 vrf vrf-0 / address-family l2vpn evpn / advertise ipv6 unicast
bgpd: router bgp 65001 vrf vrf-0 / address-family l2vpn evpn / rd 10.255.100.1:1001";
    assert_eq!(planned.join("\n"), expected);
}

#[test]
fn a_vni_changes_in_two_passes() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    reshape(&mut intent, &[Some((Some(501), false)), None, None]);
    let inputs = given(&intent, &node);
    let first: Vec<_> = plan(&inputs, &observed)
        .commands
        .iter()
        .map(Command::text)
        .collect();
    assert_eq!(first, ["no vni 5000"]);
    pass(&inputs, &mut observed);
    let second: Vec<_> = plan(&inputs, &observed)
        .commands
        .iter()
        .map(Command::text)
        .collect();
    assert_eq!(second, ["vni 5010"]);
}

#[test]
fn a_new_vni_waits_until_frr_has_let_go_of_the_old_one() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    pass(&given(&intent, &node), &mut observed);
    reshape(&mut intent, &[Some((Some(501), false)), None, None]);
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    let planned = |observed: &Observed| -> Vec<String> {
        let commands = plan(&inputs, observed).commands;
        commands.iter().map(Command::text).collect()
    };
    let state = |observed: &Observed| {
        let report = report(&inputs, observed, &[]);
        report.objects[&VrfSpec::key(&id("vrf-0"))].state.clone()
    };
    let waits = State::Pending("FRR has not let go of VNI 5000 of vrf vrf-0 yet".to_owned());
    observed.version = FRR_10_3;
    let mut in_zebra = observed.clone();
    let l3 = L3Vni {
        vni: Vni::try_from(5000).unwrap(),
        up: false,
        vxlan: None,
        svi: None,
        router_mac: None,
    };
    in_zebra.l3vnis.insert("vrf-0".parse().unwrap(), l3);
    assert_eq!(
        (planned(&in_zebra), state(&in_zebra)),
        (vec![], waits.clone())
    );
    let mut in_bgpd = observed.clone();
    let bgp = BgpVni {
        is_l3: true,
        rd: Some("10.255.100.1:1001".to_owned()),
        ..BgpVni::default()
    };
    in_bgpd.bgp_vnis.insert(Vni::try_from(5000).unwrap(), bgp);
    assert_eq!((planned(&in_bgpd), state(&in_bgpd)), (vec![], waits));
    assert_eq!(planned(&observed), ["vni 5010"]);
}

/// What a peer is activated in, and what it is told of the VTEP.
#[rstest::rstest]
#[case::same_kind("10.254.1.1", "10.255.0.1", &["ipv4"], false)]
#[case::same_kind_ipv6("fd00::1", "fd00::ff", &["ipv6"], false)]
#[case::ipv6_vtep("10.254.1.1", "fd00::ff", &["ipv4", "ipv6"], false)]
#[case::ipv4_vtep("fd00::1", "10.255.0.1", &["ipv4", "ipv6"], true)]
#[case::unnumbered("up0", "10.255.0.1", &["ipv4"], false)]
#[case::unnumbered_ipv6_vtep("up0", "fd00::ff", &["ipv4", "ipv6"], false)]
#[case::no_vtep("fd00::1", "", &["ipv6"], false)]
fn every_peer_hears_of_the_vtep(
    #[case] peer: &str,
    #[case] vtep: &str,
    #[case] families: &[&str],
    #[case] extended: bool,
    #[values(false, true)] is_brought: bool,
) {
    let (mut node, mut intent) = (node(true), Intent::default());
    let at = match peer.parse() {
        Ok(address) => PeerAddress::Ip(address),
        Err(_) => PeerAddress::Interface(peer.parse().unwrap()),
    };
    node.bgp.as_mut().unwrap().peers[0].at = at;
    node.vtep = vtep.parse().ok();
    let length = if vtep.contains(':') { 128 } else { 32 };
    if let Some(vtep) = node.vtep.filter(|_| is_brought) {
        node.vtep = None;
        brings(&mut intent, "vrf-0", 5000, &format!("{vtep}/{length}"));
    }
    let plan = plan(&given(&intent, &node), &Observed::default());
    let lines: Vec<_> = plan.commands.iter().map(|it| &it.line).collect();
    let activate = format!("neighbor {peer} activate");
    let active: BTreeSet<_> = lines
        .iter()
        .filter(|line| line.text == activate)
        .map(|line| line.path[1].split(' ').nth(1).unwrap())
        .collect();
    let expected = families.iter().copied().chain(["l2vpn"]).collect();
    assert_eq!(active, expected);
    let has = |text: &str| lines.iter().any(|line| line.text == text);
    assert_eq!(
        has(&format!("neighbor {peer} capability extended-nexthop")),
        extended
    );
    assert_eq!(has(&format!("network {vtep}/{length}")), !vtep.is_empty());
}

fn brings(intent: &mut Intent, name: &str, vni: u32, vtep: &str) {
    let spec = VrfSpec {
        vtep: Some(vtep.parse().unwrap()),
        ..vrf(Some(vni))
    };
    intent.create(id(name), spec, &rules()).unwrap();
}

#[test]
fn of_several_vteps_that_objects_bring_the_one_in_use_stays() {
    let (mut node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    node.vtep = None;
    brings(&mut intent, "vrf-1", 5001, "10.255.0.1/32");
    let l2 = L2Vni {
        vxlan: Some("vxlan".to_owned()),
        vtep: Some("10.255.0.1".parse().unwrap()),
        ..L2Vni::default()
    };
    observed.l2vnis.insert(Vni::try_from(7).unwrap(), l2);
    brings(&mut intent, "vrf-0", 5000, "10.255.0.2/32");
    pass(&given(&intent, &node), &mut observed);
    let networks = observed.config.lines.iter();
    let networks = networks.filter(|line| line.text.starts_with("network "));
    let networks: Vec<_> = networks.map(|line| line.text.as_str()).collect();
    assert_eq!(networks, ["network 10.255.0.1/32"]);
}

/// Linux keeps a Vrf's devices as long as FRR has something of it, and hears of each step.
#[test]
fn what_frr_still_has_is_among_the_facts() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    for _ in 0..2 {
        pass(&given(&intent, &node), &mut observed);
    }
    let in_frr = |intent: &Intent, observed: &Observed| match facts(&given(intent, &node), observed)
    {
        FrrFacts::Known { vrfs } => vrfs.get(&id("vrf-0")).copied(),
        other => panic!("{other:?}"),
    };
    let vni = Vni::try_from(5000).ok();
    let up = VrfInFrr {
        told: vni,
        holds: vni,
        instance: true,
    };
    assert_eq!(in_frr(&intent, &observed), Some(up));
    reshape(&mut intent, &[None, None, None]);
    assert_eq!(
        in_frr(&intent, &observed),
        Some(up),
        "deleted, and not told"
    );
    let planned = |intent: &Intent, observed: &mut Observed| -> Vec<String> {
        let plan = plan(&given(intent, &node), observed);
        apply(observed, &plan);
        plan.commands.iter().map(Command::text).collect()
    };
    assert_eq!(planned(&intent, &mut observed), ["no vni 5000"]);
    let mut in_zebra = observed.clone();
    let l3 = L3Vni {
        vni: Vni::try_from(5000).unwrap(),
        up: true,
        vxlan: Some("vxl3".to_owned()),
        svi: Some("l3-1".to_owned()),
        router_mac: None,
    };
    in_zebra.l3vnis.insert("vrf-0".parse().unwrap(), l3);
    let held = VrfInFrr { told: None, ..up };
    assert_eq!(in_frr(&intent, &in_zebra), Some(held));
    let instance = VrfInFrr {
        holds: None,
        ..held
    };
    assert_eq!(in_frr(&intent, &observed), Some(instance));
    assert_eq!(
        planned(&intent, &mut observed),
        ["no router bgp 65001 vrf vrf-0"]
    );
    assert_eq!(in_frr(&intent, &observed), None);
}

#[test]
fn a_vni_is_not_taken_before_its_last_vrf_has_given_it_up() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let spec = |vni| vrf(Some(vni));
    intent.create(id("vrf-0"), spec(5000), &rules()).unwrap();
    intent.create(id("vrf-1"), spec(5001), &rules()).unwrap();
    pass(&given(&intent, &node), &mut observed);
    intent.update(id("vrf-1"), spec(5002), &rules()).unwrap();
    intent.update(id("vrf-0"), spec(5001), &rules()).unwrap();
    intent.create(id("vrf-2"), spec(5000), &rules()).unwrap();
    let planned = |observed: &Observed| -> Vec<String> {
        let plan = plan(&given(&intent, &node), observed);
        let zebra = plan.commands.iter();
        let zebra = zebra.filter(|it| it.line.daemon == Daemon::Zebra);
        zebra.map(Command::text).collect()
    };
    assert_eq!(planned(&observed), ["no vni 5000", "no vni 5001"]);
    pass(&given(&intent, &node), &mut observed);
    let told = ["vni 5001", "vni 5002", "vni 5000"];
    assert_eq!(planned(&observed), told);

    // Zebra works with them still.
    let in_zebra = |vni: u32| L3Vni {
        vni: Vni::try_from(vni).unwrap(),
        up: true,
        vxlan: None,
        svi: None,
        router_mac: None,
    };
    let held = [("vrf-0", 5000), ("vrf-1", 5001)];
    let held = held.map(|(device, vni)| (device.parse().unwrap(), in_zebra(vni)));
    let holding = Observed {
        l3vnis: held.into(),
        ..observed.clone()
    };
    assert_eq!(planned(&holding), [""; 0]);
    // Then it takes the devices that are left for those of an L2VNI.
    let left_by = |vrf: &str| {
        let l2 = L2Vni {
            vxlan: Some(ownership::L3_VXLAN.to_owned()),
            vrf: Some(vrf.to_owned()),
            ..L2Vni::default()
        };
        let l2vnis = BTreeMap::from([(Vni::try_from(5000).unwrap(), l2)]);
        planned(&Observed {
            l2vnis,
            ..observed.clone()
        })
    };
    assert_eq!(left_by("vrf-0"), ["vni 5001", "vni 5002"]);
    assert_eq!(left_by("vrf-2"), told, "its own are no reason to wait");
}

/// An IPv6 loopback is no router id, and an operator's instance need not say one.
#[test]
fn what_zebra_holds_is_known_without_a_route_distinguisher() {
    let (node, mut intent, mut observed) = (node(false), Intent::default(), Observed::default());
    let base = Line::new(Daemon::Bgpd, &[], "router bgp 65001");
    observed.config.lines.insert(base);
    let spec = |vni| VrfSpec {
        loopback: "fd00::1/128".parse().unwrap(),
        ..vrf(Some(vni))
    };
    intent.create(id("vrf-0"), spec(5000), &rules()).unwrap();
    pass(&given(&intent, &node), &mut observed);
    let l3 = L3Vni {
        vni: Vni::try_from(5000).unwrap(),
        up: true,
        vxlan: None,
        svi: None,
        router_mac: None,
    };
    observed.l3vnis.insert("vrf-0".parse().unwrap(), l3);
    intent.update(id("vrf-0"), spec(5001), &rules()).unwrap();
    let inputs = given(&intent, &node);
    pass(&inputs, &mut observed);
    assert_eq!(plan(&inputs, &observed), FrrPlan::default());
    let vni = Vni::try_from(5000).unwrap();
    assert!(facts(&inputs, &observed).may_hold(&id("vrf-0"), vni));
}

#[rstest::rstest]
#[case::external(65100, true)]
#[case::internal(65001, false)]
fn only_an_external_router_gets_as_override(#[case] remote: u32, #[case] expected: bool) {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((None, true)), None, None]);
    let spec = SviSpec {
        bgp: Some(SviBgp {
            remote_as: Asn::try_from(remote).unwrap(),
        }),
        ..svi("vrf-0", "net-0", true)
    };
    intent.update(id("svi-0"), spec, &rules()).unwrap();
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let inputs = given(&intent, &node);
    let planned = plan(&inputs, &observed).commands;
    let overrides = planned.iter().any(|it| it.text().ends_with(" as-override"));
    assert_eq!(overrides, expected);
    pass(&inputs, &mut observed);
    let report = report(&inputs, &observed, &[]);
    assert_eq!(
        report.objects[&SviSpec::key(&id("svi-0"))].state,
        State::Success
    );
}

/// With the group FRR drops all that names it, and refuses to be told that again.
#[test]
fn of_a_removed_svi_the_peer_group_goes_last() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    for _ in 0..2 {
        pass(&given(&intent, &node), &mut observed);
    }
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    let inputs = given(&intent, &node);
    let planned = plan(&inputs, &observed).commands;
    let planned: Vec<_> = planned.iter().map(Command::text).collect();
    assert_eq!(planned.len(), 8, "{planned:#?}");
    assert_eq!(planned[7], "no neighbor svi-100 peer-group");
    pass(&inputs, &mut observed);
    let left = observed.config.lines.iter();
    assert_eq!(left.filter(|it| it.text.contains("svi-100")).count(), 0);
}

#[test]
fn fixed_route_targets_are_an_l2vnis_too() {
    let (mut node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    node.route_targets = RouteTargets::Fixed(Asn::try_from(65000).unwrap());
    let plain = made(&given(&intent, &node), &observed, &Config::default());
    pass(&given(&intent, &node), &mut observed);
    let without = observed.config.clone();
    l2vni(&mut intent, Some(100));
    let account = made(
        &Inputs {
            made: &plain,
            ..given(&intent, &node)
        },
        &observed,
        &Config::default(),
    );
    let planned = |inputs: &Inputs<'_>, observed: &Observed| -> Vec<String> {
        let planned = plan(inputs, observed).commands;
        planned
            .iter()
            .map(|it| format!("{} / {}", it.line.path.join(" / "), it.text()))
            .collect()
    };
    let family = "router bgp 65001 / address-family l2vpn evpn";
    let expected = ["export", "import"]
        .map(|way| format!("{family} / vni 100 / route-target {way} 65000:100"));
    assert_eq!(planned(&given(&intent, &node), &observed), expected);
    let text = startup::merge(&given(&intent, &node), &observed, "").text;
    assert!(
        text.contains(
            "  vni 100\n   route-target export 65000:100\n   route-target import 65000:100\n  \
             exit-vni\n"
        ),
        "{text}"
    );
    pass(&given(&intent, &node), &mut observed);
    // The context counts in FRR without a line too, so it goes as a whole.
    l2vni(&mut intent, None);
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    assert_eq!(
        planned(&inputs, &observed),
        [format!("{family} / no vni 100")]
    );
    pass(&inputs, &mut observed);
    assert_eq!(observed.config, without);
}

#[test]
fn the_datacenter_profile_does_not_show_its_defaults() {
    let (node, intent) = (node(true), Intent::default());
    let mut observed = Observed::default();
    observed
        .config
        .lines
        .insert(Line::new(Daemon::Bgpd, &[], "frr defaults datacenter"));
    let plan = plan(&given(&intent, &node), &observed);
    assert!(
        plan.commands
            .iter()
            .all(|it| !it.text().contains("ebgp-requires-policy"))
    );
}

#[rstest::rstest]
#[case("frr defaults traditional", (60, 180), None)]
#[case("frr defaults traditional", (3, 9), Some("timers bgp 3 9"))]
#[case("frr defaults datacenter", (3, 9), None)]
#[case("frr defaults datacenter", (60, 180), Some("timers bgp 60 180"))]
fn timers_that_frr_does_not_show_are_not_told_for_ever(
    #[case] profile: &str,
    #[case] (keepalive, hold): (u16, u16),
    #[case] planned: Option<&str>,
) {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let bgp = node.bgp.as_mut().unwrap();
    bgp.timers = Some(xpu_model::node::BgpTimers { keepalive, hold });
    let lines = &mut observed.config.lines;
    lines.insert(Line::new(Daemon::Bgpd, &[], profile));
    let timers = |observed: &Observed| {
        let plan = plan(&given(&intent, &node), observed);
        let mut planned = plan.commands.iter().map(Command::text);
        planned.find(|text| text.starts_with("timers bgp "))
    };
    assert_eq!(timers(&observed).as_deref(), planned);
    // Other timers that stand there are replaced, by the profile's too.
    let other = Line::new(Daemon::Bgpd, &["router bgp 65001"], "timers bgp 1 3");
    observed.config.lines.insert(other);
    let wanted = format!("timers bgp {keepalive} {hold}");
    assert_eq!(timers(&observed), Some(wanted));
}
