//! Where is measured: a node with VFs, our plugin on it, and others'.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::calls::{Call, Plugin};
use crate::{
    bench::report::target_folder,
    guest::{netns::Netns, pod::Pod},
    runner::programs,
};

/// A virtual function at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vf {
    /// Its PCI address.
    pub pci: String,
    /// Its interface's name.
    pub name: String,
}

/// Somebody else's plugin.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The program.
    pub plugin: Plugin,
    /// The VFs it is given; no others than ours where they are the same real ones.
    pub vfs: Vec<Vf>,
    /// Its configuration for a VF.
    pub config: fn(&Vf) -> Value,
}

/// A node.
pub trait Site {
    /// `native` or `lab`.
    fn name(&self) -> &'static str;
    /// Our plugin.
    fn plugin(&self) -> &Plugin;
    /// Its configuration for a VF: access to one network, no IPAM.
    fn config(&self, vf: &Vf) -> Value;
    /// The same with the real agent, where there is one.
    fn with_real_agent(&self, vf: &Vf) -> Option<Value>;
    /// The VFs there are for it.
    fn vfs(&self) -> &[Vf];
    /// Who does the same.
    fn peers(&self) -> &[Peer];
    /// Ends a pod's namespace while its VF is in it, and waits until the VF is home, where it has
    /// another name now.
    ///
    /// # Errors
    /// Where it does not come home.
    fn lose(&self, vf: &Vf, pod: Pod) -> Result<()>;
    /// Called when the VF has its name again.
    ///
    /// # Errors
    /// Where it has not.
    fn found(&self, vf: &Vf) -> Result<()>;
}

/// Where programs are started from in the lab's machine, whose work tree is 9p; not where other
/// jobs have theirs.
const IN_GUEST: &str = "/opt/lab/bench";

/// A program of the benchmark's, built by `make bench-tools`.
///
/// # Errors
/// Where it can't be copied.
pub fn tool(name: &str) -> Result<PathBuf> {
    ready(target_folder().join("bench").join(name))
}

/// A program built as it is installed, by `make cni`.
///
/// # Errors
/// As [`tool`].
pub fn shipped(name: &str) -> Result<PathBuf> {
    ready(target_folder().join("cni").join(name))
}

/// A program as an installer leaves it: written in one piece, so that the kernel has it in large
/// folios and maps it with fewer faults than what a linker wrote here and there.
fn ready(program: PathBuf) -> Result<PathBuf> {
    let folder = match env::var_os("XPU_LAB_GUEST") {
        Some(_) => PathBuf::from(IN_GUEST),
        None => target_folder().join("bench/installed"),
    };
    let copy = folder.join(program.file_name().unwrap_or_default());
    programs::copy(&program, &copy).with_context(|| format!("copy {}", program.display()))?;
    Ok(copy)
}

/// The CNI project's own plugin for moving a device.
///
/// # Errors
/// As [`tool`].
pub fn host_device() -> Result<Plugin> {
    let peers = target_folder().join("bench");
    Ok(Plugin {
        label: "host-device 1.9.1".to_owned(),
        program: tool("host-device")?,
        env: vec![("CNI_PATH".to_owned(), peers.display().to_string())],
    })
}

/// A call for a pod.
#[must_use]
pub fn call(verb: &'static str, pod: &Netns, config: &Value) -> Call {
    Call {
        verb,
        container: pod.name().to_owned(),
        netns: pod.path(),
        stdin: config.to_string(),
    }
}
