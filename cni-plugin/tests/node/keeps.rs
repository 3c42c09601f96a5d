//! What the plugin leaves as it is: files and devices of others, and what it doesn't know enough
//! of.

use std::{fs, io::Write, os::unix::fs::symlink, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    harness::{Node, VF, come_home, end_silently, ip, name_of, run},
    verbs::of_network,
};

/// The runtime puts the device plugin's there, and that says more.
#[test]
fn a_device_info_file_that_is_there_stays() {
    let mut node = Node::new();
    let pod = node.pod();
    let info = node.root.path().join("devinfo/red_net1");
    fs::create_dir_all(info.parent().unwrap()).unwrap();
    let of_device = r#"{"type":"pci","version":"1.1.0","pci":{"rdma-device":"mlx5_7"}}"#;
    fs::write(&info, of_device).unwrap();
    let config = node.config(json!({"runtimeConfig": {"CNIDeviceInfoFile": info}}));
    node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(fs::read_to_string(&info).unwrap(), of_device);
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(fs::read_to_string(&info).unwrap(), of_device);
    fs::remove_file(&info).unwrap();
    node.assert_clean();
}

/// What is undone again, since its addresses are kept, takes no later pod's file along.
#[test]
fn a_device_info_file_of_the_paths_next_pod_stays() {
    let mut node = Node::new();
    let (one, two, pci) = (node.pod(), node.pod(), node.make_vf(1));
    let info = node.root.path().join("devinfo/red_net1");
    let with = |mut more: Value| {
        more["runtimeConfig"] = json!({ "CNIDeviceInfoFile": info });
        node.config(more)
    };
    let config = with(json!({"ipam": {"type": "fake-ipam"}}));
    node.call("ADD", "c1", &one, &config).ok();
    let away = node.root.path().join("ipam.error.DEL");
    fs::write(&away, r#"{"code": 100, "msg": "the store is away"}"#).unwrap();
    node.call("DEL", "c1", &one, &config).error();
    assert!(!info.exists());
    // The same VF, then another one while nobody has the first.
    for next in [with(json!({})), with(json!({ "deviceID": pci }))] {
        node.call("ADD", "c2", &two, &next).ok();
        let text = fs::read_to_string(&info).unwrap();
        node.call("DEL", "c1", &one, &config).error();
        assert_eq!(fs::read_to_string(&info).unwrap(), text);
        node.call("DEL", "c2", &two, &next).ok();
        assert!(!info.exists());
    }
    fs::remove_file(away).unwrap();
    node.call("DEL", "c1", &one, &config).ok();
    node.assert_clean();
}

/// A path comes with the network's configuration, whose author is not root.
#[test]
fn a_device_info_file_anywhere_else_is_refused_before_anything_happens() {
    let mut node = Node::new();
    let pod = node.pod();
    let root = node.root.path().to_owned();
    fs::create_dir(root.join("devinfo")).unwrap();
    fs::create_dir(root.join("elsewhere")).unwrap();
    for path in [
        "elsewhere/info",
        "devinfo/../elsewhere/info",
        "devinfo/none/info",
        "devinfo/.info",
        "devinfo",
        "devinfo/info\n",
    ] {
        let path = root.join(path);
        let config = node.config(json!({
            "ipam": {"type": "fake-ipam"}, "runtimeConfig": {"CNIDeviceInfoFile": path},
        }));
        let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
        assert_eq!(code, 7, "{msg}");
        let told = "`runtimeConfig.CNIDeviceInfoFile`: `";
        assert!(msg.starts_with(told), "{msg}");
        for folder in ["devinfo", "elsewhere"] {
            let files = fs::read_dir(root.join(folder)).unwrap().count();
            assert_eq!(files, 0, "{}", path.display());
        }
        // Not even the journal's folders.
        assert!(!root.join("state").exists(), "{}", path.display());
        assert!(node.ipam_log().is_empty());
        node.assert_clean();
    }
    let inside = root.join("devinfo/info");
    let config = node.config(json!({"runtimeConfig": {"CNIDeviceInfoFile": inside}}));
    node.call("ADD", "c1", &pod, &config).ok();
    assert!(inside.exists());
}

#[test]
fn a_vf_that_the_host_uses_is_not_taken() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let master = node
        .root
        .path()
        .join("sys/class/net")
        .join(VF)
        .join("master");
    symlink("../bond0", &master).unwrap();
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 100, "{msg}");
    assert!(
        msg.contains("port of bond0") && msg.contains("ip link set vf0 nomaster"),
        "{msg}"
    );
    node.assert_clean();
    fs::remove_file(master).unwrap();
    node.call("ADD", "c1", &pod, &config).ok();
}

