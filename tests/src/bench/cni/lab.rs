//! The lab's machine: igb's VFs.
//!
//! The real agent works on the same emulated processor as the plugin that waits for it. So it has
//! rows of its own; the others have the agent that the native ones have.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    agent::FakeAgent,
    calls::Plugin,
    floor::Namespace,
    site::{Peer, Site, Vf, host_device, shipped},
};
use crate::guest::{
    addresses::{BLUE_VLAN, BLUE_VNI},
    agent::Agent,
    operator::create,
    pod::Pod,
    topology::Topology,
    wait::wait_until,
};

/// Where the agent that only answers listens.
const FAKE: &str = "/run/lab/bench-agent.sock";
const HOME_LIMIT: Duration = Duration::from_secs(30);

/// A clean lab with an agent and one network.
#[derive(Debug)]
pub struct Lab {
    plugin: Plugin,
    vfs: Vec<Vf>,
    peers: Vec<Peer>,
    fake: FakeAgent,
    _agent: Agent,
    /// The last to go: with it the next run begins.
    _topology: Topology,
}

impl Lab {
    /// Sets it up.
    ///
    /// # Errors
    /// Where a part of the lab does not do as it should.
    pub fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        let agent = Agent::start(&topology.xpu, &Agent::lab_config()?)?;
        create(&format!(
            "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
        ))?;
        // Of a wire with several functions only the first has the representor.
        let vfs = topology.vfs()?;
        let vfs = vfs.into_iter().filter(|vf| vf.number == 0);
        let vfs: Vec<_> = vfs
            .map(|vf| Vf {
                pci: vf.pci,
                name: vf.name,
            })
            .collect();
        let peer = Peer {
            plugin: host_device()?,
            vfs: vfs.clone(),
            config: |vf| {
                json!({"cniVersion": "1.0.0", "name": "red", "type": "host-device",
                       "pciBusID": vf.pci})
            },
        };
        Ok(Self {
            plugin: Plugin {
                label: "xpu-cni".to_owned(),
                program: shipped("xpu-cni")?,
                env: Vec::new(),
            },
            vfs,
            peers: vec![peer],
            fake: FakeAgent::start(Path::new(FAKE))?,
            _agent: agent,
            _topology: topology,
        })
    }
}

/// The configuration for a VF, for the agent that listens where agents do.
fn real_agent(vf: &Vf) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "red", "type": "xpu-cni", "deviceID": vf.pci,
        "logical_bridge": "net-blue",
    })
}

impl Site for Lab {
    fn name(&self) -> &'static str {
        "lab"
    }

    fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    fn config(&self, vf: &Vf) -> Value {
        let mut config = real_agent(vf);
        config["agent"] = json!(format!("unix://{}", self.fake.socket().display()));
        config
    }

    fn with_real_agent(&self, vf: &Vf) -> Option<Value> {
        Some(real_agent(vf))
    }

    fn vfs(&self) -> &[Vf] {
        &self.vfs
    }

    fn peers(&self) -> &[Peer] {
        &self.peers
    }

    fn lose(&self, vf: &Vf, pod: Pod) -> Result<()> {
        drop(pod);
        let net = Path::new("/sys/bus/pci/devices").join(&vf.pci).join("net");
        wait_until("the VF is home", HOME_LIMIT, || {
            ensure!(
                fs::read_dir(&net).is_ok_and(|mut names| names.next().is_some()),
                "{} has no interface",
                vf.pci
            );
            Ok(())
        })
    }

    fn found(&self, vf: &Vf) -> Result<()> {
        Namespace::own()?.index_of(&vf.name).map(drop)
    }
}
