//! What each command makes of the agent's objects: the flags arrive as the right message,
//! and each verb does its work for each kind.

use pretty_assertions::assert_eq;
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePortSpec, BridgePortType, LogicalBridgeSpec, SviSpec, VrfSpec,
};
use xpu_proto::opinetcommon::v1alpha1::ip_address::V4OrV6;
use xpu_proto::opinetcommon::v1alpha1::{IpAddress, IpAf, IpPrefix};

use crate::fake_agent::FakeAgent;
use crate::{succeed, xpuctl};

fn v4(octets: [u8; 4], len: i32) -> IpPrefix {
    let v4_or_v6 = Some(V4OrV6::V4Addr(u32::from_be_bytes(octets)));
    IpPrefix {
        addr: Some(IpAddress {
            af: IpAf::Inet.into(),
            v4_or_v6,
        }),
        len,
    }
}

fn v6(first: [u8; 2], last: u8, len: i32) -> IpPrefix {
    let mut octets = vec![0; 16];
    octets[..2].copy_from_slice(&first);
    octets[15] = last;
    let v4_or_v6 = Some(V4OrV6::V6Addr(octets));
    IpPrefix {
        addr: Some(IpAddress {
            af: IpAf::Inet6.into(),
            v4_or_v6,
        }),
        len,
    }
}

#[test]
fn vrf_flags() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf blue --loopback 10.0.0.1/32");
    succeed(
        &agent,
        "create vrf green --loopback fd00::1/128 --vni 5001 --vtep 10.255.0.1/32",
    );
    let state = agent.state();
    let blue = VrfSpec {
        loopback_ip_prefix: Some(v4([10, 0, 0, 1], 32)),
        ..Default::default()
    };
    assert_eq!(state.vrfs["vrfs/blue"].spec, Some(blue));
    let green = VrfSpec {
        vni: Some(5001),
        loopback_ip_prefix: Some(v6([0xfd, 0], 1, 128)),
        vtep_ip_prefix: Some(v4([10, 255, 0, 1], 32)),
    };
    assert_eq!(state.vrfs["vrfs/green"].spec, Some(green));
}

#[test]
fn logical_bridge_flags() {
    let agent = FakeAgent::start();
    succeed(&agent, "create logical-bridge local --vlan 4094");
    succeed(
        &agent,
        "create lb wide --vlan 100 --vni 16777215 --vtep fd00::9/128",
    );
    let state = agent.state();
    let local = LogicalBridgeSpec {
        vlan_id: 4094,
        ..Default::default()
    };
    assert_eq!(
        state.logical_bridges["logicalBridges/local"].spec,
        Some(local)
    );
    let vtep_ip_prefix = Some(v6([0xfd, 0], 9, 128));
    let wide = LogicalBridgeSpec {
        vlan_id: 100,
        vni: Some(16_777_215),
        vtep_ip_prefix,
    };
    assert_eq!(
        state.logical_bridges["logicalBridges/wide"].spec,
        Some(wide)
    );
}

#[test]
fn bridge_port_flags() {
    let agent = FakeAgent::start();
    let bridges = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (flag, ptype, logical_bridges) in [
        (
            "--access blue",
            BridgePortType::Access,
            bridges(&["logicalBridges/blue"]),
        ),
        (
            "--trunk blue,logicalBridges/green --trunk //network.opiproject.org/bridges/grey",
            BridgePortType::Trunk,
            bridges(&[
                "logicalBridges/blue",
                "logicalBridges/green",
                "logicalBridges/grey",
            ]),
        ),
        ("--transparent", BridgePortType::Trunk, Vec::new()),
    ] {
        succeed(
            &agent,
            &format!("create port port-1 --mac 02:00:00:00:00:aF {flag}"),
        );
        let mac_address = vec![2, 0, 0, 0, 0, 0xaf];
        let spec = BridgePortSpec {
            mac_address,
            ptype: ptype.into(),
            logical_bridges,
        };
        let stored = agent
            .state()
            .bridge_ports
            .remove("bridgePorts/port-1")
            .expect("was created");
        assert_eq!(stored.spec, Some(spec), "{flag}");
    }
}

