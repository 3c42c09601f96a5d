use std::os::unix::net::UnixListener;

use xpu_model::node::{PortResolver, RouteTargets};
use xpu_model::{Kind, Mtu, Node, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::Component;

use super::*;
use crate::doctor::Level;
use crate::live::Live;
use crate::manifest::Spec;
use crate::view::Oper;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn configured_vtep(vtep: Option<&str>) -> Option<Configured> {
    Some(Configured {
        file: "/etc/a.toml".into(),
        vtep: vtep.map(address),
        frr: ConfiguredFrr::In(FRR_SOCKETS.into()),
    })
}

fn healthy() -> Host {
    Host {
        release: "6.12.48+deb13-amd64".into(),
        modules: MODULES.map(|(name, _)| name).into(),
        frr_sockets: Some(FRR_SOCKETS.into()),
        daemons: ["zebra", "bgpd", "mgmtd"].map(str::to_owned).into(),
        frr_version: Some(Ok("10.3".into())),
        uplinks: BTreeMap::from([("up0".into(), 9000), ("eth0".into(), 1500)]),
        addresses: BTreeSet::from([address("10.255.0.1")]),
        configured: None,
    }
}

/// What is wrong, in words.
fn wrong(findings: &[Finding]) -> String {
    let wrong = findings.iter().filter(|it| it.level != Level::Fine);
    let told = wrong.map(|it| format!("{} | {}\n", it.seen, it.mend.clone().unwrap_or_default()));
    told.collect()
}

#[test]
fn a_healthy_host() {
    assert_eq!(wrong(&findings(&healthy())), "");
}

#[test]
fn each_fault_is_found_with_what_mends_it() {
    type Fault = fn(&mut Host);
    let faults: [(Fault, [&str; 2]); 7] = [
        (|it| it.release = "5.17.9".into(), ["5.17.9", "apt install"]),
        (|it| it.release = String::new(), ["5.18", "apt install"]),
        (
            |it| {
                it.modules.remove("vrf");
            },
            ["no module vrf", "modprobe vrf"],
        ),
        (
            |it| it.frr_version = None,
            ["/run/frr", "systemctl enable --now frr"],
        ),
        (
            |it| it.frr_version = Some(Ok("8.5.2".into())),
            ["8.5.2", "install FRR"],
        ),
        (
            |it| it.frr_version = Some(Err("Permission denied".into())),
            ["Permission denied", "root"],
        ),
        (
            |it| {
                it.daemons.remove("bgpd");
            },
            ["bgpd does not run", "bgpd=yes"],
        ),
    ];
    for (fault, parts) in faults {
        let mut host = healthy();
        fault(&mut host);
        let told = wrong(&findings(&host));
        assert!(!told.is_empty(), "{host:?}");
        for part in parts {
            assert!(told.contains(part), "{told} lacks {part}");
        }
    }
}

#[test]
fn mgmtd_is_missed_from_frr_10_on() {
    let mut host = healthy();
    host.daemons.remove("mgmtd");
    assert!(wrong(&findings(&host)).contains("mgmtd=yes"));
    host.frr_version = Some(Ok("9.1".into()));
    assert_eq!(wrong(&findings(&host)), "");
}

fn tenants(mtu: u32) -> Objects {
    network(
        serde_json::json!({"vlanId": 1}),
        format!("{{\"mtu\":{mtu}}}"),
    )
}

fn network(spec: Value, details: String) -> Objects {
    let key = ObjectKey::parse(Kind::LogicalBridge, "blue").expect("a name");
    let live = Live {
        spec: Spec::read(Kind::LogicalBridge, spec).expect("a spec"),
        oper: Oper::Up,
        components: vec![Component {
            details,
            ..Component::default()
        }],
    };
    Objects::from([(key, live)])
}

#[test]
fn the_mtu_must_fit_an_uplink() {
    let judged = |tenant, uplink| {
        let host = Host {
            uplinks: BTreeMap::from([("up0".into(), uplink)]),
            ..Host::default()
        };
        mtu(&host, &tenants(tenant))
    };
    assert_eq!(wrong(&judged(8950, 9000)), "");
    assert!(wrong(&judged(8950, 1500)).contains("ip link set dev UPLINK mtu 9000"));
    let narrow = judged(1450, 1500);
    assert_eq!(narrow[0].level, Level::Notice);
    assert!(wrong(&narrow).contains("mtu 1550"));
    assert!(mtu(&Host::default(), &Objects::new()).is_empty());
}

#[test]
fn the_outer_headers_are_those_of_the_vteps_family() {
    let plain = serde_json::json!({"vlanId": 1, "vni": 1});
    let own = serde_json::json!({"vlanId": 1, "vni": 1, "vtepIpPrefix": "fd00::1/128"});
    let details = |more: &str| format!("{{\"mtu\":8950{more}}}");
    let remote = ",\"remoteVteps\":[\"fd00::2\"]";
    for (objects, configured, outer) in [
        (network(plain.clone(), details("")), None, 9000),
        (
            network(plain.clone(), details("")),
            configured_vtep(Some("fd00::1")),
            9020,
        ),
        (network(own.clone(), details("")), None, 9020),
        (network(plain.clone(), details(remote)), None, 9020),
        // The configured one serves all.
        (
            network(own, details(remote)),
            configured_vtep(Some("10.255.0.1")),
            9000,
        ),
    ] {
        let host = Host {
            configured,
            uplinks: BTreeMap::from([("up0".into(), outer - 1)]),
            ..Host::default()
        };
        let told = wrong(&mtu(&host, &objects));
        assert!(told.contains(&format!("{outer} with VXLAN")), "{told}");
        let wide = Host {
            uplinks: BTreeMap::from([("up0".into(), outer)]),
            ..host
        };
        assert_eq!(wrong(&mtu(&wide, &objects)), "");
    }
}

#[test]
fn the_overhead_is_the_agents() {
    for vtep in ["10.255.0.1", "fd00::1"] {
        let node = Node {
            vtep: Some(address(vtep)),
            underlay_mtu: Mtu::try_from(9000).expect("an MTU"),
            ports: PortResolver::Name,
            bgp: None,
            route_targets: RouteTargets::Auto,
        };
        let host = Host {
            configured: configured_vtep(Some(vtep)),
            ..Host::default()
        };
        let outer = u32::from(node.overlay_mtu().get()) + overhead(&host, &Objects::new());
        assert_eq!(outer, 9000, "{vtep}");
    }
}

#[test]
fn a_vtep_without_its_address_is_found_before_there_are_objects() {
    let judged = |configured, objects: Option<&Objects>| {
        let host = Host {
            configured,
            ..healthy()
        };
        wrong(&vtep(&host, objects))
    };
    let none = Objects::new();
    assert_eq!(judged(None, Some(&none)), "");
    assert_eq!(judged(configured_vtep(Some("10.255.0.1")), None), "");
    for (missing, mend) in [
        ("10.255.0.9", "ip address add 10.255.0.9/32 dev lo"),
        ("fd00::9", "ip address add fd00::9/128 dev lo"),
    ] {
        let told = judged(configured_vtep(Some(missing)), Some(&none));
        assert!(told.contains("no address of this machine"), "{told}");
        assert!(told.contains(mend), "{told}");
    }
    assert!(judged(configured_vtep(None), Some(&none)).contains("set underlay.vtep"));
    // Whoever has a VNI tells it.
    let vni = network(serde_json::json!({"vlanId": 1, "vni": 1}), String::new());
    assert_eq!(judged(configured_vtep(None), Some(&vni)), "");
    // Where nothing can be seen nothing is said.
    let blind = Host {
        configured: configured_vtep(Some("10.255.0.9")),
        ..Host::default()
    };
    assert!(vtep(&blind, None).is_empty());
}

#[test]
fn the_host_is_looked_at() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    };
    write("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
    write(
        "lib/modules/6.1.0-9-amd64/modules.dep",
        "kernel/drivers/net/vrf.ko.xz:\nkernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\n",
    );
    write(
        "lib/modules/6.1.0-9-amd64/modules.builtin",
        "kernel/net/8021q/8021q.ko\n",
    );
    write("sys/module/vxlan/initstate", "live\n");
    // As `ip -d link` shows them: BROADCAST, MULTICAST; LOOPBACK; NOARP, MASTER; BROADCAST, NOARP.
    for (device, flags, mtu) in [
        ("eth0", "0x1003\n", "1500\n"),
        ("lo", "0x9\n", "65536\n"),
        ("br-tenant", "0x1003\n", "8950\n"),
        ("vrf-red", "0x4c1\n", "65575\n"),
        ("dummy0", "0x83\n", "64000\n"),
    ] {
        write(&format!("sys/class/net/{device}/flags"), flags);
        write(&format!("sys/class/net/{device}/mtu"), mtu);
    }
    write("sys/class/net/br-tenant/bridge/x", "");
    write(
        "proc/net/fib_trie",
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.255.0.0\n        /24 link UNICAST\n     \
         |-- 10.255.0.1\n        /32 host LOCAL\n     |-- 10.255.0.255\n        \
         /32 link BROADCAST\n",
    );
    write(
        "proc/net/if_inet6",
        "fd000255000000000000000000000001 01 80 00 80       lo\n",
    );
    let sockets = root.path().join("run/frr");
    write(
        "agent.toml",
        &format!(
            "[underlay]\nvtep = \"10.255.0.1\"\nmtu = 9000\n[frr]\nsocket_directory = {sockets:?}\n"
        ),
    );
    write("run/frr/bgpd.vty", "");
    let zebra = UnixListener::bind(sockets.join("zebra.vty")).expect("a socket");
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = zebra.accept().expect("a connection");
        let mut asked = [0; 13];
        stream.read_exact(&mut asked).expect("a command");
        stream
            .write_all(b"FRRouting 10.3 (host) on Linux(6.12).\n\0\0\0\0")
            .expect("is read");
        asked
    });
    let host = Host::look(root.path(), None, &root.path().join("agent.toml"));
    // Else nobody was asked, and the thread would wait for ever.
    assert_eq!(host.frr_sockets.as_deref(), Some(&*sockets));
    assert_eq!(&answers.join().expect("answers"), b"show version\0");
    assert_eq!(host.release, "6.1.0-9-amd64");
    assert_eq!(host.modules, MODULES.map(|(name, _)| name).into());
    assert_eq!(host.daemons, ["bgpd", "zebra"].map(str::to_owned).into());
    assert_eq!(host.frr_version, Some(Ok("10.3".into())));
    assert_eq!(host.uplinks, BTreeMap::from([("eth0".into(), 1500)]));
    let addresses = ["10.255.0.1", "fd00:255::1"].map(address);
    assert_eq!(host.addresses, addresses.into());
    let vtep = host.configured.and_then(|it| it.vtep);
    assert_eq!(vtep, Some(address("10.255.0.1")));
}

