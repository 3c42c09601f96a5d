//! The planner against a small model of FRR's configuration, and the text it comes to.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use xpu_model::{
    Asn, Id, LogicalBridgeSpec, Mac, Mtu, Object, Spec, SviBgp, SviSpec, VlanId, Vni,
    alloc::AllocationRules,
    node::{BgpBase, BgpPeer, PeerAddress, PortResolver, RemoteAs, RouteTargets},
    status::State,
};

use super::{
    observed::{BgpVni, L2Vni, L3Vni, Version},
    *,
};

pub(super) fn node(with_bgp: bool) -> Node {
    let bgp = BgpBase {
        asn: Asn::try_from(65001).unwrap(),
        router_id: Ipv4Addr::new(10, 255, 0, 1),
        peers: vec![BgpPeer {
            at: PeerAddress::Ip("10.254.1.1".parse().unwrap()),
            remote_as: RemoteAs::External,
            bfd: true,
        }],
        timers: None,
    };
    Node {
        vtep: Some("10.255.0.1".parse().unwrap()),
        underlay_mtu: Mtu::try_from(9000).unwrap(),
        ports: PortResolver::Name,
        bgp: with_bgp.then_some(bgp),
        route_targets: RouteTargets::Auto,
    }
}

static NO_DEVICES: BTreeSet<IfName> = BTreeSet::new();
static NO_LINES: BTreeSet<Line> = BTreeSet::new();

/// The inputs on a node without foreign devices.
pub(super) fn given<'a>(intent: &'a Intent, node: &'a Node) -> Inputs<'a> {
    Inputs {
        intent,
        node,
        foreign: &NO_DEVICES,
        made: &NO_LINES,
    }
}

const FRR_10_3: Version = Version {
    major: 10,
    minor: 3,
};

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn vrf(vni: Option<u32>) -> VrfSpec {
    let vni = vni.map(|vni| Vni::try_from(vni).unwrap());
    VrfSpec {
        vni,
        loopback: "10.255.100.1/32".parse().unwrap(),
        vtep: None,
    }
}

fn svi(vrf: &str, bridge: &str, bgp: bool) -> SviSpec {
    SviSpec {
        vrf: id(vrf),
        logical_bridge: id(bridge),
        mac: Mac::try_from([2, 0, 0x5e, 0, 0, 1]).unwrap(),
        gateways: vec![
            "10.1.0.1/24".parse().unwrap(),
            "fd00:1::1/64".parse().unwrap(),
        ],
        // Of one of them the router is in the node's own AS.
        bgp: bgp.then(|| SviBgp {
            remote_as: Asn::try_from(if vrf == "vrf-1" { 65001 } else { 65100 }).unwrap(),
        }),
    }
}

fn rules() -> AllocationRules {
    AllocationRules {
        tables: 1001..=1100,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    }
}

/// Lines of the base instance.
fn in_base(text: &str) -> Line {
    Line::new(Daemon::Bgpd, &["router bgp 65001"], text)
}

/// Up to three Vrfs, by what each has: nothing, an L3VNI, a BGP Svi, or both. `None`: deleted.
pub(super) type Shape = [Option<(Option<u32>, bool)>; 3];

pub(super) fn reshape(intent: &mut Intent, shape: &Shape) {
    for (number, wanted) in shape.iter().enumerate() {
        let (name, net, gateway) = (
            format!("vrf-{number}"),
            format!("net-{number}"),
            format!("svi-{number}"),
        );
        let _ = intent.delete::<SviSpec>(&id(&gateway));
        let Some((vni, bgp)) = wanted else {
            let _ = intent.delete::<VrfSpec>(&id(&name));
            continue;
        };
        let spec = vrf(vni.map(|vni| vni * 10 + u32::try_from(number).unwrap()));
        if intent.get::<VrfSpec>(&id(&name)).is_some() {
            intent.update(id(&name), spec, &rules()).unwrap();
        } else {
            intent.create(id(&name), spec, &rules()).unwrap();
        }
        let vlan = VlanId::try_from(u32::try_from(number).unwrap() + 100).unwrap();
        let bridge = LogicalBridgeSpec {
            vlan,
            vni: None,
            vtep: None,
        };
        intent.create(id(&net), bridge, &rules()).unwrap();
        intent
            .create(id(&gateway), svi(&name, &net, *bgp), &rules())
            .unwrap();
    }
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    let vrf = proptest::option::of((proptest::option::of(500..503_u32), any::<bool>()));
    [vrf.clone(), vrf.clone(), vrf]
}

