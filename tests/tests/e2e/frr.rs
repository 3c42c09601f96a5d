//! FRR over time: it restarts without the agent, the agent's settings change, a VNI changes.

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::{
    addresses::{
        BLUE_GATEWAY_MAC, BLUE_GATEWAY_V4, BLUE_L3VNI, BLUE_VLAN, BLUE_VNI, H_BLUE, H_EXT,
        SPINE_TO_XPU, XPU_ASN, XPU_VTEP,
    },
    agent::Agent,
    command,
    frr::Frr,
    operator::{create, get, is_up, xpuctl},
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
        let left = text.contains(" vni ") || text.contains("vrf vrf-blue");
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
    // What FRR starts with has them too, before they go from both.
    let saved = || frr.startup_configuration();
    wait_until("the file has the peer", CONVERGENCE, || {
        let text = saved()?;
        ensure!(text.contains("10.254.1.77 activate"), "{text}");
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
    wait_until("the peer is gone from the file", CONVERGENCE, || {
        let text = saved()?;
        ensure!(
            !text.contains("10.254.1.77") && text.contains("timers bgp 5 20"),
            "{text}"
        );
        Ok(())
    })?;
    wait_until("the session with the spine is up", CONVERGENCE, || {
        frr.evpn_session_up(SPINE_TO_XPU)
    })
}

/// FRR can't change the AS of what runs: the agent says so, goes on in the old one, and has the new
/// one ready for FRR's next start.
#[test]
fn another_as_waits_for_a_restart_of_frr() -> Result<()> {
    let mut lab = Lab::with_blue()?;
    let frr = lab.topology.xpu_frr();
    lab.agent.take().context("no agent")?.kill()?;
    let config = Agent::lab_config()?.replace("asn = 65001", "asn = 65077");
    ensure!(config.contains("asn = 65077"), "{config}");
    lab.agent = Some(Agent::start(&lab.topology.xpu, &config)?);
    wait_until("the Vrf is up", CONVERGENCE, || is_up("vrf", "vrf-blue"))?;
    create("logical-bridge net-red --vlan 200 --vni 10200")?;
    create("vrf vrf-red --loopback 10.255.101.1/32 --vni 50200")?;
    let running = frr.vtysh(&["show running-config"])?;
    ensure!(
        running.contains("router bgp 65001 vrf vrf-red") && !running.contains("65077"),
        "{running}"
    );
    wait_until("the file has the new AS", CONVERGENCE, || {
        let text = frr.startup_configuration()?;
        ensure!(
            text.contains("router bgp 65077 vrf vrf-red") && !text.contains("bgp 65001"),
            "{text}"
        );
        Ok(())
    })?;
    lab.topology
        .restart_xpu_frr_with(&frr.startup_configuration()?)?;
    for vrf in ["vrf-blue", "vrf-red"] {
        wait_until(&format!("{vrf} is up again"), CONVERGENCE, || {
            is_up("vrf", vrf)
        })?;
    }
    let running = frr.vtysh(&["show running-config"])?;
    ensure!(
        running.contains("router bgp 65077") && !running.contains("bgp 65001"),
        "{running}"
    );
    let vrf = get("vrf", "vrf-red")?.to_string();
    ensure!(vrf.contains("65077"), "{vrf}");
    Ok(())
}

/// A tenant's router in a pod. Its daemons end with the test.
struct Router(Frr);

impl Router {
    fn start(netns: &xpu_tests::guest::netns::Netns, configuration: &str) -> Result<Self> {
        let router = Self(Frr::of(netns));
        router.0.forget()?;
        router.0.start(configuration)?;
        Ok(router)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for pid in self.0.pids() {
            // It may have ended by itself.
            let _ = command::run(&format!("kill -9 {pid}"));
        }
        let _ = self.0.forget();
    }
}

/// An Svi's BGP with a router behind it: the session, its routes in the Vrf and on to the fabric,
/// and nothing left of it afterwards.
#[test]
fn a_tenants_router_speaks_bgp_with_its_gateway() -> Result<()> {
    let lab = Lab::start()?;
    let frr = lab.topology.xpu_frr();
    create(&format!(
        "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
    ))?;
    create(&format!(
        "vrf vrf-blue --loopback 10.255.100.1/32 --vni {BLUE_L3VNI}"
    ))?;
    create(&format!(
        "svi svi-blue --vrf vrf-blue --logical-bridge net-blue --mac {BLUE_GATEWAY_MAC} \
         --gateway {BLUE_GATEWAY_V4}/24 --enable-bgp --remote-as 65100"
    ))?;
    // Another one's router is in the node's own AS.
    create("logical-bridge net-ibgp --vlan 300")?;
    create(&format!(
        "svi svi-ibgp --vrf vrf-blue --logical-bridge net-ibgp --mac 02:00:5e:00:03:00 \
         --gateway 10.30.0.1/24 --enable-bgp --remote-as {XPU_ASN}"
    ))?;
    let group = |name: &str| -> Result<String> {
        let show = format!("show bgp vrf vrf-blue peer-group {name} json");
        Ok(frr.json(&show)?[name].to_string())
    };
    let (blue, ibgp) = (group("svi-100")?, group("svi-300")?);
    ensure!(
        blue.contains("65100") && blue.contains("10.100.0.0/24"),
        "{blue}"
    );
    ensure!(
        ibgp.contains(&XPU_ASN.to_string()) && ibgp.contains("10.30.0.0/24"),
        "{ibgp}"
    );
    let running = frr.vtysh(&["show running-config"])?;
    ensure!(
        running.contains("neighbor svi-100 as-override")
            && !running.contains("neighbor svi-300 as-override"),
        "{running}"
    );

    let pod = lab.access(
        "router",
        0,
        "net-blue",
        &["10.100.0.11/24"],
        &[BLUE_GATEWAY_V4],
    )?;
    pod.reaches(BLUE_GATEWAY_V4)?;
    let router = Router::start(
        pod.pod.netns(),
        &format!(
            "router bgp 65100\n bgp router-id 10.100.0.11\n no bgp ebgp-requires-policy\n \
             no bgp network import-check\n neighbor {BLUE_GATEWAY_V4} remote-as {XPU_ASN}\n \
             address-family ipv4 unicast\n  network 10.77.0.0/24\n exit-address-family\nexit\n"
        ),
    )?;
    wait_until("the gateway has the session", CONVERGENCE, || {
        let peers = frr.json("show bgp vrf vrf-blue neighbors json")?;
        let peer = &peers["10.100.0.11"];
        ensure!(
            peer["bgpState"] == "Established" && peer["remoteAs"] == 65100,
            "{peers}"
        );
        Ok(())
    })?;
    wait_until("the router's prefix is in the Vrf", CONVERGENCE, || {
        let routes = lab.topology.xpu.run("ip route show vrf vrf-blue")?;
        ensure!(routes.contains("10.77.0.0/24 "), "{routes}");
        Ok(())
    })?;
    wait_until("the fabric has it as type 5", CONVERGENCE, || {
        let routes = lab.topology.leaf2_frr().evpn_routes(5)?;
        ensure!(
            routes.iter().any(|it| it.contains("10.77.0.0")),
            "{routes:?}"
        );
        Ok(())
    })?;

    drop(router);
    pod.attachment.del()?;
    for svi in ["svi-blue", "svi-ibgp"] {
        xpuctl(&format!("delete svi {svi}"))?;
    }
    wait_until("the Svis' BGP has left FRR", CONVERGENCE, || {
        let text = frr.vtysh(&["show running-config"])?;
        ensure!(!text.contains("svi-"), "{text}");
        Ok(())
    })?;
    is_up("vrf", "vrf-blue")
}

/// A route that zebra reads while it is still getting to know the VRF crashes it when that goes.
#[test]
fn zebra_does_not_see_a_vrfs_unreachable_defaults() -> Result<()> {
    let lab = Lab::start()?;
    let (xpu, frr) = (&lab.topology.xpu, lab.topology.xpu_frr());
    let zebra = frr.pid("zebra")?;
    create("vrf vrf-red --loopback 10.255.1.1/32 --vni 5001")?;
    for (family, shown, theirs) in [
        ("-4", "ip", "192.0.2.0/24"),
        ("-6", "ipv6", "2001:db8::/32"),
    ] {
        let list = format!("ip -j {family} route show default vrf vrf-red");
        let routes = xpu.json(&list)?;
        ensure!(routes[0]["type"] == "unreachable", "{routes}");
        // Of what came before a route that zebra shows, it has read all.
        let route = format!("unreachable {theirs} vrf vrf-red");
        xpu.run(&format!("ip {family} route add {route}"))?;
        let show = format!("show {shown} route vrf vrf-red json");
        wait_until("zebra shows the other route", CONVERGENCE, || {
            let seen = frr.json(&show)?;
            ensure!(seen[theirs][0]["protocol"] == "kernel", "{seen}");
            let default = seen
                .as_object()
                .and_then(|it| it.keys().find(|it| it.ends_with("/0")));
            ensure!(default.is_none(), "{seen}");
            Ok(())
        })?;
        xpu.run(&format!("ip {family} route del {route}"))?;
    }
    xpuctl("delete vrf vrf-red")?;
    xpuctl("wait vrf vrf-red --for deleted")?;
    ensure!(
        frr.all_run() && frr.pid("zebra")? == zebra,
        "zebra has died"
    );
    Ok(())
}
