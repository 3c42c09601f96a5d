//! The backend with daemons that have no configuration and take every command.

use std::{collections::BTreeMap, fs, path::Path, pin::pin, sync::Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::Instant,
};
use xpu_model::{VrfSpec, alloc::AllocationRules, node::BgpBase, status::State};
use xpu_plan::VrfInFrr;

use super::{startup::NextWrite, *};
use crate::{
    config::Config,
    telemetry::metrics::{Exposition, Format, Metrics},
};

/// Starts the daemons; gives all that they are told from then on, and what all of them answer.
fn start(directory: &Path) -> (Said, Answers) {
    let (said, answers) = (Said::default(), Answers::default());
    for daemon in ["mgmtd", "zebra", "bgpd"] {
        let listener = UnixListener::bind(directory.join(format!("{daemon}.vty"))).unwrap();
        let (log, answers) = (said.clone(), answers.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), answers.clone()));
            }
        });
    }
    (said, answers)
}

async fn serve(mut stream: UnixStream, said: Said, answers: Answers) {
    let mut pending = Vec::new();
    while stream.read_buf(&mut pending).await.is_ok_and(|n| n > 0) {
        while let Some(end) = pending.iter().position(|byte| *byte == 0) {
            let command: Vec<u8> = pending.drain(..=end).collect();
            let command = String::from_utf8(command[..end].to_vec()).unwrap();
            let text = match command.as_str() {
                "show version" => "FRRouting 10.3 (xpu) on Linux(6.12).\n",
                other => answers.lock().unwrap().get(other).copied().unwrap_or(""),
            };
            said.lock().unwrap().push(command);
            let answer = [text.as_bytes(), &[0; 4]].concat();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

type Said = Arc<Mutex<Vec<String>>>;
/// By command; what is not there is a success without text.
type Answers = Arc<Mutex<BTreeMap<&'static str, &'static str>>>;

struct Rig {
    directory: tempfile::TempDir,
    said: Said,
    answers: Answers,
    backend: FrrBackend,
    foreign: watch::Sender<BTreeSet<IfName>>,
    exposition: Exposition,
    _linux: watch::Sender<u64>,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (said, answers) = start(directory.path());
        let kept = Kept {
            ledger: Ledger::open(directory.path()).unwrap(),
            startup: Some(Startup::new(directory.path().to_owned())),
        };
        let node = Config::default().node().unwrap();
        let (facts, _) = watch::channel(FrrFacts::Unknown);
        let (linux, linux_seen) = watch::channel(0);
        let (foreign, foreign_seen) = watch::channel(BTreeSet::new());
        let metrics = Metrics::default();
        let mut backend = FrrBackend::new(
            directory.path().to_owned(),
            kept,
            Arc::new(node),
            facts,
            linux_seen,
            foreign_seen,
            metrics.frr.clone(),
        );
        // The daemons are this test's process, which is as young as can be.
        backend.loading = Duration::ZERO;
        Self {
            directory,
            said,
            answers,
            backend,
            foreign,
            exposition: metrics.exposition(),
            _linux: linux,
        }
    }

    /// Nobody is to be reached any more, nor are connections left open.
    fn stop(&mut self) {
        for daemon in ["mgmtd", "zebra", "bgpd"] {
            // Not there when it was stopped before.
            let _ = fs::remove_file(self.directory.path().join(format!("{daemon}.vty")));
        }
        self.backend.frr = Frr::new(self.directory.path().to_owned());
    }

    /// Nobody is to be reached at one daemon's socket any more.
    fn stop_one(&mut self, daemon: &str) {
        fs::remove_file(self.directory.path().join(format!("{daemon}.vty"))).unwrap();
        self.backend.frr = Frr::new(self.directory.path().to_owned());
    }

    /// Gives the node's settings a base BGP instance.
    fn with_bgp(&mut self, asn: u32) {
        let mut node = Config::default().node().unwrap();
        node.bgp = Some(BgpBase {
            asn: asn.try_into().unwrap(),
            router_id: [10, 255, 0, 1].into(),
            peers: vec![],
            timers: None,
        });
        self.backend.node = Arc::new(node);
    }

    /// Whether the startup configuration is to be written at some time.
    fn is_due(&self) -> bool {
        matches!(self.backend.startup.next, NextWrite::Due(_))
    }

    fn metrics(&self) -> String {
        self.exposition.text(Format::Prometheus).unwrap()
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("frr.conf")
    }

    /// Whether something has made the last pass out of date.
    async fn is_dirty(&mut self) -> bool {
        let mut dirty = pin!(self.backend.dirty());
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(dirty.as_mut().poll(context).is_ready())
        })
        .await
    }
}

