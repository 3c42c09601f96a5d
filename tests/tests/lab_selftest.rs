//! Proves that the lab is what the other tests take it for. Runs inside its machine.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::addresses::{
    BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, H_BLUE, H_EXT, H_GREEN, H_SILENT, LEAF2_UPLINK,
    SPINE_TO_LEAF2,
};
use xpu_tests::guest::capture::Capture;
use xpu_tests::guest::netns::Netns;
use xpu_tests::guest::ping;
use xpu_tests::guest::pod::Pod;
use xpu_tests::guest::topology::Topology;
use xpu_tests::guest::vf::Vf;
use xpu_tests::guest::wait::wait_until;

const FRAME_LIMIT: Duration = Duration::from_secs(10);
const BGP_LIMIT: Duration = Duration::from_secs(60);

/// Gives a pod a VF, as `net1` with an address.
fn attach(vf: &Vf, pod: &Pod, address: &str) -> Result<()> {
    Netns::initial().run(&format!(
        "ip link set {} netns {} name net1",
        vf.name,
        pod.name()
    ))?;
    pod.ip_batch(&format!("link set net1 up\naddr add {address} dev net1\n"))
}

#[test]
fn every_vf_is_home_with_its_own_mac() -> Result<()> {
    let lab = Topology::clean()?;
    let links = lab.host.json("ip -j link show")?;
    for vf in lab.vfs()? {
        let link = links
            .as_array()
            .into_iter()
            .flatten()
            .find(|link| link["ifname"] == *vf.name);
        ensure!(
            link.is_some_and(|link| link["address"] == *vf.mac),
            "{vf:?} is {link:?}"
        );
        let driver = std::fs::read_link(format!("/sys/bus/pci/devices/{}/driver", vf.pci))?;
        ensure!(driver.ends_with("igbvf"), "{vf:?} is driven by {driver:?}");
    }
    Ok(())
}

#[test]
fn access_and_tagged_frames_pass_from_vf_to_representor_and_back() -> Result<()> {
    let lab = Topology::clean()?;
    for vf in lab.vfs()?.into_iter().filter(|vf| vf.number == 0) {
        let pod = Pod::create("wire")?;
        attach(&vf, &pod, "192.0.2.1/24")?;
        pod.add_tagged("net1", 30, "198.51.100.1/24")?;
        let representor = &vf.representor;
        lab.xpu.ip_batch(&format!(
            "link set {representor} up\n\
             addr add 192.0.2.2/24 dev {representor}\n\
             link add link {representor} name tagged type vlan id 30\n\
             link set tagged up\n\
             addr add 198.51.100.2/24 dev tagged\n"
        ))?;
        let mut capture = Capture::start(&lab.xpu, representor, "icmp or vlan")?;
        ping::reaches(&pod, "192.0.2.2")?;
        capture.expect(&[&vf.mac, "192.0.2.1 > 192.0.2.2"], FRAME_LIMIT)?;
        ping::reaches(&pod, "198.51.100.2")?;
        capture.expect(&["vlan 30", "198.51.100.1 > 198.51.100.2"], FRAME_LIMIT)?;
        lab.xpu
            .ip_batch(&format!("link del tagged\naddr flush dev {representor}\n"))?;
    }
    Ok(())
}

#[test]
fn a_vf_comes_home_from_a_pod_that_is_gone() -> Result<()> {
    let lab = Topology::clean()?;
    let vf = lab.vfs()?.remove(0);
    let pod = Pod::create("short")?;
    attach(&vf, &pod, "192.0.2.1/24")?;
    drop(pod);
    drop(lab);
    let lab = Topology::clean()?;
    let link = lab.host.json(&format!("ip -j addr show {}", vf.name))?;
    ensure!(link[0]["address"] == *vf.mac, "{link}");
    ensure!(
        link[0]["addr_info"].as_array().is_some_and(Vec::is_empty),
        "{link}"
    );
    Ok(())
}

