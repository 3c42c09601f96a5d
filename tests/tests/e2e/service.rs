//! The systemd unit: it is valid and hardened, and what it leaves the agent is enough.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xpu_tests::guest::{
    addresses::{BLUE_GATEWAY_V4, BLUE_GATEWAY_V6, BLUE_L3VNI, BLUE_VLAN, BLUE_VNI, H_BLUE, H_EXT},
    agent::{self, Agent, SOCKET},
    command,
    http::metric,
    operator::create,
    service::{self, UNIT, Unit},
    topology::Topology,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab, manager::Manager};

/// Nobody's in the guest.
const GROUP: u32 = 990;

/// What the kernel says when the sandbox is too narrow.
const DENIED: [&str; 3] = [
    "Permission denied",
    "Read-only file system",
    "Operation not permitted",
];

/// The sandbox is there: else the test below would prove nothing.
fn is_confined(agent: &Agent) -> Result<()> {
    let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", agent.pid()));
    let status = of("status")?;
    // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_NET_ADMIN: bits 0, 1, 3 and 12.
    for line in [
        "CapBnd:\t000000000000100b",
        "CapEff:\t000000000000100b",
        "NoNewPrivs:\t1",
    ] {
        ensure!(status.contains(line), "no `{line}` in {status}");
    }
    let mounts = of("mountinfo")?;
    let mut root = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        (fields.next()? == "/").then_some(fields.next()?)
    });
    let options = root.next_back().context("no root")?;
    ensure!(options.starts_with("ro"), "the root is {options}: {mounts}");
    Ok(())
}

/// Its modes and its group, as `[mode, gid]`.
fn owned(path: &str) -> Result<(u32, u32)> {
    let metadata = fs::metadata(path).context(path.to_owned())?;
    Ok((metadata.permissions().mode() & 0o777, metadata.gid()))
}

/// A tenant from end to end, with everything that takes a right: files of FRR's and of the agent's
/// own, a socket for a group, routing settings, the configuration read again.
#[test]
fn the_unit_leaves_the_agent_all_that_a_tenant_needs() -> Result<()> {
    let topology = Topology::clean()?;
    let mut manager = Manager::new()?;
    let config = Agent::lab_config()?.replace("[api]\n", &format!("[api]\nunix_group = {GROUP}\n"));
    let env = [
        ("NOTIFY_SOCKET", Manager::PATH),
        ("WATCHDOG_USEC", "60000000"),
    ];
    let agent = service::start(&topology.xpu, &config, &env)?;
    is_confined(&agent)?;
    manager.hears("READY=1")?;
    ensure!(owned(SOCKET)? == (0o660, GROUP), "{:?}", owned(SOCKET)?);
    let folder = "/run/xpu-agent";
    ensure!(owned(folder)? == (0o750, GROUP), "{:?}", owned(folder)?);

    let vfs = topology.vfs()?;
    let mut lab = Lab {
        vfs,
        agent: Some(agent),
        topology,
    };
    lab.blue()?;
    let addresses = ["10.100.0.11/24", "fd00:100::11/64"];
    let gateways = [BLUE_GATEWAY_V4, BLUE_GATEWAY_V6];
    let pod = lab.access("blue", 0, "net-blue", &addresses, &gateways)?;
    for destination in [BLUE_GATEWAY_V4, H_BLUE.v4, H_EXT.v4] {
        pod.reaches(destination)?;
    }
    let frr = lab.topology.xpu_frr();
    wait_until("frr.conf has the tenant", CONVERGENCE, || {
        let saved = frr.startup_configuration()?;
        ensure!(saved.contains(&format!("vni {BLUE_L3VNI}")), "{saved}");
        Ok(())
    })?;

    let agent = lab.agent.take().context("no agent")?;
    service::configure(&format!(
        "[log]\nfilter = \"info,xpu_agent=debug\"\n{config}"
    ))?;
    agent.signal(Signal::SIGHUP)?;
    wait_until("the configuration is read again", CONVERGENCE, || {
        let log = fs::read_to_string(agent::LOG)?;
        ensure!(log.contains("the configuration was read again"), "{log}");
        Ok(())
    })?;
    let status = agent.stop()?;
    ensure!(status.success(), "{status}: {}", agent::log_tail());
    manager.hears("STOPPING=1")?;
    let log = fs::read_to_string(agent::LOG)?;
    let denied: Vec<_> = log
        .lines()
        .filter(|line| DENIED.iter().any(|words| line.contains(words)))
        .collect();
    ensure!(denied.is_empty(), "{denied:?}");
    // Without the agent all stays.
    pod.reaches(H_EXT.v4)
}

