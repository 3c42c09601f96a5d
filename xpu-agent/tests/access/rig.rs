//! The agent's services behind its listeners, without kernel and FRR.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use xpu_agent::{
    access::{self, Gate, Listener, Protocol, reload, tls},
    api::Api,
    app,
    config::{Config, ConfigFile, Transport},
    lifecycle::{
        http::{Health, router as pages},
        readiness::Readiness,
    },
    listen,
    reconcile::{Board, Source},
    store::Store,
    telemetry::metrics::Metrics,
};
use xpu_model::status::{Backend, PassReport};

use crate::certs::Identity;

const PACKAGE: &str = "opi_api.network.evpn_gw.v1alpha1";

/// A method's path.
pub fn path(service: &str, method: &str) -> String {
    format!("/{PACKAGE}.{service}Service/{method}")
}

pub struct Rig {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub gate: Gate,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    /// Changes as by a SIGHUP.
    pub hangup: watch::Sender<()>,
    pub stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
    _reports: watch::Sender<Arc<PassReport>>,
}

impl Rig {
    /// Serves with this configuration: gRPC on `agent.sock` and on a port of loopback, HTTP on
    /// another one.
    pub async fn new(config: &str) -> Self {
        Self::over(config, Transport::Loopback).await
    }

    /// The same with another transport on the ports.
    pub async fn over(config: &str, transport: Transport) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // What others may reach is the socket's mode's affair.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let file = directory.path().join("agent.toml");
        std::fs::write(&file, config).unwrap();
        let config = Config::load(&ConfigFile::chosen(Some(file)), std::iter::empty()).unwrap();

        let none = watch::channel(Default::default()).1;
        let store = Store::open(
            &directory.path().join("store"),
            1001..=1100,
            none,
            Default::default(),
        )
        .unwrap();
        // A backend that has a part in nothing: every object is settled at once.
        let (_reports, reports) = watch::channel(Arc::new(PassReport::default()));
        let board = Board::new(vec![Source {
            backend: Backend::Linux,
            kinds: &[],
            reports,
        }]);
        let stop = CancellationToken::new();
        let metrics = Metrics::default();
        let meter = metrics.rpc.clone();
        let pages = pages(Health {
            readiness: Readiness::new(board.clone(), &store, stop.clone()),
            exposition: metrics.exposition(),
        });
        let api = Api::new(store.clone(), board, Duration::from_secs(30));
        let faces = app::faces(api, &config.limits, meter, pages).await.unwrap();

        let tls = config
            .tls
            .clone()
            .map(|files| tls::Tls::open(files).unwrap());
        let gate = Gate::new(config.access.clone(), config.limits.clone(), tls.clone());
        let unix = listen::unix(&directory.path().join("agent.sock"), config.api.unix_group);
        let any = "127.0.0.1:0".parse().unwrap();
        let tcp = gate.tcp(any, transport).await.unwrap();
        let http = gate.tcp(any, transport).await.unwrap();
        let address = |listener: &Listener| match listener {
            Listener::Tcp(socket, _) => socket.local_addr().unwrap(),
            Listener::Unix(_) => panic!("no TCP"),
        };
        let addresses = (address(&tcp), address(&http));
        let serve = |listener, protocol| {
            let (gate, stop) = (gate.clone(), stop.clone());
            let routes = faces.of(protocol).clone();
            tokio::spawn(access::serve(listener, protocol, routes, gate, stop))
        };
        let mut served = vec![
            serve(Listener::Unix(unix.unwrap()), Protocol::Grpc),
            serve(tcp, Protocol::Grpc),
            serve(http, Protocol::Http),
        ];
        let (hangup, hangups) = watch::channel(());
        if let Some(tls) = tls {
            let followed = reload::run(tls, hangups, stop.clone());
            served.push(tokio::spawn(followed));
        }
        Self {
            directory,
            store,
            gate,
            tcp: addresses.0,
            http: addresses.1,
            hangup,
            stop,
            served,
            _reports,
        }
    }

    pub fn unix(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// A channel of its own over the unix socket, connected when it is first used.
    pub fn channel(&self) -> Channel {
        let path = self.unix();
        let dial = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://agent").connect_with_connector_lazy(dial)
    }

    /// A channel of its own over loopback, from another of its addresses: 127.0.0.`last`.
    pub fn channel_from(&self, last: u8) -> Channel {
        let to = self.tcp;
        let dial =
            tower::service_fn(move |_| async move { from(last, to).await.map(TokioIo::new) });
        Endpoint::from_static("http://agent").connect_with_connector_lazy(dial)
    }

    /// Stops, and returns when nothing is left of any connection.
    pub async fn stop(self) {
        self.stop.cancel();
        for served in self.served {
            served.await.unwrap();
        }
        assert_eq!(
            (self.gate.limits().connections(), self.gate.limits().calls()),
            (0, 0)
        );
    }
}

