//! What the tenants' networks look like from outside: to `ip`, `bridge` and FRR, and as the specs
//! say that they must.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use xpu_tests::guest::topology::Topology;

use super::NETDEVS;
use crate::{
    calls::{BRIDGE_PORT, LOGICAL_BRIDGE, SVI, VRF},
    reference::Reference,
};

/// Where the agent's sentinels begin: mappings that keep a VXLAN device known to zebra, of VNIs
/// that nobody is admitted to. No VNI of the test is as high.
const SENTINELS: u64 = (1 << 24) - (1 << 14);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// VRF devices, with their addresses.
    vrfs: BTreeMap<String, BTreeSet<String>>,
    svis: BTreeMap<String, Svi>,
    /// The netdevs in the tenants' bridge with their VLANs, and the bridge's own.
    ports: BTreeMap<String, BTreeMap<u64, Tag>>,
    /// VLAN to VNI, where the port has the VLAN and the device admits the VNI.
    l2_vnis: BTreeMap<u64, u64>,
    /// The VRF of each L3VNI, by the VLAN device that leads there.
    l3_vnis: BTreeMap<u64, String>,
    /// What zebra has: the VRF that an L3VNI, or the SVI of an L2VNI, is in.
    zebra: BTreeMap<u64, (Layer, String)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Svi {
    vrf: String,
    mac: String,
    addresses: BTreeSet<String>,
}

/// How frames of a VLAN go through a port.
#[derive(Debug, PartialEq, Eq)]
enum Tag {
    Tagged,
    Untagged,
    /// The bridge's own, for the SVI.
    Own,
}

#[derive(Debug, PartialEq, Eq)]
enum Layer {
    L2,
    L3,
}

impl Sight {
    /// What is there.
    pub fn of_machine(topology: &Topology) -> Result<Self> {
        let xpu = &topology.xpu;
        let mut sight = Self::default();
        let links = xpu.json("ip -j -d addr show")?;
        let vlans = by_device(&xpu.json("bridge -j vlan show")?, "vlans");
        let tunnels = by_device(&xpu.json("bridge -j vlan tunnelshow")?, "tunnels");
        let admitted = by_device(&xpu.json("bridge -j vni show")?, "vnis");
        let masters: BTreeMap<&str, &str> = items(&links)
            .filter_map(|link| Some((link["ifname"].as_str()?, link["master"].as_str()?)))
            .collect();
        for link in items(&links) {
            let name = link["ifname"].as_str().context("a link without a name")?;
            let master = masters.get(name).copied().unwrap_or_default();
            if link["linkinfo"]["info_kind"] == "vrf" {
                // The kernel gives it one by itself.
                let addresses = addresses(link).filter(|it| !it.starts_with("fe80:"));
                sight.vrfs.insert(name.to_owned(), addresses.collect());
            } else if name.starts_with("svi-") {
                let svi = Svi {
                    vrf: master.to_owned(),
                    mac: link["address"].as_str().unwrap_or_default().to_owned(),
                    addresses: addresses(link).collect(),
                };
                sight.svis.insert(name.to_owned(), svi);
            } else if name == "br-tenant" || master == "br-tenant" && name != "vxlan" {
                let entries = vlans.get(name).into_iter().flatten();
                let tags = entries.filter_map(|it| Some((it["vlan"].as_u64()?, tag(name, it))));
                sight.ports.insert(name.to_owned(), tags.collect());
            }
        }
        for (device, vlan, vni) in mappings(&tunnels) {
            let has = |list: Option<&Vec<Value>>, from: &str, to: &str, number: u64| {
                list.into_iter().flatten().any(|it| {
                    let first = it[from].as_u64().unwrap_or_default();
                    (first..=it[to].as_u64().unwrap_or(first)).contains(&number)
                })
            };
            if !has(vlans.get(device), "vlan", "vlanEnd", vlan)
                || !has(admitted.get(device), "vni", "vniEnd", vni)
            {
                continue;
            }
            if device == "vxlan" {
                sight.l2_vnis.insert(vlan, vni);
            } else {
                let vrf = masters.get(format!("l3-{vlan}").as_str());
                let vrf = vrf.copied().unwrap_or_default().to_owned();
                sight.l3_vnis.insert(vni, vrf);
            }
        }
        let zebra = topology.xpu_frr().json("show evpn vni json")?;
        for entry in zebra.as_object().into_iter().flatten().map(|(_, it)| it) {
            let vni = entry["vni"].as_u64().context("a VNI without a number")?;
            let layer = match entry["type"].as_str() {
                Some("L3") => Layer::L3,
                _ => Layer::L2,
            };
            let vrf = entry["tenantVrf"].as_str().unwrap_or_default().to_owned();
            sight.zebra.insert(vni, (layer, vrf));
        }
        sight.zebra.retain(|vni, _| *vni < SENTINELS);
        Ok(sight)
    }

