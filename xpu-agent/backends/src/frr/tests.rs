//! The backend against a vty server that speaks the protocol and keeps a configuration.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::{AbortHandle, JoinHandle},
};
use xpu_plan::frr::Line;

use super::*;

/// Answers by command; what is not there is a success without text.
type Answers = BTreeMap<&'static str, (&'static str, u8)>;

struct FakeDaemon {
    said: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl FakeDaemon {
    fn start(directory: &Path, daemon: &str, answers: Answers) -> Self {
        let path = directory.join(format!("{daemon}.vty"));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (log, open, answers) = (said.clone(), connections.clone(), Arc::new(answers));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let task = tokio::spawn(serve(stream, answers.clone(), log.clone()));
                open.lock().unwrap().push(task.abort_handle());
            }
        });
        Self {
            said,
            accepting,
            connections,
        }
    }

    fn stop(&self) {
        self.accepting.abort();
        self.connections
            .lock()
            .unwrap()
            .drain(..)
            .for_each(|it| it.abort());
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

async fn serve(mut stream: UnixStream, answers: Arc<Answers>, log: Arc<Mutex<Vec<String>>>) {
    let mut pending = Vec::new();
    while stream
        .read_buf(&mut pending)
        .await
        .is_ok_and(|read| read > 0)
    {
        while let Some(end) = pending.iter().position(|byte| *byte == 0) {
            let command: Vec<u8> = pending.drain(..=end).collect();
            let command = String::from_utf8(command[..end].to_vec()).unwrap();
            let (text, status) = answers.get(command.as_str()).copied().unwrap_or(("", 0));
            log.lock().unwrap().push(command);
            // In pieces, the end cut in the middle: a reader must not count on datagrams.
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(&[0, 0]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(&[0, status]).await.unwrap();
        }
    }
}

/// Zebra, or the mgmtd that has its configuration since FRR 10.
fn zebra(version: &'static str) -> Answers {
    let told = match version {
        "9.1" => "FRRouting 9.1 (xpu) on Linux(6.12).\n",
        _ => "FRRouting 10.3 (xpu) on Linux(6.12).\n",
    };
    BTreeMap::from([
        (
            "show running-config",
            ("vrf blue\n vni 5001\nexit-vrf\n", 0),
        ),
        ("show version", (told, 0)),
        ("show vrf", ("vrf blue inactive (configured)\n", 0)),
        ("vni 7", ("% VNI 7 is in use\n", 13)),
        ("vni 8", ("% a warning that is an error\n", 1)),
        ("vni 9", ("note: done\n", 1)),
    ])
}

fn command(daemon: Daemon, path: &[&str], text: &str) -> Command {
    Command {
        line: Line::new(daemon, path, text),
        add: true,
    }
}

#[tokio::test]
async fn what_daemons_have_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let _zebra = FakeDaemon::start(directory.path(), "zebra", zebra("9.1"));
    let refuses = BTreeMap::from([("show bgp l2vpn evpn vni json", ("% No BGP process\n", 1))]);
    let _bgpd = FakeDaemon::start(directory.path(), "bgpd", refuses);
    let observed = Frr::new(directory.path().to_owned())
        .observe()
        .await
        .unwrap();
    let blue = "blue".parse().unwrap();
    assert_eq!(
        observed.configured_vni(&blue).map(|vni| vni.get()),
        Some(5001)
    );
    assert!(observed.inactive_vrfs.contains(&blue));
    assert_eq!(observed.version.to_string(), "9.1");
}

#[tokio::test]
async fn commands_run_in_their_contexts_and_past_refusals() {
    let directory = tempfile::tempdir().unwrap();
    let zebra = FakeDaemon::start(directory.path(), "zebra", zebra("9.1"));
    let mut frr = Frr::new(directory.path().to_owned());
    let commands = ["vni 7", "vni 8", "vni 9"].map(|it| command(Daemon::Zebra, &["vrf blue"], it));
    let outcomes = frr
        .apply(FrrPlan {
            commands: commands.to_vec(),
        })
        .await;
    let results: Vec<_> = outcomes.into_iter().map(|it| it.result).collect();
    let expected = [
        Err("% VNI 7 is in use".to_owned()),
        Err("% a warning that is an error".to_owned()),
        Ok(()),
    ];
    assert_eq!(results, expected);
    let said = zebra.said();
    assert_eq!(
        said[..5],
        ["enable", "configure terminal", "vrf blue", "vni 7", "end"]
    );
}

/// Each would wait as long as the first.
#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_asked_once() {
    let directory = tempfile::tempdir().unwrap();
    let mute = directory.path().join("zebra.vty");
    let _zebra = UnixListener::bind(mute).unwrap();
    let bgpd = FakeDaemon::start(directory.path(), "bgpd", Answers::new());
    let mut frr = Frr::new(directory.path().to_owned());
    let commands = vec![
        command(Daemon::Zebra, &["vrf blue"], "vni 7"),
        command(Daemon::Zebra, &["vrf blue"], "vni 8"),
        command(Daemon::Zebra, &["vrf red"], "vni 9"),
        command(Daemon::Bgpd, &["router bgp 65001"], "bgp router-id 1.2.3.4"),
    ];
    let begun = tokio::time::Instant::now();
    let outcomes = frr.apply(FrrPlan { commands }).await;
    assert_eq!(begun.elapsed().as_secs(), 30);
    for outcome in &outcomes[..3] {
        let reason = outcome.result.as_ref().unwrap_err();
        assert!(reason.contains("zebra.vty did not answer"), "{reason}");
    }
    assert_eq!(outcomes[3].result, Ok(()));
    assert!(bgpd.said().contains(&"bgp router-id 1.2.3.4".to_owned()));
}

