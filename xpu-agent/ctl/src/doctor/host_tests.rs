use std::os::unix::net::UnixListener;

use xpu_model::{Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::Component;

use super::*;
use crate::doctor::Level;
use crate::live::Live;
use crate::manifest::Spec;
use crate::view::Oper;

fn healthy() -> Host {
    Host {
        release: "6.12.48+deb13-amd64".into(),
        modules: MODULES.map(|(name, _)| name).into(),
        frr_sockets: "/run/frr".into(),
        daemons: ["zebra", "bgpd", "mgmtd"].map(str::to_owned).into(),
        frr_version: Some(Ok("10.3".into())),
        uplinks: BTreeMap::from([("up0".into(), 9000), ("eth0".into(), 1500)]),
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
    let key = ObjectKey::parse(Kind::LogicalBridge, "blue").expect("a name");
    let live = Live {
        spec: Spec::read(Kind::LogicalBridge, serde_json::json!({"vlanId": 1})).expect("a spec"),
        oper: Oper::Up,
        components: vec![Component {
            details: format!("{{\"mtu\":{mtu}}}"),
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
    write("sys/class/net/eth0/mtu", "1500\n");
    write("sys/class/net/lo/mtu", "65536\n");
    write("sys/class/net/br-tenant/mtu", "8950\n");
    write("sys/class/net/br-tenant/bridge/x", "");
    write("run/frr/bgpd.vty", "");
    let sockets = root.path().join("run/frr");
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
    let host = Host::look(root.path(), &sockets);
    assert_eq!(&answers.join().expect("answers"), b"show version\0");
    assert_eq!(host.release, "6.1.0-9-amd64");
    assert_eq!(host.modules, MODULES.map(|(name, _)| name).into());
    assert_eq!(host.daemons, ["bgpd", "zebra"].map(str::to_owned).into());
    assert_eq!(host.frr_version, Some(Ok("10.3".into())));
    assert_eq!(host.uplinks, BTreeMap::from([("eth0".into(), 1500)]));
}
