//! The agent without a configuration file.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};
use xpu_tests::guest::{
    agent::{Agent, SOCKET, STATE},
    http,
    operator::{self, create, xpuctl},
    topology::Topology,
    wait::wait_until,
};

use crate::CONVERGENCE;

fn mode(path: &str) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

/// Only where the lab's FRR is, it can't know.
#[test]
fn without_a_file_it_runs_and_serves_what_needs_no_fabric() -> Result<()> {
    let topology = Topology::clean()?;
    let env = [("XPU_AGENT_FRR__SOCKET_DIRECTORY", "/run/frr/xpu")];
    let agent = Agent::start_bare(&topology.xpu, &env)?;
    wait_until("it is ready", CONVERGENCE, || http::is_ready(&topology.xpu))?;
    ensure!(mode(SOCKET)? == 0o600, "{SOCKET}: {:o}", mode(SOCKET)?);
    for folder in STATE {
        ensure!(mode(folder)? & 0o022 == 0, "{folder}: {:o}", mode(folder)?);
    }

    // A port's netdev is the one that is called like it.
    topology.xpu.run("ip link add port-one type dummy")?;
    create("logical-bridge net-blue --vlan 100")?;
    create("bridge-port port-one --mac 02:00:00:00:00:01 --access net-blue")?;
    let vlans = topology.xpu.json("bridge -j vlan show dev port-one")?;
    ensure!(vlans[0]["vlans"][0]["vlan"] == 100, "{vlans}");

    // What needs a VTEP says so, and where to give it one.
    xpuctl("create logical-bridge net-red --vlan 200 --vni 10200")?;
    let red = operator::get("logical-bridge", "net-red")?;
    let said = red["status"].to_string();
    ensure!(
        said.contains("_DOWN") && said.contains("underlay.vtep"),
        "{said}"
    );
    let status = agent.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