/// What FRR would have after a plan. Refuses what FRR refuses.
fn pass(inputs: &Inputs<'_>, observed: &mut Observed) {
    let plan = plan(inputs, observed);
    apply(observed, &plan);
}

fn apply(observed: &mut Observed, plan: &FrrPlan) {
    for Command { line, add } in &plan.commands {
        let lines = &mut observed.config.lines;
        if *add {
            let contexts = (0..line.path.len()).map(|depth| Line {
                daemon: line.daemon,
                path: line.path[..depth].to_vec(),
                text: line.path[depth].clone(),
            });
            lines.extend(contexts);
            // FRR has one of these: the new one takes the old one's place.
            for single in ["bgp router-id ", "timers bgp "] {
                if line.text.starts_with(single) {
                    lines.retain(|it| it.path != line.path || !it.text.starts_with(single));
                }
            }
            if let Some((neighbor, _)) = line.text.split_once("remote-as ") {
                lines.retain(|it| {
                    it.path != line.path
                        || it
                            .text
                            .split_once("remote-as ")
                            .is_none_or(|(of, _)| of != neighbor)
                });
            }
            let instance = line.path.first().cloned().unwrap_or_default();
            let (asn, vrf) = split_instance(&instance);
            for other in lines.iter().filter(|it| it.path.is_empty()) {
                let (other, of) = split_instance(&other.text);
                let clash = asn.is_some() && other.is_some() && vrf == of && asn != other;
                assert!(!clash, "BGP is already running; AS is {other:?}: {line}");
            }
            let internal = format!("remote-as {}", asn.unwrap_or_default());
            let is_internal = lines.iter().any(|it| {
                it.path == [instance.clone()]
                    && it.text.ends_with(&internal)
                    && self::neighbor(&it.text) == self::neighbor(&line.text)
            });
            assert!(
                !(is_internal && line.text.ends_with(" as-override")),
                "% as-override cannot be configured for IBGP peers: {line}"
            );
            if let Some(neighbor) = neighbor(&line.text)
                && !defines(&line.text)
            {
                let defined = lines.iter().any(|it| {
                    it.path == [instance.clone()]
                        && defines(&it.text)
                        && self::neighbor(&it.text) == Some(neighbor)
                });
                assert!(
                    defined,
                    "% Specify remote-as or peer-group commands first: {line}"
                );
            }
            lines.insert(line.clone());
            continue;
        }
        assert!(lines.contains(line), "FRR does not have {line}");
        if let Some((_, device)) = line.text.split_once(" vrf ") {
            let zebra = Line::new(Daemon::Zebra, &[&format!("vrf {device}")], "");
            let holds = lines
                .iter()
                .any(|it| it.path == zebra.path && it.text.starts_with("vni "));
            assert!(!holds, "bgpd: please unconfigure l3vni of {device}");
        }
        // With a neighbor or a group goes all that names it.
        if let Some(gone) = neighbor(&line.text)
            && (line.text.ends_with(" peer-group") || !is_group(lines, line, gone))
            && defines(&line.text)
        {
            lines.retain(|it| {
                it.path.first() != line.path.first() || neighbor(&it.text) != Some(gone)
            });
        }
        if let (Some(_), None) = split_instance(&line.text) {
            panic!("the base instance is never taken away: {line}");
        }
        let inner: Vec<String> = line.path.iter().chain([&line.text]).cloned().collect();
        lines.retain(|it| it != line && !(it.daemon == line.daemon && it.path.starts_with(&inner)));
    }
}

/// The AS and the VRF of a BGP instance.
fn split_instance(context: &str) -> (Option<&str>, Option<&str>) {
    match context.strip_prefix("router bgp ") {
        Some(rest) => match rest.split_once(" vrf ") {
            Some((asn, vrf)) => (Some(asn), Some(vrf)),
            None => (Some(rest), None),
        },
        None => (None, None),
    }
}