/// It breaks in the middle of a command, too: `end` would wait again.
#[tokio::test(start_paused = true)]
async fn a_daemon_that_falls_silent_is_not_told_to_leave_the_context() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("zebra.vty")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut pending = Vec::new();
        for _ in 0..2 {
            pending.clear();
            stream.read_buf(&mut pending).await.unwrap();
            while !pending.ends_with(&[0]) {
                stream.read_buf(&mut pending).await.unwrap();
            }
            stream.write_all(&[0; 4]).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let mut frr = Frr::new(directory.path().to_owned());
    let commands = vec![command(Daemon::Zebra, &["vrf blue"], "vni 7")];
    let begun = tokio::time::Instant::now();
    let outcomes = frr.apply(FrrPlan { commands }).await;
    assert_eq!(begun.elapsed().as_secs(), 30);
    let reason = outcomes[0].result.as_ref().unwrap_err();
    assert!(reason.contains("did not answer `vrf blue`"), "{reason}");
}

#[tokio::test]
async fn a_restart_is_noticed_and_survived() {
    let directory = tempfile::tempdir().unwrap();
    let first = FakeDaemon::start(directory.path(), "zebra", zebra("9.1"));
    let _bgpd = FakeDaemon::start(directory.path(), "bgpd", Answers::new());
    let mut frr = Frr::new(directory.path().to_owned());
    frr.observe().await.unwrap();
    first.stop();
    frr.changed().await;
    drop(std::fs::remove_file(directory.path().join("zebra.vty")));
    let error = frr.observe().await.unwrap_err();
    assert!(error.is_absence_of_zebra(), "{error}");
    assert!(error.to_string().contains("is FRR running?"), "{error}");
    let _second = FakeDaemon::start(directory.path(), "zebra", zebra("9.1"));
    frr.observe().await.unwrap();
}

/// Zebra may hold devices while the others are away.
#[tokio::test]
async fn another_daemon_that_is_away_says_nothing_of_zebra() {
    let directory = tempfile::tempdir().unwrap();
    let _zebra = FakeDaemon::start(directory.path(), "zebra", zebra("10.3"));
    let mut frr = Frr::new(directory.path().to_owned());
    for daemon in ["mgmtd", "bgpd"] {
        let error = frr.observe().await.unwrap_err();
        assert!(error.to_string().contains(daemon), "{error}");
        assert!(!error.is_absence_of_zebra(), "{error}");
        drop(FakeDaemon::start(directory.path(), daemon, Answers::new()));
    }
    frr.observe().await.unwrap();
}

/// Tokio believes that there is more to read when an answer fills the buffer to the last byte.
#[tokio::test]
async fn an_answer_of_any_length_is_no_end_of_the_connection() {
    for length in [64, 128, 1024, 1 << 16, 100] {
        let directory = tempfile::tempdir().unwrap();
        let _zebra = FakeDaemon::start(directory.path(), "zebra", zebra("9.1"));
        // Three NULs and the status are part of it.
        let text: &'static str = " ".repeat(length - 4).leak();
        let answers = BTreeMap::from([("show bgp l2vpn evpn vni json", (text, 0))]);
        let bgpd = FakeDaemon::start(directory.path(), "bgpd", answers);
        let mut frr = Frr::new(directory.path().to_owned());
        frr.observe().await.unwrap();
        let is_pending = {
            let mut changed = std::pin::pin!(frr.changed());
            std::future::poll_fn(|context| {
                std::task::Poll::Ready(changed.as_mut().poll(context).is_pending())
            })
            .await
        };
        assert!(is_pending, "{length} bytes");
        bgpd.stop();
        frr.changed().await;
    }
}

/// Zebra itself refuses to be configured from FRR 10 on.
#[tokio::test]
async fn from_version_10_on_mgmtd_takes_zebras_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let bare = BTreeMap::from([(
        "show version",
        ("FRRouting 10.3 (xpu) on Linux(6.12).\n", 0),
    )]);
    let zebra_itself = FakeDaemon::start(directory.path(), "zebra", bare);
    let mgmtd = FakeDaemon::start(directory.path(), "mgmtd", zebra("10.3"));
    let _bgpd = FakeDaemon::start(directory.path(), "bgpd", Answers::new());
    let mut frr = Frr::new(directory.path().to_owned());
    let observed = frr.observe().await.unwrap();
    let blue = "blue".parse().unwrap();
    assert_eq!(
        observed.configured_vni(&blue).map(|vni| vni.get()),
        Some(5001)
    );
    let commands = vec![command(Daemon::Zebra, &["vrf blue"], "vni 9")];
    let outcomes = frr.apply(FrrPlan { commands }).await;
    assert_eq!(outcomes[0].result, Ok(()));
    assert!(mgmtd.said().contains(&"vni 9".to_owned()));
    assert!(
        !zebra_itself
            .said()
            .contains(&"configure terminal".to_owned())
    );
}
