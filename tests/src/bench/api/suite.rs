//! The figures.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{net::UnixStream, time::Instant};
use tonic::transport::Channel;

use super::{
    clients::{self, channel},
    server::Server,
};
use crate::bench::{
    row::Row,
    stats::{median, quantile},
};

const CONNECTIONS: usize = 1_000;
const PORTS: usize = 5_000;
/// Calls of the bystander in one phase, and how many phases of each kind.
const PHASE: (usize, usize) = (400, 9);

/// All rows.
///
/// # Errors
/// Where the server or a call fails.
pub async fn run() -> Result<Vec<Row>> {
    let server = Server::start()?;
    let bystander = channel(server.socket());
    clients::prepare(bystander.clone()).await?;
    let mut rows = Vec::new();
    let (memory, descriptors) = (server.memory()?, server.descriptors()?);

    let channels: Vec<_> = (0..CONNECTIONS).map(|_| channel(server.socket())).collect();
    let new = clients::create_all(&channels, PORTS, CONNECTIONS).await?;
    let existing = clients::create_all(&channels, PORTS, CONNECTIONS).await?;
    let each = |took: Duration| took.as_secs_f64() * 1e6 / PORTS as f64;
    let synced = synced(&server.beside_store())?;
    rows.push(
        Row::new("native: CreateBridgePort, new", PORTS, each(new), "µs").floor(
            synced,
            "one fsync of 4 KiB beside the store; 1,000 connections",
        ),
    );
    rows.push(
        Row::new(
            "native: CreateBridgePort, existing",
            PORTS,
            each(existing),
            "µs",
        )
        .note("1,000 connections"),
    );
    let used = server.memory()?;
    let held = (used - memory) / CONNECTIONS as f64;
    rows.push(
        Row::new("native: memory per connection", CONNECTIONS, held, "KiB")
            .note("5 ports each included")
            .at_most(128.0),
    );

    let quiet = beside("1,000 quiet connections", &bystander, async || {
        Ok(channels.clone())
    });
    rows.push(quiet.await?);
    drop(channels);
    let socket = server.socket();
    let slow = async || {
        let mut stuck = Vec::new();
        for _ in 0..500 {
            stuck.push(clients::stuck(socket.clone()).await?);
        }
        Ok(stuck)
    };
    rows.push(beside("500 calls that never end", &bystander, slow).await?);
    let storm = async || Ok(Storm::start(socket.clone()));
    rows.push(beside("calls dropped in the middle", &bystander, storm).await?);

    let most = server.memory()?.max(used) / 1024.0;
    rows.push(Row::new("native: memory at most", 1, most, "MiB").at_most(192.0));
    let left = left(&server, descriptors).await?;
    rows.push(
        Row::new(
            "native: descriptors left by clients that are gone",
            1,
            left,
            "",
        )
        .at_most(0.0),
    );
    Ok(rows)
}

/// The bystander's p99 beside others against its p99 alone; the phases take turns.
async fn beside<T>(
    what: &str,
    bystander: &Channel,
    others: impl AsyncFn() -> Result<T>,
) -> Result<Row> {
    let (calls, phases) = PHASE;
    let (mut alone, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..phases {
        let before = quantile(&clients::get(bystander, calls).await?, 0.99);
        let held = others().await?;
        let during = quantile(&clients::get(bystander, calls).await?, 0.99);
        drop(held);
        alone.push(before);
        with.push(during);
        ratios.push(during / before);
    }
    let metric = format!("native: Get p99 beside {what}");
    Ok(Row::new(metric, calls * phases, median(&with), "µs")
        .peer(median(&alone), "the same client alone")
        .ratio(median(&ratios))
        .ratio_at_most(2.0))
}

/// Connects, begins a call and vanishes, 500 times a second, until dropped.
struct Storm(Arc<AtomicBool>);

impl Storm {
    fn start(socket: std::path::PathBuf) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            while !stopped.load(Relaxed) {
                pace.tick().await;
                drop(clients::stuck(socket.clone()).await);
            }
        });
        Self(stop)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// µs of one durable write of 4 KiB.
fn synced(path: &Path) -> Result<f64> {
    let mut file = File::create(path).with_context(|| format!("{}", path.display()))?;
    let mut samples = Vec::new();
    for _ in 0..50 {
        let start = std::time::Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&samples))
}

/// Descriptors more than before, once clients that are gone are noticed.
async fn left(server: &Server, before: usize) -> Result<f64> {
    let limit = Instant::now() + Duration::from_secs(30);
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        // One that comes and goes, so that the server has seen all that came before.
        drop(UnixStream::connect(server.socket()).await?);
        again.tick().await;
        let more = server.descriptors()?.saturating_sub(before);
        if more == 0 || Instant::now() > limit {
            return Ok(more as f64);
        }
    }
}
