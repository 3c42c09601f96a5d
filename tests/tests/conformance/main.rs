//! `xpu-cni` driven by clients that are not ours: libcni, cnitool and Multus, in the lab.
//!
//! `make conformance` builds them (`tests/conformance/`) and runs this. Each test begins with a
//! clean lab, an agent and one LogicalBridge; what the clients print is compared as it is, what
//! they leave behind is asked of the kernel and of the agent.

mod cnitool;
mod kubernetes;
mod libcni;
mod manifests;
mod multus;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    addresses::{BLUE_VLAN, BLUE_VNI},
    agent::Agent,
    netns::Netns,
    operator::{create, names},
    runtime::is_home,
    topology::Topology,
    vf::Vf,
};

/// Where clients find plugins: ours, Multus, and Debian's for IPAM and the default network.
const CNI_PATH: &str = "CNI_PATH=/opt/lab/bin:/usr/lib/cni";
/// What the tests write for the clients.
const FILES: &str = "/run/lab/conformance";
/// The folder of the plugin's host-wide file.
const HOST_CONFIG: &str = "/etc/cni/net.d/xpu-cni.d";
/// What the plugin logged, over all its calls of one test.
const PLUGIN_LOG: &str = "/run/lab/conformance/xpu-cni.log";

/// A MAC that pods ask for, for the first VF.
const MAC: &str = "02:c0:ff:ee:00:02";

/// A node of the lab: the agent runs, the LogicalBridge `net-blue` is there.
struct Node {
    vfs: Vec<Vf>,
    agent: Agent,
    /// Last, since it holds the right to the network.
    _topology: Topology,
}

impl Node {
    fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        if Path::new(FILES).exists() {
            fs::remove_dir_all(FILES)?;
        }
        fs::create_dir_all(FILES)?;
        // The plugin logs where the host says, not where a network does.
        fs::create_dir_all(HOST_CONFIG)?;
        fs::write(
            Path::new(HOST_CONFIG).join("xpu-cni.conf"),
            json!({ "logFile": PLUGIN_LOG }).to_string(),
        )?;
        let vfs = topology.vfs()?;
        let first = vfs.first().context("the lab has no VF")?;
        // The agent finds a port by its MAC, so one that a pod asks for must be in its map, which
        // is the last of the configuration.
        let config = format!(
            "{}\"{MAC}\" = \"{}\"\n",
            Agent::lab_config()?,
            first.representor
        );
        let agent = Agent::start(&topology.xpu, &config)?;
        create(&format!(
            "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
        ))?;
        Ok(Self {
            vfs,
            agent,
            _topology: topology,
        })
    }

    fn vf(&self) -> Result<&Vf> {
        self.vfs.first().context("the lab has no VF")
    }
}

/// The plugin's configuration for `net-blue`. The device is Multus' to say.
fn network() -> Value {
    json!({
        "type": "xpu-cni",
        "logical_bridge": "net-blue",
        "logLevel": "info",
    })
}

/// The same with the device, for clients that give none.
fn plugin(vf: &Vf) -> Value {
    let mut config = network();
    config["deviceID"] = vf.pci.as_str().into();
    config
}

/// Writes a client's file; answers with its path.
fn write(name: &str, content: &Value) -> Result<PathBuf> {
    let path = Path::new(FILES).join(name);
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(&path, content.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The plugin's log, for messages and for what it was asked.
fn plugin_log() -> String {
    fs::read_to_string(PLUGIN_LOG).unwrap_or_default()
}

/// Asserts that nothing of an attachment is left: VF at home, no port, no record, no address.
fn nothing_left(vf: &Vf) -> Result<()> {
    is_home(vf)?;
    let ports = names("bridge-port")?;
    ensure!(ports.is_empty(), "the agent still has {ports:?}");
    for folder in ["attachments", "tombstones"] {
        let folder = Path::new("/var/lib/cni/xpu-cni").join(folder);
        let left: Vec<_> = match fs::read_dir(&folder) {
            Ok(entries) => entries.filter_map(Result::ok).collect(),
            Err(_) => Vec::new(),
        };
        ensure!(left.is_empty(), "{} has {left:?}", folder.display());
    }
    Ok(())
}

/// The interface of a pod as the kernel has it: `ip -j address show`.
fn interface(pod: &Netns, name: &str) -> Result<Value> {
    let found = pod.json(&format!("ip -j address show dev {name}"))?;
    found
        .get(0)
        .cloned()
        .with_context(|| format!("no {name} in {}", pod.name()))
}

/// The global addresses of an interface with their prefixes, in the kernel's order.
fn addresses(interface: &Value) -> Vec<String> {
    let all = interface["addr_info"].as_array().into_iter().flatten();
    all.filter(|it| it["scope"] == "global")
        .map(|it| {
            format!(
                "{}/{}",
                it["local"].as_str().unwrap_or("?"),
                it["prefixlen"]
            )
        })
        .collect()
}
