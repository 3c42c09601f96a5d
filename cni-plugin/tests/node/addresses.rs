//! Addresses and routes: what IPAM gives the pod has, and the wire is told. And IPAM that speaks from
//! the interface.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Node, name_of, run},
    tap::Tap,
    verbs::ipam,
};

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
    let wire = Tap::on(&node.host, "wire0");
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

/// A plugin that leaves a process behind, as a shell script does with `&`, has given its answer.
#[test]
fn an_ipam_plugin_that_leaves_a_process_with_its_stdout_is_not_waited_for() {
    let mut node = Node::new();
    let (pod, config) = (
        node.pod(),
        node.config(json!({"ipam": {"type": "leaves-one"}})),
    );
    let root = node.root.path().display();
    let script = format!("sleep 300 2> /dev/null &\necho $! >> {root}/left");
    node.make_ipam_after("leaves-one", &script);
    let start = Instant::now();
    let add = node.call("ADD", "c1", &pod, &config);
    let del = node.call("DEL", "c1", &pod, &config);
    let elapsed = start.elapsed();
    let left = fs::read_to_string(node.root.path().join("left")).unwrap();
    run("kill", &left.lines().collect::<Vec<_>>());
    assert_eq!(left.lines().count(), 2);
    assert_eq!(add.ok()["ips"][0]["address"], "10.1.2.3/24");
    del.ok();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    node.assert_clean();
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
