//! `make demo`: the main job on real input, step by step, inside the lab's machine.
//!
//! An agent starts; an operator makes networks, a Vrf and gateways with `xpuctl`; two pods get
//! VFs from `xpu-cni` (access and trunk); they reach each other, their gateways, and hosts behind
//! a foreign leaf over L2 and L3 EVPN; the pods go, and everything is home again.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    addresses::{
        BLUE_GATEWAY_MAC, BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, BLUE_L3VNI, BLUE_VLAN, BLUE_VNI,
        GREEN_VLAN, GREEN_VNI, H_BLUE, H_EXT, H_GREEN, H_SILENT, SPINE_TO_XPU,
    },
    agent::Agent,
    netns::Netns,
    operator::{create, names, xpuctl},
    ping::{self, Ping},
    pod::Pod,
    runtime::{Attachment, is_home},
    topology::Topology,
    vf::Vf,
    wait::wait_until,
};

const CONVERGENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut demo = Demo {
        step: 0,
        pings: 0,
        started: Instant::now(),
    };
    match demo.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    step: u32,
    pings: u32,
    started: Instant,
}

impl Demo {
    fn run(&mut self) -> Result<()> {
        self.say("A host with SR-IOV NICs, an xPU, a spine and a foreign leaf with hosts");
        let topology = Topology::clean()?;
        let vfs = topology.vfs()?;
        println!(
            "  {} VFs; spine and leaf2 run FRR with plain configurations",
            vfs.len()
        );

        self.say("The agent starts on the xPU");
        let agent = Agent::start(&topology.xpu, &Agent::lab_config()?)?;
        wait_until("BGP with the spine is up", CONVERGENCE, || {
            topology.xpu_frr().evpn_session_up(SPINE_TO_XPU)
        })?;
        println!("  it configured BGP; the session with the spine is established");

        self.say("An operator makes two networks, a Vrf and a gateway");
        self.operate(&format!(
            "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
        ))?;
        self.operate(&format!(
            "logical-bridge net-green --vlan {GREEN_VLAN} --vni {GREEN_VNI}"
        ))?;
        self.operate(&format!(
            "vrf vrf-blue --loopback 10.255.100.1/32 --vni {BLUE_L3VNI}"
        ))?;
        self.operate(&format!(
            "svi svi-blue --vrf vrf-blue --logical-bridge net-blue --mac {BLUE_GATEWAY_MAC} \
             --gateway {BLUE_GATEWAY_V4}/24 --gateway {BLUE_GATEWAY_V6}/64"
        ))?;
        print!("{}", indented(&xpuctl("describe vrf vrf-blue")?));

        self.say("Two pods get VFs from xpu-cni, as Multus runs it");
        let one = Pod::create("one")?;
        let access = Attachment::new(&one, &vfs[0], json!({ "logical_bridge": "net-blue" }))
            .addresses(
                &["10.100.0.11/24", "fd00:100::11/64"],
                &[BLUE_GATEWAY_V4, BLUE_GATEWAY_V6],
            );
        println!("  pod-one, access to net-blue:");
        attached(&access.add()?, &vfs[0]);
        let two = Pod::create("two")?;
        let networks = json!({ "logical_bridges": ["net-blue", "net-green"] });
        let trunk = Attachment::new(&two, &vfs[1], networks);
        println!("  pod-two, trunk of net-blue and net-green:");
        attached(&trunk.add()?, &vfs[1]);
        for (vlan, address) in [
            (BLUE_VLAN, "10.100.0.12/24"),
            (GREEN_VLAN, "10.200.0.12/24"),
        ] {
            two.add_tagged("net1", vlan, address)?;
        }
        print!("{}", indented(&xpuctl("list bridge-port")?));

        self.say("Packets");
        self.ping(one.netns(), "the other pod", "10.100.0.12")?;
        self.ping(one.netns(), "its gateway", BLUE_GATEWAY_V4)?;
        self.ping(one.netns(), "its gateway, IPv6", BLUE_GATEWAY_V6)?;
        self.ping(one.netns(), "h-blue behind leaf2, L2 EVPN", H_BLUE.v4)?;
        self.ping(one.netns(), "h-blue, IPv6", H_BLUE.v6.context("has IPv6")?)?;
        self.ping(one.netns(), "h-silent, whom nobody has heard", H_SILENT.v4)?;
        self.ping(two.netns(), "h-green from the trunk, L2 EVPN", H_GREEN.v4)?;
        self.ping(one.netns(), "h-ext behind leaf2, L3 EVPN", H_EXT.v4)?;
        self.ping(one.netns(), "h-ext, IPv6", H_EXT.v6.context("has IPv6")?)?;

        self.say("What FRR has learned and told");
        for (route_type, what) in [(2, "MAC/IP"), (3, "multicast"), (5, "prefix")] {
            println!("  type-{route_type} ({what}):");
            for route in topology.xpu_frr().evpn_listing(route_type)? {
                println!("    {route}");
            }
        }

        self.say("The pods go");
        access.del()?;
        trunk.del()?;
        for vf in &vfs[..2] {
            is_home(vf)?;
            println!("  {} is home as {} with {}", vf.pci, vf.name, vf.mac);
        }
        ensure!(names("bridge-port")?.is_empty(), "a port is left");
        println!("  no port is left");
        let status = agent.stop()?;
        ensure!(status.success(), "the agent ended with {status}");
        println!(
            "\nDone: {} steps, {} destinations reached, {:.0?}. The lab stays up: `make lab-shell`.",
            self.step,
            self.pings,
            self.started.elapsed()
        );
        Ok(())
    }

    fn say(&mut self, what: &str) {
        self.step += 1;
        println!("\n{}. {what}", self.step);
    }

    fn operate(&self, line: &str) -> Result<()> {
        println!("  $ xpuctl create {line}");
        create(line).map(drop)
    }

    fn ping(&mut self, from: &Netns, whom: &str, address: &str) -> Result<()> {
        wait_until(&format!("{whom} answers"), CONVERGENCE, || {
            ping::reaches(from, address)
        })?;
        let report = Ping::to(address).run(from)?;
        println!(
            "  {} → {address} ({whom}): {} of {}",
            from.name(),
            report.received,
            report.sent
        );
        self.pings += 1;
        Ok(())
    }
}

/// Prints what the plugin answered.
fn attached(result: &Value, vf: &Vf) {
    let interface = &result["interfaces"][0];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ips = result["ips"].as_array().into_iter().flatten();
    let ips: Vec<_> = ips.map(|ip| word(&ip["address"])).collect();
    println!(
        "    {} ({}) is {} in {}: {} MTU {} {}",
        vf.name,
        vf.pci,
        word(&interface["name"]),
        word(&interface["sandbox"]),
        word(&interface["mac"]),
        interface["mtu"],
        ips.join(" ")
    );
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
