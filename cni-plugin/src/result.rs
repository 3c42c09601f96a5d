//! The answer to ADD, in the shape of the version asked for (CNI specification,
//! section 5, "Success"). Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use xpu_linux::{sync::address::Route, sysfs::PciAddr};
use xpu_model::{IfName, Mac};

use crate::{ipam::Lease, version::Version};

/// The pod's interface as it came to be.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name.
    pub name: IfName,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, in bytes; a VF without a netdev has none.
    pub mtu: Option<u32>,
    /// `CNI_NETNS`.
    pub sandbox: String,
    /// The VF.
    pub pci: PciAddr,
}

/// Name servers, as a network's author gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of the servers, the first first.
    #[serde(skip_serializing_if = "Option::is_none")]
    nameservers: Option<Vec<String>>,
    /// The domain of short names.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// The domains that short names are looked up in.
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<Vec<String>>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Vec<String>>,
}

impl Dns {
    /// Whether it says anything. A list does, be it empty, as the reference plugins have it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        let Self {
            nameservers,
            domain,
            search,
            options,
        } = self;
        let lists = [nameservers, search, options];
        lists.iter().any(|list| list.is_some())
            || domain.as_ref().is_some_and(|domain| !domain.is_empty())
    }
}

/// The document for stdout. What an earlier plugin of the chain said stays, and ours
/// comes after it; of name servers the network's own count before IPAM's, and those before the
/// earlier plugin's.
#[must_use]
pub fn document(
    version: Version,
    interface: &Interface,
    lease: &Lease,
    dns: Option<&Dns>,
    prev_result: Option<&Map<String, Value>>,
) -> Value {
    let mut result = prev_result.cloned().unwrap_or_default();
    result.insert("cniVersion".to_owned(), version.as_str().into());
    let ours = result
        .get("interfaces")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    extend(
        &mut result,
        "interfaces",
        std::iter::once(interface_entry(version, interface)),
    );
    let ips = lease.ips.iter().map(|(addr, gateway)| {
        let mut entry = json!({"interface": ours, "address": addr.to_string()});
        if version < Version::V1_0_0 {
            entry["version"] = if addr.addr().is_ipv4() { "4" } else { "6" }.into();
        }
        put(
            &mut entry,
            "gateway",
            gateway.map(|gateway| gateway.to_string()),
        );
        entry
    });
    extend(&mut result, "ips", ips);
    extend(
        &mut result,
        "routes",
        lease.routes.iter().map(|route| route_entry(version, route)),
    );
    let own = dns.filter(|dns| dns.is_set()).map(|dns| json!(dns));
    let leased = || {
        let dns = lease.dns.clone();
        dns.filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty()))
    };
    if let Some(dns) = own.or_else(leased) {
        result.insert("dns".to_owned(), dns);
    } else {
        // The key was mandatory before 1.0.0 and is harmless since.
        result.entry("dns").or_insert_with(|| json!({}));
    }
    Value::Object(result)
}

fn interface_entry(version: Version, interface: &Interface) -> Value {
    let Interface {
        name,
        mac,
        mtu,
        sandbox,
        pci,
    } = interface;
    let mut entry = json!({"name": name, "mac": mac, "sandbox": sandbox});
    if version >= Version::V1_1_0 {
        put(&mut entry, "mtu", *mtu);
        entry["pciID"] = pci.as_str().into();
    }
    entry
}

fn route_entry(version: Version, route: &Route) -> Value {
    let Route {
        to,
        via,
        mtu,
        advmss,
        priority,
        table,
        scope,
    } = route;
    let mut entry = json!({"dst": to.to_string()});
    put(&mut entry, "gw", via.as_ref().map(IpAddr::to_string));
    if version >= Version::V1_1_0 {
        put(&mut entry, "mtu", *mtu);
        put(&mut entry, "advmss", *advmss);
        put(&mut entry, "priority", *priority);
        put(&mut entry, "table", *table);
        put(&mut entry, "scope", *scope);
    }
    entry
}

