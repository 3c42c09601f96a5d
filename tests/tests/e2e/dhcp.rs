//! Addresses by DHCP: the CNI project's `dhcp` plugin and its daemon, and a server in another pod.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use xpu_tests::guest::{
    operator::{create, names},
    pod::Pod,
    runtime::{Attachment, CNI_PATH, INTERFACE, is_home},
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

const SERVER: &str = "10.100.0.1";
const LEASES: &str = "/run/lab/dhcp-leases";
/// Where plugin and daemon meet.
const DAEMON: &str = "/run/cni/dhcp.sock";

/// A program that runs as long as the test.
struct Running(Child);

impl Running {
    fn start(words: &[&str]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no words")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {words:?}"))?;
        Ok(Self(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The plugin's daemon, which keeps the leases.
fn daemon() -> Result<Running> {
    // What the last one left.
    let _none = fs::remove_file(DAEMON);
    let daemon = Running::start(&[&format!("{CNI_PATH}/dhcp"), "daemon"])?;
    wait_until("the daemon listens", CONVERGENCE, || {
        ensure!(Path::new(DAEMON).exists(), "no {DAEMON}");
        Ok(())
    })?;
    Ok(daemon)
}

fn leases() -> String {
    fs::read_to_string(LEASES).unwrap_or_default()
}

#[test]
fn an_address_is_leased_for_the_pods_life() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let server = format!("{SERVER}/24");
    let server = lab.access("dhcp-server", 1, "net-blue", &[&server], &[])?;
    fs::write(LEASES, "")?;
    let file = format!("--dhcp-leasefile={LEASES}");
    let option = format!("--dhcp-option=option:router,{SERVER}");
    let _dnsmasq = Running::start(&server.pod.netns().words(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        "--user=root",
        "--port=0",
        "--interface=net1",
        "--bind-interfaces",
        "--dhcp-authoritative",
        "--dhcp-range=10.100.0.100,10.100.0.110,255.255.255.0,1h",
        &option,
        &file,
    ]))?;
    wait_until("dnsmasq listens", CONVERGENCE, || {
        let sockets = server.pod.netns().run("ss -H -l -n -u")?;
        ensure!(sockets.contains(":67 "), "{sockets}");
        Ok(())
    })?;
    let daemon = daemon()?;

    let vf = &lab.vfs[0];
    let pod = Pod::create("dhcp-client")?;
    let attachment = Attachment::new(&pod, vf, json!({ "logical_bridge": "net-blue" }))
        .with(json!({ "ipam": { "type": "dhcp" } }));
    let result = attachment.add()?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default();
    ensure!(
        address.starts_with("10.100.0.1") && address.ends_with("/24"),
        "{result}"
    );
    ensure!(result["ips"][0]["interface"] == 0, "{result}");
    ensure!(result["routes"].to_string().contains(SERVER), "{result}");
    let (ip, _) = address.split_once('/').context("no prefix")?;
    let lease = leases();
    ensure!(
        lease
            .lines()
            .any(|line| line.contains(&vf.mac) && line.contains(ip)),
        "{lease:?} has no {ip} of {}",
        vf.mac
    );
    let link = pod.netns().json(&format!("ip -j addr show {INTERFACE}"))?;
    ensure!(link[0]["addr_info"].to_string().contains(ip), "{link}");
    xpu_tests::guest::ping::reaches(pod.netns(), SERVER)?;

    // All that a runtime may ask meanwhile.
    let kept = attachment.clone().with(json!({ "prevResult": result }));
    let told = kept.run("CHECK")?;
    ensure!(told.ok, "CHECK: {}; {}", told.json, told.log);
    let told = attachment.run("STATUS")?;
    ensure!(told.ok, "STATUS: {}; {}", told.json, told.log);
    let (pods, key) = (["dhcp-client", "dhcp-server"], "cni.dev/valid-attachments");
    let valid = pods.map(|pod| json!({ "containerID": format!("pod-{pod}"), "ifname": INTERFACE }));
    let told = attachment.clone().with(json!({ key: valid })).run("GC")?;
    ensure!(told.ok, "GC: {}; {}", told.json, told.log);
    ensure!(kept.run("CHECK")?.ok, "GC took what is valid");

    // The daemon gives the lease back from inside the pod, so the VF may go only after that.
    attachment.del()?;
    wait_until("the lease is given back", CONVERGENCE, || {
        let left = leases();
        ensure!(!left.contains(&vf.mac), "{left}");
        Ok(())
    })?;
    is_home(vf)?;

    // A pod whose namespace's name is gone first ends all the same. The daemon has the namespace
    // open until it ends, and the VF is in there until then.
    attachment.add()?;
    pod.netns().delete()?;
    attachment.del()?;
    drop(daemon);
    let _another = self::daemon()?;
    wait_until("the VF is home", CONVERGENCE, || {
        attachment.del()?;
        is_home(vf)
    })?;
    server.attachment.del()?;
    ensure!(names("bridge-port")?.is_empty(), "a port is left");
    Ok(())
}
