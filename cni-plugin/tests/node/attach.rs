//! ADD and DEL on a node of namespaces: what the pod, the agent, IPAM and the wire see.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    harness::{MAC, MTU, Node, PCI, VF, is_up, name_of, run},
    verbs::ipam,
};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use xpu_proto::evpn_gw::v1alpha1::BridgePortType;

#[test]
fn a_pod_gets_the_vf_and_gives_it_back() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let env = [("TRACEPARENT", trace)];
    let answer = node
        .call_with("ADD", "c1", &pod, &config.to_string(), &env)
        .ok();
    let interface = json!({"name": "net1", "mac": MAC, "mtu": MTU, "sandbox": pod, "pciID": PCI});
    assert_eq!(
        answer,
        json!({"cniVersion": "1.1.0", "interfaces": [interface], "dns": {}})
    );

    let link = Node::link(name_of(&pod), "net1");
    assert_eq!(
        (&link["address"], is_up(&link)),
        (&json!(MAC), true),
        "{link}"
    );
    assert_eq!(Node::link(&node.host, VF), Value::Null);
    let (id, port) = node.agent.only_port();
    assert!(id.starts_with("cni-"), "{id}");
    assert_eq!(
        (port.ptype(), port.logical_bridges),
        (
            BridgePortType::Access,
            vec!["logicalBridges/blue".to_owned()]
        )
    );
    assert_eq!(port.mac_address, [2, 0, 0, 0, 0xaf, 6]);
    assert_eq!(node.agent.traceparent().as_deref(), Some(trace));
    assert!(node.ipam_log().is_empty());

    assert_eq!(node.call("DEL", "c1", &pod, &config).ok(), Value::Null);
    node.assert_clean();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

#[test]
fn each_way_to_attach_asks_for_its_port() {
    let mut node = Node::new();
    let pod = node.pod();
    for (more, bridges) in [
        (
            json!({"logical_bridge": null, "logical_bridges": ["blue", "green"]}),
            2,
        ),
        (json!({"logical_bridge": null, "trunk": "all"}), 0),
        (json!({"logical_bridge": null, "type": "evpn-gw"}), 0),
    ] {
        let config = node.config(more);
        node.call("ADD", "c1", &pod, &config).ok();
        let (_, port) = node.agent.only_port();
        assert_eq!(
            (port.ptype(), port.logical_bridges.len()),
            (BridgePortType::Trunk, bridges)
        );
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

#[test]
fn mac_and_mtu_are_set_and_put_back() {
    let mut node = Node::new();
    let (pod, mac) = (node.pod(), "02:00:00:00:00:07");
    run("ip", &["-n", &node.host, "link", "set", VF, "up"]);
    let config = node.config(json!({"mtu": 1450, "mac": "02:00:00:00:00:01"}));
    let env = [("CNI_ARGS", "IgnoreUnknown=1;MAC=02:00:00:00:00:07")];
    let answer = node
        .call_with("ADD", "c1", &pod, &config.to_string(), &env)
        .ok();
    assert_eq!(answer["interfaces"][0]["mac"], mac);
    assert_eq!(answer["interfaces"][0]["mtu"], 1450);
    let link = Node::link(name_of(&pod), "net1");
    assert_eq!(
        (&link["address"], &link["mtu"]),
        (&json!(mac), &json!(1450))
    );
    assert_eq!(node.agent.only_port().1.mac_address, [2, 0, 0, 0, 0, 7]);
    node.call("DEL", "c1", &pod, &config).ok();
    let home = Node::link(&node.host, VF);
    assert_eq!((&home["address"], &home["mtu"]), (&json!(MAC), &json!(MTU)));
    assert!(is_up(&home), "it was up before");
}

#[test]
fn addresses_and_routes_come_from_ipam_and_the_wire_is_told() {
    let mut node = Node::new();
    let pod = node.pod();
    node.ipam_gives(&json!({
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::3/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "priority": 7}, {"dst": "::/0"}, {"dst": "10.8.0.0/16", "gw": "10.1.2.9"}],
        "dns": {"nameservers": ["10.1.2.1"]},
    }));
    run(
        "ip",
        &[
            "netns",
            "exec",
            name_of(&pod),
            "sysctl",
            "-qw",
            "net.ipv6.conf.default.disable_ipv6=1",
        ],
    );
    let config =
        node.config(json!({"ipam": {"type": "fake-ipam", "range": "x"}, "cniVersion": "1.0.0"}));
    let wire = Wire::tap(&node.host, "wire0");
    let answer = node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(
        answer["ips"][1],
        json!({"interface": 0, "address": "fd00::3/64", "gateway": "fd00::1"})
    );
    assert_eq!(answer["routes"][1], json!({"dst": "::/0", "gw": "fd00::1"}));
    assert_eq!(answer["dns"], json!({"nameservers": ["10.1.2.1"]}));

    let ip = |args: &[&str]| run("ip", &[&["-n", name_of(&pod)], args].concat());
    let addrs = ip(&["-o", "addr", "show", "dev", "net1"]);
    assert!(addrs.contains("inet 10.1.2.3/24 brd 10.1.2.255"), "{addrs}");
    assert!(addrs.contains("inet6 fd00::3/64"), "{addrs}");
    let usable = addrs.contains("fd00::3/64 scope global optimistic");
    assert!(usable, "usable at once: {addrs}");
    let routes = ip(&["route"]);
    assert!(routes.contains("default via 10.1.2.1 dev net1"), "{routes}");
    assert!(routes.contains("metric 7 mtu 1400"), "{routes}");
    assert!(routes.contains("10.8.0.0/16 via 10.1.2.9"), "{routes}");
    assert!(ip(&["-6", "route"]).contains("default via fd00::1 dev net1"));
    wire.expect("a gratuitous ARP", |frame| {
        frame[12..14] == [8, 6] && frame[28..32] == [10, 1, 2, 3]
    });
    wire.expect("an unsolicited advertisement", |frame| {
        frame[12..14] == [0x86, 0xdd]
            && frame[20] == 58
            && frame[54] == 136
            && frame[62..64] == [0xfd, 0]
    });
    let addrs = ip(&["-o", "addr", "show", "dev", "net1"]);
    assert!(!addrs.contains("dadfailed"), "{addrs}");

    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
    let stdin = std::fs::read_to_string(node.root.path().join("ipam.stdin")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stdin).unwrap(), config);
}

