//! The local VTEP: whether the configured one is an address of this machine, and which one the
//! tunnels have. First the machine's addresses are looked at, then judged: the judging is pure.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::Finding;
use super::agent_config::AgentConfig;
use crate::live::{Live, Objects, remote_vteps};
use crate::manifest::Spec;

/// The machine's addresses, below `root`; none: they can't be seen.
pub fn addresses(root: &Path) -> BTreeSet<IpAddr> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    v4_addresses(&read("proc/net/fib_trie"))
        .chain(v6_addresses(&read("proc/net/if_inet6")))
        .collect()
}

/// `/proc/net/fib_trie`: under `|-- 10.0.0.1` stands `/32 host LOCAL` where it is an own address.
fn v4_addresses(trie: &str) -> impl Iterator<Item = IpAddr> {
    let mut last = None;
    trie.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        }
        last.filter(|_| line == "/32 host LOCAL")
    })
}

/// `/proc/net/if_inet6`: each line begins with an address of 32 digits.
fn v6_addresses(lines: &str) -> impl Iterator<Item = IpAddr> {
    let addresses = lines.lines().filter_map(|line| line.split(' ').next());
    addresses
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| Ipv6Addr::from_bits(bits).into())
}

/// Judges the VTEP that the agent's configuration names, which the fabric must reach here.
pub fn findings(
    config: &AgentConfig,
    addresses: &BTreeSet<IpAddr>,
    objects: Option<&Objects>,
) -> Vec<Finding> {
    const WHAT: &str = "vtep";
    let AgentConfig::Known {
        file: Some(file),
        settings,
    } = config
    else {
        return Vec::new();
    };
    let file = file.display();
    match settings.underlay.vtep {
        Some(vtep) if addresses.contains(&vtep) => vec![Finding::fine(
            WHAT,
            format!("{vtep}, of {file}, is an address of this machine"),
        )],
        Some(vtep) if !addresses.is_empty() => vec![Finding::wrong(
            WHAT,
            format!("{vtep}, of {file}, is no address of this machine"),
            format!("ip address add {vtep}/{} dev lo", length(vtep)),
        )],
        Some(_) => Vec::new(),
        // An object that needs one says so itself, or has its own.
        None if objects.is_some_and(|objects| objects.values().any(has_vni)) => Vec::new(),
        None => vec![Finding::notice(
            WHAT,
            format!("{file} names none, and each object with a VNI needs one"),
            "ip address add ADDRESS/32 dev lo\n\
             set underlay.vtep = \"ADDRESS\" in the agent's configuration\n\
             systemctl restart xpu-agent",
        )],
    }
}

const fn length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn has_vni(live: &Live) -> bool {
    match &live.spec {
        Spec::Vrf(vrf) => vrf.vni.is_some(),
        Spec::LogicalBridge(bridge) => bridge.vni.is_some(),
        Spec::BridgePort(_) | Spec::Svi(_) => false,
    }
}

/// The VTEP an object with a VNI brings.
fn own_vtep(live: &Live) -> Option<IpAddr> {
    let prefix = match &live.spec {
        Spec::Vrf(vrf) => vrf.vni.and(vrf.vtep_ip_prefix),
        Spec::LogicalBridge(bridge) => bridge.vni.and(bridge.vtep_ip_prefix),
        Spec::BridgePort(_) | Spec::Svi(_) => None,
    };
    prefix.map(|prefix| prefix.0.addr())
}

/// The local VTEP: that of the agent's configuration, else one that an object brings.
pub fn local(config: &AgentConfig, objects: &Objects) -> Option<IpAddr> {
    config
        .vtep()
        .or_else(|| objects.values().find_map(own_vtep))
}

/// A VTEP of the family that the tunnels have, as far as that is known: the configured one, an
/// object's own, or a remote one, since both ends of a tunnel are of one family.
pub fn of_the_tunnels(config: &AgentConfig, objects: &Objects) -> Option<IpAddr> {
    let remote = || objects.values().flat_map(remote_vteps).next();
    local(config, objects).or_else(remote)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::tests::{FakeRoot, address, configured, network, troubles};

    #[test]
    fn a_vtep_without_its_address_is_found_before_there_are_objects() {
        let judged = |config, objects: Option<&Objects>| {
            let addresses = BTreeSet::from([address("10.255.0.1")]);
            troubles(&findings(&config, &addresses, objects))
        };
        let none = Objects::new();
        let right = "[underlay]\nvtep = \"10.255.0.1\"\n";
        assert_eq!(judged(configured(right), None), "");
        for (missing, mend) in [
            ("10.255.0.9", "ip address add 10.255.0.9/32 dev lo"),
            ("fd00::9", "ip address add fd00::9/128 dev lo"),
        ] {
            let config = configured(&format!("[underlay]\nvtep = {missing:?}\n"));
            let text = judged(config, Some(&none));
            assert!(text.contains("no address of this machine"), "{text}");
            assert!(text.contains(mend), "{text}");
        }
        assert!(judged(configured(""), Some(&none)).contains("set underlay.vtep"));
        // Whoever has a VNI says it.
        let vni = network(json!({"vlanId": 1, "vni": 1}), String::new());
        assert_eq!(judged(configured(""), Some(&vni)), "");
    }

    #[test]
    fn what_can_not_be_seen_is_not_judged() {
        let seen = BTreeSet::from([address("10.255.0.1")]);
        let config = configured("[underlay]\nvtep = \"10.255.0.9\"\n");
        assert_eq!(findings(&config, &BTreeSet::new(), None), []);
        for config in [
            AgentConfig::read(Some(Path::new("/nowhere/agent.toml"))),
            configured("[underlay]\nvtep = 7\n"),
        ] {
            assert_eq!(findings(&config, &seen, None), []);
        }
    }

    #[test]
    fn the_addresses_are_the_kernels() {
        let root = FakeRoot::new();
        root.write(
            "proc/net/fib_trie",
            "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.255.0.0\n        /24 link UNICAST\n     \
             |-- 10.255.0.1\n        /32 host LOCAL\n     |-- 10.255.0.255\n        \
             /32 link BROADCAST\n",
        );
        root.write(
            "proc/net/if_inet6",
            "fd000255000000000000000000000001 01 80 00 80       lo\n",
        );
        let expected = ["10.255.0.1", "fd00:255::1"].map(address);
        assert_eq!(addresses(root.path()), expected.into());
    }
}
