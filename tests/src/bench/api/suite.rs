//! The figures.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;

use super::{
    bad::{self, Trickle},
    bystander::{Bystander, beside, left, measured},
    clients::{self, channel},
    floor,
    server::Server,
    storm::Storm,
};
use crate::bench::{row::Row, stats::median};

const CONNECTIONS: usize = 1_000;
const PORTS: usize = 5_000;

/// How long each client has the others beside it.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Calls of the bystander in one phase.
    pub(super) calls: usize,
    /// Phases of each kind.
    pub(super) phases: usize,
}

impl Effort {
    /// For times that can be relied on.
    pub const FULL: Self = Self {
        calls: 400,
        phases: 9,
    };
    /// For what the server holds: everybody was there once.
    pub const SHORT: Self = Self {
        calls: 50,
        phases: 1,
    };
}

/// Larger than a message or a body may be.
const TOO_LARGE: u32 = 2 << 20;

/// All rows.
///
/// # Errors
/// Where the server or a call fails, or a bad client is not treated as one.
pub async fn run(effort: Effort) -> Result<Vec<Row>> {
    let mut server = Server::start()?;
    let channel = channel(server.socket());
    clients::prepare(channel.clone()).await?;
    let bystander = &Bystander { channel, effort };
    let mut rows = Vec::new();
    let before = (server.tasks()?, server.descriptors()?);

    many(&mut server, bystander, &mut rows).await?;
    slow(&mut server, bystander, &mut rows).await?;
    oversized(&mut server, bystander, &mut rows).await?;
    malformed(&mut server, bystander, &mut rows).await?;

    let most = server.memory_at_most()? / 1024.0;
    rows.push(Row::new("native: memory at most", 1, most, "MiB").at_most(192.0));
    let (tasks, descriptors) = left(&mut server, before).await?;
    for (what, left) in [("tasks", tasks), ("descriptors", descriptors)] {
        let metric = format!("native: {what} left by clients that are gone");
        rows.push(Row::new(metric, 1, left as f64, "").at_most(0.0));
    }
    Ok(rows)
}

/// Many clients that are all good.
async fn many(server: &mut Server, bystander: &Bystander, rows: &mut Vec<Row>) -> Result<()> {
    let memory = server.memory()?;
    let before = (server.tasks()?, server.descriptors()?);
    let channels: Vec<_> = (0..CONNECTIONS).map(|_| channel(server.socket())).collect();
    let new = clients::create_all(&channels, 0..PORTS, CONNECTIONS).await?;
    let existing = clients::create_all(&channels, 0..PORTS, CONNECTIONS).await?;
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
    let each_connection = (server.memory()? - memory) / CONNECTIONS as f64;
    rows.push(
        Row::new(
            "native: memory per connection",
            CONNECTIONS,
            each_connection,
            "KiB",
        )
        .note("5 ports each included")
        .at_most(128.0),
    );
    drop(channels);
    // Gone before the next row, whose client is alone at first.
    left(server, before).await?;
    let socket = server.socket();
    let quiet = async || {
        let connect = async || {
            let channel = channel(socket.clone());
            clients::get(&channel, 1).await?;
            Ok(channel)
        };
        held(CONNECTIONS, connect).await
    };
    rows.push(beside("1,000 quiet connections", server, bystander, quiet).await?);
    rows.push(creating(server, bystander).await?);
    rows.push(writing(server, bystander).await?);
    Ok(())
}

/// Clients that create ports all the time.
async fn creating(server: &mut Server, bystander: &Bystander) -> Result<Row> {
    const AT_ONCE: usize = 4;
    let (socket, next) = (server.socket(), Arc::new(AtomicUsize::new(PORTS)));
    let creating = async || {
        let (socket, next) = (socket.clone(), next.clone());
        Storm::start(Duration::from_millis(2), async move |mut pace| {
            let channels: Vec<_> = (0..AT_ONCE).map(|_| channel(socket.clone())).collect();
            loop {
                pace.next().await;
                let first = next.fetch_add(AT_ONCE, Relaxed);
                clients::create_all(&channels, first..first + AT_ONCE, AT_ONCE).await?;
            }
        })
        .await
    };
    let row = beside("CreateBridgePorts of others", server, bystander, creating).await?;
    Ok(row.note(&format!(
        "a round is {AT_ONCE} new ports, asked for at once"
    )))
}

/// No server: a thread that makes as much durable as the store does for those that create.
async fn writing(server: &mut Server, bystander: &Bystander) -> Result<Row> {
    // A round of theirs is two commits: the first is on its way when the others come.
    const PAUSE: Duration = Duration::from_millis(1);
    let path = server.beside_store();
    let writing = async || floor::durable_writes(&path, PAUSE);
    let metric = "durable writes alone";
    measured(metric, server, bystander, writing).await
}