#[test]
fn every_version_gets_its_own_result() {
    let mut node = Node::new();
    let pod = node.pod();
    let dns = json!({"nameservers": ["10.0.0.53"], "search": ["blue.example"]});
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let config = node.config(json!({
            "cniVersion": version, "ipam": {"type": "fake-ipam"}, "dns": dns,
        }));
        let answer = node.call("ADD", "c1", &pod, &config).ok();
        assert_eq!(
            (&answer["cniVersion"], &answer["dns"]),
            (&json!(version), &dns)
        );
        let old = version.starts_with('0');
        assert_eq!(
            answer["ips"][0].get("version"),
            old.then_some(&json!("4")),
            "{version}"
        );
        let newest = version == "1.1.0";
        assert_eq!(
            answer["interfaces"][0].get("pciID").is_some(),
            newest,
            "{version}"
        );
        node.call("DEL", "c1", &pod, &config).ok();
        node.assert_clean();
    }
}

#[test]
fn an_ipam_plugin_older_than_the_network_serves_it() {
    let mut node = Node::new();
    let (pod, config) = (
        node.pod(),
        node.config(json!({"ipam": {"type": "fake-ipam"}})),
    );
    std::fs::write(node.root.path().join("ipam.old"), "").unwrap();
    let answer = node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(
        (&answer["cniVersion"], &answer["ips"][0]["address"]),
        (&json!("1.1.0"), &json!("10.1.2.3/24"))
    );
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
    assert_eq!(
        node.ipam_log().len(),
        4,
        "each asked as 1.1.0, then as 1.0.0"
    );
}

#[test]
fn whatever_the_pod_did_to_the_vf_it_comes_home_as_it_was() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let inside = |args: &[&str]| {
        run(
            "ip",
            &[&["-n", name_of(&pod), "link", "set", "net1"], args].concat(),
        )
    };
    inside(&["down"]);
    inside(&["address", "02:00:00:00:00:66", "mtu", "9000"]);
    inside(&["name", "$(reboot)"]);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// The names of the VF in its pod, or at home.