fn put(entry: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        entry[key] = value.into();
    }
}

/// Adds to the list under `key`; what is there and is no list gives way.
fn extend(map: &mut Map<String, Value>, key: &str, entries: impl Iterator<Item = Value>) {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return;
    }
    match map.get_mut(key) {
        Some(Value::Array(list)) => list.extend(entries),
        _ => {
            map.insert(key.to_owned(), entries.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface {
            name: "net1".parse().unwrap(),
            mac: "02:00:00:00:00:07".parse().unwrap(),
            mtu: Some(1450),
            sandbox: "/run/netns/a".to_owned(),
            pci: "0000:af:06.0".parse().unwrap(),
        }
    }

    fn lease() -> Lease {
        let route = Route {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some([10, 1, 2, 1].into()),
            priority: Some(9),
            mtu: Some(1400),
            table: None,
            scope: None,
            advmss: None,
        };
        let v4 = ("10.1.2.3/24".parse().unwrap(), Some([10, 1, 2, 1].into()));
        let v6 = ("fd00::3/64".parse().unwrap(), None);
        Lease {
            ips: vec![v4, v6],
            routes: vec![route],
            dns: None,
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            let old = json!({
                "cniVersion": version.as_str(),
                "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:07", "sandbox": "/run/netns/a"}],
                "ips": [
                    {"version": "4", "interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                    {"version": "6", "interface": 0, "address": "fd00::3/64"},
                ],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
                "dns": {},
            });
            assert_eq!(document(version, &interface(), &lease(), None, None), old);
        }
        let told = document(Version::V1_0_0, &interface(), &lease(), None, None);
        assert_eq!(
            told["ips"][0],
            json!({"interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1"})
        );
        assert_eq!(told["interfaces"][0].get("mtu"), None);
        let told = document(Version::V1_1_0, &interface(), &lease(), None, None);
        assert_eq!(told["interfaces"][0]["mtu"], 1450);
        assert_eq!(told["interfaces"][0]["pciID"], "0000:af:06.0");
        assert_eq!(
            told["routes"][0],
            json!({"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400, "priority": 9})
        );
    }

    #[test]
    fn a_chains_earlier_result_stays_and_indices_count_on() {
        let prev = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}],
            "ips": [{"interface": 0, "address": "10.9.9.9/24"}], "dns": {"nameservers": ["10.0.0.1"]}});
        let told = document(
            Version::V1_1_0,
            &interface(),
            &lease(),
            None,
            prev.as_object(),
        );
        assert_eq!(told["interfaces"].as_array().unwrap().len(), 2);
        assert_eq!(told["ips"][0], prev["ips"][0]);
        assert_eq!(told["ips"][1]["interface"], 1);
        assert_eq!(told["dns"], prev["dns"]);
    }

    #[test]
    fn name_servers_of_the_network_count_before_ipams_before_the_earlier_plugins() {
        let prev = json!({"dns": {"domain": "prev"}});
        let own: Dns = serde_json::from_value(json!({"domain": "own", "x": 1})).unwrap();
        let none = serde_json::from_value(json!({"domain": "", "search": null})).unwrap();
        let leased = Lease {
            dns: Some(json!({"domain": "leased"})),
            ..lease()
        };
        let empty = Lease {
            dns: Some(json!({})),
            ..lease()
        };
        for version in Version::ALL {
            let dns = |lease: &Lease, dns: &Dns| {
                let told = document(version, &interface(), lease, Some(dns), prev.as_object());
                told["dns"]["domain"].as_str().unwrap().to_owned()
            };
            assert_eq!(dns(&leased, &own), "own");
            assert_eq!(dns(&empty, &own), "own");
            assert_eq!(dns(&leased, &none), "leased");
            assert_eq!(dns(&empty, &none), "prev");
        }
    }

    #[test]
    fn layer_two_alone_has_no_addresses() {
        let told = document(Version::V1_1_0, &interface(), &Lease::default(), None, None);
        assert_eq!((told.get("ips"), told.get("routes")), (None, None));
    }
}