/// Whether the neighbor that a line is about is a peer group.
fn is_group(lines: &BTreeSet<Line>, line: &Line, name: &str) -> bool {
    let group = format!("neighbor {name} peer-group");
    lines
        .iter()
        .any(|it| it.path == line.path && it.text == group)
}

/// The neighbor or peer group that a line is about.
fn neighbor(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("neighbor ");
    let group = text.split_once(" peer-group ").map(|(_, group)| group);
    rest.and_then(|rest| rest.split(' ').next()).or(group)
}

/// Whether a line makes a neighbor or peer group.
fn defines(text: &str) -> bool {
    text.starts_with("neighbor ") && (text.ends_with(" peer-group") || text.contains("remote-as "))
}

/// What is not somebody else's, but for contexts that may be left without content.
fn ours(observed: &Observed) -> BTreeSet<Line> {
    let empty =
        |line: &Line| line.text.starts_with("vrf ") || line.text.starts_with("address-family ");
    let lines = observed.config.lines.iter();
    lines
        .filter(|line| !foreign().contains(line) && !empty(line))
        .cloned()
        .collect()
}

/// What others configured, in contexts of their own and in ours.
fn foreign() -> Vec<Line> {
    let theirs = "router bgp 65001 vrf theirs";
    vec![
        Line::new(Daemon::Zebra, &[], "vrf theirs"),
        Line::new(Daemon::Zebra, &["vrf theirs"], "vni 777"),
        Line::new(
            Daemon::Zebra,
            &["vrf vrf-0"],
            "ip protocol bgp route-map THEIRS",
        ),
        Line::new(Daemon::Bgpd, &[], theirs),
        Line::new(Daemon::Bgpd, &[theirs], "bgp router-id 9.9.9.9"),
        Line::new(
            Daemon::Bgpd,
            &["router bgp 65001"],
            "neighbor 192.0.2.1 remote-as 65009",
        ),
        Line::new(
            Daemon::Bgpd,
            &[],
            "bgp as-path access-list X seq 5 permit .*",
        ),
    ]
}

fn operators_base() -> Observed {
    let mut observed = Observed::default();
    let lines = &mut observed.config.lines;
    lines.insert(Line::new(Daemon::Bgpd, &[], "router bgp 65001"));
    lines.insert(Line::new(Daemon::Zebra, &[], "vrf vrf-0"));
    lines.insert(Line::new(
        Daemon::Bgpd,
        &["router bgp 65001"],
        "bgp router-id 10.255.0.1",
    ));
    lines.extend(foreign());
    observed
}

proptest! {
    #[test]
    fn from_any_intent_to_any_other_and_theirs_stays(
        shapes in vec(shape(), 1..4),
        with_bgp in any::<bool>(),
    ) {
        let (node, mut intent, mut observed) =
            (node(with_bgp), Intent::default(), operators_base());
        for shape in &shapes {
            reshape(&mut intent, shape);
            let inputs = given(&intent, &node);
            let mut passes = 0;
            loop {
                let plan = plan(&inputs, &observed);
                for Command { line, .. } in &plan.commands {
                    prop_assert!(!foreign().contains(line), "{line} is theirs");
                    prop_assert!(!line.to_string().contains("theirs"), "{line} is among theirs");
                }
                if plan.is_empty() {
                    break;
                }
                passes += 1;
                prop_assert!(passes <= 3, "does not settle: {plan:?}");
                apply(&mut observed, &plan);
            }
            for vrf in intent.vrfs.values() {
                let device = &vrf.allocation.device;
                let wanted = (!vrf.deleting).then_some(vrf.spec.vni).flatten();
                prop_assert_eq!(observed.configured_vni(device), wanted);
                let bgp = !vrf.deleting && (vrf.spec.vni.is_some() || has_bgp_svi(&intent, vrf));
                prop_assert_eq!(observed.bgp_instance(device).is_some(), bgp);
            }
            // The way does not matter: the same lines as from nothing.
            let mut fresh = operators_base();
            for _ in 0..3 {
                pass(&inputs, &mut fresh);
            }
            prop_assert_eq!(ours(&observed), ours(&fresh));
            for line in foreign() {
                prop_assert!(observed.config.lines.contains(&line), "{line} is gone");
            }
        }
    }
}

