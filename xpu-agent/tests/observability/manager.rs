//! What systemd hears of an agent whose FRR comes late. The environment names its socket, so the
//! agent is a process of its own: this test's binary once more.

use std::{
    io::{Read, Write},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xpu_agent::{
    lifecycle::{notify, readiness::Readiness},
    reconcile::{Board, Source},
    store::Store,
};
use xpu_model::{
    Kind,
    status::{Backend, PassReport},
};

use crate::rig::LIMIT;

/// Set for the process that is the agent.
const PLAYS_THE_AGENT: &str = "PLAYS_THE_AGENT";

/// An agent whose FRR is there once it is given a byte, and that ends with its input.
#[tokio::main]
async fn agent() {
    let report = |unobserved: Option<&str>| {
        Arc::new(PassReport {
            unobserved: unobserved.map(str::to_owned),
            ..PassReport::default()
        })
    };
    let directory = tempfile::tempdir().unwrap();
    let none = watch::channel(Default::default()).1;
    let store = Store::open(directory.path(), 1001..=1003, none, Default::default()).unwrap();
    let (reports, seen) = watch::channel(report(Some("is FRR running?")));
    let board = Board::new(vec![Source {
        backend: Backend::Frr,
        kinds: &Kind::ALL,
        reports: seen,
    }]);
    let stop = CancellationToken::new();
    let readiness = Readiness::new(board, &store, stop.clone());
    let notifying = tokio::spawn(notify::run(readiness, store));
    let input = || tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]).unwrap_or(0));
    while input().await.unwrap() > 0 {
        reports.send_replace(report(None));
    }
    stop.cancel();
    notifying.await.unwrap();
}

/// Ends the agent, however the test ends.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hears lines until one begins like this; the lines before it.
fn until(socket: &UnixDatagram, beginning: &str) -> Vec<String> {
    let mut before = Vec::new();
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let mut buffer = [0; 4096];
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("no {beginning} after {before:?}: {error}"));
        for line in std::str::from_utf8(&buffer[..length]).unwrap().lines() {
            if line.starts_with(beginning) {
                return before;
            }
            before.push(line.to_owned());
        }
    }
    panic!("no {beginning} after {before:?}");
}

#[test]
fn an_agent_that_waits_asks_for_more_time_until_it_is_ready() {
    if std::env::var_os(PLAYS_THE_AGENT).is_some() {
        return agent();
    }
    for (watchdog, more) in [(Some("300000"), "300000"), (None, "60000000")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "manager::an_agent_that_waits_asks_for_more_time_until_it_is_ready",
            ])
            .env(PLAYS_THE_AGENT, "")
            .env("NOTIFY_SOCKET", &path)
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog);
        }
        let mut agent = Agent(command.spawn().unwrap());
        let asks = format!("EXTEND_TIMEOUT_USEC={more}");
        let before = until(&socket, "STATUS=waits for frr: is FRR running?");
        if !before.contains(&asks) {
            until(&socket, &asks);
        }
        if watchdog.is_some() {
            // Not once for all.
            until(&socket, "WATCHDOG=1");
            let before = until(&socket, &asks);
            assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
        }
        agent.0.stdin.as_mut().unwrap().write_all(b"!").unwrap();
        until(&socket, "READY=1");
        if watchdog.is_some() {
            until(&socket, "WATCHDOG=1");
            let after = until(&socket, "WATCHDOG=1");
            assert_eq!(after, Vec::<String>::new());
        }
        drop(agent.0.stdin.take());
        until(&socket, "STOPPING=1");
    }
}
