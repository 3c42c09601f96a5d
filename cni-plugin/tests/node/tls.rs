//! An agent on another machine, by TLS: who trusts whom, and what is told where they don't.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use nix::sched::{CloneFlags, setns};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    sync::oneshot,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

use crate::harness::{Answer, Node, run};

/// Where an agent runs but isn't trusted, or doesn't trust, its service is well.
fn leads_to_doctor(answer: &Answer) -> bool {
    answer.stdout.contains("`xpuctl doctor`") && !answer.stdout.contains("systemctl")
}

/// A CA and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Identity {
    cert: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        Identity {
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// For the address that the agent has in these tests.
    fn server(&self) -> Identity {
        self.signs("127.0.0.1", |_| {})
    }

    fn client(&self) -> Identity {
        self.signs("node1.example", |_| {})
    }
}

/// A TCP socket on the node, whose connections by TLS end at the fake agent's socket.
struct Front {
    port: u16,
    stop: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Front {
    /// `clients`: the CA that a client's certificate must go back to.
    fn start(node: &Node, server: &Identity, clients: &Authority) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (listening, ready) = mpsc::channel();
        let acceptor = TlsAcceptor::from(Arc::new(config(server, clients)));
        let (host, agent) = (node.host.clone(), node.agent.socket().to_owned());
        let thread = std::thread::spawn(move || {
            let host = File::open(Path::new("/run/netns").join(host)).unwrap();
            setns(host, CloneFlags::CLONE_NEWNET).unwrap();
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                listening
                    .send(listener.local_addr().unwrap().port())
                    .unwrap();
                loop {
                    let tcp = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        _ = &mut stopped => return,
                    };
                    let (acceptor, agent) = (acceptor.clone(), agent.clone());
                    tokio::spawn(async move {
                        // A client that isn't let in, or goes: the test sees its side.
                        let Ok(mut tls) = acceptor.accept(tcp).await else {
                            return;
                        };
                        let mut inner = UnixStream::connect(agent).await.unwrap();
                        let _ended = copy_bidirectional(&mut tls, &mut inner).await;
                    });
                }
            });
        });
        Self {
            port: ready.recv().unwrap(),
            stop: Some((stop, thread)),
        }
    }

    fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ended_already = stop.send(());
            thread.join().unwrap();
        }
    }
}

fn config(server: &Identity, clients: &Authority) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&clients.pem)).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate(&server.cert)],
            PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The node's files, and the host-wide file that names them.
struct Files(PathBuf);

impl Files {
    fn of(node: &Node) -> Self {
        run("ip", &["-n", &node.host, "link", "set", "lo", "up"]);
        Self::at(node, "pki")
    }

    /// Where the host-wide file says from now on.
    fn at(node: &Node, name: &str) -> Self {
        let folder = node.root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        let tls = json!({"ca": file("ca.pem"), "cert": file("cert.pem"), "key": file("key.pem")});
        let host = json!({ "tls": tls });
        fs::write(node.root.path().join("host.conf"), host.to_string()).unwrap();
        Self(folder)
    }

    fn write(&self, ca: &Authority, own: &Identity) {
        fs::write(self.0.join("ca.pem"), &ca.pem).unwrap();
        fs::write(self.0.join("cert.pem"), &own.cert).unwrap();
        fs::write(self.0.join("key.pem"), &own.key).unwrap();
    }
}

fn network(node: &Node, agent: &str) -> Value {
    node.config(json!({ "agent": agent }))
}

#[test]
fn an_agent_by_tls_serves_every_call_and_a_renewed_certificate_counts_at_once() {
    let mut node = Node::new();
    let (pod, ca, files) = (node.pod(), Authority::new("ours"), Files::of(&node));
    let front = Front::start(&node, &ca.server(), &ca);
    let config = network(&node, &front.address());
    files.write(&ca, &ca.client());
    let result = node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(node.agent.ports().len(), 1);
    let mut checked = config.clone();
    checked["prevResult"] = result;
    node.call("CHECK", "c1", &pod, &checked).ok();
    node.call("STATUS", "", Path::new(""), &config).ok();

    files.write(&ca, &ca.client());
    // The journal knows the agent and its files; no configuration need say them again.
    fs::remove_file(node.root.path().join("host.conf")).unwrap();
    node.call("DEL", "c1", &pod, &node.config(json!({}))).ok();
    node.assert_clean();
}

