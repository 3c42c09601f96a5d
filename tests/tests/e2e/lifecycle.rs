//! What happens over time: pods go, the agent dies, somebody breaks something.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::{
    addresses::{BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, H_BLUE, H_EXT},
    agent,
    flood::Flood,
    http::is_ready,
    operator::{self, create, is_up, xpuctl},
    ping,
    runtime::is_home,
    topology::FOREIGN_RULE,
    wait::wait_until,
};

use crate::{Attached, CONVERGENCE, Lab};

/// Drift is repaired by event; an emulated processor and FRR take their time over it.
const REPAIR: Duration = Duration::from_secs(40);

pub(crate) fn blue_pod(lab: &Lab) -> Result<Attached> {
    let addresses = ["10.100.0.11/24", "fd00:100::11/64"];
    lab.access(
        "blue",
        0,
        "net-blue",
        &addresses,
        &[BLUE_GATEWAY_V4, BLUE_GATEWAY_V6],
    )
}

#[test]
fn after_del_nothing_is_left_and_a_second_del_succeeds() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_BLUE.v4)?;
    let interface = &pod.result["interfaces"][0];
    ensure!(
        interface["name"] == "net1" && interface["mac"] == pod.vf.mac.as_str(),
        "{interface}"
    );
    let ports = operator::names("bridge-port")?;
    ensure!(
        ports.len() == 1 && ports[0].starts_with("bridgePorts/cni-"),
        "{ports:?}"
    );

    pod.attachment.del()?;
    is_home(&pod.vf)?;
    ensure!(
        operator::names("bridge-port")?.is_empty(),
        "the port is still there"
    );
    let vlans = lab
        .topology
        .xpu
        .run(&format!("bridge -j vlan show dev {}", pod.vf.representor))?;
    ensure!(
        !vlans.contains("\"vlan\""),
        "the representor still has VLANs: {vlans}"
    );
    let fdb = lab.topology.xpu.run("bridge -j fdb show br br-tenant")?;
    ensure!(
        !fdb.contains(&pod.vf.mac),
        "the bridge still knows {}: {fdb}",
        pod.vf.mac
    );
    for frr in [lab.topology.xpu_frr(), lab.topology.leaf2_frr()] {
        wait_until("the pod's type-2 routes are gone", CONVERGENCE, || {
            let routes = frr.evpn_routes(2)?;
            ensure!(
                !routes.iter().any(|it| it.contains(&pod.vf.mac)),
                "{routes:?}"
            );
            Ok(())
        })?;
    }
    pod.attachment.del()?;
    is_home(&pod.vf)?;
    let journal = "/var/lib/cni/xpu-cni/attachments";
    let records = fs::read_dir(journal).map(Iterator::count).unwrap_or(0);
    ensure!(records == 0, "{records} records are left in {journal}");
    Ok(())
}

#[test]
fn a_vf_comes_home_when_its_pod_died_first() -> Result<()> {
    let lab = Lab::with_blue()?;
    let Attached {
        pod,
        vf,
        attachment,
        ..
    } = blue_pod(&lab)?;
    pod.run("ip link set net1 down")?;
    pod.run("ip link set net1 name stolen")?;
    pod.netns().delete()?;
    attachment.del()?;
    is_home(&vf)?;
    ensure!(
        operator::names("bridge-port")?.is_empty(),
        "the port is still there"
    );
    Ok(())
}

/// What the kernel tells while it runs: links, addresses, routes, rules.
struct Monitor {
    child: std::process::Child,
    path: &'static str,
}

impl Monitor {
    fn start(lab: &Lab) -> Result<Self> {
        let path = "/run/lab/monitor";
        let words = [
            "ip", "-o", "-ts", "-d", "monitor", "link", "address", "route", "rule",
        ];
        let words = lab.topology.xpu.words(&words);
        let child = std::process::Command::new(words[0])
            .args(&words[1..])
            .stdout(fs::File::create(path)?)
            .spawn()?;
        Ok(Self { child, path })
    }

    /// Ends it; answers with the lines. A bridge tells of a port again when its forward-delay
    /// timer ends, 15 s after it came up: such lines have no queue, and say nothing new. What BGP
    /// hears of far hosts, which age, is FRR's to put into the kernel.
    fn finish(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let text = fs::read_to_string(self.path)?;
        let timer = |line: &&str| {
            line.contains("link/ether") && !line.contains(" qdisc ") && !line.contains("Deleted")
        };
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut is_of_bgp = false;
        let ours = lines.filter(|line| {
            // A nexthop's line, which is indented, belongs to its route's.
            is_of_bgp = line.contains(" proto bgp ") || is_of_bgp && line.starts_with('\t');
            !is_of_bgp && !timer(line)
        });
        Ok(ours.map(str::to_owned).collect())
    }
}

