//! VF settings, by what the PF says of the VF; and VFs that a userspace driver has got.
//!
//! igb takes `mac`, `max_tx_rate`, `spoofchk`, `trust` and `vlan_qos`, and refuses `min_tx_rate`
//! and `link_state`. A driver that takes these two, and that no card is needed for, is netdevsim,
//! which Debian's kernel leaves out (`CONFIG_NETDEVSIM`). So of these two it is seen that a refusal
//! is told; how they are sent, read back and put back, `vf_side` and `unit/pf` say.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    agent::OTHER_MAC,
    capture::Capture,
    command, operator,
    operator::create,
    pod::Pod,
    runtime::{Attachment, is_home},
    vf::Vf,
};

use crate::Lab;

/// A frame's way through two emulated cards.
const FRAME: Duration = Duration::from_secs(20);

/// A lab with a network, and a pod to attach VFs to.
fn lab() -> Result<(Lab, Pod)> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let pod = Pod::create("settings")?;
    Ok((lab, pod))
}

fn with(pod: &Pod, vf: &Vf, keys: Value) -> Attachment {
    Attachment::new(pod, vf, json!({ "logical_bridge": "net-blue" })).with(keys)
}

/// Asserts that ADD fails with a code and says all the parts, and that the VF is as before.
fn refused(attachment: &Attachment, vf: &Vf, code: u64, parts: &[&str]) -> Result<()> {
    let before = vf.as_pf_has_it()?;
    let answer = attachment.run("ADD")?;
    ensure!(!answer.ok, "ADD succeeded: {}", answer.json);
    let said = answer.json.to_string();
    ensure!(answer.json["code"] == code, "not code {code}: {said}");
    for part in parts {
        ensure!(said.contains(part), "it does not say {part}: {said}");
    }
    let after = vf.as_pf_has_it()?;
    ensure!(before == after, "before: {before}, after: {after}");
    ensure!(operator::names("bridge-port")?.is_empty(), "a port is left");
    Ok(())
}

#[test]
fn settings_are_set_through_the_pf_and_put_back() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    let before = vf.as_pf_has_it()?;
    let keys = json!({
        "max_tx_rate": 200, "spoofchk": "off", "trust": "on", "mtu": 1400,
        "runtimeConfig": { "mac": OTHER_MAC },
    });
    let attachment = with(&pod, vf, keys);
    let result = attachment.add()?;
    let interface = &result["interfaces"][0];
    ensure!(interface["mac"] == OTHER_MAC, "{interface}");
    ensure!(interface["mtu"] == 1400, "{interface}");
    let link = pod.netns().json("ip -j link show net1")?;
    let has = (&link[0]["address"], &link[0]["mtu"]);
    ensure!(has == (&json!(OTHER_MAC), &json!(1400)), "{link}");
    let during = vf.as_pf_has_it()?;
    ensure!(during["rate"]["max_tx"] == 200, "{during}");
    ensure!(
        during["spoofchk"] == false && during["trust"] == true,
        "{during}"
    );
    ensure!(during["address"] == OTHER_MAC, "{during}");

    attachment.del()?;
    let after = vf.as_pf_has_it()?;
    ensure!(before == after, "before: {before}, after: {after}");
    is_home(vf)
}

#[test]
fn a_mac_alone_is_taken_and_given_back() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    let attachment = with(&pod, vf, json!({ "mac": OTHER_MAC }));
    let result = attachment.add()?;
    ensure!(result["interfaces"][0]["mac"] == OTHER_MAC, "{result}");
    let link = pod.netns().json("ip -j link show net1")?;
    let has = (&link[0]["address"], &link[0]["mtu"]);
    ensure!(has == (&json!(OTHER_MAC), &json!(1500)), "{link}");
    attachment.del()?;
    is_home(vf)
}