fn altnames(netns: &str, name: &str) -> Vec<String> {
    let link = Node::link(netns, name);
    let names = link["altnames"].as_array().cloned().unwrap_or_default();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

fn altname(netns: &str, verb: &str, dev: &str, name: &str) {
    run(
        "ip",
        &[
            "-n", netns, "link", "property", verb, "dev", dev, "altname", name,
        ],
    );
}

/// What the pod named it goes, what the host named it comes back, and all the while the kernel
/// never refuses to take it along.
#[test]
fn further_names_of_a_vf_are_at_home_what_they_were() {
    const LONG: &str = "enp175s6-a-name-longer-than-a-device-may-have";
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let host = node.host.clone();
    for name in ["enp175s6", LONG] {
        altname(&host, "add", VF, name);
    }
    for _again in 0..2 {
        node.call("ADD", "c1", &pod, &config).ok();
        altname(name_of(&pod), "add", "net1", "eth0");
        altname(name_of(&pod), "add", "net1", "net2");
        altname(name_of(&pod), "del", "net1", "enp175s6");
        node.call("DEL", "c1", &pod, &config).ok();
        let mut names = altnames(&host, VF);
        names.sort();
        assert_eq!(names, ["enp175s6", LONG]);
    }
    // The same where the kernel brings it home.
    node.call("ADD", "c1", &pod, &config).ok();
    altname(name_of(&pod), "add", "net1", "eth0");
    run(
        "ip",
        &["-n", name_of(&pod), "link", "set", "net1", "netns", &host],
    );
    run("ip", &["netns", "del", name_of(&pod)]);
    node.call("DEL", "c1", &pod, &config).ok();
    let mut names = altnames(&host, VF);
    names.sort();
    assert_eq!(names, ["enp175s6", LONG]);
}

/// A pod may have what the VF is also called: the VF comes without that name, and has it again
/// at home.
#[test]
fn a_further_name_that_the_pod_has_keeps_no_vf() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let host = node.host.clone();
    for name in ["eth0", "rack7"] {
        altname(&host, "add", VF, name);
    }
    run(
        "ip",
        &["-n", name_of(&pod), "link", "add", "eth0", "type", "bridge"],
    );
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(altnames(name_of(&pod), "net1"), ["rack7"]);
    node.call("DEL", "c1", &pod, &config).ok();
    let mut names = altnames(&host, VF);
    names.sort();
    assert_eq!(names, ["eth0", "rack7"]);
}

/// A pod whose wire is dead gets its addresses all the same, after a wait that ends.
#[test]
fn without_carrier_an_add_ends() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(ipam()));
    run("ip", &["-n", &node.host, "link", "set", "wire0", "down"]);
    let start = Instant::now();
    node.call("ADD", "c1", &pod, &config).ok();
    let elapsed = start.elapsed();
    let addrs = run("ip", &["-n", name_of(&pod), "-o", "addr", "show", "net1"]);
    assert!(addrs.contains("10.1.2.3/24"), "{addrs}");
    // What an IPAM that works on the interface is worth; that this is less `make gates` counts.
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// A DHCP client speaks from the interface: it is there, and up, from ADD until after DEL.
#[test]
fn an_ipam_that_works_on_the_interface_finds_it() {
    let mut node = Node::new();
    node.make_dhcp();
    let (pod, config) = (node.pod(), node.config(json!({"ipam": {"type": "dhcp"}})));
    let answer = node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(answer["ips"][0]["address"], "10.1.2.3/24");
    let addrs = run("ip", &["-n", name_of(&pod), "-o", "addr", "show", "net1"]);
    assert!(addrs.contains("10.1.2.3/24"), "{addrs}");
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
    node.assert_clean();

    // It refuses: the VF goes home, after it was told.
    let full = json!({"code": 110, "msg": "no offer came"});
    std::fs::write(node.root.path().join("ipam.error"), full.to_string()).unwrap();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(
        (code, msg.starts_with("no offer came")),
        (110, true),
        "{msg}"
    );
    assert_eq!(node.ipam_log()[2..], ["ADD c1 net1", "DEL c1 net1"]);
    node.assert_clean();
}