fn has_bgp_svi(intent: &Intent, vrf: &Object<VrfSpec>) -> bool {
    intent
        .live::<SviSpec>()
        .any(|svi| svi.spec.vrf == vrf.id && svi.spec.bgp.is_some())
}

#[test]
fn the_lines_of_a_node_with_one_tenant() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let plan = plan(&given(&intent, &node), &Observed::default());
    let told: Vec<_> = plan.commands.iter().map(|it| it.line.to_string()).collect();
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
    assert_eq!(told.join("\n"), expected);
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
    let told = |observed: &Observed| -> Vec<String> {
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
    assert_eq!((told(&in_zebra), state(&in_zebra)), (vec![], waits.clone()));
    let mut in_bgpd = observed.clone();
    let bgp = BgpVni {
        is_l3: true,
        rd: Some("10.255.100.1:1001".to_owned()),
        ..BgpVni::default()
    };
    in_bgpd.bgp_vnis.insert(Vni::try_from(5000).unwrap(), bgp);
    assert_eq!((told(&in_bgpd), state(&in_bgpd)), (vec![], waits));
    assert_eq!(told(&observed), ["vni 5010"]);
}

/// Settings change: another router id, VTEP and AS of the peer, a peer less, or no BGP at all.
#[rstest::rstest]
#[case::changed(true, &["no network 10.255.0.1/32", "no neighbor 10.254.1.9 activate",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.9 remote-as external",
    "neighbor 10.254.1.1 remote-as 65002", "bgp router-id 10.255.0.2", "network 10.255.0.2/32"])]
#[case::dropped(false, &["no advertise-all-vni", "no network 10.255.0.1/32",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.1 activate",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.1 activate",
    "bgp ebgp-requires-policy", "bgp default ipv4-unicast", "no neighbor 10.254.1.1 bfd",
    "no bgp router-id 10.255.0.1", "no bgp bestpath as-path multipath-relax",
    "no neighbor 10.254.1.9 remote-as external", "no neighbor 10.254.1.1 remote-as external"])]
fn what_the_settings_no_longer_give_goes_and_an_operators_stays(
    #[case] stays: bool,
    #[case] expected: &[&str],
) {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let theirs = |text: &str| Line::new(Daemon::Bgpd, &["router bgp 65001"], text);
    let family = ["router bgp 65001", "address-family ipv4 unicast"];
    let kept = [
        theirs("neighbor 192.0.2.1 remote-as 65009"),
        Line::new(Daemon::Bgpd, &family, "neighbor 192.0.2.1 activate"),
    ];
    observed.config.lines.extend(kept.clone());
    let peer = |at: &str| BgpPeer {
        at: PeerAddress::Ip(at.parse().unwrap()),
        remote_as: RemoteAs::External,
        bfd: false,
    };
    node.bgp.as_mut().unwrap().peers.push(peer("10.254.1.9"));
    let account = made(&given(&intent, &node), &observed, &Config::default());
    pass(&given(&intent, &node), &mut observed);
    // A line that stood there before is not ours, though the settings give it too.
    assert!(
        !account.iter().any(|line| kept.contains(line)),
        "{account:#?}"
    );
    if stays {
        node.vtep = Some("10.255.0.2".parse().unwrap());
        let bgp = node.bgp.as_mut().unwrap();
        bgp.router_id = Ipv4Addr::new(10, 255, 0, 2);
        bgp.peers.pop();
        bgp.peers[0].remote_as = RemoteAs::Is(Asn::try_from(65002).unwrap());
    } else {
        node.bgp = None;
    }
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    let told: Vec<_> = plan(&inputs, &observed).commands;
    let told: Vec<_> = told.iter().map(Command::text).collect();
    assert_eq!(told, expected);
    let account = made(&inputs, &observed, &Config::default());
    assert_eq!(
        account.contains(&theirs("neighbor 10.254.1.1 remote-as 65002")),
        stays
    );
    pass(&inputs, &mut observed);
    for line in &kept {
        assert!(observed.config.lines.contains(line), "{line} is gone");
    }
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    // Of what went, nothing is on account any more.
    let account = made(&inputs, &observed, &Config::default());
    assert!(!account.contains(&theirs("neighbor 10.254.1.9 remote-as external")));
    assert_eq!(account.is_empty(), !stays, "{account:#?}");
}

