//! `doctor` against agents that are well, ill, or away. What it says of the host is in its unit
//! tests; here the host is whatever runs the tests.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::fake_agent::FakeAgent;
use crate::{Ran, command, run, succeed, xpuctl};

/// Answers one request for /readyz.
fn readyz(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("is bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut asked = [0; 1024];
        let read = stream.read(&mut asked).expect("a request");
        assert!(asked[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).expect("is read");
    });
    format!("http://{address}")
}

fn doctor(agent: &FakeAgent, http: &str) -> Ran {
    let mut xpuctl = command("doctor --http");
    run(xpuctl.arg(http).env("XPUCTL_ENDPOINT", &agent.endpoint))
}

#[test]
fn a_ready_agent_and_its_objects() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    let ran = doctor(&agent, &readyz("200 OK", r#"{"ready":true,"waiting":[]}"#));
    assert_eq!(ran.stderr, "");
    for line in [
        "ok      agent",
        "ok      readiness",
        "ok      kernel",
        "1 of 1 are up",
    ] {
        assert!(ran.stdout.contains(line), "{} lacks {line}", ran.stdout);
    }
}

#[test]
fn what_is_down_is_shown_with_what_mends_it() {
    let agent = FakeAgent::start();
    let down = xpuctl(
        &agent,
        "create port down --mac 02:00:00:00:00:03 --transparent",
    );
    assert_eq!(down.code, 0);
    for port in agent.state().bridge_ports.values_mut() {
        let components = &mut port.status.as_mut().expect("has one").components;
        components[0].details =
            r#"{"reason":"VNI 7 needs a local VTEP; set underlay.vtep"}"#.into();
    }
    let waits = r#"{"ready":false,"waiting":[{"for":"frr","reason":"zebra is away"}]}"#;
    let ran = doctor(&agent, &readyz("503 Service Unavailable", waits));
    assert_eq!(ran.code, 1);
    for part in [
        "frr: zebra is away",
        "wrong   vtep",
        "bridgePorts/down: linux: a VNI needs a local VTEP",
        "mend: ip address add",
    ] {
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
    }
}

#[test]
fn a_listener_on_an_address_that_this_machine_lacks() {
    let agent = FakeAgent::start();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "[api]\ntcp = \"192.0.2.99:50151\"\n").expect("a file");
    let mut xpuctl = command("doctor --http");
    xpuctl.arg(readyz("200 OK", r#"{"ready":true,"waiting":[]}"#));
    xpuctl.arg("--agent-config").arg(&file);
    let ran = run(xpuctl.env("XPUCTL_ENDPOINT", &agent.endpoint));
    assert_eq!(ran.code, 1);
    for part in [
        "wrong   listeners",
        "192.0.2.99:50151",
        "mend: or set api.tcp",
    ] {
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
    }
}

#[test]
fn an_agent_that_is_away() {
    let mut xpuctl = command("doctor --http http://127.0.0.1:1 --endpoint unix:///nowhere/a.sock");
    let ran = run(&mut xpuctl);
    assert_eq!(ran.code, 1);
    for part in [
        "wrong   agent",
        "/nowhere/a.sock",
        "wrong   readiness",
        "kernel",
    ] {
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
    }
}
