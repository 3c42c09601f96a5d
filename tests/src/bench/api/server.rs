//! The server: this program again, as another process.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;
use xpu_agent::{
    access::{self, Gate, Listener, Protocol, descriptors},
    api::Api,
    app,
    config::{AccessConfig, Grant, LimitsConfig, Transport},
    listen,
    reconcile::{Board, Source},
    store::Store,
    telemetry::metrics::Metrics,
};
use xpu_model::status::{Backend, PassReport};

/// Serves in a directory until standard input ends: gRPC on a unix socket, HTTP on a port whose
/// address is the first line of the output. Each line of the input is answered with the number of
/// the runtime's tasks.
///
/// # Errors
/// Where it can't.
pub fn serve(directory: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()?;
    runtime.block_on(async {
        let none = watch::channel(Default::default()).1;
        let tables = 1001..=1100;
        let store = directory.join("store");
        let store = Store::open(&store, tables, none, Default::default())?;
        // A backend that has a part in nothing: what is durable is done.
        let (_reports, reports) = watch::channel(Arc::new(PassReport::default()));
        let board = Board::new(vec![Source {
            backend: Backend::Linux,
            kinds: &[],
            reports,
        }]);
        let limits = LimitsConfig {
            connections: 4_000,
            connections_per_peer: 4_000,
            calls_per_second: 1_000_000,
            calls_burst: 1_000_000,
            ..LimitsConfig::default()
        };
        descriptors::raise(&limits, 2);
        let api = Api::new(store, board, Duration::from_secs(5));
        let (meter, none) = (Metrics::default().rpc, axum::Router::new());
        let faces = app::faces(api, &limits, meter, none).await?;
        let access = AccessConfig {
            loopback: Grant::Admin,
            ..AccessConfig::default()
        };
        let gate = Gate::new(access, limits, None);
        let unix = Listener::Unix(listen::unix(&directory.join("agent.sock"), None)?);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tcp = gate.tcp(any, Transport::Loopback).await?;
        let Listener::Tcp(socket, _) = &tcp else {
            bail!("no TCP");
        };
        let address = socket.local_addr()?;
        let stop = CancellationToken::new();
        let serve = |listener, protocol| {
            let routes = faces.of(protocol).clone();
            access::serve(listener, protocol, routes, gate.clone(), stop.clone())
        };
        let served = (serve(unix, Protocol::Grpc), serve(tcp, Protocol::Http));
        println!("{address}");
        let (tasks, stop) = (Handle::current().metrics(), stop.clone());
        std::thread::spawn(move || {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                println!("{}", tasks.num_alive_tasks());
            }
            stop.cancel();
        });
        tokio::join!(served.0, served.1);
        Ok(())
    })
}

/// The process. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    http: SocketAddr,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts one on an empty store.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().context("no input")?;
        let answers = child.stdout.take().context("no output")?;
        let mut answers = BufReader::new(answers).lines();
        let ready = answers.next().context("the server did not get ready")??;
        let http = ready
            .parse()
            .with_context(|| format!("the server says `{ready}`"))?;
        Ok(Self {
            child,
            questions,
            answers,
            http,
            directory,
        })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Where it serves HTTP.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// A file beside its store.
    #[must_use]
    pub fn beside_store(&self) -> PathBuf {
        self.directory.path().join("store/floor")
    }

    /// Resident memory in KiB (proc(5), `VmRSS`).
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had, in KiB (proc(5), `VmHWM`).
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory_at_most(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.with_context(|| format!("no {field}"))?.parse()?)
    }

    /// Tasks of its runtime that have not ended.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn tasks(&mut self) -> Result<usize> {
        self.questions.write_all(b"tasks\n")?;
        let answer = self.answers.next().context("no answer")??;
        Ok(answer.parse()?)
    }

    /// Open file descriptors.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
