//! A node made of network namespaces: one is the host, veth pairs are its VFs.
//!
//! The plugin is the test's build of it (`xpu-cni-testbed`), which takes sysfs from a folder and a
//! veth for a VF by its alias; all else is as it is installed.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    agent::FakeAgent,
    calls::{IFNAME, Plugin},
    floor::{Namespace, enter},
    site::{Peer, Site, Vf, host_device, shipped},
};
use crate::guest::{netns::Netns, pod::Pod};

/// VFs of one card.
const PER_CARD: usize = 56;
/// What the namespaces' names begin with.
const PREFIX: &str = "xbench";

/// The node. Its namespaces end with it.
#[derive(Debug)]
pub struct Node {
    host: Netns,
    plugin: Plugin,
    vfs: Vec<Vf>,
    peers: Vec<Peer>,
    agent: FakeAgent,
    // Last, since fields are dropped in this order and the agent's socket is in it.
    root: TempDir,
}

impl Node {
    /// A node with so many VFs for us, and as many for each peer.
    ///
    /// # Errors
    /// Where the kernel refuses a part of it; without root it does.
    pub fn new(ours: usize, theirs: usize) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let host = Netns::named(PREFIX);
        host.delete()?; // of a run that was killed
        Pod::delete_all()?;
        let host = Netns::create(host.name())?;
        let agent = FakeAgent::start(&root.path().join("agent.sock"))?;
        let env = vec![
            (
                "XPU_TESTBED_ROOT".to_owned(),
                root.path().display().to_string(),
            ),
            (
                "CNI_PATH".to_owned(),
                root.path().join("bin").display().to_string(),
            ),
        ];
        let plugin = Plugin {
            label: "xpu-cni".to_owned(),
            program: shipped("xpu-cni-testbed")?,
            env,
        };
        let mut node = Self {
            host,
            plugin,
            vfs: Vec::new(),
            peers: Vec::new(),
            agent,
            root,
        };
        node.add_vfs(ours)?;
        let other = |number| Vf {
            pci: String::new(),
            name: format!("hd{number}"),
        };
        let vfs: Vec<_> = (0..theirs).map(other).collect();
        if !vfs.is_empty() {
            node.host.ip_batch(&pairs(&vfs))?;
            node.peers.push(Peer {
                plugin: host_device()?,
                vfs,
                config: |vf| {
                    json!({"cniVersion": "1.0.0", "name": "red", "type": "host-device",
                           "device": vf.name})
                },
            });
        }
        Ok(node)
    }

    /// Makes this thread live on the node's host.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        enter(Path::new(&self.host.path()))
    }

    /// Gives the host more VFs.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_vfs(&mut self, count: usize) -> Result<()> {
        let from = self.vfs.len();
        let more: Vec<_> = (from..from + count).map(vf).collect();
        self.host.ip_batch(&pairs(&more))?;
        for (number, vf) in (from..).zip(&more) {
            self.show_in_sysfs(number, vf)?;
        }
        self.vfs.extend(more);
        Ok(())
    }

    /// Gives the host links that are no VFs, up to so many links in all.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn fill_links(&self, count: usize) -> Result<()> {
        let have = self.host.links()?.len();
        let pairs = (have..count).step_by(2);
        let lines = pairs.fold(String::new(), |mut lines, number| {
            // Writing to a string doesn't fail.
            let _ok = writeln!(lines, "link add o{number} type veth peer name p{number}");
            lines
        });
        self.host.ip_batch(&lines)
    }

    /// An IPAM plugin that always gives the same answer.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn make_ipam(&self, name: &str, answer: &Value) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;

        let bin = self.root.path().join("bin");
        fs::create_dir_all(&bin)?;
        let script = format!(
            "#!/bin/sh\nread -r config\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho '{answer}'\n"
        );
        fs::write(bin.join(name), script)?;
        Ok(fs::set_permissions(
            bin.join(name),
            fs::Permissions::from_mode(0o755),
        )?)
    }

    /// Takes a VF's carrier away, or gives it back.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_carrier(&self, vf: &Vf, on: bool) -> Result<()> {
        let state = if on { "up" } else { "down" };
        let line = format!("link set w-{} {state}\n", vf.name);
        self.host.ip_batch(&line).map(drop)
    }

    /// The agent's socket.
    #[must_use]
    pub fn agent_socket(&self) -> &Path {
        self.agent.socket()
    }

    fn devices(&self) -> PathBuf {
        self.root.path().join("sys/bus/pci/devices")
    }

    /// The folder of all interfaces, by name.
    fn interfaces(&self) -> PathBuf {
        self.root.path().join("sys/class/net")
    }

    /// Shows a VF's interface under another name.
    fn rename_in_sysfs(&self, vf: &Vf, from: &str, to: &str) -> Result<()> {
        for folder in [self.devices().join(&vf.pci).join("net"), self.interfaces()] {
            fs::rename(folder.join(from), folder.join(to))
                .with_context(|| format!("show {to} in {}", folder.display()))?;
        }
        Ok(())
    }

    fn show_in_sysfs(&self, number: usize, vf: &Vf) -> Result<()> {
        let devices = self.devices();
        let (card, number) = (card(number), number % PER_CARD);
        fs::create_dir_all(devices.join(&vf.pci).join("net").join(&vf.name))?;
        symlink(format!("../{card}"), devices.join(&vf.pci).join("physfn"))?;
        let class = self.interfaces().join(&vf.name);
        fs::create_dir_all(&class)?;
        fs::write(class.join("ifalias"), format!("{}\n", vf.pci))?;
        fs::write(class.join("netdev_group"), "0\n")?;
        let card = devices.join(card);
        fs::create_dir_all(&card)?;
        symlink(
            format!("../{}", vf.pci),
            card.join(format!("virtfn{number}")),
        )?;
        Ok(())
    }
}

