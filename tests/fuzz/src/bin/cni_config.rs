//! The network configuration and the host-wide file, for every version.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use xpu_cni::{
    agent::AgentAddr,
    config::{AddConfig, AskedMac, ConfigError, Raw},
    port::PortMode,
    version::Version,
};
use xpu_fuzz::{parts, told};
use xpu_model::{Kind, ObjectKey};

fuzz_target!(|data: &[u8]| {
    let [stdin, host] = parts(data);
    let file = (!host.is_empty()).then_some((Path::new("/host.conf"), host));
    let raw = match Raw::parse(stdin, file) {
        Ok(raw) => raw,
        Err(error) => return told(error, &[6, 7]),
    };
    if let Err(error) = raw.version() {
        told(error, &[1]);
    }
    let host: Value = serde_json::from_slice(host).unwrap_or_default();
    // A network can't have root write to a file.
    assert_eq!(raw.log().file.is_some(), is_text(&host["logFile"]));
    let network: Value = serde_json::from_slice(stdin).unwrap_or_default();

    let verdicts = Version::ALL.map(|version| read(&raw, version));
    let words = verdicts
        .each_ref()
        .map(|verdict| verdict.as_ref().err().map(ToString::to_string));
    // The version has no part in what a key means.
    assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
    for verdict in verdicts {
        match verdict {
            Ok(config) => holds(&config, &network, &host),
            Err(error) => told(error, &[2, 7]),
        }
    }
});

const CERTIFICATES: &str = "/etc/cni/net.d/xpu-cni.d";

fn read(raw: &Raw, version: Version) -> Result<AddConfig, ConfigError> {
    raw.add(raw.common()?, version)
}

/// What holds for every configuration that passes.
fn holds(config: &AddConfig, network: &Value, host: &Value) {
    if let Some(pinned) = host["agent"].as_str() {
        assert_eq!(pinned.parse().as_ref(), Ok(config.common.agent.addr()));
    } else if let Some(pinned) = host["opi_evpn_bridge_conn"].as_str() {
        let pinned = format!("http://{pinned}").parse();
        assert_eq!(pinned.as_ref(), Ok(config.common.agent.addr()));
    } else if network["agent"].is_null() && network["opi_evpn_bridge_conn"].is_null() {
        assert_eq!(*config.common.agent.addr(), AgentAddr::default());
    }
    // Certificates go with TLS, and a network can't have root read other files than the host's.
    let tls = config.common.agent.tls();
    assert_eq!(
        tls.is_some(),
        matches!(config.common.agent.addr(), AgentAddr::Tls(_))
    );
    for (_, path) in tls.iter().flat_map(|files| files.each()) {
        assert!(!host["tls"].is_null() || path.parent() == Some(Path::new(CERTIFICATES)));
        assert!(!host["tls"].is_null() || !path.as_os_str().as_encoded_bytes().ends_with(b"/.."));
    }
    attaches(&config.attach, network, host);
    sets(config, network);
    if let Some(ipam) = &config.common.ipam {
        assert!(!ipam.is_empty() && !ipam.contains('/'), "{ipam}");
    }
    // The runtime knows which device the pod was given.
    let [asked, runtimes] = [&network["deviceID"], &network["runtimeConfig"]["deviceID"]];
    let asked = if is_text(runtimes) { runtimes } else { asked };
    assert_eq!(asked.as_str().unwrap().parse().as_ref(), Ok(&config.device));
    let device = config.device.as_str();
    assert!(!device.contains(['/', '\0']), "{device}");
    assert_eq!(device.parse().as_ref(), Ok(&config.device));
    let files = &host["pci_to_mac_path"];
    let files = if is_text(files) { files.as_str() } else { None };
    let files = files.unwrap_or("/etc/cni/net.d/evpn-gw.d/pci_to_mac.conf");
    assert_eq!(config.macs, Path::new(files));
}

/// A missing key opens nothing, and the host's bridges are for networks that say nothing.
fn attaches(attach: &PortMode, network: &Value, host: &Value) {
    let says = |map: &Value| {
        let many = map["logical_bridges"].as_array();
        is_text(&map["logical_bridge"]) || many.is_some_and(|many| !many.is_empty())
    };
    let all = &network["trunk"];
    let map = if says(network) || !all.is_null() {
        network
    } else {
        host
    };
    let key = |name: &Value| ObjectKey::parse(Kind::LogicalBridge, name.as_str().unwrap()).unwrap();
    match attach {
        PortMode::Transparent => {
            assert!(!says(map), "{map}");
            assert!(all == "all" || all.is_null() && network["type"] == "evpn-gw");
        }
        PortMode::Access(bridge) => assert_eq!(*bridge, key(&map["logical_bridge"])),
        PortMode::Trunk(bridges) => {
            let named = map["logical_bridges"].as_array().unwrap();
            assert_eq!(*bridges, named.iter().map(key).collect::<Vec<_>>());
            let other = |at: usize| !bridges[..at].contains(&bridges[at]);
            assert!((0..bridges.len()).all(other), "one is named twice");
        }
    }
}

/// What is asked for is what is set, and nothing is set that can't be kept.
fn sets(config: &AddConfig, network: &Value) {
    let asked = &config.asked;
    let most = asked.max_tx_rate.filter(|most| *most != 0);
    assert!(most.is_none_or(|most| asked.min_tx_rate.unwrap_or(0) <= most));
    let is_access = matches!(config.attach, PortMode::Access(_));
    assert!(
        asked
            .vlan_qos
            .is_none_or(|qos| qos == 0 || qos <= 7 && is_access)
    );
    if let Some(mtu) = network["mtu"].as_u64().filter(|mtu| *mtu != 0) {
        assert_eq!(config.mtu.map(|mtu| u64::from(mtu.get())), Some(mtu));
    }
    for (key, value) in [("spoofchk", asked.spoofchk), ("trust", asked.trust)] {
        let word = network[key].as_str().filter(|word| !word.is_empty());
        let told = word.map(|word| word == "on").or(network[key].as_bool());
        assert!(told.is_none() || value == told, "{key}");
    }
    // The pod's own word before the network's; and a VF limits only what its pod sends.
    let runtime = &network["runtimeConfig"];
    assert_eq!(
        matches!(config.mac, Some(AskedMac::Runtime(_))),
        is_text(&runtime["mac"])
    );
    let bandwidth = &runtime["bandwidth"];
    assert_eq!(bandwidth["ingressRate"].as_u64().unwrap_or(0), 0);
    if let Some(bits) = bandwidth["egressRate"].as_u64().filter(|bits| *bits != 0) {
        let rate = u64::from(asked.max_tx_rate.unwrap());
        assert!(rate.saturating_mul(1_000_000) >= bits || rate == u64::from(u32::MAX));
    }
    // Addresses that nobody would set.
    if config.common.ipam.is_none() {
        for map in [runtime, &network["args"]["cni"]] {
            assert!(map["ips"].as_array().is_none_or(Vec::is_empty), "{map}");
        }
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
