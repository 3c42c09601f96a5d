//! Whether what tenants may send fits the way into the fabric once it is in VXLAN. First the ways
//! are looked at, then judged: the judging is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde_json::Value;
use xpu_model::node::vxlan_overhead;

use super::agent_config::{AgentConfig, Peer};
use super::{Finding, entries, vtep};
use crate::live::{Objects, remote_vteps};

const WHAT: &str = "mtu";

/// What tenants expect.
const ETHERNET: u32 = 1500;

/// A way into the fabric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Over a device.
    Over(String),
    /// To an address, as the kernel chooses.
    To(IpAddr),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over(device) => write!(f, "the device {device}"),
            Self::To(address) => write!(f, "the way to {address}"),
        }
    }
}

/// The ways that tunnelled packets may take, with their MTUs in bytes.
#[derive(Debug, Default)]
pub struct Ways {
    /// Those that lead into the fabric: to BGP peers and to remote VTEPs.
    fabric: BTreeMap<Way, u32>,
    /// The default route's.
    default_route: Option<u32>,
    /// Devices that may be uplinks.
    uplinks: BTreeMap<String, u32>,
}

impl Ways {
    /// Looks, below `root`; `mtu_to` tells the MTU of the way to an address.
    pub fn look(
        root: &Path,
        config: &AgentConfig,
        objects: &Objects,
        mtu_to: impl Fn(IpAddr) -> Option<u32>,
    ) -> Self {
        let devices = root.join("sys/class/net");
        let peers = config.settings().map(|it| it.bgp.peers.as_slice());
        let peers = peers.unwrap_or_default().iter().filter_map(way_to_peer);
        let remote: BTreeSet<_> = objects.values().flat_map(remote_vteps).collect();
        let ways = peers.chain(remote.into_iter().map(Way::To));
        let fabric = ways.filter_map(|way| {
            let mtu = match &way {
                Way::Over(device) => mtu_of(&devices.join(device)),
                Way::To(address) => mtu_to(*address),
            };
            Some((way, mtu?))
        });
        let elsewhere = elsewhere(vtep::of_the_tunnels(config, objects));
        Self {
            fabric: fabric.collect(),
            default_route: mtu_to(elsewhere),
            uplinks: uplinks(&devices),
        }
    }

    /// Judges the tenants' MTU, which the agent tells in its objects' details.
    pub fn findings(&self, config: &AgentConfig, objects: &Objects) -> Vec<Finding> {
        let Some(tenants) = tenants(objects) else {
            return Vec::new();
        };
        let overhead = vxlan_overhead(vtep::of_the_tunnels(config, objects));
        let sent = Sent {
            tenants,
            outer: tenants + overhead,
        };
        let narrow = self.too_narrow(&sent);
        vec![narrow.unwrap_or_else(|| match tenants < ETHERNET {
            true => Finding::notice(
                WHAT,
                format!("tenants may send {tenants} bytes, and expect {ETHERNET}"),
                format!(
                    "ip link set dev UPLINK mtu {0}\n\
                     set underlay.mtu = {0} in the agent's configuration\n\
                     systemctl restart xpu-agent",
                    ETHERNET + overhead
                ),
            ),
            false => Finding::fine(WHAT, format!("tenants may send {tenants} bytes")),
        })]
    }

