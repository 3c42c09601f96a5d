//! FRR over time: it restarts without the agent, the agent's settings change, a VNI changes.

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::{
    addresses::{BLUE_L3VNI, H_BLUE, H_EXT, SPINE_TO_XPU, XPU_VTEP},
    agent::Agent,
    operator::{is_up, xpuctl},
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab, lifecycle::blue_pod};

/// An operator's lines, in contexts of his own and in the agent's.
const THEIRS: &str = "! keep this\nroute-map theirs permit 10\nexit\nrouter bgp 65001\n \
                      neighbor 198.51.100.9 remote-as 64999\nexit\n";

#[test]
fn an_frr_that_restarts_without_the_agent_comes_up_right() -> Result<()> {
    let mut lab = Lab::start_with_startup(THEIRS)?;
    lab.blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_EXT.v4)?;
    let frr = lab.topology.xpu_frr();
    let vni = format!(" vni {BLUE_L3VNI}");
    wait_until("the startup configuration is written", CONVERGENCE, || {
        let text = frr.startup_configuration()?;
        ensure!(text.lines().any(|line| line == vni), "{text}");
        Ok(())
    })?;
    let status = lab.agent.take().context("no agent")?.stop()?;
    ensure!(status.success(), "SIGTERM: {status}");
    let saved = frr.startup_configuration()?;
    for line in THEIRS.lines() {
        ensure!(
            saved.lines().any(|it| it == line),
            "`{line}` is gone: {saved}"
        );
    }

    lab.topology.restart_xpu_frr_with(&saved)?;
    pod.reaches(H_BLUE.v4)?;
    pod.reaches(H_EXT.v4)?;
    pod.reaches("fd00:9::22")?;
    ensure!(frr.startup_configuration()? == saved);

    // And the agent has nothing to add to it.
    lab.agent = Some(Agent::start(&lab.topology.xpu, &Agent::lab_config()?)?);
    wait_until("the Vrf is up", CONVERGENCE, || is_up("vrf", "vrf-blue"))?;
    ensure!(frr.startup_configuration()? == saved);
    // What is deleted goes from the file too.
    pod.attachment.del()?;
    for object in ["svi svi-blue", "vrf vrf-blue", "logical-bridge net-blue"] {
        xpuctl(&format!("delete {object}"))?;
    }
    wait_until("the Vrf has left the file", CONVERGENCE, || {
        let text = frr.startup_configuration()?;
        let left = text.contains(" vni ") || text.contains("router bgp 65001 vrf");
        ensure!(!left, "{text}");
        Ok(())
    })
}

#[test]
fn what_the_configuration_drops_leaves_frr_and_an_operators_lines_stay() -> Result<()> {
    let mut lab = Lab::with_blue()?;
    let frr = lab.topology.xpu_frr();
    frr.configure(&[
        "router bgp 65001",
        "neighbor 198.51.100.9 remote-as 64999",
        "address-family ipv4 unicast",
        "network 192.0.2.0/24",
    ])?;
    lab.agent.take().context("no agent")?.kill()?;
    // Another peer beside the spine, and other timers; then neither.
    let config = Agent::lab_config()?;
    let more = config
        .replace("keepalive = 5\nhold = 20", "keepalive = 7\nhold = 30")
        .replace(
            "[ports]\n",
            "[[bgp.peers]]\naddress = \"10.254.1.77\"\n\n[ports]\n",
        );
    ensure!(
        more != config,
        "the lab's configuration is another: {config}"
    );
    lab.agent = Some(Agent::start(&lab.topology.xpu, &more)?);
    let running = || frr.vtysh(&["show running-config"]);
    wait_until("FRR has the peer", CONVERGENCE, || {
        let text = running()?;
        ensure!(
            text.contains("10.254.1.77 activate") && text.contains("timers bgp 7 30"),
            "{text}"
        );
        Ok(())
    })?;
    lab.agent.take().context("no agent")?.kill()?;
    lab.agent = Some(Agent::start(&lab.topology.xpu, &config)?);
    wait_until("the peer is gone", CONVERGENCE, || {
        let text = running()?;
        ensure!(
            !text.contains("10.254.1.77") && text.contains("timers bgp 5 20"),
            "{text}"
        );
        Ok(())
    })?;
    let text = running()?;
    for line in [
        " neighbor 198.51.100.9 remote-as 64999",
        "  network 192.0.2.0/24",
        &format!("  network {XPU_VTEP}/32"),
        &format!(" neighbor {SPINE_TO_XPU} remote-as external"),
    ] {
        ensure!(
            text.lines().any(|it| it == line),
            "`{line}` is gone: {text}"
        );
    }
    wait_until("the session with the spine is up", CONVERGENCE, || {
        frr.evpn_session_up(SPINE_TO_XPU)
    })
}
