//! A served API: a store in a temporary directory, backends that report what they are told to, a
//! unix socket with gRPC, and the HTTP listener's router.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Server};
use xpu_agent::{
    api::Api,
    app,
    config::LimitsConfig,
    http,
    lifecycle::{
        http::{Health, router as pages},
        readiness::Readiness,
    },
    listen,
    reconcile::{Board, Source, collector},
    store::Store,
    telemetry::metrics::Metrics,
};
use xpu_model::{
    Intent, Kind, ObjectKey, Objects, Spec,
    status::{Backend, Component, PassReport, State},
};

/// What the played backends do.
#[derive(Clone)]
pub struct Script {
    /// What they report of each live object.
    pub live: State,
    /// Whether they never let go of a deleted one.
    pub keeps: bool,
    /// The longest that a change waits, for the store and for them.
    pub deadline: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            live: State::Success,
            keeps: false,
            deadline: Duration::from_secs(30),
        }
    }
}

/// The API, served. Dropping it ends it.
pub struct Rig {
    pub store: Store,
    pub channel: Channel,
    pub http: Router,
    /// Ends the tasks with the rig.
    stop: DropGuard,
    script: Script,
    directory: tempfile::TempDir,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Script::default()).await
    }

    pub async fn with(script: Script) -> Self {
        Self::open(tempfile::tempdir().unwrap(), script).await
    }

    async fn open(directory: tempfile::TempDir, script: Script) -> Self {
        let stop = CancellationToken::new();
        let deadline = script.deadline;
        let none = watch::channel(Default::default()).1;
        let store = Store::open(
            &directory.path().join("store"),
            1001..=1100,
            none,
            Default::default(),
        )
        .unwrap();
        let board = Board::new(vec![Source {
            backend: Backend::Linux,
            kinds: &Kind::ALL,
            reports: play(&store, script.clone(), stop.clone()),
        }]);
        let collector = collector::run(store.clone(), board.clone(), stop.clone());
        tokio::spawn(collector);
        let health = Health {
            readiness: Readiness::new(board.clone(), &store, stop.clone()),
            exposition: Metrics::default().exposition(),
        };
        let api = Api::new(store.clone(), board, deadline);
        let limits = LimitsConfig::default();
        let services = app::services(api, &limits).await.unwrap();
        let path = directory.path().join("agent.sock");
        let incoming = UnixListenerStream::new(listen::unix(&path, None).unwrap());
        let server = Server::builder()
            .add_routes(services.clone())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::spawn(server);
        Self {
            store,
            channel: connect(&path),
            http: http::router(&services, limits.message_bytes, pages(health)).unwrap(),
            stop: stop.drop_guard(),
            script,
            directory,
        }
    }

    /// Ends it and starts it anew on what is on disk.
    pub async fn restart(self) -> Self {
        let Self {
            store,
            channel,
            http,
            stop,
            script,
            directory,
        } = self;
        let mut intent = store.watch();
        drop((stop, store, channel, http));
        // The store's thread drops the publishing end after the file.
        while intent.changed().await.is_ok() {}
        Self::open(directory, script).await
    }
}

fn connect(path: &Path) -> Channel {
    let path = path.to_owned();
    let dial = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent").connect_with_connector_lazy(dial)
}

/// Plays every backend.
fn play(
    store: &Store,
    script: Script,
    stop: CancellationToken,
) -> watch::Receiver<Arc<PassReport>> {
    let (reports, seen) = watch::channel(Arc::new(PassReport::default()));
    let mut intent = store.watch();
    tokio::spawn(async move {
        loop {
            let snapshot = intent.borrow_and_update().clone();
            let component = |deleting: bool| {
                let known = !deleting || script.keeps;
                known.then(|| Component::new(script.live.clone()).fact("routingTable", 1001))
            };
            let objects =
                objects(&snapshot).filter_map(|(key, deleting)| Some((key, component(deleting)?)));
            reports.send_replace(Arc::new(PassReport {
                generation: snapshot.generation,
                objects: objects.collect::<BTreeMap<_, _>>(),
                ..Default::default()
            }));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = intent.changed() => if changed.is_err() { return },
            }
        }
    });
    seen
}

/// Every object with whether it is deleted.
fn objects(intent: &Intent) -> impl Iterator<Item = (ObjectKey, bool)> {
    fn of<S: Spec>(objects: &Objects<S>) -> Vec<(ObjectKey, bool)> {
        let each = objects.values();
        each.map(|object| (object.key(), object.deleting)).collect()
    }
    let kinds = [
        of(&intent.vrfs),
        of(&intent.logical_bridges),
        of(&intent.bridge_ports),
        of(&intent.svis),
    ];
    kinds.into_iter().flatten()
}
