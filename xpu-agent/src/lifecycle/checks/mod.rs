//! What the agent needs of the machine, judged before it starts: `xpu-agent check`.
//!
//! [`facts`] looks, [`judge`] decides; the latter is pure. What is bad keeps the agent from
//! starting, for it could not do its work and would not become able to by waiting. What is only
//! not there yet (FRR is started by somebody else) is a warning: readiness tells of it.

mod bridged;
mod facts;
mod networkd;

use std::{fmt, num::NonZeroU16};

use serde::Serialize;
use tracing::{error, warn};
use xpu_linux::kernel::{Answer, Feature};
use xpu_model::requirements::LEAST_KERNEL;
use xpu_plan::frr::{LEAST_VERSION, Version};

pub use facts::observe;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// What the kernel says of each feature.
    pub features: Vec<(Feature, Answer)>,
    /// Whether settings below `/proc/sys/net` can be changed; else why not.
    pub settings: Result<(), String>,
    /// FRR, where the configuration says that there is one.
    pub frr: Option<FrrFound>,
    /// Whether the store's directory can be used; else why not.
    pub store: Result<(), String>,
    /// The store's directory.
    pub store_directory: String,
    /// The settings by which bridged frames pass the node's filters for routed packets; else why
    /// that cannot be told.
    pub bridged: Result<Vec<&'static str>, String>,
    /// The devices by which the node would lose its IPv6 default route if it forwarded IPv6; else
    /// why that cannot be told.
    pub at_stake: Result<Vec<String>, String>,
    /// The UDP port of VXLAN.
    pub vxlan_port: NonZeroU16,
    /// Somebody's VXLAN device that has it; else why that cannot be told.
    pub port_holder: Result<Option<String>, String>,
    /// systemd-networkd's configuration.
    pub networkd: networkd::Files,
}

/// FRR as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrrFound {
    /// The directory of its sockets.
    pub directory: String,
    /// Its version; else why it cannot be told.
    pub version: Result<Version, String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not yet; the agent starts and waits.
    Warning,
    /// The agent does not start.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The command, or the change, that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad => "BAD",
        };
        write!(f, "{:<16} {verdict:<8} {}", self.name, self.found)?;
        match &self.mend {
            Some(mend) => write!(f, "\n{:<25} → {mend}", ""),
            None => Ok(()),
        }
    }
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        name,
        verdict: Verdict::Good,
        found: found.into(),
        mend: None,
    }
}

fn bad(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check {
        name,
        verdict: Verdict::Bad,
        found: found.into(),
        mend: Some(mend.into()),
    }
}

fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check {
        verdict: Verdict::Warning,
        ..bad(name, found, mend)
    }
}

/// Judges what was found.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![rights(facts), kernel(facts)];
    checks.extend(
        facts
            .features
            .iter()
            .map(|(it, answer)| feature(*it, answer)),
    );
    checks.push(settings(&facts.settings));
    checks.push(store(facts));
    checks.push(bridged::judge(facts));
    checks.push(ipv6(&facts.at_stake));
    checks.push(vxlan_port(facts));
    checks.push(networkd::check(&facts.networkd));
    checks.push(frr(facts.frr.as_ref()));
    checks
}

/// Whether the agent can start over these.
#[must_use]
pub fn may_start(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict != Verdict::Bad)
}

/// One a line, as text.
pub fn listed<'a>(checks: impl IntoIterator<Item = &'a Check>) -> String {
    let lines: Vec<_> = checks.into_iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Logs what is not good.
///
/// # Errors
/// When a check is bad; the error names each that is.
pub fn demand(checks: &[Check]) -> anyhow::Result<()> {
    for check in checks.iter().filter(|it| it.verdict != Verdict::Good) {
        let (found, mend) = (&check.found, check.mend.as_deref().unwrap_or_default());
        if check.verdict == Verdict::Bad {
            error!(check = check.name, %found, %mend, "the agent cannot start");
        } else {
            warn!(check = check.name, %found, %mend, "needs attention");
        }
    }
    anyhow::ensure!(
        may_start(checks),
        "this machine lacks what the agent needs:\n{}",
        listed(checks.iter().filter(|it| it.verdict == Verdict::Bad)),
    );
    Ok(())
}

fn rights(facts: &Facts) -> Check {
    const NAME: &str = "CAP_NET_ADMIN";
    let forbidden = |(_, answer): &(Feature, Answer)| *answer == Answer::Forbidden;
    if facts.features.iter().any(forbidden) {
        bad(
            NAME,
            "missing: the kernel refuses changes to this network namespace",
            "start it as root, or by a unit with AmbientCapabilities=CAP_NET_ADMIN, or in a \
             container with the capability NET_ADMIN",
        )
    } else {
        good(NAME, "held")
    }
}

/// The version is shown to the reader, and keeps the agent from starting where the probes could not
/// tell. A vendor's kernel may have an old number and all that is needed: the probes found it.
fn kernel(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    let (major, minor) = LEAST_KERNEL;
    let mend = format!("boot kernel {major}.{minor} or later: apt install linux-image-amd64");
    match version(&facts.kernel) {
        Some(version) if version < LEAST_KERNEL => {
            let found = format!(
                "{} is older than {major}.{minor}, the first with VXLAN VNI filters",
                facts.kernel
            );
            let is_there = |(_, answer): &(Feature, Answer)| *answer == Answer::Available;
            if facts.features.iter().all(is_there) {
                let found = format!("{found}; it has them and the rest all the same");
                let mend = format!("nothing while all works; else {mend}");
                warning(NAME, found, mend)
            } else {
                bad(NAME, found, mend)
            }
        }
        Some(_) => good(NAME, &*facts.kernel),
        None => warning(NAME, format!("`{}` tells no version", facts.kernel), mend),
    }
}

/// The first two numbers of a `uname -r`.
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|text| text.parse().ok());
    number().zip(number())
}