#[test]
fn a_tombstone_at_an_agent_by_tls_is_drained_by_its_own_files() {
    let mut node = Node::new();
    let (pod, ca, files) = (node.pod(), Authority::new("ours"), Files::of(&node));
    let front = Front::start(&node, &ca.server(), &ca);
    let config = network(&node, &front.address());
    files.write(&ca, &ca.client());
    node.call("ADD", "c1", &pod, &config).ok();
    fs::rename(files.0.join("key.pem"), files.0.join("away")).unwrap();
    node.call("DEL", "c1", &pod, &config).ok();
    assert_eq!(node.state("tombstones").len(), 1);
    assert_eq!(node.agent.ports().len(), 1);
    fs::rename(files.0.join("away"), files.0.join("key.pem")).unwrap();
    node.call("DEL", "c9", &pod, &config).ok();
    node.assert_clean();
}

/// Certificates move to another folder while pods run. What the journal knows of the old one keeps
/// neither port nor VF.
#[test]
fn a_port_outlives_the_place_of_its_certificate() {
    let mut node = Node::new();
    let (pod, ca, old) = (node.pod(), Authority::new("ours"), Files::of(&node));
    let front = Front::start(&node, &ca.server(), &ca);
    let config = network(&node, &front.address());
    let elsewhere = node.config(json!({}));
    let mut files = old;
    for (drains, new) in ["ADD", "DEL"].into_iter().zip(["pki-2", "pki-3"]) {
        files.write(&ca, &ca.client());
        node.call("ADD", "c1", &pod, &config).ok();
        // The files are away, and this call's configuration names others' at best.
        fs::remove_dir_all(&files.0).unwrap();
        node.call("DEL", "c1", &pod, &elsewhere).ok();
        assert_eq!(node.state("tombstones").len(), 1);
        files = Files::at(&node, new);
        files.write(&ca, &ca.client());
        match drains {
            "ADD" => {
                node.call("ADD", "c2", &pod, &config).ok();
                assert_eq!(node.state("tombstones"), Vec::<String>::new());
                node.call("DEL", "c2", &pod, &config).ok();
            }
            _ => {
                node.call("DEL", "c9", &pod, &config).ok();
            }
        }
        node.assert_clean();
    }

    // The port of a pod that has run all the while.
    let told = node.call("ADD", "c1", &pod, &config).ok();
    fs::remove_dir_all(&files.0).unwrap();
    Files::at(&node, "pki-4").write(&ca, &ca.client());
    let mut check = config.clone();
    check["prevResult"] = told;
    node.call("CHECK", "c1", &pod, &check).ok();
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}

/// Of many ports at one agent each is as good as known by the certificate of another.
#[test]
fn a_port_whose_certificate_is_gone_goes_with_the_others_of_its_agent() {
    for gone in 0..2 {
        let mut node = Node::new();
        let (pods, ca) = ([node.pod(), node.pod()], Authority::new("ours"));
        let front = Front::start(&node, &ca.server(), &ca);
        let first = network(&node, &front.address());
        let mut second = first.clone();
        second["deviceID"] = node.make_vf(1).into();
        let mut folders = Vec::new();
        for (number, config) in [first, second].iter().enumerate() {
            Files::of(&node);
            let files = Files::at(&node, &format!("pki-{number}"));
            files.write(&ca, &ca.client());
            let container = format!("c{number}");
            node.call("ADD", &container, &pods[number], config).ok();
            folders.push(files.0);
        }
        // Neither can be read when the pods go, and one never again.
        for folder in &folders {
            fs::rename(folder, folder.with_extension("away")).unwrap();
        }
        let elsewhere = node.config(json!({}));
        for (number, pod) in pods.iter().enumerate() {
            node.call("DEL", &format!("c{number}"), pod, &elsewhere)
                .ok();
        }
        assert_eq!(node.state("tombstones").len(), 2);
        let back = &folders[1 - gone];
        fs::rename(back.with_extension("away"), back).unwrap();
        node.call("DEL", "c9", &pods[0], &elsewhere).ok();
        node.assert_clean();
    }
}

