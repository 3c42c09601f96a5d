//! Pods whose owners do what they like with their interface: the VF comes home as it was.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    command,
    operator::{self, create},
    pod::Pod,
    runtime::{Attachment, is_home},
    vf::Vf,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

/// A device of the host as `ip` tells it.
fn link(name: &str) -> Result<Value> {
    let line = format!("ip -j -d link show {name}");
    Ok(command::parse_json(&line, &command::run(&line)?)?[0].clone())
}

fn attach(pod: &Pod, vf: &Vf) -> Result<Attachment> {
    let attachment = Attachment::new(pod, vf, json!({ "logical_bridge": "net-blue" }));
    attachment.add()?;
    Ok(attachment)
}

/// The mark is what the agent knows its own devices by: one that a pod sets must not get to where
/// the agent looks.
#[test]
fn names_marks_and_settings_of_a_pods_stay_in_it() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let pod = Pod::create("hostile")?;
    for mark in ["xpu:node", "xpu:logicalBridges/net-blue", "-n\u{1b}[2J"] {
        let attachment = attach(&pod, vf)?;
        let inside = |words: &[&str]| {
            command::run_words(&pod.netns().words(&[&["ip", "link"], words].concat()))
        };
        inside(&["set", "net1", "alias", mark])?;
        inside(&["property", "add", "dev", "net1", "altname", "pf0"])?;
        inside(&["set", "net1", "down", "mtu", "1400"])?;
        inside(&["set", "net1", "name", "$(reboot)"])?;
        attachment.del()?;
        is_home(vf)?;
        let home = link(&vf.name)?;
        ensure!(home["mtu"] == 1500, "{home}");
        ensure!(home.get("ifalias").is_none(), "{home}");
        let others = home["altnames"].to_string();
        ensure!(!others.contains("pf0"), "{home}");
        ensure!(operator::names("bridge-port")?.is_empty(), "a port is left");
    }
    Ok(())
}

/// A VF that its PF trusts takes whatever MAC its pod gives it, and the PF keeps that: for the next
/// pod, if nobody minds.
#[test]
fn a_mac_of_a_pods_own_choice_ends_with_it() -> Result<()> {
    const OWN: &str = "02:00:00:00:66:66";
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let before = vf.as_pf_has_it()?;
    for is_first_to_go in [false, true] {
        let pod = Pod::create("own-mac")?;
        let keys = json!({ "logical_bridge": "net-blue", "trust": "on" });
        let attachment = Attachment::new(&pod, vf, keys);
        attachment.add()?;
        pod.netns()
            .ip_batch(&format!("link set net1 address {OWN}\n"))?;
        let inside = pod.netns().json("ip -j link show net1")?;
        ensure!(inside[0]["address"] == OWN, "{inside}");
        ensure!(vf.as_pf_has_it()?["address"] == OWN, "igb kept its own");
        if is_first_to_go {
            pod.netns().delete()?;
        }
        wait_until("the VF is home as it was", CONVERGENCE, || {
            attachment.del()?;
            is_home(vf)
        })?;
        let after = vf.as_pf_has_it()?;
        ensure!(before == after, "before: {before}, after: {after}");
    }
    Ok(())
}

/// What a pod does to the flags, the queue and the group of its interface is nothing for the next
/// pod; what the host has done is there again in the end.
#[test]
fn flags_queue_and_group_of_a_pods_end_with_it() -> Result<()> {
    const SPOILT: &str = "link set net1 arp off multicast off promisc on allmulticast on \
                          txqueuelen 77 group 9 broadcast 02:00:00:00:66:66 mode dormant\n";
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let before = link(&vf.name)?;
    let keys = ["flags", "txqlen", "group"];
    let told = |link: &Value| keys.map(|key| link[key].clone());
    let manners = |link: &Value| ["broadcast", "link_mode"].map(|key| link[key].clone());
    for is_first_to_go in [false, true] {
        let pod = Pod::create("flags")?;
        let attachment = attach(&pod, vf)?;
        pod.netns().ip_batch(SPOILT)?;
        if is_first_to_go {
            pod.netns().delete()?;
        }
        wait_until("the VF is home as it was", CONVERGENCE, || {
            attachment.del()?;
            is_home(vf)
        })?;
        let after = link(&vf.name)?;
        ensure!(told(&after) == told(&before), "{after}, not {before}");
        // The kernel brings it home as it is; the next pod has it as any.
        let next = Pod::create("next")?;
        let attachment = attach(&next, vf)?;
        let inside = next.netns().json("ip -j -d link show net1")?[0].clone();
        ensure!(
            manners(&inside) == manners(&before),
            "{inside}, not {before}"
        );
        attachment.del()?;
    }
    Ok(())
}

