//! What the machine of a local agent has: kernel and its features, FRR and its daemons, the VTEP's
//! address, MTUs.
//! First everything is looked at, then judged: the judging is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Finding;
use crate::live::{Live, Objects, remote_vteps};
use crate::manifest::Spec;

/// Single VXLAN devices with VNI filters (`vnifilter`) came with it.
const LEAST_KERNEL: (u32, u32) = (5, 18);

/// FRR's zebra knows single VXLAN devices since.
const LEAST_FRR: (u32, u32) = (9, 0);

/// From this on FRR's `mgmtd` takes the configuration of VRFs.
const FRR_WITH_MGMTD: (u32, u32) = (10, 0);

/// Kernel modules the agent's devices are made of, with what for.
const MODULES: [(&str, &str); 4] = [
    ("bridge", "VLAN-aware bridges"),
    ("vxlan", "VXLAN devices"),
    ("vrf", "VRF devices"),
    ("8021q", "the VLAN devices of Svis"),
];

/// What was seen.
#[derive(Debug, Default)]
pub struct Host {
    /// `uname -r`.
    release: String,
    /// Those of [`MODULES`] that are loaded, built in, or can be loaded.
    modules: BTreeSet<&'static str>,
    /// Where FRR's sockets were looked for; none on a node that is to have no FRR.
    frr_sockets: Option<PathBuf>,
    /// The daemons that have one.
    daemons: BTreeSet<String>,
    /// What zebra answers to `show version`, or why it does not.
    frr_version: Option<Result<String, String>>,
    /// The MTUs of devices that may be uplinks.
    uplinks: BTreeMap<String, u32>,
    /// The machine's addresses; none: they can't be seen.
    addresses: BTreeSet<IpAddr>,
    /// What the agent's configuration says.
    configured: Option<Configured>,
}

/// A configuration of the agent, as far as it matters here.
#[derive(Debug)]
struct Configured {
    file: PathBuf,
    vtep: Option<IpAddr>,
    frr: ConfiguredFrr,
}

/// Its section `[frr]`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ConfiguredFrr {
    /// `enabled = false`.
    Disabled,
    /// The directory of its sockets.
    In(PathBuf),
}

/// Where FRR's daemons have their sockets unless somebody says otherwise.
const FRR_SOCKETS: &str = "/run/frr";

impl Host {
    /// Looks, below `root`; what can't be seen is left out. `frr_sockets` is where to look for FRR
    /// whatever the agent's configuration says of it.
    pub fn look(root: &Path, frr_sockets: Option<&Path>, agent_config: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let release = read("proc/sys/kernel/osrelease").trim().to_owned();
        let listed = ["modules.builtin", "modules.dep"].map(|list| {
            let list = read(&format!("lib/modules/{release}/{list}"));
            // `kernel/net/bridge/bridge.ko.xz: kernel/…`
            let names = list.lines().filter_map(|line| {
                let file = line.split(':').next()?.rsplit('/').next()?;
                Some(file.split(".ko").next()?.to_owned())
            });
            names.collect::<BTreeSet<_>>()
        });
        let has = |name: &str| {
            root.join("sys/module").join(name).exists() || listed.iter().any(|it| it.contains(name))
        };
        let modules = MODULES.iter().map(|(name, _)| *name);
        let configured = configured(agent_config);
        let frr_sockets = match (frr_sockets, configured.as_ref().map(|it| &it.frr)) {
            (Some(directory), _) => Some(directory.to_owned()),
            (None, Some(ConfiguredFrr::Disabled)) => None,
            (None, Some(ConfiguredFrr::In(directory))) => Some(directory.clone()),
            (None, None) => Some(FRR_SOCKETS.into()),
        };
        let daemons: BTreeSet<String> = frr_sockets
            .iter()
            .flat_map(|directory| entries(directory))
            .filter_map(|file| Some(file.strip_suffix(".vty")?.to_owned()))
            .collect();
        let zebra = frr_sockets.as_ref().filter(|_| daemons.contains("zebra"));
        Self {
            modules: modules.filter(|name| has(name)).collect(),
            release,
            frr_version: zebra.map(|directory| version(&directory.join("zebra.vty"))),
            daemons,
            frr_sockets,
            uplinks: uplinks(&root.join("sys/class/net")),
            addresses: v4_addresses(&read("proc/net/fib_trie"))
                .chain(v6_addresses(&read("proc/net/if_inet6")))
                .collect(),
            configured,
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// `IFF_NOARP` (linux/if.h). Who does not resolve neighbours leads to no fabric: VRF devices, whose
/// MTU is 65575, dummies, tunnels.
const NOARP: u32 = 0x80;

/// Devices that are no bridge, no port of one, no loopback, none without neighbours and none of
/// the agent's.
fn uplinks(directory: &Path) -> BTreeMap<String, u32> {
    let ours = |name: &str| {
        ["vxlan", "vxl3"].contains(&name) || name.starts_with("svi-") || name.starts_with("l3-")
    };
    let mtu = |name: String| {
        let device = directory.join(&name);
        let inner = ["bridge", "brport", "master"]
            .iter()
            .any(|it| device.join(it).exists());
        let flags = fs::read_to_string(device.join("flags")).ok()?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
        if name == "lo" || inner || ours(&name) || flags & NOARP != 0 {
            return None;
        }
        let mtu = fs::read_to_string(device.join("mtu")).ok()?;
        Some((name, mtu.trim().parse().ok()?))
    };
    entries(directory).filter_map(mtu).collect()
}

/// `/proc/net/fib_trie`: under `|-- 10.0.0.1` stands `/32 host LOCAL` where it is an own address.
fn v4_addresses(trie: &str) -> impl Iterator<Item = IpAddr> {
    let mut last = None;
    trie.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        }
        last.filter(|_| line == "/32 host LOCAL")
    })
}