/// The startup configuration is written later than FRR is told, or not at all for a while.
#[test]
fn what_the_file_still_has_stays_on_account() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let account = made(&given(&intent, &node), &observed, &Config::default());
    let text = startup::merge(&given(&intent, &node), &observed, "");
    pass(&given(&intent, &node), &mut observed);
    node.bgp.as_mut().unwrap().peers.clear();
    let peer = in_base("neighbor 10.254.1.1 remote-as external");
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    let saved = startup::Saved::new(text);
    let account = made(&inputs, &observed, saved.config());
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    assert!(account.contains(&peer));
    assert!(saved.gap(&inputs, &observed).is_behind);
    let saved = startup::Saved::new(startup::merge(&inputs, &observed, saved.text()));
    assert!(!saved.text().contains("10.254.1.1"), "{}", saved.text());
    assert_eq!(saved.gap(&inputs, &observed), startup::Gap::default());
    assert!(!made(&inputs, &observed, saved.config()).contains(&peer));
}

/// FRR has no way to another AS but without any instance, so the running one is left alone.
#[rstest::rstest]
#[case::ours_alone(None)]
#[case::with_an_operators_line(Some("neighbor 192.0.2.1 remote-as 65009"))]
fn another_as_waits_for_a_restart_of_frr(#[case] theirs: Option<&str>) {
    let (mut node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let account = made(&given(&intent, &node), &observed, &Config::default());
    let mut text = startup::merge(&given(&intent, &node), &observed, "");
    pass(&given(&intent, &node), &mut observed);
    if let Some(line) = theirs {
        observed.config.lines.insert(in_base(line));
        text = text.replacen(
            "router bgp 65001\n",
            &format!("router bgp 65001\n {line}\n"),
            1,
        );
    }
    let bgp = node.bgp.as_mut().unwrap();
    bgp.asn = Asn::try_from(65002).unwrap();
    bgp.peers.clear();
    let saved = startup::Saved::new(text);
    let account = made(
        &Inputs {
            made: &account,
            ..given(&intent, &node)
        },
        &observed,
        saved.config(),
    );
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    assert_eq!(plan(&inputs, &observed), FrrPlan::default());
    let told = report(&inputs, &observed, &[]).node.concat();
    assert!(
        told.contains("bgp.asn is 65002 and FRR runs `router bgp 65001`"),
        "{told}"
    );
    // Vrfs come and go in the AS that runs.
    reshape(&mut intent, &[None, Some((Some(501), true)), None]);
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    for _ in 0..3 {
        pass(&inputs, &mut observed);
    }
    assert!(
        observed
            .config
            .has_context(Daemon::Bgpd, "router bgp 65001 vrf vrf-1")
    );
    assert!(plan(&inputs, &observed).is_empty());

    let wanted = startup::merge(&inputs, &observed, saved.text());
    let old = wanted.contains("router bgp 65001");
    assert_eq!(old, theirs.is_some(), "{wanted}");
    if old {
        assert!(!saved.gap(&inputs, &observed).deleted.is_empty());
        return;
    }
    assert!(saved.gap(&inputs, &observed).is_behind);
    let saved = startup::Saved::new(wanted);
    assert_eq!(saved.gap(&inputs, &observed), startup::Gap::default());
    // FRR restarts, and the lines are still known to be the agent's.
    let account = made(&inputs, &observed, saved.config());
    observed.config = saved.config().clone();
    observed.inactive_vrfs.insert("vrf-0".parse().unwrap());
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    let account = made(&inputs, &observed, saved.config());
    assert!(
        plan(&inputs, &observed).is_empty(),
        "{:?}",
        plan(&inputs, &observed)
    );
    assert!(report(&inputs, &observed, &[]).node.is_empty());
    node.bgp = None;
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    let left: Vec<_> = observed
        .config
        .within(Daemon::Bgpd, "router bgp 65002")
        .filter(|line| !desired::is_context(line))
        .collect();
    assert_eq!(left, Vec::<&Line>::new());
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
    let told = plan(&inputs, &observed).commands;
    let overrides = told.iter().any(|it| it.text().ends_with(" as-override"));
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
    let told = plan(&inputs, &observed).commands;
    let told: Vec<_> = told.iter().map(Command::text).collect();
    assert_eq!(told.len(), 8, "{told:#?}");
    assert_eq!(told[7], "no neighbor svi-100 peer-group");
    pass(&inputs, &mut observed);
    let left = observed.config.lines.iter();
    assert_eq!(left.filter(|it| it.text.contains("svi-100")).count(), 0);
}

fn l2vni(intent: &mut Intent, vni: Option<u32>) {
    let spec = LogicalBridgeSpec {
        vlan: VlanId::try_from(100).unwrap(),
        vni: vni.map(|vni| Vni::try_from(vni).unwrap()),
        vtep: None,
    };
    if intent.get::<LogicalBridgeSpec>(&id("net-0")).is_some() {
        intent.update(id("net-0"), spec, &rules()).unwrap();
    } else {
        intent.create(id("net-0"), spec, &rules()).unwrap();
    }
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
    let told = |inputs: &Inputs<'_>, observed: &Observed| -> Vec<String> {
        let told = plan(inputs, observed).commands;
        told.iter()
            .map(|it| format!("{} / {}", it.line.path.join(" / "), it.text()))
            .collect()
    };
    let family = "router bgp 65001 / address-family l2vpn evpn";
    let expected = ["export", "import"]
        .map(|way| format!("{family} / vni 100 / route-target {way} 65000:100"));
    assert_eq!(told(&given(&intent, &node), &observed), expected);
    let text = startup::merge(&given(&intent, &node), &observed, "");
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
    assert_eq!(told(&inputs, &observed), [format!("{family} / no vni 100")]);
    pass(&inputs, &mut observed);
    assert_eq!(observed.config, without);
}

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
fn an_operators_line_of_the_same_words_stays() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), operators_base());
    let theirs = Line::new(
        Daemon::Bgpd,
        &["router bgp 65001"],
        "bgp router-id 10.255.0.1",
    );
    let account = made(&given(&intent, &node), &observed, &Config::default());
    pass(&given(&intent, &node), &mut observed);
    node.bgp = None;
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    assert!(observed.config.lines.contains(&theirs));
    assert!(plan(&inputs, &observed).is_empty());
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
    assert!(report(&inputs, &observed, &[]).node[0].contains("install 9.0"));
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