/// A VLAN or a macvlan does not follow its lower device to another namespace: it would hear and
/// send by the next pod's wire.
#[test]
fn what_stands_on_a_pods_interface_ends_with_it() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let (old, new) = (Pod::create("old")?, Pod::create("new")?);
    let attachment = attach(&old, vf)?;
    old.netns().ip_batch(
        "link add link net1 name tagged type vlan id 7\n\
         link add spy link net1 type macvlan mode passthru\n\
         link set tagged up\n\
         link set spy up\n",
    )?;
    attachment.del()?;
    is_home(vf)?;
    let left = old.netns().json("ip -j link show")?;
    let left: Vec<_> = left.as_array().context("no list")?.iter().collect();
    ensure!(left.iter().all(|link| link["ifname"] == "lo"), "{left:?}");
    let attachment = attach(&new, vf)?;
    let inside = new.netns().json("ip -j -d link show net1")?[0].clone();
    ensure!(inside["promiscuity"] == 0, "{inside}");
    attachment.del()
}

/// The kernel takes the name of a device that isn't there for that of a module, and runs a program
/// to load it: for root, by whatever name a pod chose.
#[test]
fn no_call_has_the_kernel_load_a_module() -> Result<()> {
    const LOADER: &str = "/proc/sys/kernel/modprobe";
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let (script, asked) = ("/run/lab/modprobe", "/run/lab/modprobe.log");
    fs::write(script, format!("#!/bin/sh\necho \"$@\" >> {asked}\n"))?;
    command::run(&format!("chmod 755 {script}"))?;
    let own = fs::read_to_string(LOADER)?;
    let pod = Pod::create("modules")?;
    let done = || -> Result<()> {
        fs::write(LOADER, script)?;
        // The witness works.
        let _none = command::run("ip link add type no-such-kind");
        let told = fs::read_to_string(asked)?;
        ensure!(told.contains("no-such-kind"), "{told}");
        fs::remove_file(asked)?;
        attach(&pod, &lab.vfs[0])?.del()?;
        let told = fs::read_to_string(asked).unwrap_or_default();
        ensure!(told.is_empty(), "the kernel was to load: {told}");
        Ok(())
    };
    let done = done();
    fs::write(LOADER, own)?;
    done
}

/// A bond gives its member back what it had found, when the member leaves it: a MAC and an MTU of
/// the pod's choice, written after those that the plugin asks for.
#[test]
fn what_a_bond_gives_back_is_not_what_the_next_pod_gets() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let before = link(&vf.name)?;
    let own = before["address"].as_str().context("no address")?;
    let pod = Pod::create("bond")?;
    let keys = json!({ "logical_bridge": "net-blue", "trust": "on" });
    let attachment = Attachment::new(&pod, vf, keys);
    attachment.add()?;
    pod.netns().ip_batch(&format!(
        "link set net1 down\n\
         link set net1 address 02:00:00:00:66:66 mtu 1400\n\
         link add bond7 type bond mode active-backup\n\
         link set net1 master bond7\n\
         link set bond7 up\n\
         link set bond7 address {own} mtu 1500\n"
    ))?;
    let inside = pod.netns().json("ip -j link show net1")?;
    ensure!(inside[0]["address"] == own, "{inside}");
    attachment.del()?;
    is_home(vf)?;
    let after = link(&vf.name)?;
    for key in ["address", "mtu", "flags"] {
        ensure!(after[key] == before[key], "{key}: {after}, not {before}");
    }
    Ok(())
}