/// A priority goes with a port VLAN, or with none: igb then tags the VF's frames for VLAN 0.
#[test]
fn a_priority_is_on_the_wire_while_the_pod_lives() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    let before = vf.as_pf_has_it()?;
    let frame = || -> Result<String> {
        let mut wire = Capture::start(&lab.topology.xpu, &vf.representor, "")?;
        // Nobody answers.
        let ask = ["arping", "-c", "1", "-w", "1", "-I", "net1", "10.100.0.99"];
        command::outcome(&pod.netns().words(&ask))?;
        wire.expect(&["who-has 10.100.0.99", &vf.mac], FRAME)
    };
    let plain = with(&pod, vf, json!({})).addresses(&["10.100.0.11/24"], &[]);
    let attachment = plain.clone().with(json!({ "vlan_qos": 5 }));
    attachment.add()?;
    let during = vf.as_pf_has_it()?;
    // `ip` leaves out a VLAN of 0.
    ensure!(during["vlan_list"] == json!([{ "qos": 5 }]), "{during}");
    let told = frame()?;
    ensure!(told.contains("vlan 0, p 5"), "{told}");

    attachment.del()?;
    let after = vf.as_pf_has_it()?;
    ensure!(before == after, "before: {before}, after: {after}");
    plain.add()?;
    let told = frame()?;
    ensure!(!told.contains("vlan"), "the next pod's: {told}");
    plain.del()?;
    is_home(vf)
}

/// A driver may know nothing of its VFs' addresses (`ndo_set_vf_mac`). Then the VF is told itself;
/// one that is a program's can't be, and that is an error. igb's answer is another driver's here.
#[test]
fn a_pf_that_gives_no_address_leaves_it_to_the_vf() -> Result<()> {
    const NO_VF_MAC: &str = "XPU_TESTBED_NO_VF_MAC=1";
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    let given = |mac: &str| {
        let (pf, number) = (vf.pf(), vf.number);
        command::run(&format!("ip link set {pf} vf {number} mac {mac}"))
    };
    let keys = json!({ "mac": OTHER_MAC, "max_tx_rate": 100 });
    let attachment = with(&pod, vf, keys);
    let by_netdev = || -> Result<()> {
        let set = |name: &str, mac: &str| format!("ip link set {name} address {mac}");
        command::run(&set(&vf.name, OTHER_MAC))?;
        command::run(&set(&vf.name, &vf.mac))?;
        let before = vf.as_pf_has_it()?;
        let added = attachment.run_testbed("ADD", NO_VF_MAC)?;
        ensure!(added.ok, "{}; {}", added.json, added.log);
        ensure!(
            added.json["interfaces"][0]["mac"] == OTHER_MAC,
            "{}",
            added.json
        );
        let link = pod.netns().json("ip -j link show net1")?;
        ensure!(link[0]["address"] == OTHER_MAC, "{link}");
        ensure!(vf.as_pf_has_it()?["rate"]["max_tx"] == 100);
        // An address that its PF had given it, a VF could not change.
        pod.run(&set("net1", "02:00:00:00:77:08"))?;

        let deleted = attachment.run_testbed("DEL", NO_VF_MAC)?;
        ensure!(deleted.ok, "{}; {}", deleted.json, deleted.log);
        is_home(vf)?;
        let after = vf.as_pf_has_it()?;
        ensure!(before == after, "before: {before}, after: {after}");
        ensure!(operator::names("bridge-port")?.is_empty(), "a port is left");
        Ok(())
    };
    given("00:00:00:00:00:00")?;
    let done = by_netdev();
    given(&vf.mac)?;
    done?;

    command::run("modprobe vfio-pci")?;
    vf.bind(Some("vfio-pci"))?;
    let before = vf.as_pf_has_it()?;
    let answer = attachment.run_testbed("ADD", NO_VF_MAC)?;
    let said = answer.json.to_string();
    ensure!(!answer.ok && answer.json["code"] == 2, "{said}");
    for part in ["`mac`", OTHER_MAC, "not supported"] {
        ensure!(said.contains(part), "it does not say {part}: {said}");
    }
    let after = vf.as_pf_has_it()?;
    ensure!(before == after, "before: {before}, after: {after}");
    Ok(())
}

