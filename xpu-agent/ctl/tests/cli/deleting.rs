//! What is deleted, and not gone yet.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::served::ServedAgent;
use crate::waiting::Running;
use crate::{Asked as _, command, succeed, xpuctl};

/// Answers Delete soon, whatever has become of it.
fn hasty() -> ServedAgent {
    let agent = ServedAgent::with(1, Duration::from_millis(200));
    // A busy machine may not be done with it by then.
    assert_eq!(xpuctl(&agent, "create lb blue --vlan 100").code, 0);
    agent.hold(true);
    agent
}

#[test]
fn what_is_not_gone_is_not_called_deleted() {
    let agent = hasty();
    let warning = "xpuctl: warning: logicalBridges/blue is not gone yet: linux: the kernel has \
                   not let go of it; `xpuctl wait logical-bridge blue --for deleted` waits for \
                   it\n";
    for (words, told) in [
        ("", "logicalBridges/blue is being deleted\n"),
        // What is on its way out is deleted again as well as for the first time.
        ("-o name", "logicalBridges/blue\n"),
        ("-o json", "{}\n"),
    ] {
        let ran = xpuctl(&agent, &format!("delete lb blue {words}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, warning), "{words}");
        assert_eq!(ran.stdout, told);
    }
    agent.hold(false);
    let waited = succeed(&agent, "wait lb blue --for deleted");
    assert_eq!(waited, "logicalBridges/blue deleted\n");
    let patient = ServedAgent::start();
    succeed(&patient, "create lb blue --vlan 100");
    assert_eq!(succeed(&patient, "delete lb blue"), waited);
}

#[test]
fn apply_waits_for_who_has_a_value_until_it_is_gone() {
    let agent = hasty();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("green.yaml");
    let green = "kind: LogicalBridge\nname: green\nspec: {vlanId: 100}\n";
    std::fs::write(&path, green).expect("a file");
    let mut xpuctl = command("apply --prune --yes --timeout 1m -f");
    xpuctl
        .arg(&path)
        .env("XPUCTL_ENDPOINT", agent.endpoint())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
    let lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let mut told = lines
        .by_ref()
        .skip_while(|line| line.starts_with(['-', '+', ' ', '1']));
    let first = told.next();
    agent.hold(false);
    assert_eq!(
        first.as_deref(),
        Some("logicalBridges/blue is being deleted")
    );
    assert_eq!(told.next().as_deref(), Some("logicalBridges/green created"));
    assert_eq!(told.next(), None);
    assert!(child.0.wait().expect("xpuctl ends").success());
}
