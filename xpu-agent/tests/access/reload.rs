//! Certificates change while clients call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use xpu_agent::{
    access::{reload, tls::Tls},
    config::{Config, Transport},
};
use xpu_proto::evpn_gw::v1alpha1::{ListVrfsRequest, vrf_service_client::VrfServiceClient};

use crate::{
    certs::{Ca, Leaf, replace},
    log::Log,
    rig::{Rig, eventually},
    tls::configure,
};

fn viewer() -> Leaf<'static> {
    Leaf {
        names: &["DNS:desk.lab"],
        ..Leaf::good()
    }
}

/// Connects when it is first used, and again when that connection has ended.
fn connect(tcp: std::net::SocketAddr, ca: &str, (cert, key): &(String, String)) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(cert, key))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{tcp}")).unwrap();
    let endpoint = endpoint.tls_config(tls).unwrap();
    endpoint.timeout(Duration::from_secs(60)).connect_lazy()
}

async fn list(channel: &Channel) -> Result<(), tonic::Status> {
    let mut client = VrfServiceClient::new(channel.clone());
    client.list_vrfs(ListVrfsRequest::default()).await.map(drop)
}

/// Calls over and over, on connections that live for ten calls each; what failed.
struct Load {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<tonic::Status>>>,
}

impl Load {
    fn start(rig: &Rig, server_ca: &Ca, client: &(String, String)) -> Self {
        let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let task = |_| {
            let make = {
                let (tcp, ca, client) = (rig.tcp, server_ca.pem(), client.clone());
                move || connect(tcp, &ca, &client)
            };
            let (done, stop) = (done.clone(), stop.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Relaxed) {
                    let channel = make();
                    for _ in 0..10 {
                        failed.extend(list(&channel).await.err());
                        done.fetch_add(1, Relaxed);
                    }
                }
                failed
            })
        };
        let tasks = (0..4).map(task).collect();
        Self { done, stop, tasks }
    }

    /// Waits until as many calls more were made.
    async fn more(&self, calls: u64) {
        let goal = self.done.load(Relaxed) + calls;
        eventually("more calls", || self.done.load(Relaxed) >= goal).await;
    }

    async fn stop(self) -> Vec<tonic::Status> {
        self.stop.store(true, Relaxed);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await.unwrap());
        }
        failed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_certificates_change() {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let tls = rig.gate.tls().unwrap().clone();
    let (cert, key) = (
        files.path().join("server.crt"),
        files.path().join("server.key"),
    );
    let load = Load::start(&rig, &ca, &ca.issue(&viewer()));
    load.more(100).await;

    // The certificate is renewed, its key with it.
    for renewal in 1..=3 {
        let (new_cert, new_key) = ca.issue_server(1000 + renewal);
        replace(&cert, &new_cert);
        replace(&key, &new_key);
        // Between the two files both may have been read once: that changes nothing.
        eventually("taken over", || tls.reloads().0 == renewal).await;
        load.more(50).await;
    }
    // Files that cannot be used.
    let (taken, refused) = tls.reloads();
    replace(&key, "no key");
    eventually("a broken key", || tls.reloads().1 > refused).await;
    load.more(50).await;
    let (good_cert, good_key) = ca.issue_server(2000);
    let expired = Leaf {
        until: -1,
        names: &["DNS:localhost"],
        ..Leaf::good()
    };
    let (expired_cert, expired_key) = ca.issue(&expired);
    let (_, refused) = tls.reloads();
    replace(&cert, &expired_cert);
    replace(&key, &expired_key);
    eventually("an expired certificate", || tls.reloads().1 > refused).await;
    load.more(50).await;
    assert_eq!(tls.reloads().0, taken, "nothing of it is in use");
    replace(&cert, &good_cert);
    replace(&key, &good_key);
    eventually("mended", || tls.reloads().0 == taken + 1).await;
    load.more(50).await;

    assert_eq!(
        load.stop()
            .await
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [""; 0]
    );
    rig.stop().await;
}

