//! Rules of the keys that say who makes the ports, one test each.

use serde_json::{Value, json};

use super::*;
use crate::config::{
    AddConfig,
    tests::{both, read},
};

#[test]
fn the_public_plugins_connection_is_read() {
    let config =
        read(json!({"type": "evpn-gw", "opi_evpn_bridge_conn": "10.0.0.1:50151"})).unwrap();
    let addr = "http://10.0.0.1:50151".parse().unwrap();
    assert_eq!(config.common.agent.addr(), &addr);
}

/// As the host's own key does.
#[test]
fn the_public_plugins_host_file_pins_the_agent() {
    let host = br#"{"opi_evpn_bridge_conn": "10.0.0.1:50151"}"#;
    let agent = |mut net: Value| {
        net["name"] = "red".into();
        let net = net.to_string();
        let raw = Raw::parse(net.as_bytes(), Some((Path::new("/x"), host))).unwrap();
        let common = raw.common();
        common.map(|common| common.agent.addr().to_string())
    };
    for same in [
        json!({}),
        json!({"opi_evpn_bridge_conn": "10.0.0.1:50151"}),
        json!({"agent": "http://10.0.0.1:50151"}),
    ] {
        assert_eq!(agent(same).unwrap(), "http://10.0.0.1:50151");
    }
    for (key, other) in [
        ("opi_evpn_bridge_conn", "10.0.0.2:50151"),
        ("agent", "unix:///run/mine.sock"),
        ("agent", "https://10.0.0.1:50151"),
    ] {
        let told = agent(json!({ key: other })).unwrap_err();
        assert!(
            matches!(&told, ConfigError::Invalid { key: told, .. } if told == key),
            "{told}"
        );
        assert_eq!(crate::error::Error::from(told).code(), 7);
    }
}

#[test]
fn certificates_go_with_https_and_only_there() {
    let files = |folder: &str| json!({"ca": format!("{folder}/ca.pem"), "cert": format!("{folder}/c.pem"), "key": format!("{folder}/k.pem")});
    let (ours, other) = (files(CERTIFICATES), files("/root"));
    let https = json!({"agent": "https://10.0.0.1:50151"});
    let with = |config: &Value, tls: &Value| {
        let mut config = config.clone();
        config["tls"] = tls.clone();
        config
    };
    let key = |told: Result<AddConfig, ConfigError>| match told {
        Err(ConfigError::Invalid { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    let none = json!({});
    for (network, host) in [
        (with(&https, &ours), none.clone()),
        (https.clone(), with(&none, &other)),
        (none.clone(), with(&https, &other)),
        (with(&https, &other), with(&https, &other)),
    ] {
        let config = both(network, host).unwrap();
        assert!(config.common.agent.tls().is_some());
    }
    // The host's files serve who needs them, and are in nobody's way.
    let config = both(json!({"agent": "unix:///run/a.sock"}), with(&none, &other)).unwrap();
    assert_eq!(config.common.agent.tls(), None);

    for (network, host, named) in [
        (https.clone(), none.clone(), "tls"),
        (with(&none, &ours), none.clone(), "tls"),
        (
            with(&json!({"agent": "http://10.0.0.1:1"}), &ours),
            none.clone(),
            "tls",
        ),
        (with(&https, &other), none.clone(), "tls.ca"),
        (
            with(&https, &files(&format!("{CERTIFICATES}/../../../root"))),
            none.clone(),
            "tls.ca",
        ),
        (
            with(&https, &files(&format!("{CERTIFICATES}/sub"))),
            none.clone(),
            "tls.ca",
        ),
        (with(&https, &ours), with(&none, &other), "tls"),
        (
            with(&https, &json!({"ca": "/a", "cert": "/b"})),
            none.clone(),
            "tls",
        ),
        (
            with(
                &https,
                &json!({"ca": "/a", "cert": "/b", "key": "/c", "cn": ""}),
            ),
            none.clone(),
            "tls",
        ),
    ] {
        let text = format!("{network} {host}");
        assert_eq!(key(both(network, host)), named, "{text}");
    }
}
