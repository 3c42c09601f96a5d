//! Across the fabric: L2 and L3 EVPN with a leaf that we did not write.

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use xpu_tests::guest::{
    addresses::{
        BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, BLUE_L3VNI, EXT_V4_PREFIX, EXT_V6_PREFIX, H_BLUE, H_EXT,
        H_SILENT, LEAF2_RMAC, LEAF2_VTEP, SPINE_TO_XPU, XPU_VTEP,
    },
    capture::Capture,
    command,
    frr::Frr,
    operator::{create, get, is_up, xpuctl},
    wait::wait_until,
};

use crate::{Attached, CONVERGENCE, Lab};

const GATEWAYS: [&str; 2] = [BLUE_GATEWAY_V4, BLUE_GATEWAY_V6];
const POD_V4: &str = "10.100.0.11";

fn blue_pod(lab: &Lab) -> Result<Attached> {
    let addresses = ["10.100.0.11/24", "fd00:100::11/64"];
    lab.access("blue", 0, "net-blue", &addresses, &GATEWAYS)
}

/// Asserts that FRR has a route of a type whose text has all the parts.
fn has_route(frr: &Frr, route_type: u8, parts: &[&str]) -> Result<()> {
    wait_until(
        &format!("a type-{route_type} route with {parts:?}"),
        CONVERGENCE,
        || {
            let routes = frr.evpn_routes(route_type)?;
            let found = routes
                .iter()
                .any(|route| parts.iter().all(|part| route.contains(part)));
            ensure!(found, "there are {routes:?}");
            Ok(())
        },
    )
}

#[test]
fn l2_a_pod_and_a_remote_host_share_a_network() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_BLUE.v4)?;
    pod.reaches("fd00:100::22")?;
    let (here, there) = (lab.topology.xpu_frr(), lab.topology.leaf2_frr());
    for frr in [&here, &there] {
        has_route(frr, 3, &[XPU_VTEP])?;
        has_route(frr, 3, &[LEAF2_VTEP])?;
        has_route(frr, 2, &[&pod.vf.mac])?;
        has_route(frr, 2, &[H_BLUE.mac])?;
    }
    // The foreign leaf has the pod in its forwarding table, by the kernel's word.
    let fdb = lab.topology.leaf2.json("bridge -j fdb show")?;
    let entry = fdb
        .as_array()
        .into_iter()
        .flatten()
        .any(|entry| entry["mac"] == pod.vf.mac.as_str() && entry["dst"] == XPU_VTEP);
    ensure!(
        entry,
        "leaf2 does not forward {} to {XPU_VTEP}: {fdb}",
        pod.vf.mac
    );
    // The far end is told with the network; each change of the intent looks anew.
    create("logical-bridge net-other --vlan 101")?;
    let bridge = get("lb", "net-blue")?.to_string();
    ensure!(
        bridge.contains("remoteVteps") && bridge.contains(LEAF2_VTEP),
        "{bridge}"
    );
    Ok(())
}

#[test]
fn l2_a_silent_host_is_reached() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    let known = lab.topology.xpu_frr().evpn_routes(2)?;
    ensure!(
        !known.iter().any(|it| it.contains(H_SILENT.mac)),
        "not silent: {known:?}"
    );
    pod.reaches(H_SILENT.v4)
}

