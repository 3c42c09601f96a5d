//! `xpu-agent purge`: all that is ours goes, and nothing else.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xpu_tests::guest::{
    addresses::H_EXT,
    agent::{Agent, CONFIG},
    command,
    operator::is_up,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab, lifecycle::blue_pod};

const PURGE: [&str; 4] = ["xpu-agent", "--config", CONFIG, "purge"];

/// The node as everybody but the agent sees it.
fn look(lab: &Lab) -> Result<Vec<String>> {
    let xpu = &lab.topology.xpu;
    let devices = ["docker0", "theirs", "dummy-a", "up0", "lo"];
    let mut seen = devices
        .iter()
        .map(|device| {
            Ok(xpu
                .settled(&format!("ip -j -d addr show dev {device}"))?
                .to_string())
        })
        .collect::<Result<Vec<_>>>()?;
    let links = xpu.links()?;
    seen.push(links.join(" "));
    for line in [
        "ip -j rule show",
        "ip -j -6 rule show",
        "ip -j route show table 77",
        "ip -j route show table all proto redirect",
        "ip -j -6 route show table all proto redirect",
    ] {
        let routes: Value = serde_json::from_str(&xpu.run(line)?)?;
        seen.push(format!("{line}: {routes}"));
    }
    let running = lab.topology.xpu_frr().vtysh(&["show running-config"])?;
    // An empty instance may stay, for VRFs of others may need it; so may empty families.
    let speaks = |line: &&str| {
        let text = line.trim();
        !["", "!", "exit", "exit-address-family", "router bgp 65001"].contains(&text)
            && !text.starts_with("address-family ")
    };
    seen.extend(running.lines().filter(speaks).map(str::to_owned));
    Ok(seen)
}

#[test]
fn a_purge_takes_what_is_ours_and_leaves_the_rest() -> Result<()> {
    let mut lab = Lab::start()?;
    lab.agent.take().context("no agent")?.kill()?;
    lab.topology.reset_xpu()?;
    let xpu = lab.topology.xpu.clone();
    xpu.ip_batch(
        "link add docker0 type bridge\nlink set docker0 up\n\
         addr add 172.17.0.1/16 dev docker0\n\
         link add theirs type vrf table 77\nlink set theirs up\n\
         link add dummy-a type dummy\nlink set dummy-a master theirs up\n\
         addr add 198.51.100.1/24 dev dummy-a\n\
         route add 203.0.113.0/24 via 198.51.100.2 table 77\n\
         route add unreachable default metric 4278198272 table 77\n",
    )?;
    let frr = lab.topology.xpu_frr();
    frr.configure(&[
        "ip prefix-list theirs seq 5 permit 192.0.2.0/24",
        "vrf theirs",
        "vni 777",
        "exit-vrf",
        "router bgp 65001",
        "neighbor 198.51.100.9 remote-as 64999",
    ])?;
    let before = look(&lab)?;
    lab.agent = Some(Agent::start(&xpu, &Agent::lab_config()?)?);
    lab.blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_EXT.v4)?;

    let refused = command::outcome(&xpu.words(&PURGE))?;
    ensure!(!refused.status.success(), "a purge beside a running agent");
    pod.reaches(H_EXT.v4)?;

    lab.agent.take().context("no agent")?.stop()?;
    pod.reaches(H_EXT.v4)?;
    let told = command::run_words(&xpu.words(&PURGE))?;
    ensure!(told.contains("delete br-tenant"), "{told}");
    // Deleted devices leave zebra's configuration when it has heard of that.
    wait_until("all that is left is theirs", CONVERGENCE, || {
        let after = look(&lab)?;
        ensure!(
            after == before,
            "before: {before:#?}\nafter: {after:#?}\n{told}"
        );
        Ok(())
    })?;
    let saved = fs::read_to_string("/etc/frr/xpu/frr.conf").unwrap_or_default();
    ensure!(
        !saved.contains("vni ") && !saved.contains("neighbor"),
        "{saved}"
    );
    ensure!(
        !command::run_words(&xpu.words(&PURGE))?.contains("delete"),
        "a second purge"
    );

    // The intent stays: an agent makes everything anew.
    lab.agent = Some(Agent::start(&xpu, &Agent::lab_config()?)?);
    wait_until("the Vrf is up again", CONVERGENCE, || {
        is_up("vrf", "vrf-blue")
    })?;
    wait_until("the pod is connected again", CONVERGENCE, || {
        xpu_tests::guest::ping::reaches(pod.pod.netns(), H_EXT.v4)
    })
}
