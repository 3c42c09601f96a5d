//! Rules of the configuration, one test each.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use xpu_linux::sync::vf_side::Carrier;
use xpu_model::{Kind, ObjectKey};

use super::*;
use crate::agent::AgentAddr;

fn raw(config: Value) -> Raw {
    Raw::read(config.to_string().as_bytes(), &[]).unwrap()
}

pub(super) fn read(mut config: Value) -> Result<AddConfig, ConfigError> {
    let base = json!({"cniVersion": "1.1.0", "name": "red", "type": "xpu-cni", "deviceID": "0000:af:06.0"});
    for (key, value) in base.as_object().unwrap() {
        let map = config.as_object_mut().unwrap();
        map.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let raw = raw(config);
    raw.add(raw.common()?, Version::LATEST)
}

fn blue() -> ObjectKey {
    ObjectKey::parse(Kind::LogicalBridge, "blue").unwrap()
}

#[test]
fn the_three_ways_to_attach() {
    let attach = |config| read(config).unwrap().attach;
    assert_eq!(
        attach(json!({"logical_bridge": "blue"})),
        PortMode::Access(blue())
    );
    assert_eq!(
        attach(json!({"logical_bridge": "logicalBridges/blue"})),
        PortMode::Access(blue())
    );
    assert_eq!(
        attach(json!({"logical_bridges": ["blue"]})),
        PortMode::Trunk(vec![blue()])
    );
    assert_eq!(attach(json!({"trunk": "all"})), PortMode::Transparent);
}

#[test]
fn no_key_opens_nothing_except_for_the_public_plugins_name() {
    assert!(
        matches!(read(json!({})), Err(ConfigError::Invalid { key, .. }) if key == "logical_bridge")
    );
    assert_eq!(
        read(json!({"type": "evpn-gw"})).unwrap().attach,
        PortMode::Transparent
    );
    let two = json!({"logical_bridge": "blue", "trunk": "all"});
    assert!(matches!(read(two), Err(ConfigError::Invalid { .. })));
    let twice = json!({"logical_bridges": ["blue", "logicalBridges/blue"]});
    assert!(matches!(read(twice), Err(ConfigError::Invalid { .. })));
}

#[test]
fn settings_that_cannot_be_kept_are_refused_by_name() {
    for (runtime, words) in [
        (
            json!({"bandwidth": {"ingressRate": 7}}),
            ["`runtimeConfig.bandwidth.ingressRate`: 7 ", "sends"],
        ),
        (
            json!({"ips": ["10.1.2.3/24"]}),
            [r#"`runtimeConfig.ips`: ["10.1.2.3/24"] "#, "`ipam`"],
        ),
    ] {
        let told = read(json!({"trunk": "all", "ipam": {}, "runtimeConfig": runtime})).unwrap_err();
        assert!(matches!(told, ConfigError::Unsupported { .. }), "{told:?}");
        let told = told.to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
}

#[test]
fn the_pods_own_rate_goes_before_the_networks() {
    let rate = |bandwidth: Value| {
        let config = json!({
            "trunk": "all", "max_tx_rate": 7, "runtimeConfig": {"bandwidth": bandwidth},
        });
        read(config).unwrap().asked.max_tx_rate
    };
    let bits = 25_000_000;
    assert_eq!(rate(json!({"egressRate": bits})), Some(25));
    // 0 is how Go programs write "not set".
    for none in [json!({"egressRate": 0, "ingressRate": 0}), json!(null)] {
        assert_eq!(rate(none), Some(7));
    }
    let told = read(json!({
        "trunk": "all", "min_tx_rate": 26, "runtimeConfig": {"bandwidth": {"egressRate": bits}},
    }));
    assert!(
        matches!(&told, Err(ConfigError::Invalid { key, .. }) if key == "min_tx_rate"),
        "the guarantee is above the pod's limit: {told:?}"
    );
}

/// A PF gives a priority by tagging frames itself, which a trunk's are already.
#[test]
fn a_priority_is_for_untagged_frames() {
    let key = |told: Result<AddConfig, ConfigError>| match told {
        Err(ConfigError::Invalid { key, reason }) if reason.contains("trunk") => key,
        other => panic!("{other:?}"),
    };
    let blue = json!({"logical_bridge": "blue", "vlan_qos": 5});
    assert_eq!(read(blue).unwrap().asked.vlan_qos, Some(5));
    for (way, to) in [
        ("logical_bridges", json!(["blue"])),
        ("trunk", json!("all")),
        ("type", json!("evpn-gw")),
    ] {
        assert_eq!(key(read(json!({way: to, "vlan_qos": 5}))), "vlan_qos");
        // None is what a trunk has, so it may say so, be it against the host-wide file.
        read(json!({way: to, "vlan_qos": 0})).unwrap();
    }
}

/// What is for all networks of the host keeps none from starting that it isn't for.
#[test]
fn a_default_of_the_hosts_that_does_not_go_with_the_network_is_left_out() {
    let host = || json!({"vlan_qos": 5, "min_tx_rate": 100, "trust": "on"});
    let read = |network| both(network, host()).unwrap();
    let trunk = read(json!({"max_tx_rate": 50}));
    assert_eq!(trunk.asked.vlan_qos, None);
    assert_eq!(trunk.asked.min_tx_rate, None);
    assert_eq!(trunk.asked.trust, Some(true));
    assert_eq!((trunk.remarks.len(), read(json!({})).remarks.len()), (2, 1));
    for (remark, key) in trunk.remarks.iter().zip(["vlan_qos", "min_tx_rate"]) {
        assert!(remark.contains(&format!("`{key}`")), "{remark}");
        assert!(remark.contains("host-wide"), "{remark}");
    }
    let access = read(json!({"logical_bridge": "blue"}));
    assert_eq!(access.asked.vlan_qos, Some(5));
    assert_eq!(access.asked.min_tx_rate, Some(100));
    assert_eq!(access.remarks, Vec::<String>::new());
    // What the network asks itself is refused, and so is a file of the host's that is at odds with
    // itself.
    for (network, host) in [
        (json!({"vlan_qos": 5}), host()),
        (json!({"max_tx_rate": 5, "min_tx_rate": 6}), host()),
        (json!({}), json!({"max_tx_rate": 5, "min_tx_rate": 6})),
    ] {
        let told = both(network.clone(), host);
        assert!(
            matches!(told, Err(ConfigError::Invalid { .. })),
            "{network}"
        );
    }
}

/// Go programs write what is not set as empty.
#[test]
fn what_a_network_leaves_empty_the_hosts_file_fills() {
    let host = json!({
        "mtu": 1400, "spoofchk": "off", "trust": "on", "link_state": "enable", "logLevel": "error",
    });
    let empty = json!({"mtu": 0, "spoofchk": "", "trust": "", "link_state": "", "logLevel": ""});
    let nulls = json!({"mtu": null, "spoofchk": null, "logLevel": null});
    for network in [empty, json!({}), nulls] {
        let config = both(network.clone(), host.clone()).unwrap();
        let asked = &config.asked;
        assert_eq!(config.mtu.map(u32::from), Some(1400), "{network}");
        assert!(config.is_mtu_default, "{network}");
        assert_eq!((asked.spoofchk, asked.trust), (Some(false), Some(true)));
        assert_eq!(asked.link_state, Some(Carrier::Enable));
        let (network, host) = (network.to_string(), host.to_string());
        let host = (Path::new("/host.conf"), host.as_bytes());
        let raw = Raw::parse(network.as_bytes(), Some(host)).unwrap();
        assert_eq!(raw.log().level, Some("error"), "{network}");
    }
    let config = both(json!({"mtu": 1450, "trust": "off"}), host).unwrap();
    assert_eq!(config.mtu.map(u32::from), Some(1450));
    assert_eq!(config.asked.trust, Some(false));
    assert!(!config.is_mtu_default);
    // An empty default is none.
    let config = both(json!({}), json!({"mtu": 0, "trust": ""})).unwrap();
    assert_eq!((config.mtu, config.asked.trust), (None, None));
    // Nor is an empty text an agent, or a way to say where the frames go.
    let none = json!({"agent": "", "opi_evpn_bridge_conn": "", "trunk": ""});
    let (own, public) = ("unix:///run/a.sock", "10.0.0.1:50151");
    for (network, host, agent) in [
        (&none, &json!({"agent": own}), own),
        (
            &none,
            &json!({"opi_evpn_bridge_conn": public}),
            "http://10.0.0.1:50151",
        ),
        (&json!({"agent": own}), &none, own),
        (&none, &none, &AgentAddr::default().to_string()),
    ] {
        let mut network = network.clone();
        network["logical_bridge"] = "blue".into();
        let config = both(network, host.clone()).unwrap();
        assert_eq!(config.common.agent.addr().to_string(), agent, "{host}");
        assert!(matches!(config.attach, PortMode::Access(_)));
    }
}

#[test]
fn the_runtimes_mac_and_device_win() {
    let config = read(json!({
        "logical_bridge": "blue", "mac": "02:00:00:00:00:01",
        "args": {"cni": {"mac": "02:00:00:00:00:02"}},
        "runtimeConfig": {"mac": "02:00:00:00:00:03", "deviceID": "0000:AF:06.1"},
    }))
    .unwrap();
    assert_eq!(
        config.mac,
        Some(AskedMac::Runtime("02:00:00:00:00:03".parse().unwrap()))
    );
    assert_eq!(config.device.as_str(), "0000:af:06.1");
    let config = read(json!({
        "logical_bridge": "blue", "mac": "02:00:00:00:00:01",
        "args": {"cni": {"mac": "02:00:00:00:00:02"}},
    }))
    .unwrap();
    assert_eq!(
        config.mac,
        Some(AskedMac::Network("02:00:00:00:00:02".parse().unwrap()))
    );
}

#[test]
fn a_wrong_device_is_told_by_the_key_that_it_stands_under() {
    for (config, key) in [
        (
            json!({"runtimeConfig": {"deviceID": "vf0"}}),
            "runtimeConfig.deviceID",
        ),
        (json!({"deviceID": "vf0"}), "deviceID"),
    ] {
        let told = read(config).unwrap_err();
        assert!(
            matches!(&told, ConfigError::Invalid { key: told, .. } if told == key),
            "{told}"
        );
    }
}

/// A network may name a host-wide file, as the public plugin has it; but only where those are, and
/// not one that undoes what the host has set for all.
#[test]
fn a_file_that_a_network_names_counts_where_host_wide_files_are() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("evpn-gw.conf");
    let other = dir.path().join("other.conf");
    let files = [dir.path().join("none/x.conf"), first.clone()];
    fs::write(&first, r#"{"agent": "unix:///pinned"}"#).unwrap();
    let text = r#"{"agent": "unix:///elsewhere", "logical_bridge": "blue"}"#;
    fs::write(&other, text).unwrap();
    let read = |named: &Path| {
        let net = json!({"cniVersion": "1.1.0", "name": "n", "configuration_path": named});
        Raw::read(net.to_string().as_bytes(), &files)
    };
    let raw = read(&other).unwrap();
    assert!(matches!(raw.attach().unwrap(), PortMode::Access(_)));
    let agent = raw.common().unwrap().agent;
    assert_eq!(agent.addr().to_string(), "unix:///pinned");
    // The file itself and its folder are the same.
    for named in [first.as_path(), dir.path()] {
        assert!(
            read(named).unwrap().attach().is_err(),
            "{}",
            named.display()
        );
    }
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("x.conf");
    fs::write(&outside, text).unwrap();
    let below = dir.path().join("deeper/other.conf");
    fs::create_dir(dir.path().join("deeper")).unwrap();
    fs::write(&below, text).unwrap();
    let around = dir.path().join("deeper/../other.conf");
    for named in [
        outside.as_path(),
        &below,
        &around,
        Path::new("../x"),
        Path::new("x"),
    ] {
        let raw = read(named).unwrap();
        assert!(
            raw.attach().is_err(),
            "{}: it opens nothing",
            named.display()
        );
        let [remark] = raw.remarks() else {
            panic!("{:?}", raw.remarks());
        };
        assert!(remark.contains(&named.display().to_string()), "{remark}");
    }
    // One that is not there is absent, as the first is.
    let raw = read(&dir.path().join("gone.conf")).unwrap();
    assert!(raw.attach().is_err());
    assert_eq!(raw.remarks(), <[String; 0]>::default());
    fs::write(&other, "{").unwrap();
    assert!(matches!(read(&other), Err(ConfigError::HostFile { .. })));
}

#[test]
fn an_error_names_its_key() {
    for (config, key) in [
        (
            json!({"logical_bridge": "blue", "deviceID": "eth0"}),
            "deviceID",
        ),
        (json!({"logical_bridge": "blue", "mtu": 67}), "mtu"),
        (json!({"logical_bridge": "blue", "mtu": "big"}), "mtu"),
        (
            json!({"logical_bridge": "blue", "mac": "ff:ff:ff:ff:ff:ff"}),
            "mac",
        ),
        // Neither would an address come of it, nor would it end.
        (
            json!({"logical_bridge": "blue", "ipam": {"type": "xpu-cni"}}),
            "ipam.type",
        ),
        (
            json!({"logical_bridge": "blue", "ipam": {"type": "evpn-gw"}}),
            "ipam.type",
        ),
        // A runtime couldn't read the result, and would take the pod for failed.
        (
            json!({"logical_bridge": "blue", "dns": {"nameservers": "10.0.0.53"}}),
            "dns",
        ),
        (json!({"logical_bridge": "vrfs/blue"}), "logical_bridge"),
        (json!({"logical_bridges": "blue"}), "logical_bridges"),
        (json!({"trunk": "some"}), "trunk"),
        (
            json!({"logical_bridge": "blue", "agent": "ftp://x"}),
            "agent",
        ),
        (
            json!({"logical_bridge": "blue", "agent": "ftp://x:1"}),
            "agent",
        ),
        (
            json!({"logical_bridge": "blue", "ipam": {"type": "../sh"}}),
            "ipam.type",
        ),
        (
            json!({"logical_bridge": "blue", "ipam": {"subnet": "10.0.0.0/8"}}),
            "ipam.type",
        ),
    ] {
        let told = read(config.clone()).unwrap_err();
        assert!(
            matches!(&told, ConfigError::Invalid { key: named, .. } if named == key),
            "{config}: {told}"
        );
    }
}

#[test]
fn what_multus_sends_is_accepted() {
    let config = read(json!({
        "args": {"cni": {"note": 1}}, "capabilities": {"mac": true}, "pciBusID": "0000:af:06.0",
        "logical_bridge": "blue", "ipam": {}, "dns": {},
        "runtimeConfig": {"CNIDeviceInfoFile": "/var/run/x", "ips": []},
    }))
    .unwrap();
    assert_eq!(config.common.ipam, None);
    assert_eq!(config.common.agent, Peer::default());
    let with_ipam = json!({
        "logical_bridge": "blue", "ipam": {"type": "static"},
        "runtimeConfig": {"ips": ["10.1.2.3/24"]},
    });
    assert_eq!(
        read(with_ipam).unwrap().common.ipam.as_deref(),
        Some("static")
    );
}

#[test]
fn the_hosts_file_fills_gaps_and_pins_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("host.conf");
    fs::write(
        &file,
        r#"{"agent": "unix:///run/a.sock", "logical_bridge": "blue"}"#,
    )
    .unwrap();
    let none = dir.path().join("none.conf");
    let net = |agent: &str| {
        let config = json!({"name": "red", "deviceID": "0000:af:06.0", "agent": agent});
        let raw = Raw::read(config.to_string().as_bytes(), &[none.clone(), file.clone()]).unwrap();
        raw.add(raw.common()?, Version::LATEST)
    };
    assert_eq!(
        net("unix:///run/a.sock").unwrap().attach,
        PortMode::Access(blue())
    );
    assert!(
        matches!(net("unix:///run/b.sock"), Err(ConfigError::Invalid { key, .. }) if key == "agent")
    );
    fs::write(&file, "{").unwrap();
    assert!(matches!(
        Raw::read(b"{}", &[file]),
        Err(ConfigError::HostFile { .. })
    ));
}

/// Every bridge is opened by the network that wants them, and by no file that others forgot.
#[test]
fn a_trunk_of_the_host_wide_file_is_not_used_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("host.conf");
    let read = |host: Value| {
        fs::write(&file, host.to_string()).unwrap();
        Raw::read(br#"{"name": "red"}"#, std::slice::from_ref(&file)).unwrap()
    };
    let raw = read(json!({"trunk": "all"}));
    assert!(raw.attach().is_err());
    let told = raw.remarks().join(" ");
    assert!(
        told.starts_with("`trunk`: \"all\" of the host-wide"),
        "{told}"
    );
    assert_eq!(read(json!({"trunk": null})).remarks().len(), 0);
}

#[test]
fn a_log_file_that_a_network_names_is_not_written_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("host.conf");
    let read = |host: Value, log_file: Value| {
        fs::write(&file, host.to_string()).unwrap();
        let network = json!({"name": "red", "logFile": log_file}).to_string();
        let raw = Raw::read(network.as_bytes(), std::slice::from_ref(&file)).unwrap();
        let used = raw.log().file.map(str::to_owned);
        (used, raw.remarks().join(" "))
    };
    let host = || json!({"logFile": "/var/log/host"});
    let host_file = || Some("/var/log/host".to_owned());
    let (used, remark) = read(json!({}), json!("/etc/shadow"));
    assert_eq!(used, None);
    let told = remark.starts_with("`logFile`: /etc/shadow is not written");
    assert!(told, "{remark}");
    let (used, remark) = read(host(), json!("/etc/shadow"));
    assert_eq!((used, remark.is_empty()), (host_file(), false));
    for nothing_else in [json!("/var/log/host"), json!(""), json!(null), json!(7)] {
        let (used, remark) = read(host(), nothing_else);
        assert_eq!((used, remark.as_str()), (host_file(), ""));
    }
}

/// A network and the host-wide file, read together.
pub(super) fn both(network: Value, host: Value) -> Result<AddConfig, ConfigError> {
    let (mut network, host) = (network, host.to_string());
    for (key, value) in [("name", "red"), ("deviceID", "0000:af:06.0")] {
        network[key] = value.into();
    }
    if network["logical_bridge"].is_null() {
        network["trunk"] = "all".into();
    }
    let host = (Path::new("/host.conf"), host.as_bytes());
    let raw = Raw::parse(network.to_string().as_bytes(), Some(host))?;
    raw.add(raw.common()?, Version::LATEST)
}

proptest! {
    #[test]
    fn no_input_panics(stdin in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Raw::read(&stdin, &[]);
    }

    #[test]
    fn no_value_panics(key in "(deviceID|agent|mac|mtu|logical_bridge|logical_bridges|trunk|ipam|runtimeConfig|args|prevResult)",
                       value in "[ -~]{0,30}") {
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        let _ = read(json!({ key: value }));
    }
}