/// What a DHCP client says before there is carrier is lost.
#[test]
fn an_ipam_that_works_on_the_interface_is_asked_once_there_is_carrier() {
    let mut node = Node::new();
    node.make_dhcp();
    let (pod, config) = (node.pod(), node.config(json!({"ipam": {"type": "dhcp"}})));
    run("ip", &["-n", &node.host, "link", "set", "wire0", "down"]);
    let late = format!("sleep 0.5; ip -n {} link set wire0 up", node.host);
    let mut wire = Command::new("sh").args(["-c", &late]).spawn().unwrap();
    node.call("ADD", "c1", &pod, &config).ok();
    assert!(wire.wait().unwrap().success());
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// What the VF's driver refuses in the message that moves it is told by key and value.
#[test]
fn a_refused_mtu_is_told_by_its_key_and_leaves_nothing() {
    let mut node = Node::new();
    let (pod, host) = (node.pod(), node.host.clone());
    let pci = node.make_vf(1);
    run("ip", &["-n", &host, "link", "del", "vf1"]);
    // As a VF: a device of a driver that takes no MTU above its wire's.
    let line =
        format!("-n {host} link add vf1 type vxlan id 7 dstport 4789 remote 192.0.2.1 dev wire0");
    run("ip", &line.split(' ').collect::<Vec<_>>());
    run("ip", &["-n", &host, "link", "set", "vf1", "alias", &pci]);
    let before = Node::link(&host, "vf1");
    let mut config = node.config(json!({"mtu": 9000, "mac": "02:00:00:00:00:07"}));
    config["deviceID"] = pci.into();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 2, "{msg}");
    assert!(
        msg.starts_with("`mtu`: 9000 can't be had for the VF vf1: "),
        "{msg}"
    );
    assert!(msg.contains("Invalid argument"), "{msg}");
    let after = Node::link(&host, "vf1");
    for key in ["address", "mtu", "ifalias"] {
        assert_eq!(before[key], after[key], "{after}");
    }
    node.assert_clean();
}

/// Not every driver takes every MAC, nor says so in the same way. The kernel has moved the VF by
/// then: it is home, and gets all else that it had.
#[test]
fn a_vf_that_refuses_its_mac_comes_home_without_it() {
    let mut node = Node::new();
    let (pod, host) = (node.pod(), node.host.clone());
    let pci = node.make_vf(1);
    run("ip", &["-n", &host, "link", "del", "vf1"]);
    // As a VF: a device that can't be told a MAC at all.
    run("ip", &["-n", &host, "link", "add", "vf1", "type", "ifb"]);
    for words in [["alias", pci.as_str()], ["mtu", "1450"]] {
        let line = [["-n", &host, "link", "set", "vf1"].as_slice(), &words].concat();
        run("ip", &line);
    }
    for (up, mtu) in [(false, json!({})), (true, json!({"mtu": 1400}))] {
        let state = if up { "up" } else { "down" };
        run("ip", &["-n", &host, "link", "set", "vf1", state]);
        let before = Node::link(&host, "vf1");
        let mut config = node.config(mtu);
        config["deviceID"] = pci.clone().into();
        node.call("ADD", "c1", &pod, &config).ok();
        // As if it had come with another one.
        let record = node.state("attachments").remove(0);
        let record = node.root.path().join("state/attachments").join(record);
        let text = std::fs::read_to_string(&record).unwrap();
        let (own, other) = (before["address"].as_str().unwrap(), "02:00:00:00:00:77");
        std::fs::write(&record, text.replace(own, other)).unwrap();

        let answer = node.call("DEL", "c1", &pod, &config);
        answer.ok();
        let told = format!("vf1 is home, but keeps the MAC {own} instead of {other}");
        assert!(answer.stderr.contains(&told), "{answer:?}");
        let after = Node::link(&host, "vf1");
        for key in ["address", "mtu", "ifalias"] {
            assert_eq!(before[key], after[key], "{after}");
        }
        assert_eq!(is_up(&after), up, "{after}");
        node.assert_clean();
    }
}

#[test]
fn a_name_taken_at_home_does_not_keep_the_vf_away() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    node.hide_netdev();
    run(
        "ip",
        &["-n", &node.host, "link", "add", VF, "type", "bridge"],
    );
    node.call("DEL", "c1", &pod, &config).ok();
    let home = Node::link(&node.host, "xvf0");
    assert_eq!(
        (&home["ifalias"], &home["address"]),
        (&json!(PCI), &json!(MAC)),
        "{home}"
    );
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}

