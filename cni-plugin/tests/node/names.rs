//! The names of a VF: a further one comes along and is put back, and one that is taken, in the pod or
//! at home, keeps no VF.

use std::path::Path;

use serde_json::json;

use crate::harness::{MAC, Node, PCI, VF, end_silently, ip, name_of};

/// The names of the VF in its pod, or at home.
fn altnames(netns: &str, name: &str) -> Vec<String> {
    let link = Node::link(netns, name);
    let names = link["altnames"].as_array().cloned().unwrap_or_default();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

fn altname(netns: impl AsRef<Path>, verb: &str, dev: &str, name: &str) {
    ip(
        netns,
        &format!("link property {verb} dev {dev} altname {name}"),
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
        altname(&pod, "add", "net1", "eth0");
        altname(&pod, "add", "net1", "net2");
        altname(&pod, "del", "net1", "enp175s6");
        node.call("DEL", "c1", &pod, &config).ok();
        let mut names = altnames(&host, VF);
        names.sort();
        assert_eq!(names, ["enp175s6", LONG]);
    }
    // The same where the kernel brings it home.
    node.call("ADD", "c1", &pod, &config).ok();
    altname(&pod, "add", "net1", "eth0");
    end_silently(&node, &pod, "net1");
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
    ip(&pod, "link add eth0 type bridge");
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(altnames(name_of(&pod), "net1"), ["rack7"]);
    node.call("DEL", "c1", &pod, &config).ok();
    let mut names = altnames(&host, VF);
    names.sort();
    assert_eq!(names, ["eth0", "rack7"]);
}

#[test]
fn a_name_taken_at_home_does_not_keep_the_vf_away() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    node.hide_netdev();
    ip(&node.host, &format!("link add {VF} type bridge"));
    node.call("DEL", "c1", &pod, &config).ok();
    let home = Node::link(&node.host, "xvf0");
    assert_eq!(
        (&home["ifalias"], &home["address"]),
        (&json!(PCI), &json!(MAC)),
        "{home}"
    );
    assert_eq!(node.state("attachments"), Vec::<String>::new());
}
