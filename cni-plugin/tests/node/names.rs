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

/// The kernel takes a device's further name for a name that is taken, also for that device.
#[test]
fn a_vf_that_has_its_own_name_as_a_further_one_is_called_by_it_again() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    end_silently(&node, &pod, "dev7");
    altname(&node.host, "add", "dev7", VF);
    node.hide_netdev();
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    node.assert_clean();
    assert!(!answer.stderr.contains("Warn"), "{answer:?}");
}

/// It is home already when the kernel finds its name taken.
#[test]
fn a_further_name_of_a_vf_whose_name_was_taken_at_home_is_not_in_its_way() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    altname(&node.host, "add", VF, "rack7");
    node.call("ADD", "c1", &pod, &config).ok();
    node.hide_netdev();
    ip(&node.host, &format!("link add {VF} type bridge"));
    let answer = node.call("DEL", "c1", &pod, &config);
    answer.ok();
    let home = Node::link(&node.host, "xvf0");
    assert_eq!(home["ifalias"], PCI, "{home}");
    assert_eq!(home["altnames"], json!(["rack7"]), "{home}");
    assert_eq!(node.state("attachments"), Vec::<String>::new());
    // Who wants the name back is told how.
    let told = "`ip link set xvf0 name vf0`";
    assert!(answer.stderr.contains(told), "{answer:?}");
}

/// The host may call the VF by the name that it gets in the pod.
#[test]
fn a_further_name_that_the_vf_gets_in_the_pod_keeps_no_vf() {
    let mut node = Node::new();
    let host = node.host.clone();
    let (pod, config) = (node.pod(), node.config(json!({})));
    for name in ["net1", "rack7"] {
        altname(&host, "add", VF, name);
    }
    for _again in 0..2 {
        node.call("ADD", "c1", &pod, &config).ok();
        assert_eq!(altnames(name_of(&pod), "net1"), ["rack7"]);
        // What the pod names it is not taken for one of the host's.
        altname(&pod, "add", "net1", "evil");
        node.call("DEL", "c1", &pod, &config).ok();
        let mut names = altnames(&host, VF);
        names.sort();
        assert_eq!(names, ["net1", "rack7"]);
    }
}

/// A pod is quick to name what comes, while the kernel finds its interface's name taken.
#[test]
fn a_further_name_of_the_pods_is_not_kept_for_the_hosts() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    altname(&node.host, "add", VF, "net1");
    let line = format!(
        "move -n {} link property add dev {VF} altname evil",
        name_of(&pod)
    );
    let env = [("XPU_TESTBED_AFTER", line.as_str())];
    let answer = node.call_with("ADD", "c1", &pod, &config.to_string(), &env);
    answer.ok();
    assert!(answer.stderr.contains("unix_wait_status(0)"), "{answer:?}");
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(altnames(&node.host, VF), ["net1"]);
}

/// The pod was looked at, and makes an interface of that name only then.
#[test]
fn a_name_that_the_pod_takes_before_the_vf_comes_is_told() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let held = node.agent.hold();
    let answer = std::thread::scope(|scope| {
        let add = scope.spawn(|| node.call("ADD", "c1", &pod, &config));
        held.entered.recv().unwrap();
        ip(&pod, "link add net1 type bridge");
        held.release();
        add.join().unwrap()
    });
    let (code, msg) = answer.error();
    assert_eq!(
        (code, msg.as_str()),
        (
            100,
            "the pod has an interface net1 already; give this attachment another name, or end \
                 that one"
        )
    );
    assert_eq!(
        Node::link(name_of(&pod), "net1")["linkinfo"]["info_kind"],
        "bridge"
    );
    node.assert_clean();
}
