//! On one node: who reaches whom, and who never does.

use anyhow::{Result, ensure};
use serde_json::json;
use xpu_tests::guest::{
    operator::{create, xpuctl},
    ping,
};

use crate::{Attached, Lab};

const ANYCAST: &str = "02:00:5e:00:02:00";

fn two_networks() -> Result<(Lab, Attached, Attached, Attached)> {
    let lab = Lab::start()?;
    create("logical-bridge net-east --vlan 10")?;
    create("logical-bridge net-west --vlan 20")?;
    let gateways = |net: u8| [format!("10.0.{net}.1"), format!("fd00:{net}::1")];
    let pod = |name, wire, bridge, net: u8, host: u8| {
        let addresses = [
            format!("10.0.{net}.{host}/24"),
            format!("fd00:{net}::{host}/64"),
        ];
        let (addresses, gateways) = (addresses, gateways(net));
        lab.access(
            name,
            wire,
            bridge,
            &addresses.each_ref().map(String::as_str),
            &gateways.each_ref().map(String::as_str),
        )
    };
    let a = pod("a", 0, "net-east", 10, 11)?;
    let b = pod("b", 1, "net-east", 10, 12)?;
    let c = pod("c", 2, "net-west", 20, 13)?;
    Ok((lab, a, b, c))
}

/// Else the first second of what a pod sends is lost.
#[test]
fn a_port_that_is_told_to_be_up_forwards() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-east --vlan 10")?;
    for wire in 0..4 {
        let pod = lab.access(&format!("pod{wire}"), wire, "net-east", &[], &[])?;
        let device = pod.vf.representor;
        let port = lab
            .topology
            .xpu
            .json(&format!("bridge -j link show dev {device}"))?;
        ensure!(port[0]["state"] == "forwarding", "{port}");
    }
    Ok(())
}

#[test]
fn access_pods_reach_each_other_in_one_network_and_nobody_in_another() -> Result<()> {
    let (_lab, a, b, c) = two_networks()?;
    a.reaches("10.0.10.12")?;
    a.reaches("fd00:10::12")?;
    b.reaches("10.0.10.11")?;
    // In the other network there is one with an address of this one: still no frame crosses.
    c.pod.run("ip addr add 10.0.10.13/24 dev net1")?;
    c.never_reaches("10.0.10.11")?;
    a.never_reaches("10.0.10.13")?;
    a.never_reaches("10.0.20.13")?;
    a.never_reaches("fd00:20::13")
}

#[test]
fn svis_in_one_vrf_route_between_networks_and_two_vrfs_never_do() -> Result<()> {
    let (lab, a, _b, c) = two_networks()?;
    a.never_reaches("10.0.20.13")?;
    create("vrf vrf-one --loopback 10.255.1.1/32")?;
    for (svi, bridge, net) in [("svi-east", "net-east", 10), ("svi-west", "net-west", 20)] {
        create(&format!(
            "svi {svi} --vrf vrf-one --logical-bridge {bridge} --mac {ANYCAST} \
             --gateway 10.0.{net}.1/24 --gateway fd00:{net}::1/64"
        ))?;
    }
    a.reaches("10.0.10.1")?;
    a.reaches("fd00:10::1")?;
    a.reaches("10.0.20.13")?;
    a.reaches("fd00:20::13")?;
    c.reaches("10.0.10.11")?;

    // The same gateways in two Vrfs: each reaches its own, neither the other.
    xpuctl("delete svi svi-west")?;
    create("vrf vrf-two --loopback 10.255.2.1/32")?;
    create(&format!(
        "svi svi-west --vrf vrf-two --logical-bridge net-west --mac {ANYCAST} \
         --gateway 10.0.20.1/24 --gateway fd00:20::1/64"
    ))?;
    c.reaches("10.0.20.1")?;
    c.reaches("fd00:20::1")?;
    a.never_reaches("10.0.20.13")?;
    a.never_reaches("fd00:20::13")?;
    c.never_reaches("10.0.10.11")?;
    c.never_reaches("fd00:10::11")?;
    // Nor does the node's own table let them out, or in.
    lab.topology.xpu.run("ip addr add 192.0.2.1/32 dev lo")?;
    let leaked = a.never_reaches("192.0.2.1");
    lab.topology.xpu.run("ip addr del 192.0.2.1/32 dev lo")?;
    leaked
}

#[test]
fn a_trunk_carries_its_networks_tagged_and_no_third() -> Result<()> {
    let (lab, _a, _b, _c) = two_networks()?;
    create("logical-bridge net-third --vlan 30")?;
    let third = lab.access("d", 3, "net-third", &["10.0.30.14/24"], &[])?;
    let witness = lab.access("w", 5, "net-third", &["10.0.30.15/24"], &[])?;
    witness.reaches("10.0.30.14")?;
    let network = json!({ "logical_bridges": ["net-east", "net-west"] });
    let trunk = lab.attach("t", 4, network, &[], &[])?;
    trunk.pod.add_tagged("net1", 10, "10.0.10.99/24")?;
    trunk.pod.add_tagged("net1", 20, "10.0.20.99/24")?;
    trunk.pod.add_tagged("net1", 30, "10.0.30.99/24")?;
    trunk.reaches("10.0.10.11")?;
    trunk.reaches("10.0.20.13")?;
    trunk.never_reaches("10.0.30.14")?;
    third.never_reaches("10.0.30.99")?;
    let vlans = lab
        .topology
        .xpu
        .json(&format!("bridge -j vlan show dev {}", trunk.vf.representor))?;
    let ids: Vec<_> = vlans[0]["vlans"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| it["vlan"].clone())
        .collect();
    ensure!(
        ids == [json!(10), json!(20)],
        "the trunk's VLANs are {ids:?}"
    );
    Ok(())
}

#[test]
fn a_transparent_trunk_carries_networks_made_after_it() -> Result<()> {
    let (lab, _a, _b, _c) = two_networks()?;
    let trunk = lab.attach("t", 4, json!({ "trunk": "all" }), &[], &[])?;
    create("logical-bridge net-later --vlan 40")?;
    let _later = lab.access("l", 3, "net-later", &["10.0.40.14/24"], &[])?;
    trunk.pod.add_tagged("net1", 10, "10.0.10.99/24")?;
    trunk.pod.add_tagged("net1", 40, "10.0.40.99/24")?;
    trunk.reaches("10.0.10.11")?;
    trunk.reaches("10.0.40.14")?;
    ping::reaches(_later.pod.netns(), "10.0.40.99")
}