/// The alternative names of a device as `ip` tells them.
fn altnames(link: &Value) -> Vec<String> {
    let names = link["altnames"].as_array().cloned().unwrap_or_default();
    let names = names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// A pod names its VF as the next pod names its own devices: the next one gets the VF all the same,
/// and the host's own names for it are there again in the end.
#[test]
fn further_names_of_a_pods_end_with_it_and_the_hosts_come_back() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let before = altnames(&link(&vf.name)?);
    command::run(&format!(
        "ip link property add dev {} altname rack7",
        vf.name
    ))?;
    let own = altnames(&link(&vf.name)?);
    let names = Pod::create("names")?;
    let next = Pod::create("next")?;
    let done = || -> Result<()> {
        let attachment = attach(&names, vf)?;
        let property = |verb: &str, name: &str| {
            let words = [
                "ip", "link", "property", verb, "dev", "net1", "altname", name,
            ];
            command::run_words(&names.netns().words(&words))
        };
        property("add", "eth0")?;
        property("add", "net1-of-a-pods-own-choice")?;
        property("del", "rack7")?;
        attachment.del()?;
        is_home(vf)?;
        let home = altnames(&link(&vf.name)?);
        let same = home.len() == own.len() && own.iter().all(|name| home.contains(name));
        ensure!(same, "{home:?}, not {own:?}");

        // And where the pod has what the host calls it.
        let words = ["ip", "link", "add", "rack7", "type", "dummy"];
        command::run_words(&next.netns().words(&words))?;
        let attachment = attach(&next, vf)?;
        attachment.del()?;
        let home = altnames(&link(&vf.name)?);
        ensure!(home.contains(&"rack7".to_owned()), "{home:?}");
        Ok(())
    };
    let done = done();
    let cleaned = command::run(&format!(
        "ip link property del dev {} altname rack7",
        vf.name
    ));
    // A test that failed may have left nothing to clean up, which is not the failure to tell.
    done?;
    cleaned?;
    let after = altnames(&link(&vf.name)?);
    ensure!(before.len() == after.len(), "{before:?}, {after:?}");
    Ok(())
}

#[test]
fn a_name_that_is_taken_at_home_keeps_no_vf() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let pod = Pod::create("taken")?;
    let attachment = attach(&pod, vf)?;
    command::run(&format!("ip link add {} type dummy", vf.name))?;
    let told = attachment.del();
    let net = format!("/sys/bus/pci/devices/{}/net", vf.pci);
    let mut names = fs::read_dir(&net).with_context(|| net.clone())?;
    let name = names.next().context("it is not home")??.file_name();
    let serves = attach(&pod, vf).and_then(|again| again.del());
    let dummy = link(&vf.name);
    command::run(&format!("ip link del {}", vf.name))?;
    told?;
    ensure!(name.to_string_lossy().starts_with("xvf"), "{name:?}");
    ensure!(dummy?["linkinfo"]["info_kind"] == "dummy");
    serves.context("a VF of another name is as good")
}

/// A namespace that lives on without its name: its VF is nobody's to take, until it comes home.
#[test]
fn a_namespace_whose_mount_became_a_file_gives_the_vf_back_when_it_ends() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = &lab.vfs[0];
    let pod = Pod::create("replaced")?;
    let attachment = attach(&pod, vf)?;
    let words = pod.netns().words(&["sleep", "600"]);
    let mut inside = Command::new(words[0]).args(&words[1..]).spawn()?;
    wait_until("the pod's process is in it", CONVERGENCE, || {
        let own = fs::read_link("/proc/self/ns/net")?;
        let its = fs::read_link(format!("/proc/{}/ns/net", inside.id()))?;
        ensure!(own != its, "it is on the host");
        Ok(())
    })?;
    command::run(&format!("umount {}", pod.netns().path()))?;
    fs::write(pod.netns().path(), "a file")?;

    let told = attachment.del();
    let ports = operator::names("bridge-port");
    let next = Pod::create("next")?;
    let other = Attachment::new(&next, vf, json!({ "logical_bridge": "net-blue" })).run("ADD");
    inside.kill()?;
    inside.wait()?;
    told?;
    ensure!(ports?.is_empty(), "the port serves nobody");
    let other = other?;
    ensure!(!other.ok && other.json["code"] != 102, "{}", other.json);
    wait_until("the VF is home as it was", CONVERGENCE, || {
        attachment.del()?;
        is_home(vf)
    })
}