/// What the last pod was allowed would be taken for what the VF had at home.
#[test]
fn a_vf_whose_record_cannot_be_read_waits_for_an_operator() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let record = node.only_record();
    fs::write(&record, "{").unwrap();
    node.call("DEL", "c1", &pod, &config).ok();
    come_home(&node, &pod, VF);
    let aside = node
        .root
        .path()
        .join("state/corrupt")
        .join(record.file_name().unwrap());
    for container in ["c1", "c2"] {
        let (code, msg) = node.call("ADD", container, &pod, &config).error();
        assert_eq!(code, 11, "{msg}");
        assert!(msg.contains(aside.to_str().unwrap()), "{msg}");
    }
    fs::remove_file(&aside).unwrap();
    node.call("ADD", "c2", &pod, &config).ok();
    node.call("DEL", "c2", &pod, &config).ok();
    node.assert_clean();
}

/// Nor does its owner's next record, of another VF, tell what this one was.
#[test]
fn a_claim_that_leads_to_a_record_of_another_vf_leads_to_none() {
    let mut node = Node::new();
    let (one, two, config) = (node.pod(), node.pod(), node.config(json!({})));
    let other = node.config(json!({ "deviceID": node.make_vf(1) }));
    node.call("ADD", "c1", &one, &config).ok();
    fs::write(node.only_record(), "{").unwrap();
    node.call("DEL", "c1", &one, &config).ok();
    come_home(&node, &one, VF);
    node.call("ADD", "c1", &one, &other).ok();
    for ends_first in [false, true] {
        if ends_first {
            end_silently(&node, &one, "vf1");
        }
        let (code, msg) = node.call("ADD", "c2", &two, &config).error();
        assert_eq!(code, 11, "{msg}");
        assert!(msg.contains("last owner can't be read"), "{msg}");
        assert_eq!(node.state("attachments").len(), 1);
    }
}

#[test]
fn a_boot_that_cannot_be_told_condemns_no_record() {
    let mut node = Node::new();
    let (pod, config) = (
        node.pod(),
        node.config(json!({"ipam": {"type": "fake-ipam"}})),
    );
    node.call("ADD", "c1", &pod, &config).ok();
    let env = [("XPU_TESTBED_BOOT", "/proc/none")];
    let answer = node.call_with("DEL", "c1", &pod, &config.to_string(), &env);
    let (code, msg) = answer.error();
    assert_eq!(code, 5, "{msg}");
    assert_eq!(node.state("attachments").len(), 1);
    assert_eq!(node.agent.ports().len(), 1);
    assert_eq!(node.ipam_log(), ["ADD c1 net1"]);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Without IPAM nobody would set them, and the pod would start without.
#[test]
fn addresses_that_nobody_would_set_are_refused() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    let env = [(
        "CNI_ARGS",
        "IgnoreUnknown=1;IP=10.1.2.3/24;MAC=02:00:00:00:00:07",
    )];
    let answer = node.call_with("ADD", "c1", &pod, &config.to_string(), &env);
    let (code, msg) = answer.error();
    assert_eq!(code, 2, "{msg}");
    assert!(msg.contains("IP") && msg.contains("10.1.2.3/24"), "{msg}");
    let asks = node.config(json!({"args": {"cni": {"ips": ["10.1.2.3/24"]}}}));
    let (code, msg) = node.call("ADD", "c1", &pod, &asks).error();
    assert_eq!(code, 2, "{msg}");
    assert!(msg.contains("args.cni.ips"), "{msg}");
    node.assert_clean();
    // What says nothing asks for nothing.
    let env = [("CNI_ARGS", "IP=")];
    node.call_with("ADD", "c1", &pod, &config.to_string(), &env)
        .ok();
}

/// A pod that may make namespaces can put the interface into one. It does not keep itself from
/// ending by that, nor does it give the VF away.
#[test]
fn a_vf_in_another_namespace_is_awaited() {
    let mut node = Node::new();
    let (pod, nested, config) = (node.pod(), node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    ip(&pod, &format!("link set net1 netns {}", name_of(&nested)));
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("attachments").len(), 1);
    let (code, msg) = node.call("ADD", "c2", &pod, &config).error();
    assert_eq!(code, 11, "{msg}");
    run("ip", &["netns", "del", name_of(&pod)]);
    come_home(&node, &nested, VF);
    node.call("DEL", "c9", &nested, &config).ok();
    node.assert_clean();
}