#[test]
fn l3_a_prefix_behind_the_leaf_is_reached_from_its_vrf_alone() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    let here = lab.topology.xpu_frr();
    for prefix in [EXT_V4_PREFIX, EXT_V6_PREFIX] {
        let (address, length) = prefix.split_once('/').unwrap_or((prefix, ""));
        has_route(&here, 5, &[&format!("[{length}]:[{address}]")])?;
    }
    pod.reaches(BLUE_GATEWAY_V4)?;
    // By the Vrf's L3VNI, between the router MACs, both ways: over the L2VNI leaf2's own gateway
    // could have routed them.
    let mut capture = Capture::start(&lab.topology.xpu, "up0", "udp port 4789")?;
    pod.reaches(H_EXT.v4)?;
    pod.reaches("fd00:9::22")?;
    for (from, to) in [
        (POD_V4, H_EXT.v4),
        (H_EXT.v4, POD_V4),
        ("fd00:100::11", "fd00:9::22"),
        ("fd00:9::22", "fd00:100::11"),
    ] {
        capture.expect(&[LEAF2_RMAC, &format!("{from} > {to}")], CONVERGENCE)?;
    }

    let vrf = get("vrf", "vrf-blue")?;
    let components = vrf["status"]["components"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let details = |name: &str| {
        let found = components
            .iter()
            .find(|component| component["name"] == name);
        found
            .map(|it| it["details"].as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    };
    ensure!(details("linux").contains("routingTable"), "{components:?}");
    for fact in ["rd", "rmac", "importRts", "exportRts", "localAS"] {
        ensure!(
            details("frr").contains(&format!("\"{fact}\":")),
            "no {fact} in {components:?}"
        );
    }

    // Another tenant with the same gateway device settings, and no L3VNI of the leaf's.
    create("logical-bridge net-red --vlan 300")?;
    create("vrf vrf-red --loopback 10.255.200.1/32 --vni 50200")?;
    create(
        "svi svi-red --vrf vrf-red --logical-bridge net-red --mac 02:00:5e:00:03:00 \
         --gateway 10.30.0.1/24 --gateway fd00:30::1/64",
    )?;
    let red = lab.access(
        "red",
        1,
        "net-red",
        &["10.30.0.11/24", "fd00:30::11/64"],
        &["10.30.0.1", "fd00:30::1"],
    )?;
    red.reaches("10.30.0.1")?;
    red.never_reaches(H_EXT.v4)?;
    red.never_reaches("fd00:9::22")?;
    red.never_reaches(POD_V4)
}

/// FRR lets go of an L3VNI before its devices go: zebra can crash otherwise (FRR issue 19756).
#[test]
fn devices_of_a_deleted_vrf_stay_until_frr_has_let_go() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    let (frr, xpu) = (lab.topology.xpu_frr(), &lab.topology.xpu);
    // Remote routes over the L3VNI are in zebra and in the kernel.
    pod.reaches(H_EXT.v4)?;
    let mut links = xpu.links()?.into_iter();
    let l3 = links.find(|it| it.starts_with("l3-")).context("no L3VNI")?;
    let before = frr.pids();
    // Its answer is not waited for: it comes when FRR has done it.
    let ask = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        command::outcome(&words)
    };
    pod.attachment.del()?;
    xpuctl("delete svi svi-blue")?;

    // mgmtd takes zebra's configuration: as long as it is mute, FRR cannot be told.
    let mgmtd = Pid::from_raw(frr.pid("mgmtd")?);
    let devices = [l3.as_str(), "vrf-blue"];
    let is_held = |word: &str| -> Result<()> {
        wait_until("the Vrf says what it waits for", CONVERGENCE, || {
            let vrf = get("vrf", "vrf-blue")?.to_string();
            ensure!(vrf.contains(word), "{vrf}");
            Ok(())
        })?;
        let links = xpu.links()?;
        for device in devices {
            ensure!(
                links.iter().any(|it| it == device),
                "{device} is gone: {links:?}"
            );
        }
        let mapped = xpu.run("bridge vlan tunnelshow dev vxl3")?;
        ensure!(mapped.contains(&BLUE_L3VNI.to_string()), "{mapped}");
        Ok(())
    };
    kill(mgmtd, Signal::SIGSTOP)?;
    let another = format!(
        "xpuctl --timeout 2s update vrf vrf-blue --vni {}",
        BLUE_L3VNI + 1
    );
    let held = ask(&another)
        .and_then(|_| is_held("let go of vni"))
        .and_then(|()| ask("xpuctl --timeout 2s delete vrf vrf-blue"))
        .and_then(|_| is_held("let go of v"));
    kill(mgmtd, Signal::SIGCONT)?;
    held?;
    wait_until("the Vrf is gone", CONVERGENCE, || {
        let links = xpu.links()?;
        let left = devices
            .iter()
            .find(|device| links.iter().any(|it| it == *device));
        ensure!(left.is_none(), "{links:?}");
        let running = frr.vtysh(&["show running-config"])?;
        ensure!(!running.contains("vrf-blue"), "{running}");
        Ok(())
    })?;
    ensure!(
        frr.pids() == before,
        "FRR's daemons: {before:?}, {:?}",
        frr.pids()
    );
    wait_until("the session with the spine is up", CONVERGENCE, || {
        frr.evpn_session_up(SPINE_TO_XPU)
    })
}

/// An L3VNI that a Vrf gives up, another takes.
#[test]
fn an_l3vni_goes_from_one_vrf_to_another() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_EXT.v4)?;
    let frr = lab.topology.xpu_frr();
    let before = frr.pids();
    std::thread::scope(|scope| {
        let update =
            scope.spawn(|| xpuctl(&format!("update vrf vrf-blue --vni {}", BLUE_L3VNI + 1)));
        // It is to be had once the store has the update, long before FRR has let go of it.
        let red = format!("vrf vrf-red --loopback 10.255.101.1/32 --vni {BLUE_L3VNI}");
        wait_until("vrf-red is made", CONVERGENCE, || create(&red))?;
        match update.join() {
            Ok(updated) => updated.map(drop),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    for vrf in ["vrf-blue", "vrf-red"] {
        wait_until(&format!("{vrf} is up"), CONVERGENCE, || is_up("vrf", vrf))?;
    }
    pod.never_reaches(H_EXT.v4)?;
    ensure!(
        frr.pids() == before,
        "FRR's daemons: {before:?}, {:?}",
        frr.pids()
    );
    Ok(())
}