fn with_vrf() -> Intent {
    let rules = AllocationRules {
        tables: 1001..=1003,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    let spec = VrfSpec {
        vni: None,
        loopback: "10.255.100.1/32".parse().unwrap(),
        vtep: None,
    };
    let mut intent = Intent::default();
    intent
        .create("blue".parse().unwrap(), spec, &rules)
        .unwrap();
    intent
}

#[tokio::test]
async fn a_deleted_vrf_is_gone_when_the_startup_configuration_is_without_it() {
    let mut rig = Rig::new();
    let theirs = "ip prefix-list theirs seq 5 permit 192.0.2.0/24\n";
    fs::write(rig.file(), format!("{theirs}vrf blue\n vni 5\nexit-vrf\n")).unwrap();
    // Where the new file would be written first there is something else.
    let obstacle = rig.directory.path().join(".frr.conf.xpu-agent");
    fs::create_dir(&obstacle).unwrap();
    let mut intent = with_vrf();
    intent.delete::<VrfSpec>(&"blue".parse().unwrap()).unwrap();
    let intent = Arc::new(intent);
    let key = intent.vrfs.values().next().unwrap().key();

    for _ in 0..2 {
        let report = rig.backend.pass(&intent).await;
        let Some(State::Pending(reason)) = report.objects.get(&key).map(|it| &it.state) else {
            panic!("{report:?}");
        };
        assert!(reason.contains("frr.conf"), "{reason}");
        assert_eq!(report.node.len(), 1, "{report:?}");
    }
    fs::remove_dir(&obstacle).unwrap();
    let report = rig.backend.pass(&intent).await;
    assert!(
        report.objects.is_empty() && report.node.is_empty(),
        "{report:?}"
    );
    assert_eq!(fs::read_to_string(rig.file()).unwrap(), theirs);
}

/// The loop's back-off is for that; a time of the backend's own would reset it.
#[tokio::test]
async fn trouble_with_the_startup_configuration_is_left_to_the_back_off() {
    let mut rig = Rig::new();
    fs::write(rig.file(), "vrf blue\n vni 5\nexit-vrf\n").unwrap();
    let obstacle = rig.directory.path().join(".frr.conf.xpu-agent");
    fs::create_dir(&obstacle).unwrap();
    let intent = Arc::new(with_vrf());
    let report = rig.backend.pass(&intent).await;
    assert!(report.node.is_empty(), "{report:?}");
    assert!(rig.is_due(), "one write serves many changes");
    rig.backend.startup.next = NextWrite::Due(Instant::now());
    for _ in 0..2 {
        let report = rig.backend.pass(&intent).await;
        assert!(report.wants_retry(), "{report:?}");
        assert_eq!(report.node.len(), 1, "{report:?}");
        assert!(!rig.is_dirty().await && !rig.is_due());
    }
    fs::remove_dir(&obstacle).unwrap();
    let report = rig.backend.pass(&intent).await;
    assert!(report.node.is_empty(), "{report:?}");
    assert_eq!(
        fs::read_to_string(rig.file()).unwrap(),
        "vrf blue\nexit-vrf\n"
    );

    // What can't be read is no longer due either.
    fs::remove_file(rig.file()).unwrap();
    fs::create_dir(rig.file()).unwrap();
    rig.backend.startup.next = NextWrite::Due(Instant::now());
    let report = rig.backend.pass(&intent).await;
    assert!(report.node[0].contains("frr.save"), "{report:?}");
    assert!(!rig.is_dirty().await && !rig.is_due());
}

/// The loop's back-off is for an FRR that is away.
#[tokio::test]
async fn a_write_that_is_due_starts_no_passes_while_frr_is_away() {
    let mut rig = Rig::new();
    fs::write(rig.file(), "vrf blue\n vni 5\nexit-vrf\n").unwrap();
    let intent = Arc::new(with_vrf());
    rig.backend.pass(&intent).await;
    assert!(rig.is_due());
    rig.backend.startup.next = NextWrite::Due(Instant::now());
    rig.stop();
    let report = rig.backend.pass(&intent).await;
    assert!(report.unobserved.is_some(), "{report:?}");
    assert!(!rig.is_dirty().await);
    start(rig.directory.path());
    rig.backend.pass(&intent).await;
    assert!(rig.is_due(), "armed again");
}

/// Devices wait for FRR to let go of what they are for, but not for one that does not run.
#[tokio::test]
async fn what_frr_has_is_forgotten_when_it_stops() {
    let mut rig = Rig::new();
    let intent = Arc::new(with_vrf());
    let id = intent.vrfs.keys().next().unwrap().clone();
    for known in [true, false] {
        let vni = 5.try_into().unwrap();
        let has = VrfInFrr {
            told: Some(vni),
            holds: Some(vni),
            instance: true,
        };
        rig.backend.facts.send_replace(match known {
            true => FrrFacts::Known {
                vrfs: [(id.clone(), has)].into(),
            },
            false => FrrFacts::Unknown,
        });
        rig.stop();
        let report = rig.backend.pass(&intent).await;
        assert!(report.unobserved.is_some(), "{report:?}");
        let facts = rig.backend.facts.borrow().clone();
        assert!(!facts.may_use(&id), "{facts:?}");
        assert_eq!(facts.is_ready(&id, vni), known);
    }
}

/// Zebra may hold the devices all the same, and crash when they go (FRR issues 17342, 19756).
#[tokio::test]
async fn what_zebra_may_hold_stays_known_while_another_daemon_is_away() {
    let intent = Arc::new(with_vrf());
    let id = intent.vrfs.keys().next().unwrap().clone();
    let vni = 5.try_into().unwrap();
    let has = VrfInFrr {
        told: Some(vni),
        holds: Some(vni),
        instance: true,
    };
    for daemon in ["mgmtd", "bgpd"] {
        let mut rig = Rig::new();
        rig.backend.facts.send_replace(FrrFacts::Known {
            vrfs: [(id.clone(), has)].into(),
        });
        rig.stop_one(daemon);
        let report = rig.backend.pass(&intent).await;
        let reason = report.unobserved.unwrap();
        assert!(
            reason.contains(daemon) && reason.contains("os error"),
            "{reason}"
        );
        let facts = rig.backend.facts.borrow().clone();
        assert!(
            facts.may_hold(&id, vni) && facts.may_use(&id),
            "{daemon}: {facts:?}"
        );
    }
}

/// It is there and answers.
#[tokio::test]
async fn a_full_disk_is_no_loss_of_frr_and_says_what_to_do() {
    let mut rig = Rig::new();
    rig.with_bgp(65001);
    // Where the new account would be written first there is something else.
    let obstacle = rig.directory.path().join("frr-lines.json.new");
    fs::create_dir(&obstacle).unwrap();
    let intent = Arc::new(with_vrf());
    let report = rig.backend.pass(&intent).await;
    let reason = report.unobserved.unwrap();
    for part in ["frr-lines.json", "make room", "os error"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!reason.contains("observed"), "{reason}");
    let said = rig.said.lock().unwrap().join("\n");
    assert!(!said.contains("router bgp"), "{said}");
    let metrics = rig.metrics();
    assert!(metrics.contains("frr_up 1\n"), "{metrics}");
    assert!(metrics.contains("frr_losses_total 0\n"), "{metrics}");

    fs::remove_dir(&obstacle).unwrap();
    let report = rig.backend.pass(&intent).await;
    assert!(report.unobserved.is_none(), "{report:?}");
    rig.stop();
    rig.backend.pass(&intent).await;
    let metrics = rig.metrics();
    assert!(metrics.contains("frr_losses_total 1\n"), "{metrics}");
}

/// An FRR that has just started has nothing yet, and would refuse what it starts with.
#[tokio::test]
async fn what_frr_is_about_to_load_is_waited_for() {
    let mut rig = Rig::new();
    let theirs = "router bgp 65001\n neighbor 192.0.2.1 remote-as 65009\nexit\n";
    fs::write(rig.file(), theirs).unwrap();
    rig.with_bgp(65077);
    let report = rig.backend.pass(&Arc::new(with_vrf())).await;
    assert!(report.notices[0].contains("65001"), "{report:?}");
    let said = rig.said.lock().unwrap().join("\n");
    assert!(!said.contains("router bgp"), "{said}");
}

#[tokio::test]
async fn only_devices_with_a_vrfs_name_concern_frr() {
    let mut rig = Rig::new();
    let intent = Arc::new(with_vrf());
    rig.backend.pass(&intent).await;
    assert!(!rig.is_dirty().await);
    let devices = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    rig.foreign.send_replace(devices(&["docker0", "veth0"]));
    assert!(!rig.is_dirty().await);
    rig.foreign.send_replace(devices(&["docker0", "blue"]));
    assert!(rig.is_dirty().await);
    rig.backend.pass(&intent).await;
    assert!(!rig.is_dirty().await);
    rig.foreign.send_replace(devices(&["docker0"]));
    assert!(rig.is_dirty().await);
}

#[tokio::test]
async fn an_frr_that_is_still_loading_is_told_nothing() {
    let mut rig = Rig::new();
    fs::write(rig.file(), "router bgp 65001\nexit\n").unwrap();
    rig.backend.loading = Duration::from_secs(3_600);
    let intent = Arc::new(with_vrf());
    let report = rig.backend.pass(&intent).await;
    assert!(
        report.node.iter().any(|it| it.contains("frr.conf")),
        "{report:?}"
    );
    assert!(report.unobserved.is_some(), "{report:?}");

    // Its time is up: whatever the file has, FRR does not read it.
    rig.backend.loading = Duration::ZERO;
    let report = rig.backend.pass(&intent).await;
    assert!(report.unobserved.is_none(), "{report:?}");
}

/// With the back-off at its longest and the audit far away, only the event can tell.
#[tokio::test]
async fn an_frr_that_is_back_is_noticed_at_once() {
    let mut rig = Rig::new();
    let intent = Arc::new(with_vrf());
    rig.backend.pass(&intent).await;
    rig.stop();
    let report = rig.backend.pass(&intent).await;
    assert!(report.unobserved.is_some(), "{report:?}");
    assert!(!rig.is_dirty().await, "it is away still");
    start(rig.directory.path());
    let back = tokio::time::timeout(Duration::from_secs(1), rig.backend.dirty());
    back.await.expect("sockets that come back are an event");
    let report = rig.backend.pass(&intent).await;
    assert!(report.unobserved.is_none(), "{report:?}");
    assert!(!rig.is_dirty().await, "what was seen starts no other pass");
}

/// mgmtd has the line, and zebra, which has the VRF, never got it.
#[tokio::test]
async fn a_vni_that_zebra_never_got_is_told_anew_once_that_is_sure() {
    let mut rig = Rig::new();
    rig.with_bgp(65001);
    let config = "router bgp 65001\n address-family l2vpn evpn\n  advertise-all-vni\n \
                  exit-address-family\nexit\nvrf blue\n vni 5\nexit-vrf\n";
    rig.answers.lock().unwrap().extend([
        ("show running-config", config),
        ("show vrf", "vrf blue id 7 table 1001\n"),
    ]);
    let mut intent = with_vrf();
    let (id, vni) = ("blue".parse().unwrap(), 5.try_into().unwrap());
    let mut spec = intent.vrfs[&id].spec.clone();
    spec.vni = Some(vni);
    let rules = AllocationRules {
        tables: 1001..=1003,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    intent.update(id.clone(), spec, &rules).unwrap();
    let intent = Arc::new(intent);
    let said = |rig: &Rig| std::mem::take(&mut *rig.said.lock().unwrap()).join("\n");

    // One that has just started may still hear of it from mgmtd.
    rig.backend.loading = Duration::from_secs(3_600);
    for _ in 0..3 {
        rig.backend.pass(&intent).await;
        let said = said(&rig);
        assert!(!said.contains("no vni"), "{said}");
    }
    rig.backend.loading = Duration::ZERO;
    rig.backend.pass(&intent).await;
    let first = said(&rig);
    assert!(!first.contains("no vni"), "at first sight: {first}");
    let facts = rig.backend.facts.borrow().clone();
    assert!(!facts.is_ready(&id, vni), "{facts:?}");
    rig.backend.pass(&intent).await;
    let second = said(&rig);
    assert!(second.contains("vrf blue\nno vni 5\n"), "{second}");
    assert!(!second.contains("\nvni 5"), "{second}");
}
