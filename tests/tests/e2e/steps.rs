//! ADD and DEL killed at each of their steps, one by one, on a VF with every setting that its PF
//! takes.
//!
//! What is killed is the build with fault points (`cni-plugin/testbed`); what comes after is the
//! installed plugin's work, and the witnesses are `ip`, `xpuctl` and the folders on the host's
//! disk. All settings are one system call, which no signal parts: a point is before and after it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    agent::{Agent, OTHER_MAC},
    command,
    operator::{self, create},
    pod::Pod,
    runtime::{Attachment, is_home},
    topology::Topology,
    vf::Vf,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

/// More points than a call has.
const MANY: u32 = 100;
/// Before each line something happened, and nothing of the line's own has.
const ADD: [&str; 17] = [
    "record",
    "claim",
    "port",
    "port",
    "ipam",
    "ipam",
    "pf",
    "pf",
    "move",
    "move",
    "reset",
    // What igb trusts keeps its address over a reset, and is told.
    "mac",
    "moved",
    "device-info",
    "device-info",
    "attached",
    "attached",
];
const DEL: [&str; 8] = [
    "undo: mark",
    "undo: pf",
    "undo: move",
    "undo: device-info",
    "undo: port",
    "undo: claim",
    "undo: ipam",
    "undo: forget",
];

const JOURNAL: [&str; 4] = ["attachments", "vf", "tombstones", "corrupt"];
const LEASES: &str = "/var/lib/cni/networks/lab";
const DEVICE_INFO: &str = "/run/k8s.cni.cncf.io/devinfo/cni";

/// A lab with a network, and one of several VFs of a PF.
struct Site {
    vf: Vf,
    /// Another VF, which nobody has.
    idle: Vf,
    before: Value,
    _lab: Lab,
}

impl Site {
    fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        let vfs = topology.vfs()?;
        let vf = vfs.iter().find(|vf| vf.number == 1).context("no such VF")?;
        let vf = vf.clone();
        let first = vfs.iter().find(|it| it.wire == vf.wire && it.number == 0);
        // A port has one VF: this one stands in for the first of its card.
        let first = first.context("no such VF")?;
        let config = Agent::lab_config()?.replace(&first.mac, &vf.mac);
        let agent = Agent::start(&topology.xpu, &config)?;
        let lab = Lab {
            vfs,
            agent: Some(agent),
            topology,
        };
        create("logical-bridge net-blue --vlan 100")?;
        Ok(Self {
            before: seen(&vf)?,
            idle: lab.vfs[0].clone(),
            vf,
            _lab: lab,
        })
    }

    fn plain(&self, pod: &Pod, vf: &Vf) -> Attachment {
        Attachment::new(pod, vf, json!({ "logical_bridge": "net-blue" }))
    }

    /// An attachment that has every step.
    fn with_all(&self, pod: &Pod) -> Attachment {
        let info = format!("{DEVICE_INFO}/default-lab-{}_net1", pod.name());
        self.plain(pod, &self.vf).with(json!({
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.100.0.0/24" }]] },
            "mtu": 1400, "max_tx_rate": 200, "spoofchk": "off", "trust": "on", "vlan_qos": 5,
            "runtimeConfig": { "mac": OTHER_MAC, "CNIDeviceInfoFile": info },
        }))
    }

    /// The settings stand, or the test would be of nothing.
    fn is_set(&self) -> Result<()> {
        let has = self.vf.as_pf_has_it()?;
        let qos = &has["vlan_list"][0]["qos"];
        ensure!(
            has["address"] == OTHER_MAC && has["rate"]["max_tx"] == 200 && *qos == 5,
            "{has}"
        );
        ensure!(has["spoofchk"] == false && has["trust"] == true, "{has}");
        Ok(())
    }

    fn is_as_before(&self) -> Result<()> {
        is_home(&self.vf)?;
        let after = seen(&self.vf)?;
        let before = &self.before;
        ensure!(after == *before, "before: {before}, after: {after}");
        let ports = operator::names("bridge-port")?;
        ensure!(ports.is_empty(), "{ports:?}");
        for folder in JOURNAL.map(|folder| format!("/var/lib/cni/xpu-cni/{folder}")) {
            let left = names(&folder);
            ensure!(left.is_empty(), "{folder}: {left:?}");
        }
        let is_lease = |name: &String| name.starts_with("10.");
        let left: Vec<_> = names(LEASES).into_iter().filter(is_lease).collect();
        ensure!(left.is_empty(), "{LEASES}: {left:?}");
        let left = names(DEVICE_INFO);
        ensure!(left.is_empty(), "{DEVICE_INFO}: {left:?}");
        Ok(())
    }
}