#[test]
fn version_and_bad_calls_touch_nothing() {
    let mut node = Node::new();
    let pod = node.pod();
    let told = node
        .call_with(
            "VERSION",
            "",
            Path::new(""),
            r#"{"cniVersion":"1.0.0"}"#,
            &[],
        )
        .ok();
    assert_eq!(
        told["supportedVersions"],
        json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
    for (command, more, code, word) in [
        ("NONSENSE", json!({}), 4, "CNI_COMMAND"),
        ("ADD", json!({"cniVersion": "2.0.0"}), 1, "2.0.0"),
        ("ADD", json!({"spoofchk": "on"}), 2, "spoofchk"),
        ("ADD", json!({"logical_bridge": null}), 7, "logical_bridge"),
        (
            "ADD",
            json!({"deviceID": "0000:af:07.0"}),
            100,
            "there is no PCI device 0000:af:07.0",
        ),
        (
            "ADD",
            json!({"deviceID": "0000:af:00.0"}),
            100,
            "0000:af:00.0 is not an SR-IOV VF; give a VF's address",
        ),
        (
            "ADD",
            json!({"ipam": {"type": "none-such"}}),
            7,
            "none-such",
        ),
    ] {
        let (told, msg) = node.call(command, "c1", &pod, &node.config(more)).error();
        assert_eq!(told, code, "{msg}");
        assert!(msg.contains(word), "{msg}");
    }
    let stdin = node.config(json!({})).to_string();
    let call = |netns: &Path, stdin: &str, env: &[(&str, &str)]| {
        node.call_with("ADD", "c1", netns, stdin, env).error().0
    };
    assert_eq!(call(&pod, "{", &[]), 6);
    for name in ["a/b", "net%d"] {
        let env = [("CNI_IFNAME", name)];
        assert_eq!(call(&pod, &stdin, &env), 4, "{name}");
        // Its pod must be able to end.
        node.call_with("DEL", "c1", &pod, &stdin, &env).ok();
    }
    assert_eq!(call(&pod, &stdin, &[("CNI_CONTAINERID", "")]), 4);
    assert_eq!(call(&pod, &stdin, &[("CNI_NETNS", "")]), 4);
    assert_eq!(call(Path::new("/run/netns/none"), &stdin, &[]), 8);
    assert_eq!(call(Path::new("/etc/passwd"), &stdin, &[]), 8);
    assert_eq!(
        call(&Path::new("/run/netns").join(&node.host), &stdin, &[]),
        8
    );
    node.assert_clean();
}

/// A tap on a link of the host.
struct Wire(OwnedFd);

impl Wire {
    fn tap(netns: &str, link: &str) -> Self {
        let index = Node::link(netns, link)["ifindex"].as_i64().unwrap();
        let netns = std::fs::File::open(Path::new("/run/netns").join(netns)).unwrap();
        let socket = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            let every = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
            // SAFETY: socket(2) and bind(2) on values that live through the calls.
            unsafe {
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
                assert!(fd >= 0, "{}", io::Error::last_os_error());
                let mut at: libc::sockaddr_ll = std::mem::zeroed();
                at.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
                at.sll_protocol = every;
                at.sll_ifindex = i32::try_from(index).unwrap();
                let size = u32::try_from(size_of_val(&at)).unwrap();
                assert_eq!(libc::bind(fd, (&raw const at).cast(), size), 0);
                let wait = libc::timeval {
                    tv_sec: 5,
                    tv_usec: 0,
                };
                let size = u32::try_from(size_of_val(&wait)).unwrap();
                let option = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
                assert_eq!(
                    libc::setsockopt(fd, option.0, option.1, (&raw const wait).cast(), size),
                    0
                );
                OwnedFd::from_raw_fd(fd)
            }
        })
        .join()
        .unwrap();
        Self(socket)
    }

    #[track_caller]
    fn expect(&self, what: &str, is: impl Fn(&[u8]) -> bool) {
        let mut frame = [0; 2048];
        loop {
            let read = nix::sys::socket::recv(
                self.0.as_raw_fd(),
                &mut frame,
                nix::sys::socket::MsgFlags::empty(),
            );
            let read = read.unwrap_or_else(|errno| panic!("{what} never came: {errno}"));
            if read >= 42 && is(&frame[..read.max(64)]) {
                return;
            }
        }
    }
}

/// A virtio VF's netdev belongs to the device on the virtio bus, not to the PCI function itself.
#[test]
fn a_virtio_vf_is_found_below_its_function() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let device = node.root.path().join("sys/bus/pci/devices").join(PCI);
    std::fs::create_dir(device.join("virtio7")).unwrap();
    std::fs::rename(device.join("net"), device.join("virtio7/net")).unwrap();
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(Node::link(name_of(&pod), "net1")["address"], MAC);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}