fn card(number: usize) -> String {
    format!("0000:{:02x}:00.0", 0x10 + number / PER_CARD)
}

fn vf(number: usize) -> Vf {
    let (bus, on_card) = (0x10 + number / PER_CARD, number % PER_CARD);
    Vf {
        pci: format!("0000:{bus:02x}:{:02x}.{}", 1 + on_card / 8, on_card % 8),
        name: format!("vf{number}"),
    }
}

/// The commands that make veth pairs, each with its other end up.
fn pairs(vfs: &[Vf]) -> String {
    let mut lines = String::new();
    for Vf { pci, name } in vfs {
        // Writing to a string doesn't fail.
        let _ok = writeln!(lines, "link add {name} type veth peer name w-{name}");
        let _ok = writeln!(lines, "link set w-{name} up");
        if !pci.is_empty() {
            let _ok = writeln!(lines, "link set {name} alias {pci}");
        }
    }
    lines
}

impl Site for Node {
    fn name(&self) -> &'static str {
        "native"
    }

    fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    fn config(&self, vf: &Vf) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "red", "type": "xpu-cni", "deviceID": vf.pci,
            "agent": format!("unix://{}", self.agent.socket().display()), "logical_bridge": "blue",
        })
    }

    fn with_real_agent(&self, _: &Vf) -> Option<Value> {
        None
    }

    fn vfs(&self) -> &[Vf] {
        &self.vfs
    }

    fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// A veth dies with its namespace; a VF goes home. So it is taken home first, as the kernel
    /// does it.
    fn lose(&self, vf: &Vf, pod: Pod) -> Result<()> {
        let (mut inside, host) = (Namespace::open(&pod.path())?, Namespace::own()?);
        let index = inside.index_of(IFNAME)?;
        inside.move_link(index, &host, &stray(vf), false)?;
        self.rename_in_sysfs(vf, &vf.name, &stray(vf))
    }

    fn found(&self, vf: &Vf) -> Result<()> {
        self.rename_in_sysfs(vf, &stray(vf), &vf.name)?;
        Namespace::own()?.index_of(&vf.name).map(drop)
    }
}

/// The name that the kernel gives a device it takes home.
fn stray(vf: &Vf) -> String {
    format!("dev-{}", vf.name)
}

impl Drop for Node {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _left = self.host.delete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vf_has_an_address_of_its_own() {
        let mut all: Vec<_> = (0..1200).map(|number| vf(number).pci).collect();
        assert_eq!(
            (all[0].as_str(), all[57].as_str()),
            ("0000:10:01.0", "0000:11:01.1")
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1200);
    }
}
