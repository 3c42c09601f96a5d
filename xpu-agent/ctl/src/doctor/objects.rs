//! What the objects' states say: each reason once, with whom it concerns.

use std::collections::BTreeMap;

use xpu_model::{Kind, ObjectKey};

use super::Finding;
use crate::advice::word;
use crate::live::{Live, Objects};
use crate::view::Oper;

/// Reasons that have a command: a part of the agent's words, what it is about, what mends it.
/// The agent's own words say the rest; a reason that is not here gets `describe`.
const MENDS: [(&str, &str, &str); 6] = [
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
        "that this agent did not make",
        "foreign",
        "ip -d link show\nip link set dev DEVICE name OTHER",
    ),
    (
        "isn't there yet",
        "ports",
        "ip link show\nsee [ports] in the agent's configuration: which netdev carries the VF",
    ),
];

/// The objects that are not up, by reason; those that only wait for another are told last.
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
    let dependent = |reason: &str| reason.contains("is not available; see its status");
    let (last, first): (Vec<_>, Vec<_>) = reasons.iter().partition(|(it, _)| dependent(it));
    for (reason, keys) in first.into_iter().chain(last) {
        findings.push(finding(reason, keys));
    }
    findings
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
