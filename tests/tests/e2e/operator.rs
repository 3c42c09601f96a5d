//! The operator's tools against the real agent: manifests, waiting, pictures, the way back.

use std::fs;

use anyhow::{Result, ensure};
use xpu_tests::guest::{
    command,
    operator::{self, create, xpuctl},
};

use crate::Lab;

const TENANT: &str = "\
kind: Svi
name: svi-east
spec:
  vrf: vrf-red
  logicalBridge: net-east
  macAddress: 02:00:5e:00:00:01
  gwIpPrefix: [10.1.0.1/24, 'fd00:1::1/64']
---
kind: LogicalBridge
name: net-east
spec: {vlanId: 100, vni: 10100}
---
kind: LogicalBridge
name: net-west
spec: {vlanId: 200}
---
kind: Vrf
name: vrf-red
spec: {vni: 5001, loopbackIpPrefix: 10.255.1.1/32}
";

const FILE: &str = "/run/lab/tenant.yaml";

#[test]
fn manifests_become_networks_and_come_back() -> Result<()> {
    let lab = Lab::start()?;
    fs::write(FILE, TENANT)?;
    let (code, _) = operator::refusal(&format!("diff -f {FILE}"))?;
    ensure!(code == 4, "diff exits with {code}");
    let applied = xpuctl(&format!("apply -f {FILE}"))?;
    ensure!(applied.contains("4 to create"), "{applied}");
    for kind in ["vrf", "logical-bridge", "svi"] {
        xpuctl(&format!("wait {kind} --for up"))?;
    }
    // The kernel is the witness.
    let vlans = lab.topology.xpu.json("bridge -j vlan show dev br-tenant")?;
    ensure!(vlans.to_string().contains("100"), "{vlans}");
    let gateways = lab.topology.xpu.json("ip -j address show dev svi-100")?;
    ensure!(gateways.to_string().contains("10.1.0.1"), "{gateways}");

    let described = xpuctl("describe vrf vrf-red")?;
    for part in ["UP", "routingTable", "rd", "rmac"] {
        ensure!(described.contains(part), "{described} lacks {part}");
    }
    let wide = xpuctl("-o wide list lb")?;
    ensure!(wide.contains("linux=SUCCESS"), "{wide}");
    let svg = xpuctl("topology")?;
    for name in ["net-east", "net-west", "svi-east", "vrf-red"] {
        ensure!(svg.contains(name), "{name} is not in the picture");
    }
    ensure!(
        !svg.contains("class=\"down\" x"),
        "something is down: {svg}"
    );

    // A field changes in place; another object goes.
    fs::write(FILE, TENANT.replace("10.1.0.1/24", "10.1.0.254/24"))?;
    let applied = xpuctl(&format!("apply -f {FILE}"))?;
    ensure!(applied.contains("svis/svi-east changed"), "{applied}");
    xpuctl("wait svi svi-east")?;
    let gateways = lab.topology.xpu.json("ip -j address show dev svi-100")?;
    let gateways = gateways.to_string();
    ensure!(
        gateways.contains("10.1.0.254") && !gateways.contains("10.1.0.1\""),
        "{gateways}"
    );
    create("port rep1 --mac 02:00:00:00:01:00 --transparent")?;
    let exported = xpuctl("export vrf lb svi")?;
    let without = exported.replace("name: net-west", "name: net-other");
    fs::write(FILE, &exported)?;
    xpuctl(&format!("apply --exit-code -f {FILE}"))?;
    fs::write(FILE, &without)?;
    let pruned = xpuctl(&format!("apply --prune --yes -f {FILE}"))?;
    ensure!(
        pruned.contains("- logicalBridges/net-west\n")
            && pruned.contains("logicalBridges/net-other created"),
        "{pruned}"
    );
    xpuctl("wait lb net-west --for deleted")?;
    ensure!(
        operator::names("bridge-port")? == ["bridgePorts/rep1"],
        "no manifest names ports"
    );

    // And all over again, from nothing.
    fs::write(FILE, xpuctl("export")?)?;
    xpuctl("delete port rep1")?;
    for (kind, name) in [("svi", "svi-east"), ("vrf", "vrf-red"), ("lb", "net-east")] {
        xpuctl(&format!("delete {kind} {name}"))?;
        xpuctl(&format!("wait {kind} {name} --for deleted"))?;
    }
    let (code, _) = operator::refusal(&format!("apply --exit-code -f {FILE}"))?;
    ensure!(code == 4, "something is made: {code}");
    for kind in ["vrf", "lb", "svi", "port"] {
        xpuctl(&format!("wait {kind}"))?;
    }
    let again = command::run("xpuctl export")?;
    ensure!(again == fs::read_to_string(FILE)?, "{again}");
    fs::remove_file(FILE)?;
    Ok(())
}