/// An instance as an operator may have written it, with lines that the agent writes too.
fn operators_instance(device: &str) -> Vec<Line> {
    let instance = format!("router bgp 65001 vrf {device}");
    let family = [instance.as_str(), "address-family ipv4 unicast"];
    vec![
        Line::new(Daemon::Zebra, &[], format!("vrf {device}")),
        Line::new(Daemon::Bgpd, &[], instance.as_str()),
        Line::new(Daemon::Bgpd, &[&instance], "bgp router-id 9.9.9.9"),
        Line::new(Daemon::Bgpd, &[&instance], "neighbor 9.9.9.1 remote-as 9"),
        Line::new(Daemon::Bgpd, &[&instance], family[1]),
        Line::new(Daemon::Bgpd, &family, "redistribute connected"),
    ]
}

#[test]
fn a_vrf_whose_name_a_foreign_device_has_leaves_frr_alone_and_says_so() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    observed.config.lines.extend(operators_instance("vrf-0"));
    observed
        .config
        .lines
        .insert(Line::new(Daemon::Zebra, &["vrf vrf-0"], "vni 777"));
    let foreign = BTreeSet::from(["vrf-0".parse().unwrap()]);
    for deleted in [false, true] {
        if deleted {
            reshape(&mut intent, &[None, None, None]);
        }
        let inputs = Inputs {
            foreign: &foreign,
            ..given(&intent, &node)
        };
        let plan = plan(&inputs, &observed);
        for Command { line, .. } in &plan.commands {
            assert!(!line.to_string().contains("vrf-0"), "{line} is theirs");
        }
        let report = report(&inputs, &observed, &[]);
        let vrf = report.objects.get(&VrfSpec::key(&id("vrf-0")));
        assert_eq!(vrf.is_some(), !deleted, "a tombstone has no trace");
        for (key, component) in &report.objects {
            let reason = component.state.reason().unwrap();
            assert!(reason.contains("did not make"), "{key}: {reason}");
        }
        assert_eq!(
            facts(&inputs, &observed),
            FrrFacts::Known {
                l3vni: Default::default()
            }
        );
    }
}

