//! A whole call: the command, `CNI_ARGS`, stdin and the host-wide file, on a host with one VF of
//! a userspace driver and no agent. Needs root, as the plugin does.

#![no_main]

use std::{fs, os::unix::fs::symlink, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use xpu_cni::{env::Vars, host::Host, version::Version};
use xpu_fuzz::parts;
use xpu_linux::sysfs::Sysfs;

const PCI: &str = "0000:af:06.0";
const PF: &str = "0000:af:00.0";

/// The host, below a folder that ends with the process.
struct Ground {
    host: Host,
    root: tempfile::TempDir,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let root = tempfile::tempdir().unwrap();
    let devices = root.path().join("sys/bus/pci/devices");
    fs::create_dir_all(devices.join(PCI)).unwrap();
    fs::create_dir_all(devices.join(PF)).unwrap();
    symlink(format!("../{PF}"), devices.join(PCI).join("physfn")).unwrap();
    symlink("/drivers/vfio-pci", devices.join(PCI).join("driver")).unwrap();
    symlink(format!("../{PCI}"), devices.join(PF).join("virtfn0")).unwrap();
    let macs = json!({ PCI: "02:00:00:00:00:07" });
    fs::write(root.path().join("macs"), macs.to_string()).unwrap();
    let host = Host {
        sysfs: Sysfs::at(root.path().join("sys")),
        state: root.path().join("state"),
        config_files: vec![root.path().join("host.conf")],
        device_info: root.path().join("devinfo"),
        ..Host::real()
    };
    Ground { host, root }
});

fuzz_target!(|data: &[u8]| {
    let Ground { host, root } = &*GROUND;
    let [command, args, stdin, file] = parts(data);
    write_host_file(root.path(), file);
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    let vars = Vars {
        command: text(command),
        container_id: Some("c1".to_owned()),
        netns: Some("/proc/self/ns/net".to_owned()),
        ifname: Some("net1".to_owned()),
        path: Some(root.path().join("bin").display().to_string()),
        args: text(args),
        // The call fails before it touches anything, for want of an agent.
        netns_override: true,
        traceparent: None,
    };
    match xpu_cni::answer(host, &vars, stdin) {
        // Nothing was there, so there is nothing to undo; all else needs the agent.
        (None, _) => assert!(matches!(command, b"DEL" | b"GC"), "{command:?}"),
        (Some(document), _) => answers(command, stdin, &document),
    }
    for folder in ["attachments", "vf", "tombstones", "corrupt", "backoff"] {
        let left = fs::read_dir(host.state.join(folder)).map(Iterator::count);
        assert_eq!(left.unwrap_or(0), 0, "{folder}");
    }
    assert!(!host.device_info.exists());
});

/// What must hold of every document, whatever it answers.
fn answers(command: &[u8], stdin: &[u8], document: &Value) {
    let version = document["cniVersion"].as_str().unwrap();
    let versions = document["supportedVersions"].is_array();
    assert_eq!(versions, command == b"VERSION", "{document}");
    if versions {
        return;
    }
    let known = Version::ALL.map(Version::as_str);
    assert!(known.contains(&version), "{document}");
    // The one that was asked for, where the configuration and what it names could be read.
    let config: Value = serde_json::from_slice(stdin).unwrap_or_default();
    let asked = config["cniVersion"].as_str().unwrap_or_default();
    let is_command = [&b"ADD"[..], b"DEL", b"CHECK", b"STATUS", b"GC"].contains(&command);
    if is_command && known.contains(&asked) && config["configuration_path"].is_null() {
        assert_eq!(version, asked, "{document}");
    }
    assert!(document["code"].as_u64().is_some_and(|code| code != 0));
    for key in ["msg", "details"] {
        let text = document[key].as_str().unwrap_or_default();
        assert!(key != "msg" || !text.is_empty(), "{document}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// The host's own configuration: what the input says, but for what leads out of the ground.
fn write_host_file(root: &Path, text: &[u8]) {
    let mut file: Map<String, Value> = serde_json::from_slice(text).unwrap_or_default();
    for (key, value) in [
        ("agent", format!("unix://{}/agent.sock", root.display())),
        ("logFile", root.join("log").display().to_string()),
        ("pci_to_mac_path", root.join("macs").display().to_string()),
    ] {
        file.insert(key.to_owned(), value.into());
    }
    fs::write(root.join("host.conf"), Value::from(file).to_string()).unwrap();
    fs::write(root.join("log"), "").unwrap();
}