#[test]
fn the_systemd_unit_is_valid_and_hardened() -> Result<()> {
    // As installed, with the program where the lab has it.
    let text = fs::read_to_string(UNIT)?;
    ensure!(text.contains("Type=notify"), "{text}");
    let program = command::run("which xpu-agent")?;
    let text = text.replace("/usr/local/bin/xpu-agent", program.trim());
    fs::create_dir_all("/run/lab/unit")?;
    let unit = "/run/lab/unit/xpu-agent.service";
    fs::write(unit, text)?;
    let said = command::outcome(&["systemd-analyze", "verify", unit])?;
    let words = String::from_utf8_lossy(&said.stderr);
    ensure!(
        said.status.success() && !words.contains("xpu-agent"),
        "{words}"
    );
    // Of 100, the less the better; a service without any of it has 96.
    let limit = "--threshold=30";
    command::run_words(&["systemd-analyze", "security", "--offline=true", limit, unit])?;
    Ok(())
}

/// The system calls of a `systemd` group, groups in it resolved.
fn calls_of(group: &str) -> Result<BTreeSet<String>> {
    let listed = command::run(&format!("systemd-analyze syscall-filter {group}"))?;
    let mut calls = BTreeSet::new();
    let words = listed.lines().map(str::trim);
    for word in words.filter(|word| !word.starts_with('#') && !word.is_empty()) {
        if word == group {
            continue;
        }
        if word.starts_with('@') {
            calls.extend(calls_of(word)?);
        } else {
            calls.insert(word.to_owned());
        }
    }
    Ok(calls)
}

/// From start to stop, with a call, a drift and a scrape between.
#[test]
fn the_unit_allows_every_system_call_that_the_agent_makes() -> Result<()> {
    const TRACE: &str = "/run/lab/strace";
    let mut allowed = BTreeSet::new();
    let unit = Unit::read()?;
    for line in unit.all("SystemCallFilter") {
        let (groups, allow) = match line.strip_prefix('~') {
            Some(groups) => (groups, false),
            None => (line, true),
        };
        for group in groups.split(' ') {
            for call in calls_of(group)? {
                if allow {
                    allowed.insert(call);
                } else {
                    allowed.remove(&call);
                }
            }
        }
    }
    ensure!(allowed.len() > 100, "{allowed:?}");

    let topology = Topology::clean()?;
    let wrapper = ["strace", "-f", "-qq", "-o", TRACE];
    let agent = Agent::start_under(&topology.xpu, &Agent::lab_config()?, &wrapper)?;
    create(&format!(
        "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
    ))?;
    topology.xpu.run("ip link set vxlan down")?;
    wait_until("drift is repaired", CONVERGENCE, || {
        let repaired = metric(
            &topology.xpu,
            "xpu_agent_reconcile_drift_repaired_total",
            &[],
        )?;
        ensure!(repaired > 0.0, "{repaired} actions");
        Ok(())
    })?;
    // strace passes the signal on and ends with the agent.
    command::run("pkill -TERM -x xpu-agent")?;
    ensure!(agent.ended()?.success(), "{}", agent::log_tail());
    let trace = fs::read_to_string(TRACE)?;
    let used: BTreeSet<String> = trace
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    ensure!(used.len() > 30, "{used:?}");
    let forbidden: Vec<_> = used.difference(&allowed).collect();
    ensure!(forbidden.is_empty(), "the unit forbids {forbidden:?}");
    Ok(())
}
