//! What is opened at the start, and what is said of it.

use std::{path::Path, process::Command};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xpu_agent::{app::App, config::Config, listen::Listeners, telemetry::metrics::ExportMeter};

use crate::{certs::Ca, log::Log, tls::configure};

fn config(text: &str) -> Config {
    Config::read(text, "the test", std::iter::empty()).unwrap()
}

/// A configuration whose backends cannot be started, with this.
fn no_backends(directory: &Path, text: &str) -> Config {
    let store = directory.join("store");
    // A directory where the account of FRR's lines should be.
    std::fs::create_dir_all(store.join("frr-lines.json")).unwrap();
    config(&format!(
        "{text}\n[store]\ndirectory = \"{}\"",
        store.display()
    ))
}

async fn not_started(config: &Config) -> String {
    let exports = ExportMeter::default();
    let started = App::start(
        config,
        &exports,
        CancellationToken::new(),
        watch::channel(()).1,
    );
    match started.await {
        Ok(_) => panic!("it has started"),
        Err(error) => format!("{error:#}"),
    }
}

/// An agent that finds out late has touched kernel and FRR already.
#[test]
fn certificates_and_sockets_are_opened_before_backends_run() {
    // Should it be otherwise, they run in a network of their own.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let files = format!(
            "[tls]\ncert = \"{0}\"\nkey = \"{0}\"\nclient_ca = \"{0}\"\n",
            at("none.pem")
        );
        let sockets =
            |listeners: &str| format!("[api]\nunix = \"{}\"\ntcp = \"\"\n{listeners}", at("sock"));
        let without = no_backends(directory.path(), &sockets(&files));
        let message = not_started(&without).await;
        assert!(message.starts_with("tls.cert: cannot read "), "{message}");

        std::fs::write(at("file"), "precious").unwrap();
        let unix = format!("[api]\nunix = \"{}\"\ntcp = \"\"", at("file"));
        let message = not_started(&no_backends(directory.path(), &unix)).await;
        assert!(message.ends_with("is no socket; move it away"), "{message}");

        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let http = format!("[http]\nlisten = \"{address}\"");
        let message = not_started(&no_backends(directory.path(), &sockets(&http))).await;
        let expected = format!("cannot listen on {address}; set http.listen: ");
        assert!(message.starts_with(&expected), "{message}");

        let none = no_backends(directory.path(), &sockets("[http]\nlisten = \"\""));
        let message = not_started(&none).await;
        assert!(
            message.contains("frr-lines.json"),
            "what is last: {message}"
        );
    });
}

#[tokio::test]
async fn every_listener_in_clear_beyond_loopback_is_warned_about() {
    let log = Log::follow();
    let loopback = "[api]\nunix = \"\"\ntcp = \"127.0.0.1:0\"\n[http]\nlisten = \"[::1]:0\"";
    Listeners::bind(&config(loopback)).await.unwrap();
    assert_eq!(log.lines(&["WARN"]), [""; 0]);
    let clear = "[api]\nunix = \"\"\ntcp = \"0.0.0.0:0\"\n[http]\nlisten = \"[::]:0\"\n\
                 [access]\ninsecure = true\ninsecure_role = \"admin\"";
    for start in 1..=2 {
        let listeners = Listeners::bind(&config(clear)).await.unwrap();
        assert_eq!(listeners.bound.len(), 2);
        for key in ["api.tcp", "http.listen"] {
            let lines = log.lines(&["WARN", "access.insecure", key, "is Admin"]);
            assert_eq!(lines.len(), start, "{key}");
        }
    }
}

#[test]
fn check_config_opens_the_certificates() {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let path = files.path().join("agent.toml");
    std::fs::write(&path, configure(&files, &ca)).unwrap();
    let check = || {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_xpu-agent"));
        agent.arg("--check-config").arg("--config").arg(&path);
        agent.output().unwrap()
    };
    let good = check();
    let printed = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success());
    assert!(printed.contains("server.crt"), "{printed}");
    // It has an hour left.
    let warned = String::from_utf8(good.stderr).unwrap();
    assert!(warned.contains("expires soon"), "{warned}");

    let key = files.path().join("server.key");
    std::fs::write(&key, ca.issue_server(7).1).unwrap();
    let bad = check();
    let message = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(message.contains("tls.key"), "{message}");
    assert!(bad.stdout.is_empty());
}

/// What systemd tries again, and what it leaves failed until somebody corrects it.
#[test]
fn what_has_to_be_corrected_first_ends_with_its_own_status() {
    const UNIT: &str = include_str!("../../../netconf-examples/systemd/xpu-agent.service");
    let files = tempfile::tempdir().unwrap();
    let named = |name: &str, text: &str| {
        let path = files.path().join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let no_toml = named("no.toml", "[api");
    let unknown = named("unknown.toml", "[api]\nport = 1\n");
    let useless = named("useless.toml", "[api]\nunix = \"\"\ntcp = \"\"\n");
    let good = named("good.toml", "");
    let absent = files.path().join("absent.toml").display().to_string();
    let final_ones = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let final_ones: Vec<i32> = final_ones
        .unwrap()
        .split(' ')
        .map(|it| it.parse().unwrap())
        .collect();
    for (arguments, status) in [
        (["--config", &no_toml].as_slice(), 78),
        (&["--config", &unknown], 78),
        (&["--config", &useless], 78),
        (&["--config", &absent], 78),
        (&["--config", &useless, "--check-config"], 78),
        (&["--config", &useless, "check"], 78),
        (&["--config", &useless, "purge"], 78),
        (&["--config", &good, "--no-such"], 2),
        (&["--config", &good, "--log", "a=b=c"], 2),
    ] {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_xpu-agent"));
        let ended = agent.args(arguments).output().unwrap();
        assert_eq!(ended.status.code(), Some(status), "{arguments:?} {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?} does not say why");
        assert!(
            final_ones.contains(&status),
            "the unit tries {status} again"
        );
    }
}

#[test]
fn check_config_reads_the_map_of_ports() {
    let files = tempfile::tempdir().unwrap();
    let (path, map) = (files.path().join("agent.toml"), files.path().join("ports"));
    let text = format!(
        "[ports]\nresolver = \"mac-map\"\nmap_file = \"{}\"\n",
        map.display()
    );
    std::fs::write(&path, text).unwrap();
    let check = || {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_xpu-agent"));
        agent.arg("--check-config").arg("--config").arg(&path);
        let output = agent.output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (good, message) = check();
    assert!(!good && message.contains("cannot read"), "{message}");
    std::fs::write(&map, "\"02:00:00:00:00:01\" = 1").unwrap();
    let (good, message) = check();
    assert!(!good && message.contains("ports is not valid"), "{message}");
    std::fs::write(&map, "\"02:00:00:00:00:01\" = \"rep0\"").unwrap();
    assert_eq!(check(), (true, String::new()));
}
