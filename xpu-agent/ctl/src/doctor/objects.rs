//! What the objects' states say: each reason once, with the objects that have it.

use std::collections::BTreeMap;

use xpu_model::{Kind, ObjectKey};

use super::Finding;
use crate::advice::word;
use crate::live::{Live, Objects};
use crate::view::Oper;

/// Reasons that have a command: a part of the agent's words, what it is about, what mends it.
/// The agent's own words say the rest; a reason that is not here gets `describe`.
const MENDS: [(&str, &str, &str); 8] = [
    (
        "needs a local VTEP",
        "vtep",
        "ip address add ADDRESS/32 dev lo\n\
         set underlay.vtep = \"ADDRESS\" in the agent's configuration\n\
         systemctl restart xpu-agent",
    ),
    (
        "differs from this node's",
        "vtep",
        "leave vtepIpPrefix out, or give all objects the same",
    ),
    (
        "bgpd has no base instance",
        "bgp",
        "set [bgp] in the agent's configuration, then: systemctl restart xpu-agent",
    ),
    (
        "raise underlay.mtu",
        "mtu",
        "set underlay.mtu in the agent's configuration to the uplinks' MTU (ip link), then: \
         systemctl restart xpu-agent",
    ),
    (
        "has UDP port",
        "vxlan",
        "ip -d link show type vxlan\n\
         set underlay.vxlan_port in the agent's configuration to another, the same on all nodes \
         of the fabric, then: systemctl restart xpu-agent",
    ),
    (
        "that this agent did not make",
        "foreign",
        "ip -d link show\nip link set dev DEVICE name OTHER",
    ),
    (
        "belongs to the VRF device",
        "foreign",
        "ip -d link show type vrf\n\
         set vrf.table_first and vrf.table_last in the agent's configuration to tables of its own",
    ),
    (
        "isn't there yet",
        "ports",
        "ip link show\nsee [ports] in the agent's configuration: which netdev carries the VF",
    ),
];

/// The objects that are not up, by reason; those that only wait for another come last.
pub fn findings(objects: &Objects) -> Vec<Finding> {
    if objects.is_empty() {
        return vec![Finding::fine("objects", "there are none yet")];
    }
    let mut reasons: BTreeMap<String, Vec<&ObjectKey>> = BTreeMap::new();
    for (key, live) in objects {
        if live.oper != Oper::Up {
            reasons.entry(reason(live)).or_default().push(key);
        }
    }
    let up = objects.values().filter(|it| it.oper == Oper::Up).count();
    let mut findings = vec![Finding::fine(
        "objects",
        format!("{up} of {} are up", objects.len()),
    )];
    let (last, first): (Vec<_>, Vec<_>) = reasons.iter().partition(|(it, _)| is_of_another(it));
    for (reason, keys) in first.into_iter().chain(last) {
        findings.push(finding(reason, keys));
    }
    findings
}

/// Whether it is another object that has the trouble.
fn is_of_another(reason: &str) -> bool {
    reason.contains("is not available; see its status")
}

/// Numbers that differ from object to object would make each reason another.
fn reason(live: &Live) -> String {
    let reason = live
        .trouble()
        .unwrap_or_else(|| format!("{} without a reason", live.oper.as_str()));
    match reason.split_once("VNI ") {
        Some((before, after)) if after.contains("needs a local VTEP") => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}a VNI{after}")
        }
        _ => reason,
    }
}

fn finding(reason: &str, keys: &[&ObjectKey]) -> Finding {
    const SHOWN: usize = 5;
    let mut names: Vec<_> = keys.iter().take(SHOWN).map(ToString::to_string).collect();
    if keys.len() > SHOWN {
        names.push(format!("{} more", keys.len() - SHOWN));
    }
    let seen = format!("{}: {reason}", names.join(", "));
    let known = MENDS.iter().find(|(part, _, _)| reason.contains(part));
    let describe = || match keys.first() {
        Some(key) => format!("xpuctl describe {} {}", word(key.kind), key.id),
        None => String::new(),
    };
    match known {
        Some((_, what, mend)) => Finding::wrong(what, seen, *mend),
        None => Finding::wrong(about(keys), seen, describe()),
    }
}