#[test]
fn spine_and_leaf2_exchange_routes() -> Result<()> {
    let lab = Topology::clean()?;
    lab.spine_frr().evpn_session_up(LEAF2_UPLINK)?;
    lab.leaf2_frr().evpn_session_up(SPINE_TO_LEAF2)?;
    let prefixes = lab.spine_frr().evpn_routes(5)?;
    ensure!(
        prefixes.iter().any(|route| route.contains("172.16.9.0")),
        "{prefixes:?}"
    );
    ensure!(
        prefixes.iter().any(|route| route.contains("fd00:9::")),
        "{prefixes:?}"
    );
    let multicast = lab.spine_frr().evpn_routes(3)?;
    ensure!(!multicast.is_empty(), "leaf2 announces no type-3 route");
    Ok(())
}

#[test]
fn hosts_behind_leaf2_reach_their_gateways_and_each_other() -> Result<()> {
    let _lab = Topology::clean()?;
    let (blue, ext) = (Netns::named(H_BLUE.name), Netns::named(H_EXT.name));
    for gateway in [BLUE_GATEWAY_V4, BLUE_GATEWAY_V6] {
        ping::reaches(&blue, gateway)?;
    }
    ping::reaches(&blue, H_EXT.v4)?;
    ping::reaches(&ext, H_BLUE.v6.context("h-blue has no IPv6 address")?)
}

/// The foreign side against a leaf that is not ours either: what fails here is the lab's fault.
#[test]
fn a_leaf_made_by_hand_reaches_every_foreign_host() -> Result<()> {
    let lab = Topology::clean()?;
    lab.xpu
        .sysctl("net.ipv4.conf.all.arp_accept=1 net.ipv4.conf.default.arp_accept=1")?;
    lab.xpu.ip_batch(include_str!("../topology/hand.ip"))?;
    lab.xpu
        .bridge_batch(include_str!("../topology/hand.bridge"))?;
    lab.xpu_frr().load(include_str!("../topology/hand.conf"))?;
    let vf = lab.vfs()?.remove(0);
    let pod = Pod::create("hand")?;
    attach(&vf, &pod, "10.100.0.11/24")?;
    pod.ip_batch("addr add fd00:100::11/64 dev net1 nodad\nroute add default via 10.100.0.1\n")?;
    pod.run("ip -6 route add default via fd00:100::1")?;
    wait_until("both leaves know each other's routes", BGP_LIMIT, || {
        ensure!(
            lab.leaf2_frr().evpn_knows("10.255.0.1")?,
            "leaf2 has no route of the xPU"
        );
        ensure!(
            lab.xpu_frr().evpn_knows("10.255.0.2")?,
            "the xPU has no route of leaf2"
        );
        lab.xpu
            .run("ip route get vrf vrf-hand 172.16.9.22")
            .map(drop)
    })?;
    for host in [H_BLUE, H_SILENT, H_EXT] {
        wait_until("the first packet passes", BGP_LIMIT, || {
            ping::reaches(&pod, host.v4)
        })?;
        if let Some(v6) = host.v6 {
            ping::reaches(&pod, v6)?;
        }
    }
    let mac_routes = lab.leaf2_frr().evpn_routes(2)?;
    ensure!(
        mac_routes.iter().any(|route| route.contains(&vf.mac)),
        "{mac_routes:#?}"
    );
    ping::never_reaches(&pod, H_GREEN.v4)
}

#[test]
fn a_reset_leaves_nothing_on_the_xpu() -> Result<()> {
    let lab = Topology::clean()?;
    lab.xpu.ip_batch(
        "link add br-left type bridge\n\
         link add vrf-left type vrf table 77\n\
         link set rep0 master br-left\n\
         link add link br-left name left.10 type vlan id 10\n",
    )?;
    lab.xpu_frr()
        .configure(&["router bgp 65001", "bgp router-id 10.255.0.1"])?;
    lab.reset_xpu()?;
    let mut links = lab.xpu.links()?;
    links.sort();
    let ports = (0..8).map(|wire| format!("rep{wire}"));
    let expected: Vec<_> = ports.chain(["up0".to_owned()]).collect();
    ensure!(links == expected, "{links:?}");
    let config = lab.xpu_frr().vtysh(&["show running-config"])?;
    ensure!(!config.contains("router bgp"), "{config}");
    Ok(())
}