#[test]
fn an_operators_instance_for_a_vrf_without_vni_stays() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((None, false)), None, None]);
    let mut observed = Observed::default();
    observed.config.lines.extend(operators_instance("vrf-0"));
    for shape in [Some((None, false)), None] {
        reshape(&mut intent, &[shape, None, None]);
        let inputs = given(&intent, &node);
        pass(&inputs, &mut observed);
        for line in operators_instance("vrf-0") {
            assert!(observed.config.lines.contains(&line), "{line} is gone");
        }
        let key = VrfSpec::key(&id("vrf-0"));
        assert!(!report(&inputs, &observed, &[]).objects.contains_key(&key));
    }
}

#[test]
fn of_our_instance_an_operators_lines_stay_with_their_contexts() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    for _ in 0..2 {
        pass(&given(&intent, &node), &mut observed);
    }
    let instance = "router bgp 65001 vrf vrf-0";
    let theirs = Line::new(Daemon::Bgpd, &[instance], "neighbor 9.9.9.1 remote-as 9");
    let route = Line::new(Daemon::Zebra, &["vrf vrf-0"], "ip route 10.9.0.0/16 Null0");
    observed
        .config
        .lines
        .extend([theirs.clone(), route.clone()]);
    reshape(&mut intent, &[None, None, None]);
    observed.inactive_vrfs.insert("vrf-0".parse().unwrap());
    let inputs = given(&intent, &node);
    for _ in 0..3 {
        pass(&inputs, &mut observed);
    }
    assert!(observed.config.lines.contains(&theirs));
    assert!(observed.config.lines.contains(&route));
    let left: Vec<_> = observed
        .config
        .lines
        .iter()
        .filter(|line| line.is_within(instance) && !line.text.starts_with("address-family "))
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(left, [instance, theirs.text.as_str()], "ours is gone");
    let key = VrfSpec::key(&id("vrf-0"));
    assert!(!report(&inputs, &observed, &[]).objects.contains_key(&key));
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

#[rstest::rstest]
#[case("frr defaults traditional", (60, 180), None)]
#[case("frr defaults traditional", (3, 9), Some("timers bgp 3 9"))]
#[case("frr defaults datacenter", (3, 9), None)]
#[case("frr defaults datacenter", (60, 180), Some("timers bgp 60 180"))]
fn timers_that_frr_does_not_show_are_not_told_for_ever(
    #[case] profile: &str,
    #[case] (keepalive, hold): (u16, u16),
    #[case] told: Option<&str>,
) {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let bgp = node.bgp.as_mut().unwrap();
    bgp.timers = Some(xpu_model::node::BgpTimers { keepalive, hold });
    let lines = &mut observed.config.lines;
    lines.insert(Line::new(Daemon::Bgpd, &[], profile));
    let timers = |observed: &Observed| {
        let plan = plan(&given(&intent, &node), observed);
        let mut told = plan.commands.iter().map(Command::text);
        told.find(|text| text.starts_with("timers bgp "))
    };
    assert_eq!(timers(&observed).as_deref(), told);
    // Other timers that stand there are replaced, by the profile's too.
    let other = Line::new(Daemon::Bgpd, &["router bgp 65001"], "timers bgp 1 3");
    observed.config.lines.insert(other);
    let wanted = format!("timers bgp {keepalive} {hold}");
    assert_eq!(timers(&observed), Some(wanted));
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