fn about(keys: &[&ObjectKey]) -> &'static str {
    match keys.first().map(|key| key.kind) {
        Some(Kind::Vrf) => "vrfs",
        Some(Kind::LogicalBridge) => "bridges",
        Some(Kind::BridgePort) => "ports",
        Some(Kind::Svi) => "svis",
        None => "objects",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use xpu_model::{
        Intent, Mtu, Node, Spec as _, TableId, VrfSpec,
        alloc::AllocationRules,
        node::{PortResolver, RouteTargets, VXLAN_PORT},
    };
    use xpu_plan::{
        frr::{self, Inputs, Observed, Version},
        linux::Hold,
    };

    use super::*;

    /// What the agent says of a Vrf where FRR has no base instance.
    fn without_base_instance() -> String {
        let mut intent = Intent::default();
        let rules = AllocationRules {
            tables: 1001..=1010,
            node_seed: [0; 16],
            foreign_devices: BTreeSet::new(),
        };
        let spec = VrfSpec {
            vni: Some(5001.try_into().unwrap()),
            loopback: "10.255.1.1/32".parse().unwrap(),
            vtep: None,
        };
        intent
            .create("blue".parse().unwrap(), spec, &rules)
            .unwrap();
        let node = Node {
            vtep: Some("10.255.0.1".parse().unwrap()),
            underlay_mtu: Mtu::try_from(9000).unwrap(),
            vxlan_port: VXLAN_PORT,
            ports: PortResolver::Name,
            bgp: None,
            route_targets: RouteTargets::Auto,
        };
        let inputs = Inputs {
            intent: &intent,
            node: &node,
            foreign: &BTreeSet::new(),
            made: &BTreeSet::new(),
            saved_asn: None,
            lost: &BTreeSet::new(),
        };
        let mut observed = Observed {
            version: Version {
                major: 10,
                minor: 3,
            },
            ..Observed::default()
        };
        // FRR has got what it needs of the Vrf itself.
        let commands = frr::plan(&inputs, &observed).commands;
        let lines = commands.into_iter().map(|command| command.line);
        observed.config.lines.extend(lines);
        let report = frr::report(&inputs, &observed, &[]);
        let reasons = report.objects.values();
        let reasons = reasons.filter_map(|component| component.state.reason());
        reasons.map(ToString::to_string).collect()
    }

    /// The agent's words are another crate's: what is looked for in them must be there.
    #[test]
    fn what_is_mended_is_what_the_agent_says() {
        let device = || "br-tenant".parse().unwrap();
        let other = Hold::OtherVtep {
            wanted: "10.0.0.1".parse().unwrap(),
            used: "10.0.0.2".parse().unwrap(),
        };
        let table = Hold::ForeignTable {
            table: TableId::try_from(1001).unwrap(),
            device: device(),
        };
        let port = Hold::VxlanPort {
            port: VXLAN_PORT,
            device: "vxlan.calico".parse().unwrap(),
        };
        let holds = [
            ("vtep", Hold::NoVtep(5001.try_into().unwrap())),
            ("vtep", other),
            ("vxlan", port),
            ("mtu", Hold::MtuBelowIpv6(Mtu::try_from(1000).unwrap())),
            ("foreign", Hold::ForeignDevice(device())),
            ("foreign", table),
            ("ports", Hold::NetdevMissing(device())),
        ];
        let mut said = holds
            .map(|(about, hold)| (about, hold.to_string()))
            .to_vec();
        said.push(("bgp", without_base_instance()));
        let mend = |words: &str| MENDS.iter().find(|(part, _, _)| words.contains(part));
        for (about, words) in &said {
            let found = mend(words).map(|(_, found, _)| *found);
            assert_eq!(found, Some(*about), "{words}");
        }
        for (part, _, _) in MENDS {
            let first = |words: &str| mend(words).is_some_and(|(it, _, _)| *it == part);
            assert!(said.iter().any(|(_, words)| first(words)), "{part}");
        }
        let dependent = Hold::DependsOn(VrfSpec::key(&"blue".parse().unwrap())).to_string();
        assert!(is_of_another(&dependent), "{dependent}");
    }
}