/// What a VF's PF says of all that it has, and the host of the VF itself.
fn seen(vf: &Vf) -> Result<Value> {
    let pf = command::json(&format!("ip -j -d link show {}", vf.pf()))?;
    let own = command::json(&format!("ip -j -d link show {}", vf.name))?;
    let keys = ["ifname", "address", "mtu", "altnames", "ifalias", "master"];
    let own: Vec<_> = keys.iter().map(|key| &own[0][key]).collect();
    let up = fs::read_to_string(format!("/sys/class/net/{}/flags", vf.name))?;
    let list = &pf[0]["vfinfo_list"];
    ensure!(list.as_array().is_some_and(|vfs| vfs.len() > 1), "{pf}");
    Ok(json!({ "of the PF": list, "own": own, "flags": up.trim() }))
}

/// The names in a folder; none where there is none.
fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.map(|it| it.to_string_lossy().into_owned()).collect()
}

/// Does `round` for each point until one tells that the call has no such point. The points' names.
fn at_each(mut round: impl FnMut(u32) -> Result<Option<String>>) -> Result<Vec<String>> {
    let mut points = Vec::new();
    for point in 1..MANY {
        match round(point).with_context(|| format!("killed at point {point}, after {points:?}"))? {
            Some(name) => points.push(name),
            None => return Ok(points),
        }
    }
    anyhow::bail!("the call never got through: {points:?}")
}

/// A VF comes home some time after its pod's namespace.
fn wait_for(vf: &Vf) -> Result<()> {
    let net = format!("/sys/bus/pci/devices/{}/net", vf.pci);
    wait_until("the VF came home", CONVERGENCE, || {
        ensure!(!names(&net).is_empty(), "{net} is empty");
        Ok(())
    })
}

#[test]
fn an_add_killed_at_any_step_is_undone_by_del() -> Result<()> {
    let site = Site::start()?;
    let pod = Pod::create("killed")?;
    let call = site.with_all(&pod);
    let points = at_each(|point| {
        let killed = call.kill_at("ADD", point)?;
        if killed.is_none() {
            site.is_set()?;
        }
        call.del()?;
        site.is_as_before()?;
        Ok(killed)
    })?;
    ensure!(points == ADD, "{points:?}");
    Ok(())
}

/// Multus may never send the DEL; the next owner of the VF gets it with nothing of this one's.
#[test]
fn an_add_killed_at_any_step_is_undone_by_the_next_call() -> Result<()> {
    let site = Site::start()?;
    let other = Pod::create("other")?;
    let (idle, next) = (site.plain(&other, &site.idle), site.plain(&other, &site.vf));
    let points = at_each(|point| {
        let pod = Pod::create("lost")?;
        let killed = site.with_all(&pod).kill_at("ADD", point)?;
        drop(pod);
        wait_for(&site.vf)?;
        // Most names are of two points, so that both have all of them.
        if point % 2 == 0 {
            next.add()?;
            let (has, had) = (site.vf.as_pf_has_it()?, &site.before["of the PF"][1]);
            ensure!(has == *had, "the next owner has {has}, not {had}");
            next.del()?;
            site.is_as_before()?;
        } else {
            // A call that is late itself leaves the rest to the one after it.
            wait_until("all is as it was", CONVERGENCE, || {
                idle.del()?;
                site.is_as_before()
            })?;
        }
        Ok(killed)
    })?;
    ensure!(points == ADD, "{points:?}");
    Ok(())
}

#[test]
fn a_del_killed_at_any_step_is_finished_by_del() -> Result<()> {
    let site = Site::start()?;
    let pod = Pod::create("killed")?;
    let call = site.with_all(&pod);
    let points = at_each(|point| {
        call.add()?;
        site.is_set()?;
        let killed = call.kill_at("DEL", point)?;
        if killed.is_some() {
            call.del()?;
        }
        site.is_as_before()?;
        Ok(killed)
    })?;
    ensure!(points == DEL, "{points:?}");
    Ok(())
}

#[test]
fn a_del_killed_at_any_step_is_finished_by_the_next_call() -> Result<()> {
    let site = Site::start()?;
    let other = Pod::create("other")?;
    let idle = site.plain(&other, &site.idle);
    let points = at_each(|point| {
        let pod = Pod::create("lost")?;
        let call = site.with_all(&pod);
        call.add()?;
        let killed = call.kill_at("DEL", point)?;
        drop(pod);
        wait_for(&site.vf)?;
        wait_until("all is as it was", CONVERGENCE, || {
            idle.del()?;
            site.is_as_before()
        })?;
        Ok(killed)
    })?;
    ensure!(points == DEL, "{points:?}");
    Ok(())
}
