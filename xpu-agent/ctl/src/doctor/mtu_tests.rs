use serde_json::json;

use super::*;
use crate::doctor::Level;
use crate::doctor::tests::{FakeRoot, address, configured, network, troubles};

/// A network whose tenants may send so much.
fn tenants_of(mtu: u32) -> Objects {
    network(json!({"vlanId": 1}), format!("{{\"mtu\":{mtu}}}"))
}

/// A configuration with these keys of a BGP peer.
fn with_peer(keys: &str) -> AgentConfig {
    configured(&format!("[bgp]\nasn = 65001\n[[bgp.peers]]\n{keys}\n"))
}

/// A management device of 9000 bytes with the default route, an uplink of 1500.
fn two_devices() -> FakeRoot {
    let root = FakeRoot::new();
    root.device("mgmt0", "0x1003", 9000);
    root.device("up0", "0x1003", 1500);
    root
}

/// As the kernel of [`two_devices`] would say.
fn route(to: IpAddr) -> Option<u32> {
    match to {
        IpAddr::V4(to) if to.octets()[..2] == [10, 254] => Some(1500),
        _ => Some(9000),
    }
}

#[test]
fn a_wide_device_that_leads_elsewhere_hides_no_narrow_uplink() {
    let root = two_devices();
    for (keys, way, mend) in [
        (
            "address = \"10.254.1.0\"",
            "the way to 10.254.1.0 takes no more than 1500",
            "ip route get 10.254.1.0",
        ),
        (
            "interface = \"up0\"",
            "the device up0 takes no more than 1500",
            "ip link set dev up0 mtu 9000",
        ),
    ] {
        let config = with_peer(keys);
        let judged = |mtu| {
            let objects = tenants_of(mtu);
            Ways::look(root.path(), &config, &objects, route).findings(&config, &objects)
        };
        let text = troubles(&judged(8950));
        assert!(text.contains("8950 bytes, 9000 with VXLAN"), "{text}");
        assert!(text.contains(way), "{text}");
        assert!(text.contains(mend), "{text}");
        assert!(text.contains("underlay.mtu = 1500"), "{text}");
        assert_eq!(judged(8950)[0].level, Level::Wrong);
        // It fits, and is less than tenants expect.
        assert!(troubles(&judged(1450)).contains("and expect 1500"));
    }
}

#[test]
fn the_way_to_a_remote_vtep_counts_without_a_peer() {
    let root = two_devices();
    let details = r#"{"mtu":8950,"remoteVteps":["10.254.9.9"]}"#;
    let objects = network(json!({"vlanId": 1, "vni": 1}), details.to_owned());
    for config in [
        configured(""),
        // What the agent tells is known without its configuration.
        AgentConfig::read(Some(Path::new("/nowhere/agent.toml"))),
    ] {
        let ways = Ways::look(root.path(), &config, &objects, route);
        let text = troubles(&ways.findings(&config, &objects));
        assert!(text.contains("the way to 10.254.9.9"), "{text}");
    }
}

#[test]
fn the_narrowest_way_decides() {
    let root = two_devices();
    let config = configured(
        "[bgp]\nasn = 65001\n[[bgp.peers]]\ninterface = \"mgmt0\"\n\
         [[bgp.peers]]\naddress = \"10.254.1.0\"\n",
    );
    let objects = tenants_of(8950);
    let ways = Ways::look(root.path(), &config, &objects, route);
    let text = troubles(&ways.findings(&config, &objects));
    assert!(text.contains("10.254.1.0"), "{text}");
}

#[test]
fn without_a_peer_the_widest_device_and_the_default_route_count() {
    let judged = |uplink, default_route| {
        let ways = Ways {
            uplinks: BTreeMap::from([("up0".into(), uplink)]),
            default_route,
            ..Ways::default()
        };
        ways.findings(&configured(""), &tenants_of(8950))
    };
    assert_eq!(troubles(&judged(9000, Some(9000))), "");
    assert_eq!(troubles(&judged(9000, None)), "");
    let narrow = judged(1500, Some(1500));
    assert_eq!(narrow[0].level, Level::Wrong);
    assert!(troubles(&narrow).contains("ip link set dev UPLINK mtu 9000"));
    // It may be the management's.
    let unclear = judged(9000, Some(1500));
    assert_eq!(unclear[0].level, Level::Notice);
    let text = troubles(&unclear);
    assert!(
        text.contains("the default route takes no more than 1500"),
        "{text}"
    );
    assert!(text.contains("ip route show default"), "{text}");
}

#[test]
fn tenants_expect_what_ethernet_has() {
    let judged = |objects: &Objects| Ways::default().findings(&configured(""), objects);
    let narrow = judged(&tenants_of(1450));
    assert_eq!(narrow[0].level, Level::Notice);
    assert!(troubles(&narrow).contains("mtu 1550"));
    assert_eq!(troubles(&judged(&tenants_of(1500))), "");
    assert!(judged(&Objects::new()).is_empty());
}

#[test]
fn the_outer_headers_are_those_of_the_vteps_family() {
    let plain = json!({"vlanId": 1, "vni": 1});
    let own = json!({"vlanId": 1, "vni": 1, "vtepIpPrefix": "fd00::1/128"});
    let details = |more: &str| format!("{{\"mtu\":8950{more}}}");
    let remote = ",\"remoteVteps\":[\"fd00::2\"]";
    for (objects, vtep, outer) in [
        (network(plain.clone(), details("")), None, 9000),
        (network(plain.clone(), details("")), Some("fd00::1"), 9020),
        (network(own.clone(), details("")), None, 9020),
        (network(plain, details(remote)), None, 9020),
        // The configured one serves all.
        (network(own, details(remote)), Some("10.255.0.1"), 9000),
    ] {
        let config = configured(
            &vtep.map_or_else(String::new, |vtep| format!("[underlay]\nvtep = {vtep:?}\n")),
        );
        let judged = |mtu| {
            let ways = Ways {
                uplinks: BTreeMap::from([("up0".into(), mtu)]),
                ..Ways::default()
            };
            troubles(&ways.findings(&config, &objects))
        };
        let text = judged(outer - 1);
        assert!(text.contains(&format!("{outer} with VXLAN")), "{text}");
        assert_eq!(judged(outer), "");
    }
}

#[test]
fn the_default_route_is_the_vteps_familys() {
    let root = FakeRoot::new();
    for (vtep, expected) in [("10.255.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")] {
        let config = configured(&format!("[underlay]\nvtep = {vtep:?}\n"));
        let only = |to| (to == address(expected)).then_some(1280);
        let ways = Ways::look(root.path(), &config, &Objects::new(), only);
        assert_eq!(ways.default_route, Some(1280), "{vtep}");
        assert!(ways.fabric.is_empty(), "{vtep}");
    }
}

#[test]
fn uplinks_are_what_can_lead_to_a_fabric() {
    let root = FakeRoot::new();
    // As `ip -d link` shows them: BROADCAST, MULTICAST; LOOPBACK; NOARP, MASTER; BROADCAST, NOARP.
    for (device, flags, mtu) in [
        ("eth0", "0x1003", 1500),
        ("lo", "0x9", 65536),
        ("br-tenant", "0x1003", 8950),
        ("vrf-red", "0x4c1", 65575),
        ("dummy0", "0x83", 64000),
    ] {
        root.device(device, flags, mtu);
    }
    root.write("sys/class/net/br-tenant/bridge/x", "");
    let found = uplinks(&root.path().join("sys/class/net"));
    assert_eq!(found, BTreeMap::from([("eth0".into(), 1500)]));
}
