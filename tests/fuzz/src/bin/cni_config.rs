//! The network configuration and the host-wide file, for every version.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use xpu_cni::{
    agent::AgentAddr,
    config::{AddConfig, ConfigError, Raw},
    port::Attach,
    version::Version,
};
use xpu_fuzz::{parts, told};

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
    assert_eq!(raw.log().1.is_some(), is_text(&host["logFile"]));
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
    raw.add(raw.common(version)?)
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
    // A missing key opens nothing.
    if config.attach == Attach::Transparent {
        assert!(network["trunk"] == "all" || network["type"] == "evpn-gw");
    }
    if let Some(ipam) = &config.common.ipam {
        assert!(!ipam.is_empty() && !ipam.contains('/'), "{ipam}");
    }
    let device = config.device.as_str();
    assert!(!device.contains(['/', '\0']), "{device}");
    assert_eq!(device.parse().as_ref(), Ok(&config.device));
    let files = &host["pci_to_mac_path"];
    assert!(is_text(files) || config.macs.ends_with("pci_to_mac.conf"));
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
