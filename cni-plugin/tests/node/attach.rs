//! ADD and DEL on a node of namespaces: what the pod and the agent see.

use std::path::Path;

use crate::harness::{MAC, MTU, Node, PCI, VF, is_up, name_of, run};
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
        let (own, other) = (before["address"].as_str().unwrap(), "02:00:00:00:00:77");
        node.rewrite_record(|text| text.replace(own, other));

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
