//! `wait` and `watch` in a pipe, and `update`.

use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;

use pretty_assertions::assert_eq;
use tonic::Code;
use xpu_proto::evpn_gw::v1alpha1::BpOperStatus;

use crate::fake_agent::FakeAgent;
use crate::{LIMIT, command, run, succeed, xpuctl};

fn with_a_port_that_is_down() -> FakeAgent {
    let agent = FakeAgent::start();
    let made = xpuctl(
        &agent,
        "create port down --mac 02:00:00:00:00:03 --transparent",
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    agent
}

fn bring_up(agent: &FakeAgent) {
    for port in agent.state().bridge_ports.values_mut() {
        let status = port.status.as_mut().expect("has one");
        status.set_oper_status(BpOperStatus::Up);
        status.components.clear();
    }
}

#[test]
fn waiting_in_vain_says_for_whom_and_why() {
    let agent = with_a_port_that_is_down();
    let ran = xpuctl(&agent, "wait port down --timeout 100ms");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "xpuctl: after 100ms: bridgePorts/down is DOWN: linux: no netdev has this port's name yet\n"
    );
    let ran = xpuctl(&agent, "wait port none --timeout 100ms");
    assert!(
        ran.stderr.contains("bridgePorts/none does not exist"),
        "{}",
        ran.stderr
    );
    let ran = xpuctl(&agent, "wait port down --for deleted --timeout 100ms");
    assert!(
        ran.stderr.contains("bridgePorts/down is there"),
        "{}",
        ran.stderr
    );
}

#[test]
fn waiting_ends_when_the_state_comes() {
    let agent = with_a_port_that_is_down();
    let mut xpuctl = command("wait port down");
    xpuctl
        .env("XPUCTL_ENDPOINT", &agent.endpoint)
        .stdout(Stdio::piped());
    let child = xpuctl.spawn().expect("xpuctl starts");
    bring_up(&agent);
    let output = child.wait_with_output().expect("xpuctl ends");
    assert_eq!(output.stdout, b"bridgePorts/down up\n");
    assert!(output.status.success());
    assert_eq!(succeed(&agent, "wait ports"), "bridgePorts up\n");
    succeed(&agent, "delete port down");
    assert_eq!(
        succeed(&agent, "wait port down --for deleted"),
        "bridgePorts/down deleted\n"
    );
}

#[test]
fn an_agent_that_is_not_there_yet_is_waited_for() {
    let ran = run(&mut command(
        "wait vrf --timeout 300ms --endpoint unix:///nowhere/agent.sock",
    ));
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("next: "), "{}", ran.stderr);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let link = folder.path().join("agent.sock");
    let mut xpuctl = command("wait vrf --endpoint");
    let child = xpuctl
        .arg(format!("unix://{}", link.display()))
        .stdout(Stdio::piped())
        .spawn();
    let agent = FakeAgent::start();
    let socket = agent.endpoint.trim_start_matches("unix://");
    std::os::unix::fs::symlink(socket, &link).expect("a link");
    let output = child.expect("xpuctl starts").wait_with_output();
    assert_eq!(output.expect("xpuctl ends").stdout, b"vrfs up\n");
}

/// An `xpuctl` that would run for ever; one that a failed test leaves would hold its pipes open.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PASSING: [Code; 4] = [
    Code::Cancelled,
    Code::DeadlineExceeded,
    Code::ResourceExhausted,
    Code::Unavailable,
];

#[test]
fn a_trouble_that_passes_is_waited_out() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    agent.state().troubles = PASSING.into();
    assert_eq!(succeed(&agent, "wait vrf prod"), "vrfs/prod up\n");
    assert!(agent.state().troubles.is_empty());
    // What does not pass ends the wait at once.
    agent.state().troubles = [Code::PermissionDenied].into();
    let ran = xpuctl(&agent, "wait vrf prod");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("PERMISSION_DENIED"), "{}", ran.stderr);
}

#[test]
fn an_agent_that_falls_silent_in_the_end_hides_no_reason() {
    let agent = with_a_port_that_is_down();
    agent.state().lists_left = Some(1);
    let ran = xpuctl(&agent, "wait port down --timeout 100ms");
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        "xpuctl: after 100ms: bridgePorts/down is DOWN: linux: no netdev has this port's name yet\n"
    );
}

#[test]
fn watch_outlives_a_trouble_that_passes() {
    let agent = with_a_port_that_is_down();
    agent.state().troubles = PASSING.into();
    let mut xpuctl = command("watch ports -n 20ms");
    xpuctl
        .env("XPUCTL_ENDPOINT", &agent.endpoint)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    assert!(line().starts_with("NAME"));
    assert!(line().contains("DOWN"));
    child.0.kill().expect("runs");
    let stderr = std::io::read_to_string(child.0.stderr.take().expect("a pipe")).expect("text");
    assert_eq!(stderr.matches("; trying again\n").count(), 4, "{stderr}");
}