/// Requests at 100 a second while the agent is killed and started again.
#[test]
fn killing_the_agent_loses_no_packet_and_its_next_start_plans_nothing() -> Result<()> {
    const APPLIED: &str = "plan applied";
    let mut lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_EXT.v4)?;
    pod.reaches("fd00:9::22")?;
    let frr = lab.topology.xpu_frr();
    let before = fs::read_to_string(agent::LOG)?;
    ensure!(
        before.contains(APPLIED),
        "the log has other words: {before}"
    );
    let configuration = frr.vtysh(&["show running-config"])?;
    let objects = [
        ("vrf", "vrf-blue".to_owned()),
        ("svi", "svi-blue".to_owned()),
        ("lb", "net-blue".to_owned()),
        ("port", operator::names("bridge-port")?.remove(0)),
    ];

    let interval = Duration::from_millis(10);
    let floods = [
        Flood::start(pod.pod.netns(), H_EXT.v4, interval)?,
        Flood::start(pod.pod.netns(), "fd00:9::22", interval)?,
    ];
    for flood in &floods {
        flood.expect(50, CONVERGENCE)?;
    }
    let monitor = Monitor::start(&lab)?;
    lab.crash_agent()?;
    for (kind, name) in &objects {
        wait_until(&format!("{name} is up again"), CONVERGENCE, || {
            is_up(kind, name)
        })?;
    }
    for flood in floods {
        flood.expect(100, CONVERGENCE)?;
        let report = flood.stop()?;
        ensure!(report.answered == report.sent, "{report:?}");
        ensure!(
            // The two of them make 100 a second, also where an emulated processor is late.
            report.per_second >= 50,
            "not the load asked for: {report:?}"
        );
    }
    let told = monitor.finish()?;
    ensure!(told.is_empty(), "the kernel was changed: {told:#?}");
    ensure!(frr.vtysh(&["show running-config"])? == configuration);
    let log = fs::read_to_string(agent::LOG)?;
    ensure!(!log.contains(APPLIED), "the start changed something: {log}");

    let status = lab.agent.take().context("no agent")?.stop()?;
    ensure!(status.success(), "SIGTERM: {status}");
    pod.reaches(H_EXT.v4)
}

#[test]
fn what_somebody_breaks_is_repaired() -> Result<()> {
    let lab = Lab::with_blue()?;
    let pod = blue_pod(&lab)?;
    pod.reaches(H_EXT.v4)?;
    let xpu = &lab.topology.xpu;
    // Each of these needs what the others don't: L2 and L3 VNI, and both gateway addresses.
    let repaired = |what: &str| {
        wait_until(&format!("repaired after {what}"), REPAIR, || {
            // zebra 10.3 may crash when an L3VNI's device goes while routes use it.
            if what == "ip link del vxl3" {
                lab.topology.supervise_xpu_frr()?;
            }
            [H_BLUE.v4, BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, H_EXT.v4]
                .iter()
                .try_for_each(|address| ping::reaches(pod.pod.netns(), address))
        })
    };
    for sabotage in [
        "ip link del svi-100",
        "ip link set svi-100 down",
        "bridge vlan del dev vxlan vid 100",
        "bridge vlan del dev br-tenant vid 100 self",
        "ip addr flush dev svi-100",
        "ip link del vxl3",
    ] {
        xpu.run(sabotage)?;
        repaired(sabotage)?;
    }
    xpu.run(&format!("ip link set {} nomaster", pod.vf.representor))?;
    repaired("the port was taken out of its bridge")?;
    // Of a VRF that is deleted under it, zebra 10.3 may die; its supervisor starts it again.
    xpu.run("ip link del vrf-blue")?;
    lab.topology.restart_xpu_frr()?;
    wait_until("FRR is told again", CONVERGENCE, || {
        ping::reaches(pod.pod.netns(), H_EXT.v4)
    })
}

