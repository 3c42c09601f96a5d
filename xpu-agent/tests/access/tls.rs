//! Who gets in over TLS. The clients are curl and openssl.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rcgen::ExtendedKeyUsagePurpose;
use tokio::net::TcpStream;
use tonic::Code;
use xpu_agent::{access::limits::Reason, config::Transport};

use crate::{
    certs::{Ca, Identity, Leaf},
    rig::{Rig, Target, Tls, call, eventually, is, knock, path, run},
};

const ACCESS: &str = r#"
[access.certificates]
"URI:spiffe://lab/cni/*" = "cni"
"DNS:*.ops.lab" = "admin"
"DNS:desk.lab" = "viewer"
"#;

/// So that clients in a hurry do not meet the rate.
const ROOM: &str = "[limits]\ncalls_per_second = 1000000\ncalls_burst = 1000000\n";

/// An agent with TLS on loopback, and a directory for its and its clients' files.
pub struct Secured {
    pub rig: Rig,
    ca: Ca,
    files: tempfile::TempDir,
}

impl Secured {
    pub async fn new() -> Self {
        let (ca, files) = (Ca::new(), tempfile::tempdir().unwrap());
        let config = configure(&files, &ca);
        Self {
            rig: Rig::over(&config, Transport::Tls).await,
            ca,
            files,
        }
    }

    pub fn issue(&self, name: &str, leaf: &Leaf<'_>) -> Identity {
        Identity::write(self.files.path(), name, self.ca.issue(leaf))
    }

    pub fn target<'a>(&'a self, identity: Option<&'a Identity>) -> Tls<'a> {
        self.with(identity, &[])
    }

    fn with<'a>(&'a self, identity: Option<&'a Identity>, options: &'a [&'a str]) -> Tls<'a> {
        Tls {
            address: self.rig.tcp,
            ca: self.files.path().join("ca.crt"),
            identity,
            options,
        }
    }
}

/// Writes the agent's files; its configuration.
pub fn configure(files: &tempfile::TempDir, ca: &Ca) -> String {
    let at = |name: &str| files.path().join(name);
    Identity::write(files.path(), "server", ca.issue_server(1000));
    std::fs::write(at("ca.crt"), ca.pem()).unwrap();
    std::fs::write(at("ca.crl"), ca.revoke(&[666])).unwrap();
    let folder = files.path().display();
    format!(
        "[tls]\ncert = \"{folder}/server.crt\"\nkey = \"{folder}/server.key\"\n\
         client_ca = \"{folder}/ca.crt\"\nclient_crl = \"{folder}/ca.crl\"\nloopback = true\n\
         {ACCESS}\n{ROOM}"
    )
}

#[tokio::test]
async fn a_certificate_has_the_role_of_its_names() {
    let agent = Secured::new().await;
    let leaf = |names: &'static [&'static str]| Leaf {
        names,
        ..Leaf::good()
    };
    let admin = agent.issue("admin", &leaf(&["DNS:n7.ops.lab"]));
    let cni = agent.issue("cni", &leaf(&["URI:spiffe://lab/cni/host-1"]));
    let viewer = agent.issue("viewer", &leaf(&["DNS:other.lab", "DNS:desk.lab"]));
    let nobody = agent.issue("nobody", &leaf(&["DNS:desk.lab.example"]));
    let (list, create) = (path("Vrf", "ListVrfs"), path("Vrf", "CreateVrf"));
    let ports = path("BridgePort", "ListBridgePorts");
    let port = path("BridgePort", "CreateBridgePort");

    let as_admin = Target::Tls(agent.target(Some(&admin)));
    is(
        &call(&as_admin, &create, None).await,
        Code::InvalidArgument,
        "vrf",
    );
    is(&call(&as_admin, &list, None).await, Code::Ok, "");

    let as_cni = Target::Tls(agent.target(Some(&cni)));
    is(&call(&as_cni, &ports, None).await, Code::Ok, "");
    is(
        &call(&as_cni, &port, None).await,
        Code::InvalidArgument,
        "bridge_port",
    );
    let refused = knock(&as_cni, &list, None).await;
    is(
        &refused,
        Code::PermissionDenied,
        "by the certificate of URI:spiffe://lab/cni/host-1",
    );

    let as_viewer = Target::Tls(agent.target(Some(&viewer)));
    is(&call(&as_viewer, &list, None).await, Code::Ok, "");
    is(
        &knock(&as_viewer, &create, None).await,
        Code::PermissionDenied,
        "the role viewer",
    );

    let as_nobody = Target::Tls(agent.target(Some(&nobody)));
    let refused = knock(&as_nobody, &list, None).await;
    is(
        &refused,
        Code::PermissionDenied,
        "\"DNS:desk.lab.example\" = \"viewer\"",
    );
    assert_eq!(agent.rig.gate.limits().refused(Reason::Handshake), 0);
    agent.rig.stop().await;
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let agent = Secured::new().await;
    let admin: &[&str] = &["DNS:n7.ops.lab"];
    let leaf = Leaf {
        names: admin,
        ..Leaf::good()
    };
    let good = agent.issue("good", &leaf);
    let expired = agent.issue(
        "expired",
        &Leaf {
            until: -60,
            names: admin,
            ..Leaf::good()
        },
    );
    let early = agent.issue(
        "early",
        &Leaf {
            from: 3_000,
            names: admin,
            ..Leaf::good()
        },
    );
    let revoked = agent.issue(
        "revoked",
        &Leaf {
            serial: 666,
            names: admin,
            ..Leaf::good()
        },
    );
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let server = agent.issue(
        "as-server",
        &Leaf {
            usage,
            names: admin,
            ..Leaf::good()
        },
    );
    let foreign = Identity::write(agent.files.path(), "foreign", Ca::new().issue(&leaf));