/// A folder of the journal's on a disk of its own that is full. Emptied with it.
struct Full(PathBuf);

impl Full {
    /// The state's folder, full but for what is there.
    fn state(node: &Node) -> Self {
        let folder = node.root.path().join("state");
        let kept = node.root.path().join("kept");
        fs::rename(&folder, &kept).unwrap();
        fs::create_dir(&folder).unwrap();
        let path = folder.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=256k", "none", path]);
        let from = format!("{}/.", kept.display());
        run("cp", &["-a", &from, path]);
        let full = Self(folder);
        let mut file = fs::File::create(full.filler()).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
        full
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _unmounted = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_begins_nothing_and_forgets_nothing() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c0", &pod, &config).ok();
    node.call("DEL", "c0", &pod, &config).ok();
    let full = Full::state(&node);
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 5, "{msg}");
    node.assert_clean();
    full.empty();
    node.call("ADD", "c1", &pod, &config).ok();
    drop(full);

    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let full = Full::state(&node);
    node.agent.stop();
    // The port can neither be deleted nor noted, so the record stays.
    let (code, msg) = node.call("DEL", "c1", &pod, &config).error();
    assert_eq!(code, 5, "{msg}");
    assert!(node.only_record().exists());
    full.empty();
    node.agent.serve();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// No ADD could write its record, so no pod should be sent here.
#[test]
fn status_is_50_where_no_record_can_be_written() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let records = node.state("attachments");
    let full = Full::state(&node);
    let path = full.0.to_str().unwrap();
    let status = || of_network(&node, "STATUS", &config);
    let fails = |errno: &str| {
        let (code, msg) = status().error();
        assert_eq!(code, 50, "{msg}");
        let told = format!("can't write {path}/attachments/trial.tmp: {errno}");
        assert!(msg.starts_with(&told), "{msg}");
        assert_eq!(node.state("attachments"), records);
    };
    fails("No space left on device");
    full.empty();
    status().ok();
    run("mount", &["-o", "remount,ro", path]);
    fails("Read-only file system");
    run("mount", &["-o", "remount,rw", path]);
    // What a killed one has left.
    fs::write(full.0.join("attachments/trial.tmp"), "").unwrap();
    status().ok();
    assert_eq!(node.state("attachments"), records);
}

#[test]
fn what_a_dead_writer_left_goes_and_a_living_ones_stays() {
    let mut node = Node::new();
    let (pod, config) = (node.pod(), node.config(json!({})));
    node.call("ADD", "c1", &pod, &config).ok();
    let name = node.state("attachments").remove(0);
    let left = |digit: char| {
        let digit = if name.starts_with(digit) { 'f' } else { digit };
        let path = node.record(&format!("{digit}{}.tmp", &name[1..]));
        fs::write(&path, "{").unwrap();
        path
    };
    let dead = left('0');
    node.call("DEL", "c1", &pod, &config).ok();
    assert!(!dead.exists());
    node.assert_clean();
    let alive = left('1');
    let held = node.hold_attachment(alive.file_stem().unwrap().to_str().unwrap());
    node.call("DEL", "c1", &pod, &config).ok();
    assert!(alive.exists());
    drop(held);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Bound to a userspace driver, or to none, it has no netdev that could come home.
#[test]
fn a_dead_pods_vf_without_a_netdev_is_not_waited_for() {
    for userspace in [true, false] {
        let mut node = Node::new();
        let (pod, other, config) = (node.pod(), node.pod(), node.config(json!({})));
        node.call("ADD", "c1", &pod, &config).ok();
        run("ip", &["netns", "del", name_of(&pod)]);
        if userspace {
            node.give_to_a_program();
        } else {
            node.without_driver();
        }
        node.call("DEL", "c9", &other, &config).ok();
        assert_eq!(
            node.state("attachments"),
            Vec::<String>::new(),
            "{userspace}"
        );
        assert_eq!(node.agent.ports(), Vec::<String>::new(), "{userspace}");
        assert_eq!(Node::link(&node.host, VF), Value::Null);
    }
}