#[test]
fn what_is_not_ours_is_untouched() -> Result<()> {
    let mut lab = Lab::start()?;
    let xpu = lab.topology.xpu.clone();
    xpu.ip_batch(
        "link add docker0 type bridge\nlink set docker0 up\n\
         addr add 172.17.0.1/16 dev docker0\n\
         link add flannel.1 type vxlan id 1 dev up0 dstport 8472 nolearning\n\
         link add theirs type vrf table 77\nlink set theirs up\n\
         link add dummy-a type dummy\nlink set dummy-a master theirs up\n\
         addr add 198.51.100.1/24 dev dummy-a\n\
         route add 203.0.113.0/24 via 198.51.100.2 table 77\n\
         route add unreachable default metric 4278198272 table 77\n\
         route replace 192.0.2.128/25 via 10.254.1.1\n",
    )?;
    for (family, from) in [("-4", "203.0.113.7"), ("-6", "2001:db8:77::/64")] {
        xpu.run(&format!(
            "ip {family} rule add pref {FOREIGN_RULE} from {from} table 77"
        ))?;
    }
    let frr = lab.topology.xpu_frr();
    frr.configure(&[
        "ip prefix-list theirs seq 5 permit 192.0.2.0/24",
        "ip route 192.0.2.0/24 blackhole",
        "vrf theirs",
        "vni 777",
        "exit-vrf",
        "router bgp 65001 vrf theirs",
        "bgp router-id 9.9.9.9",
        "exit",
        "router bgp 65001",
        "neighbor 198.51.100.9 remote-as 64999",
        "neighbor 198.51.100.9 description theirs",
        "exit",
    ])?;
    let look = || -> Result<Vec<String>> {
        let links: Vec<_> = ["docker0", "flannel.1", "theirs", "dummy-a"]
            .iter()
            .map(|device| xpu.settled(&format!("ip -j -d addr show dev {device}")))
            .map(|link| Ok(link?.to_string()))
            .collect::<Result<_>>()?;
        let routes =
            xpu.run("ip -j route show table 77")? + &xpu.run("ip route show 192.0.2.128/25")?;
        // But for the agent's own two, which are there before and after.
        let rules = xpu.run("ip rule show")? + &xpu.run("ip -6 rule show")?;
        let running = frr.vtysh(&["show running-config"])?;
        let theirs = running.lines().filter(|line| {
            ["theirs", "192.0.2.0", "vni 777", "9.9.9.9", "198.51.100.9"]
                .iter()
                .any(|part| line.contains(part))
        });
        Ok(links
            .into_iter()
            .chain([routes, rules])
            .chain(theirs.map(str::to_owned))
            .collect())
    };
    // Its rules are there from its first pass on.
    wait_until("the agent is ready", CONVERGENCE, || is_ready(&xpu))?;
    let before = look()?;
    ensure!(before.len() >= 6 + 8, "{before:#?}");

    create("logical-bridge net-blue --vlan 100 --vni 10100")?;
    create("vrf vrf-blue --loopback 10.255.100.1/32 --vni 50100")?;
    create(
        "svi svi-blue --vrf vrf-blue --logical-bridge net-blue --mac 02:00:5e:00:01:00 \
         --gateway 10.100.0.1/24",
    )?;
    // A Vrf whose id is a foreign device's name gets another device.
    let clash = create("vrf theirs --loopback 10.255.101.1/32")?;
    ensure!(
        !clash.to_string().contains("\"device\\\":\\\"theirs\\\""),
        "{clash}"
    );
    let pod = blue_pod(&lab)?;
    lab.crash_agent()?;
    xpu.run("ip link del svi-100")?;
    wait_until("the gateway is repaired", REPAIR, || {
        ping::reaches(pod.pod.netns(), BLUE_GATEWAY_V4)
    })?;
    pod.attachment.del()?;
    xpuctl("delete svi svi-blue")?;
    for name in ["vrf-blue", "theirs"] {
        xpuctl(&format!("delete vrf {name}"))?;
    }
    xpuctl("delete logical-bridge net-blue")?;
    let after = look()?;
    ensure!(after == before, "before: {before:#?}\nafter: {after:#?}");
    wait_until("the Vrf's traces are gone", CONVERGENCE, || {
        let running = frr.vtysh(&["show running-config"])?;
        ensure!(!running.contains("vrf-blue"), "{running}");
        let links = xpu.links()?;
        let left: Vec<_> = links
            .iter()
            .filter(|it| it.starts_with("svi-") || it.starts_with("l3-"))
            .collect();
        ensure!(
            left.is_empty() && !links.contains(&"vrf-blue".to_owned()),
            "{links:?}"
        );
        Ok(())
    })
}