    let list = path("Vrf", "ListVrfs");
    let refused = || agent.rig.gate.limits().refused(Reason::Handshake);
    for address in [agent.rig.tcp, agent.rig.http] {
        let over = |identity, options| {
            Target::Tls(Tls {
                address,
                ..agent.with(identity, options)
            })
        };
        let cases = [
            ("no certificate", over(None, &[])),
            ("another CA", over(Some(&foreign), &[])),
            ("expired", over(Some(&expired), &[])),
            ("not yet valid", over(Some(&early), &[])),
            ("revoked", over(Some(&revoked), &[])),
            ("a server's certificate", over(Some(&server), &[])),
            ("TLS 1.2", over(Some(&good), &["--tls-max", "1.2"])),
            ("plain HTTP/2", Target::Clear(address)),
        ];
        for (what, target) in &cases {
            let before = refused();
            let answer = call(target, &list, None).await;
            assert_eq!(answer.code, None, "{what} at {address}: {answer:?}");
            eventually(what, || refused() == before + 1).await;
        }
    }
    // The same with what they lack.
    is(
        &call(&Target::Tls(agent.with(Some(&good), &[])), &list, None).await,
        Code::Ok,
        "",
    );
    agent.rig.stop().await;
}

/// A stop does not wait for who has connected and says nothing.
#[tokio::test]
async fn a_handshake_ends_with_the_agent() {
    let agent = Secured::new().await;
    let limits = agent.rig.gate.limits().clone();
    let silent = [agent.rig.tcp, agent.rig.http].map(TcpStream::connect);
    let silent = futures::future::join_all(silent).await;
    eventually("both are connected", || limits.connections() == 2).await;
    let stopped = tokio::time::timeout(Duration::from_secs(2), agent.rig.stop()).await;
    assert!(stopped.is_ok(), "the handshakes hold the agent up");
    drop(silent);
}

#[tokio::test]
async fn openssl_sees_tls_1_3_and_no_resumption() {
    let agent = Secured::new().await;
    let good = agent.issue(
        "good",
        &Leaf {
            names: &["DNS:desk.lab"],
            ..Leaf::good()
        },
    );
    let seen = s_client(&agent, &good, &["-tls1_3", "-alpn", "h2"]).await;
    assert!(
        seen.contains("TLSv1.3") && seen.contains("ALPN protocol: h2"),
        "{seen}"
    );
    assert!(seen.contains("Verify return code: 0 (ok)"), "{seen}");
    assert!(
        !seen.contains("Post-Handshake New Session Ticket"),
        "{seen}"
    );
    let older = s_client(&agent, &good, &["-tls1_2"]).await;
    assert!(older.contains("alert protocol version"), "{older}");
    agent.rig.stop().await;
}

async fn s_client(agent: &Secured, identity: &Identity, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &agent.rig.tcp.to_string()]);
    command
        .arg("-CAfile")
        .arg(agent.files.path().join("ca.crt"));
    command
        .arg("-cert")
        .arg(&identity.cert)
        .arg("-key")
        .arg(&identity.key);
    command.args(options).stdin(Stdio::null());
    let output = run(command).await;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs the commands of the operator's guide as they stand there.
#[tokio::test]
async fn the_documented_commands_make_certificates_that_work() {
    let guide = include_str!("../../../docs/certificates.md");
    let shell: String = guide
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    let files = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    command.args(["-euc", &shell]).current_dir(files.path());
    let made = run(command).await;
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );

    let toml = guide
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let folder = files.path().display().to_string();
    let config = toml.replace("/etc/xpu-agent", &folder);
    let config = config.replace("[tls]\n", "[tls]\nloopback = true\n");
    assert!(config.contains(&folder), "{config}");
    let rig = Rig::over(&config, Transport::Tls).await;
    let list = path("BridgePort", "ListBridgePorts");
    for (name, vrf) in [
        ("ops", Code::InvalidArgument),
        ("host-1", Code::PermissionDenied),
    ] {
        let identity = Identity {
            cert: files.path().join(format!("{name}.crt")),
            key: files.path().join(format!("{name}.key")),
        };
        let target = Target::Tls(Tls {
            address: rig.tcp,
            ca: files.path().join("ca.crt"),
            identity: Some(&identity),
            options: &[],
        });
        is(&call(&target, &list, None).await, Code::Ok, "");
        let create = path("Vrf", "CreateVrf");
        let answer = match vrf {
            Code::PermissionDenied => knock(&target, &create, None).await,
            _ => call(&target, &create, None).await,
        };
        is(&answer, vrf, "");
    }
    rig.stop().await;
}
