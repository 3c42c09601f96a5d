//! `cnitool` with a network list in a file, as people try a plugin by hand.

use std::{fs, path::Path, process::Output};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    command,
    operator::{get, names},
    pod::Pod,
    runtime::INTERFACE,
};

use crate::{CNI_PATH, FILES, Node, addresses, interface, nothing_left, plugin, write};

const ADDRESS: &str = "10.100.0.63/24";

/// The tool with a list of plugins in a folder, and a pod.
struct Tool<'a> {
    pod: &'a Pod,
    path: String,
}

impl<'a> Tool<'a> {
    fn new(pod: &'a Pod, version: &str, plugins: Value) -> Result<Self> {
        let list = json!({ "cniVersion": version, "name": "lab", "plugins": plugins });
        write("net.d/10-lab.conflist", &list)?;
        let path = CNI_PATH.to_owned();
        Ok(Self { pod, path })
    }

    fn outcome(&self, verb: &str) -> Result<Output> {
        let folder = format!("NETCONFPATH={FILES}/net.d");
        let ifname = format!("CNI_IFNAME={INTERFACE}");
        let netns = self.pod.path();
        command::outcome(&[
            "env", &self.path, &folder, &ifname, "cnitool", verb, "lab", &netns,
        ])
    }

    /// Does a verb that must succeed; answers with what the tool printed.
    fn run(&self, verb: &str) -> Result<String> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.outcome(verb)?;
        let told = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "cnitool {verb}: {told}");
        Ok(String::from_utf8(stdout)?)
    }

    /// Does a verb that must fail with these words.
    fn fails(&self, verb: &str, words: &str) -> Result<()> {
        let Output { status, stderr, .. } = self.outcome(verb)?;
        let told = String::from_utf8_lossy(&stderr);
        ensure!(
            !status.success() && told.contains(words),
            "cnitool {verb} ({status}), not `{words}`: {told}"
        );
        Ok(())
    }

    fn add(&self) -> Result<Value> {
        command::parse_json("cnitool add", &self.run("add")?)
    }
}

#[test]
fn a_list_in_a_file_is_added_and_deleted() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let mut first = plugin(vf);
    first["ipam"] = json!({ "type": "static", "addresses": [{ "address": ADDRESS }] });
    // A plugin after ours reads our result as its `prevResult`.
    let second = json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } });
    let pod = Pod::create("cnitool")?;
    let tool = Tool::new(&pod, "1.0.0", json!([first, second]))?;

    let result = tool.add()?;
    ensure!(
        result["cniVersion"] == "1.0.0"
            && result["interfaces"][0]["mac"] == vf.mac.as_str()
            && result["ips"][0]["address"] == ADDRESS,
        "{result}"
    );
    let found = interface(pod.netns(), INTERFACE)?;
    ensure!(addresses(&found) == [ADDRESS], "{found}");
    let path = format!("net.ipv4.conf.{INTERFACE}.arp_filter");
    let tuned = pod.run(&format!("sysctl -n {path}"))?;
    ensure!(tuned.trim() == "1", "the chain's next plugin set {tuned:?}");

    tool.run("del")?;
    nothing_left(vf)?;
    tool.run("del")?;
    nothing_left(vf)
}

/// What a plugin before ours has made stays in the result, and ours is counted on from there.
#[test]
fn a_plugin_before_ours_in_a_list_is_borne() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let mut ours = plugin(vf);
    ours["ipam"] = json!({ "type": "static", "addresses": [{ "address": ADDRESS }] });
    let pod = Pod::create("second")?;
    let tool = Tool::new(&pod, "1.0.0", json!([{ "type": "loopback" }, ours]))?;
    let result = tool.add()?;
    let interfaces = &result["interfaces"];
    ensure!(
        interfaces[0]["name"] == "lo" && interfaces[1]["mac"] == vf.mac.as_str(),
        "{result}"
    );
    let all = result["ips"].as_array().into_iter().flatten();
    let address = all.into_iter().find(|ip| ip["address"] == ADDRESS);
    ensure!(
        address.is_some_and(|ip| ip["interface"] == 1),
        "{ADDRESS} is not of {INTERFACE}: {result}"
    );
    tool.run("check")?;
    tool.run("del")?;
    nothing_left(vf)
}

/// CHECK and STATUS by hand. GC by this tool names no attachment as valid, which is no list: libcni
/// sends a DEL for what it knows of, and the plugin guesses nothing.
#[test]
fn check_status_and_gc_by_hand() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let pod = Pod::create("hand")?;
    let tool = Tool::new(&pod, "1.1.0", json!([plugin(vf)]))?;
    tool.run("status")?;
    tool.add()?;
    tool.run("check")?;
    pod.run(&format!("ip link set {INTERFACE} down"))?;
    tool.fails("check", "expected up, found down")?;
    tool.fails("gc", "cni.dev/valid-attachments")?;
    nothing_left(vf)
}

/// The networks of the public plugin's README, under its name, beside its own host-wide file.
#[test]
fn the_public_plugins_networks_work_as_they_are() -> Result<()> {
    const BRIDGE: &str = "//network.opiproject.org/bridges/net-blue";
    let folders = [
        "/etc/kubernetes/cni/net.d/evpn-gw.d",
        "/etc/cni/net.d/evpn-gw.d",
    ];
    let node = Node::start()?;
    let vf = node.vf()?;
    let bin = format!("{FILES}/bin");
    fs::create_dir_all(&bin)?;
    command::run(&format!("xpu-cni install --bin-dir {bin}"))?;
    // Ours would be read first.
    fs::remove_dir_all(crate::HOST_CONFIG)?;
    let access = json!({
        "logical_bridge": BRIDGE,
        "ipam": { "type": "static", "addresses": [{ "address": ADDRESS }] },
    });
    let networks = [
        (access, "ACCESS"),
        (json!({ "logical_bridges": [BRIDGE] }), "TRUNK"),
        (json!({}), "TRUNK"),
    ];
    let cases = folders
        .iter()
        .flat_map(|folder| networks.iter().map(move |it| (folder, it)));
    for (folder, (network, kind)) in cases {
        let file = format!("{folder}/pci_to_mac.conf");
        let _public = Folder::with(folder, "evpn-gw.conf", &json!({ "pci_to_mac_path": file }))?;
        let mut config = network.clone();
        config["type"] = "evpn-gw".into();
        config["deviceID"] = vf.pci.as_str().into();
        // What the host pins is what a network may say, so this file was read.
        config["pci_to_mac_path"] = file.into();
        let pod = Pod::create("public")?;
        let mut tool = Tool::new(&pod, "0.4.0", json!([config]))?;
        tool.path = format!("CNI_PATH={bin}:/usr/lib/cni");
        let result = tool.add()?;
        ensure!(
            result["interfaces"][0]["mac"] == vf.mac.as_str(),
            "{network}: {result}"
        );
        let ports = names("bridge-port")?;
        ensure!(ports.len() == 1, "{network}: {ports:?}");
        let port = get("bridge-port", &ports[0])?;
        let told = port["spec"]["ptype"].as_str().unwrap_or_default();
        ensure!(told.ends_with(kind), "{network}: {port}");
        tool.run("check")?;
        tool.run("del")?;
        nothing_left(vf)?;
    }
    Ok(())
}

/// A folder with a file that goes with it.
struct Folder(&'static str);

impl Folder {
    fn with(folder: &'static str, name: &str, content: &Value) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(Path::new(folder).join(name), content.to_string())?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(self.0);
    }
}