    /// What must be there.
    pub fn of_specs(specs: &Reference) -> Self {
        let mut sight = Self::default();
        let bridges: BTreeMap<&str, &Value> = specs.of(LOGICAL_BRIDGE).collect();
        let vlan = |name: &Value| bridges[id(name)]["vlanId"].as_u64().unwrap_or_default();
        let mut own = BTreeMap::new();
        let mut vrf_of_bridge = BTreeMap::new();
        for (name, spec) in specs.of(VRF) {
            let loopback = BTreeSet::from([prefix(&spec["loopbackIpPrefix"])]);
            sight.vrfs.insert(name.to_owned(), loopback);
            if let Some(vni) = spec["vni"].as_u64() {
                sight.l3_vnis.insert(vni, name.to_owned());
                sight.zebra.insert(vni, (Layer::L3, name.to_owned()));
            }
        }
        for (_, spec) in specs.of(SVI) {
            let vlan = vlan(&spec["logicalBridge"]);
            let vrf = id(&spec["vrf"]).to_owned();
            let gateways = items(&spec["gwIpPrefix"]).map(prefix);
            let svi = Svi {
                vrf: vrf.clone(),
                mac: mac(&spec["macAddress"]),
                addresses: gateways.chain(["fe80::1/64".to_owned()]).collect(),
            };
            sight.svis.insert(format!("svi-{vlan}"), svi);
            vrf_of_bridge.insert(id(&spec["logicalBridge"]), vrf);
            own.insert(vlan, Tag::Own);
        }
        for (name, spec) in specs.of(BRIDGE_PORT) {
            let named: Vec<u64> = items(&spec["logicalBridges"]).map(vlan).collect();
            let tags: BTreeMap<u64, Tag> = if spec["ptype"] == "BRIDGE_PORT_TYPE_ACCESS" {
                named
                    .into_iter()
                    .map(|vlan| (vlan, Tag::Untagged))
                    .collect()
            } else if named.is_empty() {
                let all = bridges.values().filter_map(|it| it["vlanId"].as_u64());
                all.map(|vlan| (vlan, Tag::Tagged)).collect()
            } else {
                named.into_iter().map(|vlan| (vlan, Tag::Tagged)).collect()
            };
            let netdev = NETDEVS
                .iter()
                .find(|it| it.mac() == mac(&spec["macAddress"]));
            let netdev = netdev.map_or_else(|| format!("none for {name}"), |it| it.name());
            sight.ports.insert(netdev, tags);
        }
        for (name, spec) in &bridges {
            let Some(vni) = spec["vni"].as_u64() else {
                continue;
            };
            sight.l2_vnis.insert(vlan(&Value::from(*name)), vni);
            let vrf = vrf_of_bridge.get(name).cloned();
            let vrf = vrf.unwrap_or_else(|| "default".to_owned());
            sight.zebra.insert(vni, (Layer::L2, vrf));
        }
        sight.ports.insert("br-tenant".to_owned(), own);
        sight
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A list that `bridge` prints, as the lists of its devices.
fn by_device(printed: &Value, list: &str) -> BTreeMap<String, Vec<Value>> {
    let mut devices = BTreeMap::<String, Vec<Value>>::new();
    for entry in items(printed) {
        let name = entry["ifname"].as_str().unwrap_or_default();
        let of = devices.entry(name.to_owned()).or_default();
        of.extend(items(&entry[list]).cloned());
    }
    devices
}

/// Every VLAN that is mapped to a VNI, with the device; without the sentinels.
fn mappings(tunnels: &BTreeMap<String, Vec<Value>>) -> Vec<(&str, u64, u64)> {
    let mut all = Vec::new();
    for (device, entry) in tunnels
        .iter()
        .flat_map(|(it, list)| list.iter().map(move |e| (it, e)))
    {
        let first = entry["vlan"].as_u64().unwrap_or_default();
        let last = entry["vlanEnd"].as_u64().unwrap_or(first);
        let vni = entry["tunid"].as_u64().unwrap_or_default();
        all.extend((first..=last).map(|vlan| (device.as_str(), vlan, vni + vlan - first)));
    }
    all.retain(|(_, _, vni)| *vni < SENTINELS);
    all
}

fn tag(device: &str, entry: &Value) -> Tag {
    let has = |flag: &str| items(&entry["flags"]).any(|it| it == flag);
    if device == "br-tenant" {
        Tag::Own
    } else if has("PVID") && has("Egress Untagged") {
        Tag::Untagged
    } else {
        Tag::Tagged
    }
}

fn addresses(link: &Value) -> impl Iterator<Item = String> {
    items(&link["addr_info"]).map(|it| {
        let local = it["local"].as_str().unwrap_or_default();
        format!("{local}/{}", it["prefixlen"])
    })
}

/// The id of a name or reference.
fn id(name: &Value) -> &str {
    let name = name.as_str().unwrap_or_default();
    name.rsplit('/').next().unwrap_or_default()
}

fn bytes(value: &Value) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = value.as_str().unwrap_or_default();
    BASE64_STANDARD.decode(text).unwrap_or_default()
}

fn mac(value: &Value) -> String {
    let bytes = bytes(value);
    let parts: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// An `IPPrefix` as `ip` prints it.
fn prefix(value: &Value) -> String {
    let address = &value["addr"];
    let v4 = address["v4Addr"]
        .as_u64()
        .and_then(|it| u32::try_from(it).ok());
    let v6 = || <[u8; 16]>::try_from(bytes(&address["v6Addr"])).unwrap_or_default();
    let text = match v4 {
        Some(v4) => std::net::Ipv4Addr::from_bits(v4).to_string(),
        None => std::net::Ipv6Addr::from(v6()).to_string(),
    };
    format!("{text}/{}", value["len"])
}
