//! `prevResult`, which is what ADD answered: the part that is about our interface.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use xpu_linux::sync::address::Route;
use xpu_model::{IfAddr, IfName, Mac};

use super::mismatch;
use crate::{
    config::ConfigError,
    error::Error,
    ipam::{RouteText, nullable},
};

/// What ADD answered of our interface, and all routes, since those name none.
#[derive(Debug, Clone, PartialEq)]
pub struct PrevResult {
    /// The interface's name.
    pub name: IfName,
    /// Its MAC, where given.
    pub mac: Option<Mac>,
    /// Its MTU, given since 1.1.0.
    pub mtu: Option<u32>,
    /// Its PCI address, given since 1.1.0.
    pub pci: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IfAddr>,
    /// Whether it is the only interface of the pod that is listed, so that the routes are its own.
    pub alone: bool,
    /// The pod's routes.
    pub routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "nullable")]
    interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "nullable")]
    ips: Vec<Ip>,
    #[serde(default, deserialize_with = "nullable")]
    routes: Vec<RouteText>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
    mac: Option<String>,
    mtu: Option<u32>,
    sandbox: Option<String>,
    #[serde(rename = "pciID")]
    pci: Option<String>,
}

#[derive(Deserialize)]
struct Ip {
    interface: Option<usize>,
    address: String,
}

impl PrevResult {
    /// Reads a configuration's `prevResult`.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing or can't be read; [`Error::Mismatch`] when it
    /// has no interface of that name.
    pub fn read(result: Option<&Value>, name: &IfName) -> Result<Self, Error> {
        let result = result.ok_or_else(|| invalid("is required for CHECK: the answer to ADD"))?;
        let Document {
            interfaces,
            ips,
            routes,
        } = Document::deserialize(result).map_err(invalid)?;
        // Without a sandbox it is one on the host, whatever its name.
        let in_pod = |interface: &&Interface| present(interface.sandbox.as_deref()).is_some();
        let ours = interfaces
            .iter()
            .rposition(|interface| interface.name == name.as_str() && in_pod(&interface));
        let alone = interfaces.iter().filter(in_pod).count() == 1;
        let Some((ours, interface)) = ours.and_then(|at| Some((at, interfaces.get(at)?))) else {
            return Err(mismatch(
                "`prevResult.interfaces`",
                format!("{name} with a sandbox"),
                list(interfaces.iter().map(|interface| &interface.name)),
            ));
        };
        let addresses = ips
            .iter()
            .filter(|ip| ip.interface == Some(ours))
            .map(|ip| ip.address.parse().map_err(invalid))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.clone(),
            mac: present(interface.mac.as_deref())
                .map(|mac| mac.parse().map_err(invalid))
                .transpose()?,
            // 0 is how Go programs write "not set".
            mtu: interface.mtu.filter(|mtu| *mtu != 0),
            pci: present(interface.pci.as_deref()).map(str::to_owned),
            addresses,
            alone,
            routes: routes.iter().map(route).collect::<Result<_, _>>()?,
        })
    }
}

fn route(raw: &RouteText) -> Result<Route, ConfigError> {
    let to = raw.dst.parse().map_err(invalid)?;
    let gateway = present(raw.gw.as_deref());
    let via = gateway.map(|text| text.parse::<IpAddr>().map_err(invalid));
    Ok(raw.route(to, via.transpose()?))
}

fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn invalid(reason: impl ToString) -> ConfigError {
    ConfigError::invalid("prevResult", reason)
}

/// What there is, for people.
pub fn list(all: impl IntoIterator<Item = impl ToString>) -> String {
    let all: Vec<_> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(result: &Value) -> Result<PrevResult, Error> {
        PrevResult::read(Some(result), &"net1".parse().unwrap())
    }

    #[test]
    fn only_what_is_about_our_interface_is_read() {
        let told = read(&json!({
            "interfaces": [
                {"name": "net1", "mac": "02:00:00:00:00:01"},
                {"name": "net1", "mac": "02:00:00:00:00:07", "sandbox": "/run/netns/a"},
                {"name": "eth0", "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"version": "4", "interface": 1, "address": "10.1.2.3/24"},
                {"interface": 2, "address": "10.9.9.9/24"},
                {"address": "10.9.9.8/24"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
            "dns": {},
        }))
        .unwrap();
        assert_eq!(told.mac, Some("02:00:00:00:00:07".parse().unwrap()));
        assert_eq!((told.mtu, &told.pci), (None, &None));
        assert_eq!(told.addresses, ["10.1.2.3/24".parse().unwrap()]);
        assert_eq!(told.routes[0].via, Some([10, 1, 2, 1].into()));
        assert!(!told.alone);
        let told = read(&json!({"interfaces": [
            {"name": "cni0"}, {"name": "net1", "sandbox": "/run/netns/a"},
        ]}));
        assert!(
            told.unwrap().alone,
            "one of the host has no route of the pod"
        );
    }

    /// As programs write a list that they never made.
    #[test]
    fn what_is_null_is_left_out() {
        let net1 = json!([{"name": "net1", "sandbox": "/a"}]);
        let with = json!({"interfaces": net1, "ips": null, "routes": null, "dns": null});
        let without = json!({ "interfaces": net1 });
        assert_eq!(read(&with).unwrap(), read(&without).unwrap());
        let told = read(&json!({"interfaces": null, "ips": null})).unwrap_err();
        assert_eq!(told.code(), 104, "{told}");
    }

    #[test]
    fn a_result_that_is_missing_or_broken_is_an_error_of_its_key() {
        let told = PrevResult::read(None, &"net1".parse().unwrap()).unwrap_err();
        let told = (told.code(), told.to_string());
        let wanted = "`prevResult`: is required for CHECK: the answer to ADD";
        assert_eq!(told, (7, wanted.to_owned()));
        let net1 = json!([{"name": "net1", "sandbox": "/a", "mac": ""}]);
        for result in [
            json!(null),
            json!("net1"),
            json!({"interfaces": {}}),
            json!({"interfaces": [{"name": "net1", "sandbox": "/a", "mac": "x"}]}),
            json!({"interfaces": net1, "ips": [{"interface": 0, "address": "10.1.2.3"}]}),
            json!({"interfaces": net1, "routes": [{"dst": "all"}]}),
        ] {
            let told = read(&result).unwrap_err();
            assert_eq!(told.code(), 7, "{result}: {told}");
            assert!(told.to_string().contains("prevResult"), "{told}");
        }
    }

    #[test]
    fn a_result_about_other_interfaces_is_a_mismatch() {
        let told = read(&json!({"interfaces": [{"name": "eth0", "sandbox": "/a"}]})).unwrap_err();
        assert_eq!(
            told.to_string(),
            "`prevResult.interfaces`: expected net1 with a sandbox, found eth0"
        );
    }
}