/// `/proc/net/if_inet6`: each line begins with an address of 32 digits.
fn v6_addresses(lines: &str) -> impl Iterator<Item = IpAddr> {
    let addresses = lines.lines().filter_map(|line| line.split(' ').next());
    addresses
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| Ipv6Addr::from_bits(bits).into())
}

/// The agent itself says what is wrong in it, with `--check-config`.
fn configured(file: &Path) -> Option<Configured> {
    let text = fs::read_to_string(file).ok()?;
    let config: toml::Table = text.parse().ok()?;
    let of = |section: &str, key: &str| config.get(section)?.get(key);
    let vtep = of("underlay", "vtep").and_then(|it| it.as_str()?.parse().ok());
    let enabled = of("frr", "enabled").and_then(toml::Value::as_bool);
    let sockets = of("frr", "socket_directory").and_then(toml::Value::as_str);
    Some(Configured {
        file: file.to_owned(),
        vtep,
        frr: match enabled {
            Some(false) => ConfiguredFrr::Disabled,
            _ => ConfiguredFrr::In(sockets.unwrap_or(FRR_SOCKETS).into()),
        },
    })
}

/// Asks zebra over its vty socket: the command and NUL; the answer's first NUL ends its text.
fn version(socket: &Path) -> Result<String, String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let ask = || -> io::Result<String> {
        let mut zebra = UnixStream::connect(socket)?;
        zebra.set_read_timeout(Some(PATIENCE))?;
        zebra.set_write_timeout(Some(PATIENCE))?;
        zebra.write_all(b"show version\0")?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        while !answer.contains(&0) && answer.len() < 1 << 16 {
            match zebra.read(&mut part)? {
                0 => break,
                read => answer.extend_from_slice(&part[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = ask().map_err(|error| error.to_string())?;
    // `FRRouting 10.3 (host) on Linux(6.12.48).`
    let words = text.split_whitespace().skip_while(|it| *it != "FRRouting");
    match words.clone().nth(1) {
        Some(version) => Ok(version.to_owned()),
        None => Err("its answer to `show version` has no version".to_owned()),
    }
}

/// The first two numbers of `6.12.48+deb13-amd64`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Judges kernel and FRR.
pub fn findings(host: &Host) -> Vec<Finding> {
    let mut findings = vec![kernel(&host.release)];
    for (name, what) in MODULES {
        if !host.modules.contains(name) {
            findings.push(Finding::wrong(
                "kernel",
                format!("this kernel has no module {name}: {what} can't be made"),
                format!("modprobe {name}\n(Debian's cloud kernels leave some out: apt install linux-image-amd64)"),
            ));
        }
    }
    findings.extend(frr(host));
    findings
}

fn kernel(release: &str) -> Finding {
    let (major, minor) = LEAST_KERNEL;
    match numbers(release) {
        Some(version) if version >= LEAST_KERNEL => {
            Finding::fine("kernel", format!("{release}, at least {major}.{minor}"))
        }
        _ => Finding::wrong(
            "kernel",
            format!("{release:?} is older than {major}.{minor}, which VXLAN's VNI filters need"),
            "apt install -t bookworm-backports linux-image-amd64, then reboot",
        ),
    }
}

fn frr(host: &Host) -> Vec<Finding> {
    let Some(directory) = &host.frr_sockets else {
        let file = host.configured.as_ref().map(|it| it.file.display());
        let file = file.map(|file| format!(", by frr.enabled of {file}"));
        let file = file.unwrap_or_default();
        return vec![Finding::fine("frr", format!("this node has none{file}"))];
    };
    let directory = directory.display();
    let (major, minor) = LEAST_FRR;
    let version = match &host.frr_version {
        None => {
            return vec![Finding::wrong(
                "frr",
                format!("zebra has no socket in {directory}; VNIs need FRR"),
                "apt install frr\nsystemctl enable --now frr\n\
                 for daemons started with -N, set frr.socket_directory in the agent's \
                 configuration\n\
                 on a node without FRR, set frr.enabled = false there",
            )];
        }
        Some(Err(why)) => {
            return vec![Finding::notice(
                "frr",
                format!("zebra's socket in {directory} can't be asked: {why}"),
                "run doctor as root, or as a member of the group frrvty",
            )];
        }
        Some(Ok(version)) => version,
    };
    let numbers = numbers(version).unwrap_or_default();
    let mut findings = vec![match numbers >= LEAST_FRR {
        true => Finding::fine("frr", format!("{version}, at least {major}.{minor}")),
        false => Finding::wrong(
            "frr",
            format!("{version} has no single VXLAN devices; {major}.{minor} is the first that has"),
            "install FRR from https://deb.frrouting.org or a newer Debian",
        ),
    }];
    let managed = (numbers >= FRR_WITH_MGMTD).then_some("mgmtd");
    for daemon in ["bgpd"].into_iter().chain(managed) {
        if !host.daemons.contains(daemon) {
            findings.push(Finding::wrong(
                "frr",
                format!("{daemon} does not run: it has no socket in {directory}"),
                format!("set {daemon}=yes in /etc/frr/daemons\nsystemctl restart frr"),
            ));
        }
    }
    findings
}

/// Judges the VTEP that the agent's configuration names, which the fabric must reach here.
pub fn vtep(host: &Host, objects: Option<&Objects>) -> Vec<Finding> {
    const WHAT: &str = "vtep";
    let Some(Configured { file, vtep, .. }) = &host.configured else {
        return Vec::new();
    };
    let file = file.display();
    match vtep {
        Some(vtep) if host.addresses.contains(vtep) => vec![Finding::fine(
            WHAT,
            format!("{vtep}, of {file}, is an address of this machine"),
        )],
        Some(vtep) if !host.addresses.is_empty() => vec![Finding::wrong(
            WHAT,
            format!("{vtep}, of {file}, is no address of this machine"),
            format!("ip address add {vtep}/{} dev lo", length(*vtep)),
        )],
        Some(_) => Vec::new(),
        // What there is tells itself that it needs one, or has its own.
        None if objects.is_some_and(|objects| objects.values().any(has_vni)) => Vec::new(),
        None => vec![Finding::notice(
            WHAT,
            format!("{file} names none, and each object with a VNI needs one"),
            "ip address add ADDRESS/32 dev lo\n\
             set underlay.vtep = \"ADDRESS\" in the agent's configuration\n\
             systemctl restart xpu-agent",
        )],
    }
}

const fn length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn has_vni(live: &Live) -> bool {
    match &live.spec {
        Spec::Vrf(vrf) => vrf.vni.is_some(),
        Spec::LogicalBridge(bridge) => bridge.vni.is_some(),
        Spec::BridgePort(_) | Spec::Svi(_) => false,
    }
}

/// The VTEP an object with a VNI brings.
fn own_vtep(live: &Live) -> Option<IpAddr> {
    let prefix = match &live.spec {
        Spec::Vrf(vrf) => vrf.vni.and(vrf.vtep_ip_prefix),
        Spec::LogicalBridge(bridge) => bridge.vni.and(bridge.vtep_ip_prefix),
        Spec::BridgePort(_) | Spec::Svi(_) => None,
    };
    prefix.map(|prefix| prefix.0.addr())
}

/// What VXLAN adds to a tenant's packet: more where the outer header is IPv6. Both ends of a
/// tunnel are of one family, so a remote one tells too.
fn overhead(host: &Host, objects: &Objects) -> u32 {
    let configured = host.configured.as_ref().and_then(|it| it.vtep);
    let own = || objects.values().find_map(own_vtep);
    let remote = || objects.values().flat_map(remote_vteps).next();
    match configured.or_else(own).or_else(remote) {
        Some(IpAddr::V6(_)) => 70,
        Some(IpAddr::V4(_)) | None => 50,
    }
}

/// What tenants expect.
const ETHERNET: u32 = 1500;

/// Judges the tenants' MTU, which the agent tells in its objects' details.
pub fn mtu(host: &Host, objects: &Objects) -> Vec<Finding> {
    let details = objects.values().flat_map(|live| &live.components);
    let told = details.filter_map(|component| {
        let details: Value = serde_json::from_str(&component.details).ok()?;
        // An agent tells no more than a link can have.
        u16::try_from(details.get("mtu")?.as_u64()?).ok()
    });
    let Some(tenants) = told.max() else {
        return Vec::new();
    };
    let overhead = overhead(host, objects);
    let outer = u32::from(tenants) + overhead;
    let widest = host.uplinks.iter().max_by_key(|(_, mtu)| **mtu);
    match widest {
        Some((name, mtu)) if *mtu < outer => vec![Finding::wrong(
            "mtu",
            format!(
                "tenants may send {tenants} bytes, {outer} with VXLAN; no device takes more than {mtu} ({name})"
            ),
            format!(
                "ip link set dev UPLINK mtu {outer}\n\
                 or set underlay.mtu = {mtu} in the agent's configuration"
            ),
        )],
        _ if u32::from(tenants) < ETHERNET => vec![Finding::notice(
            "mtu",
            format!("tenants may send {tenants} bytes, and expect {ETHERNET}"),
            format!(
                "ip link set dev UPLINK mtu {0}\n\
                 set underlay.mtu = {0} in the agent's configuration",
                ETHERNET + overhead
            ),
        )],
        _ => vec![Finding::fine(
            "mtu",
            format!("tenants may send {tenants} bytes"),
        )],
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
