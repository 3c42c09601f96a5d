//! The planner against a small model of FRR's configuration, and the text it comes to.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xpu_model::{
    Asn, Id, LogicalBridgeSpec, Mac, Mtu, Object, Spec, SviBgp, SviSpec, VlanId, Vni,
    alloc::AllocationRules,
    node::{BgpBase, BgpPeer, PeerAddress, PortResolver, RemoteAs, RouteTargets},
    status::State,
};

use super::{
    observed::{BgpVni, L2Vni, L3Vni, Named, Version},
    *,
};

mod lines;
mod operators;
mod other_asn;
mod properties;
mod status;

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
        vxlan_port: xpu_model::node::VXLAN_PORT,
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
        saved_asn: None,
        lost: &NO_DEVICES,
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
            "10.1.0.1/24".parse::<xpu_model::IfAddr>().unwrap(),
            "fd00:1::1/64".parse().unwrap(),
        ]
        .try_into()
        .unwrap(),
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