fn feature(feature: Feature, answer: &Answer) -> Check {
    let (name, module, option) = match feature {
        Feature::Bridge => ("bridge", "bridge", "CONFIG_BRIDGE"),
        Feature::VlanFiltering => ("vlan filtering", "bridge", "CONFIG_BRIDGE_VLAN_FILTERING"),
        Feature::Vlan => ("vlan", "8021q", "CONFIG_VLAN_8021Q"),
        Feature::Vrf => ("vrf", "vrf", "CONFIG_NET_VRF"),
        Feature::Vxlan => ("vxlan", "vxlan", "CONFIG_VXLAN"),
        Feature::VniFilter => ("vni filter", "vxlan", "CONFIG_VXLAN"),
    };
    let mend = match feature {
        Feature::VlanFiltering => format!("boot a kernel that was built with {option}"),
        Feature::VniFilter => "boot kernel 5.18 or later".to_owned(),
        _ => format!("modprobe {module}; if there is no such module, a kernel with {option}"),
    };
    match answer {
        Answer::Available => good(name, "available"),
        Answer::Missing => bad(name, "the kernel does not have it", mend),
        // `rights` says so already.
        Answer::Forbidden => warning(name, "cannot be asked for without CAP_NET_ADMIN", mend),
        Answer::Unclear(words) => warning(name, format!("unclear: {words}"), mend),
    }
}

fn settings(writable: &Result<(), String>) -> Check {
    const NAME: &str = "sysctl";
    match writable {
        Ok(()) => good(NAME, "/proc/sys/net can be written"),
        Err(reason) => bad(
            NAME,
            format!(
                "forwarding and the gateways' ARP and IPv6 settings cannot be changed: {reason}"
            ),
            "run the agent as root on the node itself, or in a privileged container (others have \
             /proc/sys read-only); a unit of systemd's must not have ProtectKernelTunables=yes",
        ),
    }
}

fn store(facts: &Facts) -> Check {
    const NAME: &str = "store";
    let directory = &facts.store_directory;
    match &facts.store {
        Ok(()) => good(NAME, format!("{directory} can be written")),
        Err(reason) => bad(
            NAME,
            format!("{directory} cannot be written: {reason}"),
            format!("install -d -m 0700 {directory}, as the user that the agent runs as"),
        ),
    }
}

fn ipv6(at_stake: &Result<Vec<String>, String>) -> Check {
    const NAME: &str = "IPv6 forwarding";
    let mend = |device: &str| format!("sysctl net.ipv6.conf.{device}.accept_ra=2");
    match at_stake {
        Ok(devices) if devices.is_empty() => good(NAME, "takes no default route of the node's"),
        Ok(devices) => warning(
            NAME,
            format!(
                "is not switched on: the kernel would forget the node's default route by {}, which \
                 a router advertised",
                devices.join(", ")
            ),
            devices
                .iter()
                .map(|device| mend(device))
                .collect::<Vec<_>>()
                .join("; "),
        ),
        Err(reason) => warning(
            NAME,
            format!("unclear whether it takes a default route of the node's: {reason}"),
            "see `ip -6 route show default proto ra`",
        ),
    }
}

fn vxlan_port(facts: &Facts) -> Check {
    const NAME: &str = "VXLAN's port";
    let port = facts.vxlan_port;
    match &facts.port_holder {
        Ok(None) => good(
            NAME,
            format!("no VXLAN device of somebody's has UDP port {port}"),
        ),
        Ok(Some(device)) => warning(
            NAME,
            format!(
                "the VXLAN device {device}, which the agent did not make, has UDP port {port}: what \
                 has a VNI stays DOWN"
            ),
            "give it another (in Calico, vxlanPort of the FelixConfiguration), or set \
             underlay.vxlan_port to another on all nodes of the fabric",
        ),
        Err(reason) => warning(
            NAME,
            format!("unclear whether somebody has UDP port {port}: {reason}"),
            "see `ip -d link show type vxlan`",
        ),
    }
}

fn frr(found: Option<&FrrFound>) -> Check {
    const NAME: &str = "FRR";
    let Some(FrrFound { directory, version }) = found else {
        return good(NAME, "frr.enabled is false: not used, and VNIs are refused");
    };
    match version {
        Ok(version) if *version < LEAST_VERSION => bad(
            NAME,
            format!("{version} is too old for single VXLAN devices"),
            format!("install FRR {LEAST_VERSION} or later (https://deb.frrouting.org)"),
        ),
        Ok(version) => good(NAME, format!("{version} answers in {directory}")),
        Err(reason) => warning(
            NAME,
            reason,
            "systemctl start frr, with bgpd=yes in /etc/frr/daemons; or set \
             frr.socket_directory, or frr.enabled = false",
        ),
    }
}

#[cfg(test)]
mod tests;
