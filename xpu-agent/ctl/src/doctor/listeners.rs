//! The agent's TCP listeners: whether the machine has the addresses that its configuration names.
//! The agent listens on one that is not there, too, since it may come; until then nobody reaches
//! it there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Finding;
use super::agent_config::{AgentConfig, Settings};

const WHAT: &str = "listeners";

/// Judges the addresses of `api.tcp` and `http.listen` by those of the machine; none: they can't be
/// seen.
pub fn findings(config: &AgentConfig, addresses: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let AgentConfig::Known {
        file: Some(file),
        settings,
    } = config
    else {
        return Vec::new();
    };
    if addresses.is_empty() {
        return Vec::new();
    }
    let file = file.display();
    let absent = named(settings)
        .into_iter()
        .filter(|(_, address)| is_absent(address.ip(), addresses));
    absent
        .map(|(key, address)| {
            let ip = address.ip();
            Finding::wrong(
                WHAT,
                format!(
                    "{key} of {file} is {address}, and no interface has {ip}: nobody reaches the \
                     agent there"
                ),
                format!(
                    "give it to an interface: ip address add {ip}/LENGTH dev DEVICE\n\
                     or set {key} to an address of this machine, then: systemctl restart xpu-agent"
                ),
            )
        })
        .collect()
}

/// The listeners by their keys. What is no address the agent says itself.
fn named(settings: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let keys = [
        ("api.tcp", &settings.api.tcp),
        ("http.listen", &settings.http.listen),
    ];
    let address = |(key, text): (_, &String)| Some((key, text.parse().ok()?));
    keys.into_iter().filter_map(address).collect()
}

/// Whether an address has to be on an interface, and is on none. All of 127.0.0.0/8 is the
/// machine's own where one of it is.
fn is_absent(ip: IpAddr, addresses: &BTreeSet<IpAddr>) -> bool {
    let ip = ip.to_canonical();
    let is_loopback = ip.is_ipv4() && ip.is_loopback();
    !ip.is_unspecified() && !is_loopback && !addresses.contains(&ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{address, configured, troubles};

    fn judged(tcp: &str, listen: &str) -> String {
        let text = format!("[api]\ntcp = {tcp:?}\n[http]\nlisten = {listen:?}\n");
        let addresses = ["127.0.0.1", "10.0.0.5", "::1", "fd00::5"].map(address);
        troubles(&findings(&configured(&text), &addresses.into()))
    }

    #[test]
    fn a_listener_on_an_address_that_is_on_no_interface_is_named() {
        for here in [
            "127.0.0.1:50151",
            "127.0.0.9:50151",
            "10.0.0.5:50151",
            "0.0.0.0:50151",
            "[::]:50151",
            "[::1]:50151",
            "[fd00::5]:50151",
            "[::ffff:10.0.0.5]:50151",
            "",
            "no address",
        ] {
            assert_eq!(judged(here, here), "", "{here}");
        }
        for (elsewhere, ip) in [
            ("10.0.0.9:50151", "10.0.0.9"),
            ("[fd00::9]:50151", "fd00::9"),
        ] {
            let of_api = judged(elsewhere, "127.0.0.1:8082");
            for part in [
                "api.tcp of ",
                &format!("is {elsewhere}, and no interface has {ip}"),
                &format!("ip address add {ip}/"),
                "or set api.tcp to an address of this machine",
            ] {
                assert!(of_api.contains(part), "{of_api} lacks {part}");
            }
            let of_http = judged("", elsewhere);
            assert!(of_http.contains("http.listen of "), "{of_http}");
            assert!(!of_http.contains("api.tcp"), "{of_http}");
            let both = judged(elsewhere, elsewhere);
            for key in ["api.tcp of ", "http.listen of "] {
                assert!(both.contains(key), "{both} lacks {key}");
            }
        }
    }

    #[test]
    fn what_can_not_be_seen_is_not_judged() {
        let config = configured("[api]\ntcp = \"10.0.0.9:50151\"\n");
        assert_eq!(findings(&config, &BTreeSet::new()), []);
        let defaults = AgentConfig::Known {
            file: None,
            settings: Settings::default(),
        };
        assert_eq!(findings(&defaults, &[address("10.0.0.5")].into()), []);
    }
}