#[test]
fn svi_flags() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf vrf1 --loopback 10.0.0.1/32");
    succeed(
        &agent,
        "create svi svi1 --vrf vrfs/vrf1 --logical-bridge blue --mac 02:00:00:00:00:01 \
         --gateway 10.1.0.1/24 --gateway fd00::1/64 --enable-bgp --remote-as 4294967295",
    );
    let spec = SviSpec {
        vrf: "vrfs/vrf1".into(),
        logical_bridge: "logicalBridges/blue".into(),
        mac_address: vec![2, 0, 0, 0, 0, 1],
        gw_ip_prefix: vec![v4([10, 1, 0, 1], 24), v6([0xfd, 0], 1, 64)],
        enable_bgp: true,
        remote_as: u32::MAX,
    };
    assert_eq!(agent.state().svis["svis/svi1"].spec, Some(spec));
}

#[test]
fn without_an_id_the_agent_names_the_object() {
    let agent = FakeAgent::start();
    let name = succeed(&agent, "create vrf --loopback 10.0.0.1/32 -o name");
    assert_eq!(name, "vrfs/9f8b7a6c-0000-4000-8000-000000000001\n");
    assert_eq!(succeed(&agent, &format!("get vrf {name} -o name")), name);
}

#[test]
fn creating_the_same_again_is_no_error() {
    let agent = FakeAgent::start();
    let first = succeed(&agent, "create lb blue --vlan 100");
    assert_eq!(succeed(&agent, "create lb blue --vlan 100"), first);
}

#[test]
fn every_verb_works_for_every_kind_by_every_name_of_it() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf other --loopback 10.9.0.1/32");
    for (create, collection, words) in [
        (
            "vrf thing --loopback 10.0.0.1/32",
            "vrfs",
            &["vrf", "vrfs"][..],
        ),
        (
            "lb thing --vlan 100",
            "logicalBridges",
            &[
                "logical-bridge",
                "logical-bridges",
                "logicalbridge",
                "logicalbridges",
                "lb",
                "lbs",
            ],
        ),
        (
            "bp thing --mac 02:00:00:00:00:01 --transparent",
            "bridgePorts",
            &[
                "bridge-port",
                "bridge-ports",
                "bridgeport",
                "port",
                "ports",
                "bp",
                "bps",
            ],
        ),
        (
            "svi thing --vrf other --lb blue --mac 02:00:00:00:00:01 --gateway 10.1.0.1/24",
            "svis",
            &["svi", "svis"],
        ),
    ] {
        let name = format!("{collection}/thing");
        for word in words {
            let flags = create.split_once(' ').expect("kind and flags").1;
            let row = succeed(&agent, &format!("create {word} {flags}"));
            assert_eq!(succeed(&agent, &format!("get {word} thing")), row);
            assert_eq!(succeed(&agent, &format!("get {word} {name}")), row);
            let described = succeed(&agent, &format!("describe {word} thing"));
            assert!(
                described.starts_with("Name:") && described.contains(&name),
                "{described}"
            );
            let listed = succeed(&agent, &format!("list {word} -o name"));
            assert!(listed.lines().any(|line| line == name), "{listed}");
            let deleted = succeed(&agent, &format!("delete {word} thing"));
            assert_eq!(deleted, format!("{name} deleted\n"));
            assert_eq!(xpuctl(&agent, &format!("get {word} thing")).code, 1);
        }
    }
}

#[test]
fn list_follows_the_pages() {
    let agent = FakeAgent::start();
    for n in 1..=5 {
        succeed(&agent, &format!("create lb net-{n} --vlan {n}"));
    }
    let expected: String = (1..=5)
        .map(|n| format!("logicalBridges/net-{n}\n"))
        .collect();
    assert_eq!(succeed(&agent, "list lb -o name"), expected);
}

#[test]
fn deleting_what_is_not_there_is_an_error_unless_allowed() {
    let agent = FakeAgent::start();
    assert_eq!(xpuctl(&agent, "delete vrf blue").code, 1);
    assert_eq!(
        succeed(&agent, "delete vrf blue --allow-missing"),
        "vrfs/blue deleted\n"
    );
}