/// Connects from 127.0.0.`last`.
pub async fn from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    socket.connect(to).await
}

/// What curl saw of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The gRPC code, or none if no call was made.
    pub code: Option<i32>,
    pub message: String,
}

/// Calls a method with an empty message by curl, as another user if one is given.
pub async fn call(target: &Target<'_>, path: &str, uid: Option<u32>) -> Answer {
    curl(target, path, uid, true).await
}

/// The same without a message, for calls that are refused before it is read. (The server then
/// resets the stream behind its answer, and this curl forgets the answer over that, against RFC
/// 9113, 8.1.) One that gets through fails for want of the message.
pub async fn knock(target: &Target<'_>, path: &str, uid: Option<u32>) -> Answer {
    curl(target, path, uid, false).await
}

async fn curl(target: &Target<'_>, path: &str, uid: Option<u32>, message: bool) -> Answer {
    let empty = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(empty.path(), [0; 5]).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(empty.path(), open).unwrap();
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--output",
        "/dev/null",
    ]);
    command.args([
        "--dump-header",
        "-",
        "--header",
        "content-type: application/grpc",
    ]);
    command.args(["--header", "te: trailers", "--request", "POST"]);
    if message {
        command.arg("--data-binary");
        command.arg(format!("@{}", empty.path().display()));
    }
    let origin = match target {
        Target::Unix(socket) => {
            command.arg("--http2-prior-knowledge");
            command.arg("--unix-socket").arg(socket);
            "http://agent".to_owned()
        }
        Target::Clear(address) => {
            command.arg("--http2-prior-knowledge");
            format!("http://{address}")
        }
        Target::Tls(tls) => {
            command.arg("--http2").arg("--cacert").arg(&tls.ca);
            let port = tls.address.port();
            command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
            if let Some(Identity { cert, key }) = tls.identity {
                command.arg("--cert").arg(cert).arg("--key").arg(key);
            }
            command.args(tls.options);
            format!("https://localhost:{port}")
        }
    };
    command.arg(format!("{origin}{path}"));
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = run(command).await;
    let headers = String::from_utf8(output.stdout).unwrap();
    let header = |name: &str| {
        let mut lines = headers.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    Answer {
        code: header("grpc-status:").map(|code| code.parse().unwrap()),
        message: header("grpc-message:")
            .map(|text| percent_decoded(&text))
            .unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}

/// Where a client connects.
pub enum Target<'a> {
    Unix(&'a Path),
    Clear(SocketAddr),
    Tls(Tls<'a>),
}

/// A TLS client.
pub struct Tls<'a> {
    pub address: SocketAddr,
    pub ca: PathBuf,
    pub identity: Option<&'a Identity>,
    /// Of curl.
    pub options: &'a [&'a str],
}

/// Asserts a call's end: the code, and a part of the message.
#[track_caller]
pub fn is(answer: &Answer, code: Code, message: &str) {
    let is_said = answer.code == Some(code as i32) && answer.message.contains(message);
    assert!(is_said, "{answer:?}, not {code:?} `{message}`");
}

/// Waits for what must come.
pub async fn eventually(what: &str, done: impl Fn() -> bool) {
    let mut again = tokio::time::interval(Duration::from_millis(5));
    let waits = async {
        while !done() {
            again.tick().await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, waits)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

pub async fn run(mut command: Command) -> Output {
    let name = format!("{command:?}");
    let ran = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    ran.unwrap_or_else(|error| panic!("{name}: {error}"))
}