#[test]
fn watch_for_programs_has_a_document_for_each_change() {
    let agent = with_a_port_that_is_down();
    let watch = |output: &str| {
        let mut xpuctl = command("watch ports -n 20ms -o");
        xpuctl
            .arg(output)
            .env("XPUCTL_ENDPOINT", &agent.endpoint)
            .stdout(Stdio::piped());
        let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
        let lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
        (child, lines.map(|line| line.expect("text")))
    };
    let (_json, mut documents) = watch("json");
    let mut event = || {
        let line = documents.next().expect("a line");
        let event: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let object = &event["object"];
        assert_eq!(object["name"], "bridgePorts/down");
        (text(&event["type"]), text(&object["status"]["operStatus"]))
    };
    let is = |change: &str, state: &str| (Some(change.to_owned()), Some(state.to_owned()));
    let (_yaml, mut yaml_lines) = watch("yaml");
    let (_name, mut names) = watch("name");
    assert_eq!(event(), is("ADDED", "BP_OPER_STATUS_DOWN"));
    let head: Vec<_> = yaml_lines.by_ref().take(3).collect();
    assert_eq!(head, ["---", "type: ADDED", "object:"]);
    assert_eq!(names.next().as_deref(), Some("bridgePorts/down"));
    bring_up(&agent);
    assert_eq!(event(), is("MODIFIED", "BP_OPER_STATUS_UP"));
    assert_eq!(
        yaml_lines
            .by_ref()
            .find(|it| it.starts_with("type"))
            .as_deref(),
        Some("type: MODIFIED")
    );
    assert_eq!(names.next().as_deref(), Some("bridgePorts/down"));
    succeed(&agent, "delete port down");
    assert_eq!(event(), is("DELETED", "BP_OPER_STATUS_UP"));
}

#[test]
fn watch_in_a_pipe_prints_what_changes() {
    let agent = with_a_port_that_is_down();
    let mut xpuctl = command("watch ports -n 20ms");
    xpuctl
        .env("XPUCTL_ENDPOINT", &agent.endpoint)
        .stdout(Stdio::piped());
    let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut words = || {
        let line = lines.next().expect("a line").expect("text");
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words()[..2], ["NAME", "MAC"]);
    assert_eq!(words()[4], "DOWN");
    bring_up(&agent);
    assert_eq!(words()[4], "UP");
    succeed(&agent, "delete port down");
    assert_eq!(words(), ["bridgePorts/down", "deleted"]);
}

/// Nothing changes and nothing is asked for an hour: there is nothing to write.
#[test]
fn a_quiet_watch_ends_when_its_reader_goes() {
    let agent = with_a_port_that_is_down();
    let (ours, socket) = UnixStream::pair().expect("sockets");
    let (reader, pipe) = std::io::pipe().expect("a pipe");
    let ends: [(Box<dyn Read>, Stdio); 2] = [
        (Box::new(reader), pipe.into()),
        (Box::new(ours), OwnedFd::from(socket).into()),
    ];
    for (reader, stdout) in ends {
        let mut xpuctl = command("watch ports -n 60m");
        xpuctl
            .env("XPUCTL_ENDPOINT", &agent.endpoint)
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut child = Running(xpuctl.spawn().expect("xpuctl starts"));
        // It has the other end too.
        drop(xpuctl);
        let mut lines = BufReader::new(reader).lines();
        assert!(
            lines
                .next()
                .expect("a line")
                .expect("text")
                .starts_with("NAME")
        );
        drop(lines);
        let mut stderr = child.0.stderr.take().expect("a pipe");
        let (send, end) = mpsc::channel();
        std::thread::spawn(move || send.send(std::io::read_to_string(&mut stderr)));
        let said = end
            .recv_timeout(LIMIT)
            .expect("xpuctl ends with its reader");
        assert_eq!(said.expect("text"), "");
        assert!(child.0.wait().expect("xpuctl ends").success());
    }
}

#[test]
fn updates_name_what_they_change() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32 --vni 5001");
    succeed(&agent, "create lb blue --vlan 100");
    succeed(
        &agent,
        "create svi gw-1 --vrf prod --lb blue --mac 02:00:00:00:00:01 --gateway 10.1.0.1/24",
    );
    succeed(
        &agent,
        "create port port-1 --mac 02:00:00:00:00:01 --access blue",
    );
    for (words, mask) in [
        ("vrf prod --no-vni", vec!["vni"]),
        (
            "vrf prod --vni 7 --vtep 10.255.0.1/32",
            vec!["vni", "vtep_ip_prefix"],
        ),
        ("lb blue --vlan 5", vec!["vlan_id"]),
        (
            "svi gw-1 --remote-as 65010",
            vec!["enable_bgp", "remote_as"],
        ),
        (
            "svi svis/gw-1 --gateway 10.2.0.1/24 --gateway fd00::1/64",
            vec!["gw_ip_prefix"],
        ),
        ("port port-1 --trunk blue", vec!["ptype", "logical_bridges"]),
    ] {
        succeed(&agent, &format!("update {words}"));
        let mask: Vec<_> = mask.iter().map(|it| format!("spec.{it}")).collect();
        assert_eq!(agent.state().last_mask, mask, "{words}");
    }
    let state = agent.state();
    let vrf = state.vrfs["vrfs/prod"].spec.clone().expect("a spec");
    assert_eq!(vrf.vni, Some(7));
    assert!(vrf.vtep_ip_prefix.is_some() && vrf.loopback_ip_prefix.is_some());
    let svi = state.svis["svis/gw-1"].spec.clone().expect("a spec");
    assert_eq!((svi.gw_ip_prefix.len(), svi.remote_as), (2, 65010));
    drop(state);
    for words in [
        "vrf prod",
        "vrf prod --vni 1 --no-vni",
        "svi gw-1 --no-bgp --remote-as 1",
    ] {
        assert_eq!(
            xpuctl(&agent, &format!("update {words}")).code,
            2,
            "{words}"
        );
    }
}