/// Clients that take their time, or go away in the middle.
async fn slow(server: &mut Server, bystander: &Bystander, rows: &mut Vec<Row>) -> Result<()> {
    let (socket, http) = (server.socket(), server.http());
    let stuck = async || held(500, async || bad::stuck(&socket).await).await;
    rows.push(beside("500 calls that never end", server, bystander, stuck).await?);
    // One byte of room is enough for HTTP/2 to take a whole answer over.
    let deaf = async || {
        let mut clients = held(250, async || bad::deaf(&socket, 0).await).await?;
        clients.extend(held(250, async || bad::deaf(&socket, 1).await).await?);
        Ok(clients)
    };
    rows.push(beside("1,000 answers that nobody reads", server, bystander, deaf).await?);
    let trickle = async || {
        let socket = socket.clone();
        Storm::start(Duration::from_micros(500), async move |mut pace| {
            let mut trickle = Trickle::begin(&socket, http, 100).await?;
            loop {
                pace.next().await;
                trickle.step().await?;
            }
        })
        .await
    };
    rows.push(beside("200 requests sent byte by byte", server, bystander, trickle).await?);
    let dropped = async || {
        let socket = socket.clone();
        Storm::start(Duration::from_millis(2), async move |mut pace| {
            loop {
                pace.next().await;
                drop(bad::stuck(&socket).await?);
            }
        })
        .await
    };
    rows.push(beside("calls dropped in the middle", server, bystander, dropped).await?);
    Ok(())
}

/// Clients that send more than they may.
async fn oversized(server: &mut Server, bystander: &Bystander, rows: &mut Vec<Row>) -> Result<()> {
    let (socket, http) = (server.socket(), server.http());
    let message = bad::message(TOO_LARGE);
    let messages = async || {
        let (socket, message) = (socket.clone(), message.clone());
        Storm::start(Duration::from_millis(5), async move |mut pace| {
            let channel = channel(socket);
            loop {
                pace.next().await;
                bad::oversized(&channel, message.clone()).await?;
            }
        })
        .await
    };
    rows.push(beside("messages of 2 MiB", server, bystander, messages).await?);
    let bodies = async || posting(http, &message).await;
    rows.push(beside("HTTP bodies of 2 MiB", server, bystander, bodies).await?);
    rows.push(refused(server, bystander, &message).await?);
    Ok(())
}

/// No server: the same bodies to a socket whose owner refuses them.
async fn refused(server: &mut Server, bystander: &Bystander, body: &Bytes) -> Result<Row> {
    let refused = async || {
        let (address, work) = floor::refuser()?;
        Ok((posting(address, body).await?, work))
    };
    let metric = "HTTP bodies of 2 MiB to a bare socket";
    measured(metric, server, bystander, refused).await
}

/// Posts a body that is too large over and over.
async fn posting(http: SocketAddr, body: &Bytes) -> Result<Storm> {
    let body = body.clone();
    Storm::start(Duration::from_millis(5), async move |mut pace| {
        loop {
            pace.next().await;
            bad::post(http, &body, "413").await?;
        }
    })
    .await
}

/// Clients that send what can't be understood.
async fn malformed(server: &mut Server, bystander: &Bystander, rows: &mut Vec<Row>) -> Result<()> {
    let (socket, http) = (server.socket(), server.http());
    let noise = async || {
        let socket = socket.clone();
        Storm::start(Duration::from_millis(2), async move |mut pace| {
            for bytes in bad::NO_HTTP2.into_iter().cycle() {
                pace.next().await;
                bad::noise(&socket, http, bytes).await?;
            }
            Ok(())
        })
        .await
    };
    rows.push(beside("bytes that are no HTTP", server, bystander, noise).await?);
    let undecodable = async || {
        let socket = socket.clone();
        Storm::start(Duration::from_millis(2), async move |mut pace| {
            let channel = channel(socket);
            loop {
                pace.next().await;
                bad::undecodable(&channel).await?;
                bad::post(http, b"{\"spec\":", "400").await?;
            }
        })
        .await
    };
    rows.push(
        beside(
            "messages and JSON that do not decode",
            server,
            bystander,
            undecodable,
        )
        .await?,
    );
    Ok(())
}

/// So many of those that only have to be there.
async fn held<T>(number: usize, connect: impl AsyncFn() -> Result<T>) -> Result<Vec<T>> {
    let mut held = Vec::new();
    for _ in 0..number {
        held.push(connect().await?);
    }
    Ok(held)
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