/// Who issues it may be ahead of this machine's clock, or prepare a change.
#[tokio::test]
async fn a_certificate_that_begins_later_is_taken_over_when_it_begins() {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let tls = rig.gate.tls().unwrap().clone();
    let later = Leaf {
        from: 5,
        until: 7_200,
        names: &["DNS:localhost"],
        usage: rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ..Leaf::good()
    };
    let issued = SystemTime::now();
    let (cert, key) = ca.issue(&later);
    replace(&files.path().join("server.key"), &key);
    replace(&files.path().join("server.crt"), &cert);
    // Certificates have whole seconds, so this is the earliest.
    let begins = issued + Duration::from_secs(4);
    let served = tls.not_after();
    eventually("taken over", || tls.reloads().0 == 1).await;
    assert!(SystemTime::now() >= begins, "too early");
    assert!(tls.not_after() > served, "another one");
    // Nobody has written or signalled: the last change was seconds ago.
    let client = connect(rig.tcp, &ca.pem(), &ca.issue(&viewer()));
    list(&client).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_taken_out_takes_its_clients_with_it() {
    let (ca, other, files) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let tls = rig.gate.tls().unwrap().clone();
    let bundle = files.path().join("ca.crt");
    replace(&bundle, &format!("{}{}", ca.pem(), other.pem()));
    eventually("both CAs", || tls.reloads().0 == 1).await;

    let old = connect(rig.tcp, &ca.pem(), &ca.issue(&viewer()));
    list(&old).await.unwrap();
    let load = Load::start(&rig, &ca, &other.issue(&viewer()));
    load.more(50).await;
    replace(&bundle, &other.pem());
    eventually("one CA", || tls.reloads().0 == 2).await;
    // Its open connection ends, and there is no other.
    let mut again = tokio::time::interval(Duration::from_millis(5));
    let refused = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            again.tick().await;
            if let Err(status) = list(&old).await {
                return status;
            }
        }
    });
    assert_ne!(refused.await.unwrap().code(), Code::Ok);
    assert!(list(&old).await.is_err(), "it got in again");
    load.more(50).await;
    assert_eq!(
        load.stop()
            .await
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [""; 0]
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let short = Leaf {
        until: 8,
        ..viewer()
    };
    let client = connect(rig.tcp, &ca.pem(), &ca.issue(&short));
    list(&client).await.unwrap();
    let limits = rig.gate.limits().clone();
    assert_eq!(limits.connections(), 1);
    eventually("disconnected", || limits.connections() == 0).await;
    assert!(list(&client).await.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn a_revoked_client_is_asked_to_go() {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let client = connect(
        rig.tcp,
        &ca.pem(),
        &ca.issue(&Leaf {
            serial: 77,
            ..viewer()
        }),
    );
    list(&client).await.unwrap();
    replace(&files.path().join("ca.crl"), &ca.revoke(&[666, 77]));
    let limits = rig.gate.limits().clone();
    eventually("disconnected", || limits.connections() == 0).await;
    assert!(list(&client).await.is_err());
    rig.stop().await;
}

/// A stolen key must be shut out though the agent's own certificate is not of this time: clients
/// take the old one, so that it is the old one that is shown.
#[rstest::rstest]
#[case::begins_later(3_600, 7_200)]
#[case::has_expired(-7_200, -1)]
#[tokio::test]
async fn a_revocation_does_not_wait_for_the_agents_certificate(
    #[case] from: i64,
    #[case] until: i64,
) {
    let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
    let rig = Rig::over(&configure(&files, &ca), Transport::Tls).await;
    let tls = rig.gate.tls().unwrap().clone();
    let stolen = ca.issue(&Leaf {
        serial: 77,
        ..viewer()
    });
    let open = connect(rig.tcp, &ca.pem(), &stolen);
    list(&open).await.unwrap();
    let served = tls.not_after();
    let (cert, key) = ca.issue(&Leaf {
        from,
        until,
        names: &["DNS:localhost"],
        usage: rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ..Leaf::good()
    });
    replace(&files.path().join("server.key"), &key);
    replace(&files.path().join("server.crt"), &cert);
    replace(&files.path().join("ca.crl"), &ca.revoke(&[666, 77]));

    eventually("taken over", || tls.reloads().0 == 1).await;
    let limits = rig.gate.limits().clone();
    eventually("disconnected", || limits.connections() == 0).await;
    assert!(list(&open).await.is_err(), "it got in again");
    let other = connect(rig.tcp, &ca.pem(), &stolen);
    assert!(list(&other).await.is_err(), "it got in anew");
    let good = connect(rig.tcp, &ca.pem(), &ca.issue(&viewer()));
    list(&good).await.unwrap();
    assert_eq!(tls.not_after(), served, "another certificate is in use");
    rig.stop().await;
}

/// A link leads out of the directory that is watched: what changes behind it tells nobody.
#[tokio::test]
async fn what_no_event_tells_of_is_taken_over_at_a_hangup() {
    let (ca, other, files) = (Ca::new(), Ca::new(), tempfile::tempdir().unwrap());
    let config = configure(&files, &ca);
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, bundle) = (files.path().join("ca.crt"), elsewhere.path().join("ca.crt"));
    std::fs::rename(&link, &bundle).unwrap();
    std::os::unix::fs::symlink(&bundle, &link).unwrap();
    let rig = Rig::over(&config, Transport::Tls).await;
    let tls = rig.gate.tls().unwrap().clone();
    // What the follower reads at its start is behind it by then.
    replace(&files.path().join("ca.crl"), &ca.revoke(&[666, 77]));
    eventually("followed", || tls.reloads().0 == 1).await;

    let client = connect(rig.tcp, &ca.pem(), &other.issue(&viewer()));
    replace(&bundle, &format!("{}{}", ca.pem(), other.pem()));
    assert!(list(&client).await.is_err(), "not told of");
    assert_eq!(tls.reloads().0, 1);
    rig.hangup.send_replace(());
    eventually("taken over", || tls.reloads().0 == 2).await;
    list(&client).await.unwrap();
    rig.stop().await;
}

/// Who renews certificates may have been quiet for as long as the agent runs.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_ends_soon_is_warned_about_every_day() {
    const DAY: u64 = 24 * 3600;
    for (days, times) in [(5, 3), (60, 0)] {
        let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
        let config = configure(&files, &ca);
        let lasting = Leaf {
            until: days * 24 * 3600,
            ..Leaf::good()
        };
        let (cert, key) = ca.issue(&lasting);
        replace(&files.path().join("server.crt"), &cert);
        replace(&files.path().join("server.key"), &key);
        let config = Config::read(&config, "the test", std::iter::empty()).unwrap();
        let tls = Tls::open(config.tls.unwrap()).unwrap();
        let log = Log::follow();
        let stop = CancellationToken::new();
        let run = reload::run(tls, tokio::sync::watch::channel(()).1, stop.clone());
        let over = tokio::time::timeout(Duration::from_secs(3 * DAY + DAY / 2), run);
        assert!(over.await.is_err());
        let lines = log.lines(&["WARN", "server.crt", "expires soon"]);
        assert_eq!(lines.len(), times, "{lines:#?}");
    }
}
