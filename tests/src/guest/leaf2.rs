//! The foreign side: spine, leaf2 and the hosts behind it. Plain `ip`, `bridge` and FRR lines,
//! which stand in `tests/topology/`; nothing of the product takes part.

use anyhow::Result;

use super::addresses::{
    H_BLUE, H_EXT, H_GREEN, H_SILENT, Host, LEAF2_UPLINK, LEAF2_VTEP, SPINE_TO_LEAF2, UNDERLAY_MTU,
};
use super::command;
use super::frr::Frr;
use super::netns::Netns;

const SPINE_FRR: &str = include_str!("../../topology/spine.conf");
const LEAF2_FRR: &str = include_str!("../../topology/leaf2.conf");
const LEAF2_IP: &str = include_str!("../../topology/leaf2.ip");
const LEAF2_BRIDGE: &str = include_str!("../../topology/leaf2.bridge");

/// The hosts behind the foreign leaf.
pub const HOSTS: [Host; 4] = [H_BLUE, H_SILENT, H_GREEN, H_EXT];

/// What every machine that routes needs.
pub const ROUTER_SYSCTLS: &str = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
    net.ipv6.conf.all.keep_addr_on_down=1 net.ipv6.conf.default.keep_addr_on_down=1";

/// On a leaf, for hosts that are silent: the answer to a gateway's question may arrive at another
/// leaf's gateway, which has the same addresses.
const LEAF_SYSCTLS: &str = "net.ipv4.conf.all.arp_accept=1 net.ipv4.conf.default.arp_accept=1 \
    net.ipv6.conf.default.accept_untracked_na=2 net.ipv6.conf.default.accept_dad=0";

/// Makes the foreign side, in namespaces that are new.
///
/// # Errors
/// Where a step fails.
pub fn build(spine: &Netns, leaf2: &Netns) -> Result<()> {
    spine.sysctl(ROUTER_SYSCTLS)?;
    leaf2.sysctl(ROUTER_SYSCTLS)?;
    leaf2.sysctl(LEAF_SYSCTLS)?;
    for host in HOSTS {
        Netns::create(host.name)?;
    }
    leaf2.ip_batch(&format!(
        "link add up0 mtu {UNDERLAY_MTU} type veth peer name to-leaf2 netns {}\n\
         addr add {LEAF2_UPLINK}/31 dev up0\n\
         link set up0 up\n\
         addr add {LEAF2_VTEP}/32 dev lo\n",
        spine.name()
    ))?;
    spine.ip_batch(&format!(
        "link set to-leaf2 mtu {UNDERLAY_MTU} up\n\
         addr add {SPINE_TO_LEAF2}/31 dev to-leaf2\n\
         addr add 10.255.0.254/32 dev lo\n"
    ))?;
    leaf2.ip_batch(LEAF2_IP)?;
    leaf2.bridge_batch(LEAF2_BRIDGE)?;
    for host in HOSTS {
        configure(host)?;
    }
    std::thread::scope(|scope| {
        let spine = scope.spawn(|| Frr::of(spine).start(SPINE_FRR));
        Frr::of(leaf2).start(LEAF2_FRR)?;
        match spine.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes leaf2 forget where the silent host is, which it learns when somebody asks for it.
///
/// # Errors
/// Where the neighbour table can't be flushed.
pub fn forget_silent_host(leaf2: &Netns) -> Result<()> {
    leaf2.run(&format!("ip neigh flush to {}", H_SILENT.v4))?;
    // It fails where there is no such entry.
    let mac = H_SILENT.mac;
    let entry = [
        "bridge", "fdb", "del", mac, "dev", "p-silent", "vlan", "100", "master",
    ];
    command::outcome(&leaf2.words(&entry))?;
    Ok(())
}

fn configure(host: Host) -> Result<()> {
    let netns = Netns::named(host.name);
    if host.v6.is_none() {
        // IPv6 speaks by itself: router solicitations, multicast reports.
        netns.sysctl("net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
    }
    let mut lines = format!("link set eth0 address {} up\n", host.mac);
    lines.push_str(&format!("addr add {}/24 dev eth0\n", host.v4));
    if let Some(v6) = host.v6 {
        lines.push_str(&format!("addr add {v6}/64 dev eth0 nodad\n"));
    }
    for gateway in host.gateways {
        lines.push_str(&format!("route add default via {gateway}\n"));
    }
    netns.ip_batch(&lines)
}
