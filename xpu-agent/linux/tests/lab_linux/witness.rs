//! What `ip`, `bridge` and procfs say.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Runs a command line in the thread's namespace.
pub fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command's JSON, without numbers that change by themselves.
pub fn json(line: &str) -> Value {
    let text = command(line);
    let text = if text.trim().is_empty() { "[]" } else { &text };
    let mut value = serde_json::from_str(text).unwrap();
    settle(&mut value);
    value
}

/// Takes out timers, and DAD that comes to its end.
fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("_timer") && key != "tentative");
            map.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

/// What must stay as it is, as `ip` and `bridge` tell it.
pub fn foreign() -> Vec<Value> {
    ["up0", "docker0", "red", "flannel.1"]
        .into_iter()
        .map(|device| json(&format!("ip -j -d addr show dev {device}")))
        .chain([
            json("bridge -j vlan show dev docker0"),
            json("ip -j route show table 500"),
            json("ip -j route show table 1001 proto boot"),
        ])
        .collect()
}

/// A device with its addresses.
pub fn link(device: &str) -> Value {
    json(&format!("ip -j -d addr show dev {device}"))[0].clone()
}

pub fn addr_gen_mode(device: &str) -> Value {
    json(&format!("ip -j -d link show dev {device}"))[0]["inet6_addr_gen_mode"].clone()
}

pub fn vlans(device: &str) -> Value {
    json(&format!("bridge -j vlan show dev {device}"))[0]["vlans"].clone()
}

pub fn addresses(device: &str) -> BTreeSet<String> {
    let link = link(device);
    let infos = link["addr_info"].as_array().unwrap();
    infos
        .iter()
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
        .collect()
}

pub fn texts(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

pub fn setting(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/thread-self/root/proc/sys/net/{path}"))
        .unwrap()
        .trim()
        .to_owned()
}

/// The tenant of [`World::tenant`](crate::world::World::tenant): bridges and VXLAN devices.
pub fn witness_fabric() {
    let bridge = &link("br-tenant");
    assert_eq!(bridge["ifalias"], "xpu:node");
    assert_eq!(bridge["mtu"], 1450);
    let data = &bridge["linkinfo"]["info_data"];
    assert_eq!(data["vlan_filtering"], 1);
    assert_eq!(data["vlan_default_pvid"], 0);
    assert_eq!(data["mcast_snooping"], 0);
    let vxlan = &link("vxlan");
    assert_eq!(vxlan["master"], "br-tenant");
    assert_eq!(vxlan["mtu"], 1450);
    assert_eq!(addr_gen_mode("vxlan"), "none");
    let data = &vxlan["linkinfo"]["info_data"];
    assert_eq!(data["local"], "192.0.2.1");
    assert_eq!(data["port"], 4789);
    assert_eq!(data["external"], true);
    assert_eq!(data["vnifilter"], true);
    assert_eq!(data["learning"], false);
    let flags = &json("bridge -j -d link show dev vxlan")[0];
    assert_eq!(flags["vlan_tunnel"], true);
    assert_eq!(flags["learning"], false);
    assert_eq!(flags["neigh_suppress"], true);
    let admitted = json("bridge -j vni show dev vxlan");
    assert_eq!(admitted[0]["vnis"][0]["vni"], 1010);
    let tunnels = command("bridge -compressvlans vlan tunnelshow dev vxlan");
    assert!(
        tunnels.contains("10-11") && tunnels.contains("1010-1011"),
        "{tunnels}"
    );
    assert_eq!(setting("ipv4/ip_forward"), "1");
    assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
}

/// Its VRF, gateway and L3VNI.
pub fn witness_routing() {
    let vrf = link("blue");
    assert_eq!(vrf["ifalias"], "xpu:vrfs/blue");
    assert_eq!(vrf["linkinfo"]["info_data"]["table"], 1001);
    assert_eq!(addresses("blue"), texts(&["10.255.0.1/32"]));
    let svi = link("svi-10");
    assert_eq!(svi["master"], "blue");
    assert_eq!(svi["link"], "br-tenant");
    assert_eq!(svi["address"], "02:00:5e:00:00:10");
    assert_eq!(svi["operstate"], "UP");
    assert_eq!(
        addresses("svi-10"),
        texts(&["10.0.10.1/24", "fd00:10::1/64", "fe80::1/64"])
    );
    assert_eq!(setting("ipv4/conf/svi-10/arp_accept"), "1");
    assert_eq!(setting("ipv4/conf/svi-10/rp_filter"), "0");
    assert_eq!(setting("ipv4/conf/svi-10/promote_secondaries"), "1");
    assert_eq!(setting("ipv6/conf/svi-10/accept_untracked_na"), "2");
    assert_eq!(setting("ipv6/conf/svi-10/accept_ra"), "0");
    assert_eq!(setting("ipv6/conf/l3-1/accept_ra"), "0");
    assert_eq!(setting("ipv6/conf/vxlan/disable_ipv6"), "1");
    let entries = json("bridge -j fdb show br br-tenant");
    let gateway = entries
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["mac"] == "02:00:5e:00:00:10" && entry["vlan"] == 10);
    assert_eq!(gateway.unwrap()["state"], "permanent");
    let l3 = link("l3-1");
    assert_eq!(l3["master"], "blue");
    assert_eq!(l3["link"], "br-l3");
    assert_eq!(addresses("l3-1"), BTreeSet::new());
    assert_eq!(setting("ipv6/conf/l3-1/disable_ipv6"), "0");
    for family in ["-4", "-6"] {
        let routes = json(&format!(
            "ip -j {family} route show table 1001 proto redirect"
        ));
        assert_eq!(routes[0]["type"], "unreachable", "{routes}");
        assert_eq!(routes[0]["metric"], 4_278_198_272_u32);
    }
}

/// Its ports.
pub fn witness_ports() {
    assert_eq!(link("port1")["master"], "br-tenant");
    assert_eq!(addr_gen_mode("port1"), "none");
    let access = vlans("port1");
    assert_eq!(
        access,
        serde_json::json!([{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}])
    );
    let trunk = vlans("port2");
    assert_eq!(trunk, serde_json::json!([{"vlan": 10}, {"vlan": 11}]));
}
