//! After a reboot: the records are there, and of what they tell of devices nothing is.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    check::attached,
    harness::{Answer, MAC, Node, PCI, VF, come_home, ip, name_of, run},
    records::torn,
    verbs::ipam,
};

/// What names the node's next boot.
fn next_boot(node: &Node) -> String {
    let path = node.root.path().join("boot");
    fs::write(&path, "2c5ba3a4-1d20-4c5e-a3f0-6f0d1b7f1c11\n").unwrap();
    path.to_str().unwrap().to_owned()
}

/// A call in the next boot.
fn call(node: &Node, command: &str, container: &str, pod: &Path, config: &Value) -> Answer {
    let boot = next_boot(node);
    let env = [("XPU_TESTBED_BOOT", boot.as_str())];
    node.call_with(command, container, pod, &config.to_string(), &env)
}

/// The same for a verb that is about no attachment.
fn call_of_network(node: &Node, command: &str, config: &Value) -> Answer {
    let boot = next_boot(node);
    let env = [
        ("CNI_CONTAINERID", ""),
        ("CNI_IFNAME", ""),
        ("XPU_TESTBED_BOOT", boot.as_str()),
    ];
    node.call_with(command, "", Path::new(""), &config.to_string(), &env)
}

/// The MTU that the VF has in the next boot, which is another than that of the record.
const NEXT_MTU: u64 = 1480;

/// The VF as the next boot's driver makes it. The pod's namespace stays: the next boot may have
/// another pod's by the same name and number.
fn made_anew(node: &Node, pod: &Path) {
    come_home(node, pod, VF);
    ip(
        &node.host,
        &format!("link set {VF} address {MAC} mtu {NEXT_MTU}"),
    );
}

fn asks_for_all() -> Value {
    json!({"ipam": {"type": "fake-ipam"}, "mtu": 1400, "mac": "02:00:00:00:00:07"})
}

/// The VF is as the next boot's driver made it, and nothing else is left.
#[track_caller]
fn assert_clean(node: &Node) {
    let vf = Node::link(&node.host, VF);
    assert_eq!(vf["mtu"], NEXT_MTU, "{vf}");
    run("ip", &["-n", &node.host, "link", "set", VF, "mtu", "1500"]);
    node.assert_clean();
}

#[test]
fn a_vf_of_an_earlier_boots_record_goes_to_a_new_pod_as_it_is() {
    for is_torn in [false, true] {
        let mut node = Node::new();
        let (old, new, config) = (node.pod(), node.pod(), node.config(asks_for_all()));
        node.call("ADD", "c1", &old, &config).ok();
        if is_torn {
            node.rewrite_record(torn);
        }
        // In its own boot the VF is its.
        assert_eq!(node.call("ADD", "c2", &new, &config).error().0, 11);
        made_anew(&node, &old);
        call(&node, "ADD", "c2", &new, &node.config(json!({}))).ok();
        let net1 = Node::link(name_of(&new), "net1");
        assert_eq!(
            (&net1["address"], &net1["mtu"]),
            (&json!(MAC), &json!(NEXT_MTU))
        );
        // The old one's port and address are gone.
        assert_eq!(node.agent.only_port().1.mac_address, [2, 0, 0, 0, 0xaf, 6]);
        assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1"]);
        assert_eq!(node.state("attachments").len(), 1);
        assert_eq!(node.state("vf"), [PCI]);
        call(&node, "DEL", "c2", &new, &config).ok();
        assert_clean(&node);
    }
}

/// Its pod may have a namespace by the same name and number.
#[test]
fn an_attachment_of_an_earlier_boot_can_begin_anew() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(asks_for_all()));
    node.call("ADD", "c1", &pod, &config).ok();
    made_anew(&node, &pod);
    call(&node, "ADD", "c1", &pod, &config).ok();
    let log = node.ipam_log();
    assert_eq!(log, ["ADD c1 net1", "DEL c1 net1", "ADD c1 net1"]);
    assert_eq!(node.agent.ports().len(), 1);
    call(&node, "DEL", "c1", &pod, &config).ok();
    assert_clean(&node);
}

#[test]
fn check_finds_that_the_boot_is_another() {
    let mut node = Node::new();
    let pod = node.pod();
    let checked = attached(&node, &pod, &node.config(ipam()));
    node.call("CHECK", "c1", &pod, &checked).ok();
    let answer = call(&node, "CHECK", "c1", &pod, &checked);
    let (code, msg) = answer.error();
    assert_eq!(code, 104, "{msg}");
    let told =
        "boot of the attachment in the journal: expected the running one, found an earlier one";
    assert_eq!(msg, told);
    assert_eq!(answer.json().get("details"), None, "nothing else differs");
}

/// Whoever's it was, no pod suffers for want of its port.
#[test]
fn status_tells_of_no_port_of_an_earlier_boots() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let port = node.agent.only_port().0;
    node.agent.put(&port, None);
    assert_eq!(
        crate::verbs::of_network(&node, "STATUS", &config).error().0,
        51
    );
    call_of_network(&node, "STATUS", &config).ok();
}

/// It has a port and addresses to give back, and no device: whatever has the VF's names in the next
/// boot is somebody else's.
#[test]
fn gc_finishes_what_an_earlier_boot_left_and_touches_no_device() {
    for is_torn in [false, true] {
        let mut node = Node::new();
        let (pod, config) = (node.pod(), node.config(asks_for_all()));
        node.call("ADD", "c1", &pod, &config).ok();
        if is_torn {
            node.rewrite_record(torn);
        }
        let mut gc = config.clone();
        gc["cni.dev/valid-attachments"] = json!([]);
        call_of_network(&node, "GC", &gc).ok();
        // Before IPAM's own: what the sweep finishes, it does after that.
        assert_eq!(node.ipam_log(), ["ADD c1 net1", "DEL c1 net1", "GC  "]);
        assert_eq!(node.agent.ports(), Vec::<String>::new());
        for folder in ["attachments", "vf", "tombstones"] {
            assert_eq!(node.state(folder), Vec::<String>::new(), "{folder}");
        }
        let net1 = Node::link(name_of(&pod), "net1");
        assert_eq!(net1["mtu"], 1400, "{net1}");
    }
}