#[test]
fn who_is_not_trusted_is_told_and_nothing_is_attached() {
    let mut node = Node::new();
    let (pod, ca, stranger) = (
        node.pod(),
        Authority::new("ours"),
        Authority::new("a stranger"),
    );
    let files = Files::of(&node);
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    };
    for (server, word) in [
        (stranger.server(), "no CA of"),
        (ca.signs("127.0.0.1", old), "has expired"),
        (ca.signs("127.0.0.2", |_| {}), "is not for 127.0.0.1"),
    ] {
        files.write(&ca, &ca.client());
        let front = Front::start(&node, &server, &ca);
        let config = network(&node, &front.address());
        let answer = node.call("ADD", "c1", &pod, &config);
        let (code, msg) = answer.error();
        assert_eq!(code, 11, "{msg}");
        assert!(
            msg.contains(word) && msg.contains(&front.address()),
            "{msg}"
        );
        assert!(leads_to_doctor(&answer), "{answer:?}");
        node.assert_clean();
    }
    let front = Front::start(&node, &ca.server(), &ca);
    let config = network(&node, &front.address());
    for (client, word) in [
        (stranger.client(), "UnknownCA"),
        (ca.signs("node1.example", old), "CertificateExpired"),
    ] {
        files.write(&ca, &client);
        let answer = node.call("ADD", "c1", &pod, &config);
        let (code, msg) = answer.error();
        assert_eq!(code, 11, "{msg}");
        assert!(
            msg.contains(word) && msg.contains("our certificate"),
            "{msg}"
        );
        assert!(leads_to_doctor(&answer), "{answer:?}");
    }
    // Whether the port was made, nobody could tell; the next call that is let in looks.
    files.write(&ca, &ca.client());
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();

    // One that speaks no TLS at all.
    drop(front);
    let plain = Plain::start(&node);
    let config = network(&node, &format!("https://127.0.0.1:{}", plain.port));
    let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
    assert_eq!(code, 11, "{msg}");
    node.assert_clean();
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_its_key() {
    let mut node = Node::new();
    let (pod, ca, files) = (node.pod(), Authority::new("ours"), Files::of(&node));
    let front = Front::start(&node, &ca.server(), &ca);
    let config = network(&node, &front.address());
    let refused = |what: &str, words: &[&str]| {
        let (code, msg) = node.call("ADD", "c1", &pod, &config).error();
        assert_eq!(code, 7, "{what}: {msg}");
        for word in words {
            assert!(msg.contains(word), "{what}: {msg}");
        }
        node.assert_clean();
    };
    refused("no files", &["`tls.ca`", "ca.pem can't be read"]);
    files.write(&ca, &ca.client());
    for (name, key) in [
        ("ca.pem", "tls.ca"),
        ("cert.pem", "tls.cert"),
        ("key.pem", "tls.key"),
    ] {
        let path = files.0.join(name);
        let good = fs::read(&path).unwrap();
        for garbage in ["", "-----BEGIN CERTIFICATE-----\n?\n", "\u{0}\u{1}"] {
            fs::write(&path, garbage).unwrap();
            refused(garbage, &[key, name]);
        }
        fs::write(&path, good).unwrap();
    }
    fs::write(files.0.join("key.pem"), ca.client().key).unwrap();
    let words = ["`tls.cert`", "`tls.key`", "key.pem can't be used together"];
    refused("another's key", &words);
    // No key's bytes go anywhere.
    fs::write(files.0.join("ca.pem"), ca.client().key).unwrap();
    refused("a key as a CA", &["`tls.ca`", "holds no certificate"]);
}

/// A listener that answers every connection in plain text.
struct Plain {
    port: u16,
}

impl Plain {
    fn start(node: &Node) -> Self {
        let (listening, ready) = mpsc::channel();
        let host = node.host.clone();
        // It ends with the test's process: nobody connects a second time.
        std::thread::spawn(move || {
            let host = File::open(Path::new("/run/netns").join(host)).unwrap();
            setns(host, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listening
                .send(listener.local_addr().unwrap().port())
                .unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let _gone = std::io::Write::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n");
        });
        Self {
            port: ready.recv().unwrap(),
        }
    }
}