#[test]
fn what_the_configuration_says_of_frr_holds_unless_a_flag_does() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let config = root.path().join("agent.toml");
    let look = |text: &str, flag: Option<&str>| {
        fs::write(&config, text).expect("a file");
        let host = Host::look(root.path(), flag.map(Path::new), &config);
        let told = frr(&host);
        (host.frr_sockets, told)
    };
    let of = |directory: &str| Some(PathBuf::from(directory));

    let (sockets, told) = look("[frr]\nenabled = false\n", None);
    assert_eq!((sockets, wrong(&told)), (None, String::new()));
    assert!(told[0].seen.contains("this node has none"), "{told:?}");
    assert!(told[0].seen.contains("agent.toml"), "{told:?}");

    for (text, flag, expected) in [
        ("", None, "/run/frr"),
        ("[frr]\nenabled = true\n", None, "/run/frr"),
        (
            "[frr]\nsocket_directory = \"/none/blue\"\n",
            None,
            "/none/blue",
        ),
        (
            "[frr]\nsocket_directory = \"/none/blue\"\n",
            Some("/none/red"),
            "/none/red",
        ),
        // Who names a directory asks for the FRR there.
        ("[frr]\nenabled = false\n", Some("/none/red"), "/none/red"),
    ] {
        assert_eq!(look(text, flag).0, of(expected), "{text}{flag:?}");
    }
    let (_, told) = look("[frr]\nsocket_directory = \"/none/blue\"\n", None);
    let told = wrong(&told);
    assert!(told.contains("no socket in /none/blue"), "{told}");
    assert!(told.contains("frr.enabled = false"), "{told}");
    // Without a configuration: as the agent without one.
    fs::remove_file(&config).expect("was there");
    let host = Host::look(root.path(), None, &config);
    assert_eq!(host.frr_sockets, of("/run/frr"));
}
