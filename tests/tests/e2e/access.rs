//! Which doors there are, and that loopback's is for looking only.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::{
    addresses::{SPINE_TO_XPU, XPU_UPLINK, XPU_VTEP},
    agent::SOCKET,
    command,
    operator::{create, names},
    ping,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

/// FRR's, which are not ours to close: BGP and BFD.
const FRR: [&str; 7] = [
    "bgpd", "zebra", "staticd", "bfdd", "mgmtd", "watchfrr", "pathd",
];

/// What listens in the xPU's namespace beside FRR, as `ss` has it: `tcp 127.0.0.1:50151
/// xpu-agent`; the kernel's sockets have no process.
fn listening(lab: &Lab) -> Result<BTreeSet<String>> {
    let listed = lab.topology.xpu.run("ss -H -l -n -t -u -p")?;
    let mut found = BTreeSet::new();
    for line in listed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [kind, _, _, _, local, ..] = fields.as_slice() else {
            anyhow::bail!("ss says `{line}`");
        };
        let process = line.split('"').nth(1).unwrap_or("kernel");
        if !FRR.contains(&process) {
            found.insert(format!("{kind} {local} {process}"));
        }
    }
    Ok(found)
}

#[test]
fn nothing_listens_that_should_not() -> Result<()> {
    let lab = Lab::with_blue()?;
    let expected = [
        // VXLAN: a device with external metadata opens one for each family, whatever its address;
        // both devices share them.
        "udp 0.0.0.0:4789 kernel",
        "udp [::]:4789 kernel",
        "tcp 127.0.0.1:50151 xpu-agent",
        "tcp 127.0.0.1:8082 xpu-agent",
    ];
    let expected: BTreeSet<_> = expected.iter().map(ToString::to_string).collect();
    let found = listening(&lab)?;
    ensure!(found == expected, "{found:?}, not {expected:?}");

    let listed = lab.topology.xpu.run("ss -H -l -n -x -p")?;
    let ours: Vec<_> = listed
        .lines()
        .filter(|line| line.contains("\"xpu-agent\""))
        .collect();
    ensure!(
        matches!(ours.as_slice(), [one] if one.contains(SOCKET)),
        "{ours:?}"
    );

    // From another machine: what is on loopback is not there.
    wait_until("the spine knows the VTEP", CONVERGENCE, || {
        ping::reaches(&lab.topology.spine, XPU_VTEP)
    })?;
    for address in [XPU_VTEP, XPU_UPLINK] {
        for port in [50151, 8082] {
            let knock = format!("exec 3<>/dev/tcp/{address}/{port}");
            let spine = &lab.topology.spine;
            let tried = command::outcome(&spine.words(&["bash", "-c", &knock]))?;
            let said = String::from_utf8_lossy(&tried.stderr).into_owned();
            ensure!(
                !tried.status.success() && said.contains("refused"),
                "{address}:{port} from {SPINE_TO_XPU}: {said}"
            );
        }
    }
    Ok(())
}

#[test]
fn loopback_sees_and_does_not_touch() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let loopback = |line: &str| {
        let line = format!("xpuctl --endpoint http://127.0.0.1:50151 {line}");
        let words: Vec<_> = line.split_whitespace().collect();
        command::outcome(&lab.topology.xpu.words(&words))
    };
    let seen = loopback("list lb")?;
    let text = String::from_utf8(seen.stdout).context("no text")?;
    ensure!(seen.status.success() && text.contains("net-blue"), "{text}");
    let refused = loopback("create lb net-red --vlan 200")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && said.contains("access.loopback = \"admin\""),
        "{said}"
    );
    ensure!(names("lb")? == ["logicalBridges/net-blue"]);
    Ok(())
}