#[test]
fn what_the_driver_refuses_is_told_and_nothing_stays_half_set() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    // igb knows neither a guaranteed rate nor a link state.
    let keys = json!({ "trust": "on", "spoofchk": "off", "min_tx_rate": 10 });
    refused(
        &with(&pod, vf, keys),
        vf,
        2,
        &["min_tx_rate", "Invalid argument"],
    )?;
    // The VF itself refuses what its driver has no room for.
    let keys = json!({ "trust": "on", "mtu": 20_000 });
    refused(
        &with(&pod, vf, keys),
        vf,
        2,
        &["mtu", "20000", "Invalid argument"],
    )?;
    let keys = json!({ "trust": "on", "link_state": "disable" });
    refused(
        &with(&pod, vf, keys),
        vf,
        2,
        &["link_state", "not supported"],
    )?;
    is_home(vf)
}

#[test]
fn a_pf_that_is_down_and_a_vf_without_driver_are_told() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = lab.vfs.last().context("no VF")?;
    let plain = with(&pod, vf, json!({}));
    command::run(&format!("ip link set {} down", vf.pf()))?;
    let told = refused(&plain, vf, 100, &[&vf.pf(), "down"]);
    command::run(&format!("ip link set {} up", vf.pf()))?;
    told?;
    vf.bind(None)?;
    refused(&plain, vf, 100, &[&vf.pci, "no driver"])
}

#[test]
fn a_vf_of_a_userspace_driver_gets_port_settings_addresses_and_device_info() -> Result<()> {
    let (lab, pod) = lab()?;
    let vf = &lab.vfs[0];
    command::run("modprobe vfio-pci")?;
    vf.bind(Some("vfio-pci"))?;
    let group = fs::read_link(format!("/sys/bus/pci/devices/{}/iommu_group", vf.pci))?;
    let group = group.file_name().context("no IOMMU group")?;
    ensure!(
        fs::exists(std::path::Path::new("/dev/vfio").join(group))?,
        "no program could have the VF"
    );
    let before = vf.as_pf_has_it()?;
    let info = "/var/run/k8s.cni.cncf.io/devinfo/cni/default-lab-settings_net1";
    // A rate as Multus passes it on from the pod's annotation, in bit/s.
    let bandwidth = json!({ "egressRate": 100_000_000, "egressBurst": 1_000_000 });
    let keys = json!({
        "runtimeConfig": { "CNIDeviceInfoFile": info, "mac": OTHER_MAC, "bandwidth": bandwidth },
    });
    let attachment = with(&pod, vf, keys).addresses(&["10.100.0.11/24"], &[]);
    let result = attachment.add()?;
    let interface = &result["interfaces"][0];
    ensure!(interface["name"] == "net1", "{result}");
    ensure!(interface["sandbox"] == pod.netns().path(), "{result}");
    // Without a netdev, the address is that which the PF gives.
    ensure!(interface["mac"] == OTHER_MAC, "{result}");
    ensure!(vf.as_pf_has_it()?["address"] == OTHER_MAC);
    ensure!(result["ips"][0]["address"] == "10.100.0.11/24", "{result}");
    let links = pod.netns().links()?;
    ensure!(!links.contains(&"net1".to_owned()), "{links:?}");
    ensure!(vf.as_pf_has_it()?["rate"]["max_tx"] == 100);
    let ports = operator::names("bridge-port")?;
    operator::is_up("bridge-port", ports.first().context("no port")?)?;
    let written: Value = serde_json::from_str(&fs::read_to_string(info)?)?;
    ensure!(
        written["pci"]["pci-address"] == vf.pci.as_str(),
        "{written}"
    );

    attachment.del()?;
    let after = vf.as_pf_has_it()?;
    ensure!(before == after, "before: {before}, after: {after}");
    ensure!(operator::names("bridge-port")?.is_empty(), "a port is left");
    ensure!(fs::metadata(info).is_err(), "{info} is left");
    let left = fs::read_dir("/var/lib/cni/xpu-cni/attachments")?.count();
    ensure!(left == 0, "{left} records are left");
    Ok(())
}
