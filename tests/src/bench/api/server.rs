//! The server: this program again, as another process.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xpu_agent::{
    access::{
        self, Gate, Listener, Protocol,
        config::{AccessConfig, LimitsConfig},
        descriptors, guard,
    },
    api::Api,
    app, listen,
    reconcile::{Board, Source},
    store::Store,
};
use xpu_model::status::{Backend, PassReport};

const READY: &str = "ready";

/// Serves in a directory until standard input ends.
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
        descriptors::raise(&limits, 1);
        let api = Api::new(store, board, Duration::from_secs(5));
        let routes = guard::around(app::services(api, &limits).await?);
        let gate = Gate::new(AccessConfig::default(), limits, None);
        let listener = Listener::Unix(listen::unix(&directory.join("agent.sock"), None)?);
        let stop = CancellationToken::new();
        let served = access::serve(listener, Protocol::Grpc, routes, gate, stop.clone());
        println!("{READY}");
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.cancel();
        });
        served.await;
        Ok(())
    })
}

/// The process. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
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
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == READY, "the server says `{line}`");
        Ok(Self { child, directory })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse()?)
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
