//! The whole product in the lab: real VFs, real kernel, real FRR, a foreign leaf.
//!
//! Each test begins with a clean xPU and host (`Lab::start`) and asserts by packets, `ip -j`,
//! `bridge -j` and `vtysh … json`.

mod access;
mod defaults;
mod dhcp;
mod edges;
mod evpn;
mod examples;
mod first_hour;
mod frr;
mod hostile;
mod lifecycle;
mod manager;
mod model;
mod networks;
mod operations;
mod operator;
mod purge;
mod races;
mod readme;
mod service;
mod settings;
mod silent;
mod steps;
mod tls;
mod traces;

// The model of the API that the agent's own tests have.
#[expect(dead_code, reason = "the agent's own tests use the rest")]
#[path = "../../../xpu-agent/tests/api/calls.rs"]
mod calls;
#[expect(clippy::unwrap_used, reason = "what the test generated itself")]
#[path = "../../../xpu-agent/tests/api/reference.rs"]
mod reference;
#[expect(dead_code, reason = "the agent's own tests use the rest")]
#[expect(clippy::unwrap_used, reason = "what the test generated itself")]
#[path = "../../../xpu-agent/tests/api/world.rs"]
mod world;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xpu_tests::guest::{
    addresses::{
        BLUE_GATEWAY_MAC, BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, BLUE_L3VNI, BLUE_VLAN, BLUE_VNI,
        SPINE_TO_XPU,
    },
    agent::Agent,
    operator::create,
    ping,
    pod::Pod,
    runtime::Attachment,
    topology::Topology,
    vf::Vf,
    wait::wait_until,
};

/// For what BGP, FRR and an emulated processor need to agree on something.
const CONVERGENCE: Duration = Duration::from_secs(30);

/// A clean lab with an agent.
struct Lab {
    vfs: Vec<Vf>,
    agent: Option<Agent>,
    /// The last to go: with it the next test begins.
    topology: Topology,
}

/// A pod with its VF.
struct Attached {
    pod: Pod,
    vf: Vf,
    attachment: Attachment,
    result: Value,
}

impl Lab {
    fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        let agent = Agent::start(&topology.xpu, &Agent::lab_config()?)?;
        let vfs = topology.vfs()?;
        Ok(Self {
            vfs,
            agent: Some(agent),
            topology,
        })
    }

    /// Ends the agent as a crash would, and starts it again as it was.
    fn crash_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent")?.kill()?;
        self.start_agent()
    }

    /// Starts the agent, which must have ended.
    fn start_agent(&mut self) -> Result<()> {
        self.agent = Some(Agent::start(&self.topology.xpu, &Agent::lab_config()?)?);
        Ok(())
    }

    /// The same, with "blue" as the foreign leaf has it: LogicalBridge, Vrf, Svi, all up.
    fn with_blue() -> Result<Self> {
        let lab = Self::start()?;
        lab.blue()?;
        Ok(lab)
    }

    /// As [`Self::start`], with an FRR that has a startup configuration.
    fn start_with_startup(configuration: &str) -> Result<Self> {
        let topology = Topology::clean()?;
        topology.xpu_frr().load(configuration)?;
        let agent = Agent::start(&topology.xpu, &Agent::lab_config()?)?;
        let vfs = topology.vfs()?;
        Ok(Self {
            vfs,
            agent: Some(agent),
            topology,
        })
    }

    /// Makes "blue" as the foreign leaf has it, and waits until all of it is up.
    fn blue(&self) -> Result<()> {
        self.topology
            .xpu_frr()
            .vtysh(&["show version"])
            .context("the xPU's FRR")?;
        create(&format!(
            "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
        ))?;
        create(&format!(
            "vrf vrf-blue --loopback 10.255.100.1/32 --vni {BLUE_L3VNI}"
        ))?;
        create(&format!(
            "svi svi-blue --vrf vrf-blue --logical-bridge net-blue --mac {BLUE_GATEWAY_MAC} \
             --gateway {BLUE_GATEWAY_V4}/24 --gateway {BLUE_GATEWAY_V6}/64"
        ))?;
        wait_until("the session with the spine is up", CONVERGENCE, || {
            self.topology.xpu_frr().evpn_session_up(SPINE_TO_XPU)
        })
    }

    /// Attaches VF number `wire` to a new pod.
    fn attach(
        &self,
        name: &str,
        wire: usize,
        network: Value,
        addresses: &[&str],
        gateways: &[&str],
    ) -> Result<Attached> {
        let vf = self.vfs.get(wire).context("no such VF")?.clone();
        let pod = Pod::create(name)?;
        let attachment = Attachment::new(&pod, &vf, network).addresses(addresses, gateways);
        let result = attachment.add()?;
        Ok(Attached {
            pod,
            vf,
            attachment,
            result,
        })
    }

    /// A pod in a LogicalBridge, untagged.
    fn access(
        &self,
        name: &str,
        wire: usize,
        bridge: &str,
        addresses: &[&str],
        gateways: &[&str],
    ) -> Result<Attached> {
        self.attach(
            name,
            wire,
            json!({ "logical_bridge": bridge }),
            addresses,
            gateways,
        )
    }
}

impl Attached {
    /// Reaches an address, once what has to converge has.
    fn reaches(&self, destination: &str) -> Result<()> {
        wait_until(&format!("{destination} answers"), CONVERGENCE, || {
            ping::reaches(self.pod.netns(), destination)
        })
    }

    fn never_reaches(&self, destination: &str) -> Result<()> {
        ping::never_reaches(self.pod.netns(), destination)
    }
}
