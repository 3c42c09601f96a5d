//! What is deleted, and not gone yet.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
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
    for (words, stdout) in [
        ("", "logicalBridges/blue is being deleted\n"),
        // What is on its way out is deleted again as well as for the first time.
        ("-o name", "logicalBridges/blue\n"),
        ("-o json", "{}\n"),
    ] {
        let ran = xpuctl(&agent, &format!("delete lb blue {words}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, warning), "{words}");
        assert_eq!(ran.stdout, stdout);
    }
    agent.hold(false);
    let waited = succeed(&agent, "wait lb blue --for deleted");
    assert_eq!(waited, "logicalBridges/blue deleted\n");
    let patient = ServedAgent::start();
    succeed(&patient, "create lb blue --vlan 100");
    assert_eq!(succeed(&patient, "delete lb blue"), waited);
}

/// Applies a manifest that takes a value of an object that is held, and gives the lines of
/// stdout that follow the difference. The object is let go once such a line is there, or none has
/// come for a while: an apply that does not wait is refused before that.
fn applied(agent: &ServedAgent, words: &str, manifest: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("wanted.yaml");
    std::fs::write(&path, manifest).expect("a file");
    let mut xpuctl = command(words);
    xpuctl
        .arg("-f")
        .arg(&path)
        .env("XPUCTL_ENDPOINT", agent.endpoint())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
    let lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let (send, printed) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = lines.map_while(Result::ok);
        // The sum is the last line of the difference; what is done comes after it.
        let sum = lines.find(|line| line.contains(" to create, "));
        send.send(sum.unwrap_or_default())?;
        lines.try_for_each(|line| send.send(line))
    });
    let _sum = printed.recv().expect("a sum");
    let mut done = Vec::from_iter(printed.recv_timeout(Duration::from_secs(1)).ok());
    agent.hold(false);
    done.extend(printed);
    let status = child.0.wait().expect("xpuctl ends");
    let stderr = std::io::read_to_string(child.0.stderr.take().expect("a pipe")).expect("text");
    assert!(status.success(), "{done:?}: {stderr}");
    done
}

#[test]
fn apply_waits_for_who_has_a_value_until_it_is_gone() {
    let agent = hasty();
    let green = "kind: LogicalBridge\nname: green\nspec: {vlanId: 100}\n";
    assert_eq!(
        applied(&agent, "apply --prune --yes --timeout 1m", green),
        [
            "logicalBridges/blue is being deleted",
            "logicalBridges/green created"
        ]
    );
}

/// Vrfs and LogicalBridges have their VNIs from one space.
#[test]
fn apply_waits_for_an_object_of_another_kind_that_has_the_vni() {
    for (made, deleted, wanted, done) in [
        (
            "create vrf pink --loopback 10.0.0.1/32 --vni 5001",
            "delete vrf pink",
            "kind: LogicalBridge\nname: green\nspec: {vlanId: 100, vni: 5001}\n",
            "logicalBridges/green created",
        ),
        (
            "create lb blue --vlan 100 --vni 5001",
            "delete lb blue",
            "kind: Vrf\nname: grey\nspec: {vni: 5001, loopbackIpPrefix: 10.0.0.2/32}\n",
            "vrfs/grey created",
        ),
    ] {
        let agent = ServedAgent::with(1, Duration::from_millis(200));
        assert_eq!(xpuctl(&agent, made).code, 0);
        agent.hold(true);
        assert_eq!(xpuctl(&agent, deleted).code, 0);
        assert_eq!(applied(&agent, "apply --timeout 1m", wanted), [done]);
    }
}
