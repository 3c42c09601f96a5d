//! Agents that are not there, do not answer, or go away.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use pretty_assertions::assert_eq;

use crate::fake_agent::FakeAgent;
use crate::{command, run, succeed, xpuctl};

#[test]
fn an_agent_that_is_not_there_is_exit_code_3() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nobody_listens = dir.path().join("stale.sock");
    drop(UnixListener::bind(&nobody_listens).expect("a socket"));
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("is bound");
    for endpoint in [
        format!("unix://{}", dir.path().join("none.sock").display()),
        format!("unix://{}", nobody_listens.display()),
        format!("http://{closed}"),
    ] {
        let ran = run(command("list vrf --endpoint").arg(&endpoint));
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&endpoint) && ran.stderr.contains("next: "),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn an_agent_that_hangs_up_is_exit_code_3() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("is bound"));
    let hangs_up = std::thread::spawn(move || drop(listener.accept()));
    let ran = run(command("list vrf --endpoint").arg(&endpoint));
    hangs_up.join().expect("has accepted");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
}

#[test]
fn an_agent_that_does_not_answer_is_waited_for_no_longer_than_asked() {
    let agent = FakeAgent::start();
    let ran = xpuctl(
        &agent,
        "create vrf hang-1 --loopback 10.0.0.1/32 --timeout 100ms",
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.starts_with("xpuctl: can't create vrfs/hang-1: "),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("--timeout waits longer than 100ms"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_agent_learns_how_long_it_may_take() {
    let agent = FakeAgent::start();
    let create = "create vrf prod --loopback 10.0.0.1/32";
    for (flag, header) in [("", "10000000u"), ("--timeout 2m", "120000m")] {
        succeed(&agent, &format!("{create} {flag}"));
        assert_eq!(
            agent.state().last_timeout.as_deref(),
            Some(header),
            "{flag}"
        );
    }
}

#[test]
fn the_flag_beats_the_environment() {
    let agent = FakeAgent::start();
    let mut xpuctl = command("list vrf --endpoint");
    xpuctl
        .arg(&agent.endpoint)
        .env("XPUCTL_ENDPOINT", "unix:///nowhere/agent.sock");
    assert_eq!(run(&mut xpuctl).code, 0);
}