    /// What is too narrow for what is sent, by the best that is known: the ways into the fabric,
    /// else the device that could be one.
    fn too_narrow(&self, sent: &Sent) -> Option<Finding> {
        let Sent { outer, .. } = sent;
        if let Some((way, mtu)) = self.fabric.iter().min_by_key(|(_, mtu)| **mtu) {
            let raise = match way {
                Way::Over(device) => format!("ip link set dev {device} mtu {outer}"),
                Way::To(address) => format!(
                    "ip link set dev DEVICE mtu {outer}, for the DEVICE that this shows: \
                     ip route get {address}"
                ),
            };
            return (mtu < outer).then(|| sent.wrong(*mtu, &way.to_string(), &raise));
        }
        let widest = self.uplinks.iter().max_by_key(|(_, mtu)| **mtu);
        if let Some((device, mtu)) = widest.filter(|(_, mtu)| *mtu < outer) {
            let who = format!("even the widest device, {device},");
            let raise = format!("ip link set dev UPLINK mtu {outer}");
            return Some(sent.wrong(*mtu, &who, &raise));
        }
        let mtu = self.default_route.filter(|mtu| mtu < outer)?;
        Some(Finding::notice(
            WHAT,
            format!(
                "{sent}; the default route takes no more than {mtu}, and whether it leads to the \
                 fabric is not known, without a BGP peer and a remote VTEP to look for"
            ),
            format!(
                "if it does: ip link set dev DEVICE mtu {outer}, for the DEVICE that this shows: \
                 ip route show default"
            ),
        ))
    }
}

/// What tenants may send, in bytes.
struct Sent {
    tenants: u32,
    /// The same in VXLAN.
    outer: u32,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenants, outer } = self;
        write!(f, "tenants may send {tenants} bytes, {outer} with VXLAN")
    }
}

impl Sent {
    fn wrong(&self, mtu: u32, who: &str, raise: &str) -> Finding {
        Finding::wrong(
            WHAT,
            format!("{self}; {who} takes no more than {mtu}"),
            format!(
                "{raise}\n\
                 or set underlay.mtu = {mtu} in the agent's configuration, then: systemctl \
                 restart xpu-agent"
            ),
        )
    }
}

/// The largest MTU that a component tells of an object, if any does.
fn tenants(objects: &Objects) -> Option<u32> {
    let components = objects.values().flat_map(|live| &live.components);
    let mtus = components.filter_map(|component| {
        let details: Value = serde_json::from_str(&component.details).ok()?;
        // An agent tells no more than a link can have.
        u16::try_from(details.get("mtu")?.as_u64()?).ok()
    });
    mtus.max().map(u32::from)
}

fn way_to_peer(peer: &Peer) -> Option<Way> {
    let device = peer.interface.clone().map(Way::Over);
    device.or_else(|| peer.address.map(Way::To))
}

/// An address for documentation (RFC 5737, RFC 3849), of the family of `vtep`. Nobody has it, so
/// nothing but a default route leads there.
fn elsewhere(vtep: Option<IpAddr>) -> IpAddr {
    match vtep {
        Some(IpAddr::V6(_)) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        Some(IpAddr::V4(_)) | None => Ipv4Addr::new(192, 0, 2, 1).into(),
    }
}

/// `IFF_NOARP` (linux/if.h). A device without neighbours leads to no fabric: VRF devices, whose
/// MTU is 65575, dummies, tunnels.
const NOARP: u32 = 0x80;

/// Devices that are no bridge, no port of one, no loopback, none without neighbours and none of
/// the agent's.
fn uplinks(devices: &Path) -> BTreeMap<String, u32> {
    let ours = |name: &str| {
        ["vxlan", "vxl3"].contains(&name) || name.starts_with("svi-") || name.starts_with("l3-")
    };
    let mtu = |name: String| {
        let device = devices.join(&name);
        let inner = ["bridge", "brport", "master"]
            .iter()
            .any(|it| device.join(it).exists());
        let flags = fs::read_to_string(device.join("flags")).ok()?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
        if name == "lo" || inner || ours(&name) || flags & NOARP != 0 {
            return None;
        }
        let mtu = mtu_of(&device)?;
        Some((name, mtu))
    };
    entries(devices).filter_map(mtu).collect()
}

/// The MTU of a device, by its folder in sysfs.
fn mtu_of(device: &Path) -> Option<u32> {
    let mtu = fs::read_to_string(device.join("mtu")).ok()?;
    mtu.trim().parse().ok()
}

#[cfg(test)]
#[path = "mtu_tests.rs"]
mod tests;
