//! An agent without a machine.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server},
};
use xpu_agent::{
    access::{Gate, tls::Tls},
    api::Api,
    config::{AccessConfig, LimitsConfig, TlsConfig},
    lifecycle::{
        http::{self, Health},
        readiness::Readiness,
    },
    reconcile::{self, Backend, Board, Source, collector},
    store::{Store, StoreTelemetry},
    telemetry::{
        PassTelemetry,
        metrics::{Access, ExportMeter, FrrMeter, KernelEvents, Metrics, Objects},
        rpc,
        trace::Causes,
    },
};
use xpu_model::{
    BridgePortSpec, Intent, Kind, LogicalBridgeSpec, ObjectKey, Spec, SviSpec, VrfSpec,
    status::{self, Component, PassReport, State},
};
use xpu_proto::evpn_gw::v1alpha1::{
    bridge_port_service_server::BridgePortServiceServer,
    logical_bridge_service_server::LogicalBridgeServiceServer,
    svi_service_server::SviServiceServer, vrf_service_server::VrfServiceServer,
};

/// For what takes a moment on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What a played backend finds.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Whether it can be looked at.
    pub there: bool,
    /// Things that somebody has changed since the last pass.
    pub drift: usize,
    /// Whether what is applied is refused.
    pub refuses: bool,
    /// Whether it waits for something with each BridgePort.
    pub waits: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            there: true,
            drift: 0,
            refuses: false,
            waits: false,
        }
    }
}

/// Nothing is left of the others.
fn live(intent: &Intent) -> Vec<ObjectKey> {
    fn of<S: Spec>(intent: &Intent) -> impl Iterator<Item = ObjectKey> {
        intent.live::<S>().map(|object| object.key())
    }
    let routed = of::<VrfSpec>(intent).chain(of::<SviSpec>(intent));
    let bridged = of::<LogicalBridgeSpec>(intent).chain(of::<BridgePortSpec>(intent));
    routed.chain(bridged).collect()
}

/// Plays Linux or FRR.
struct Played<const FRR: bool> {
    world: watch::Receiver<World>,
    seen: u64,
    /// Whether the world has changed since the last pass.
    moved: bool,
}

impl<const FRR: bool> Backend for Played<FRR> {
    const NAME: status::Backend = if FRR {
        status::Backend::Frr
    } else {
        status::Backend::Linux
    };
    const KINDS: &'static [Kind] = if FRR {
        &[Kind::Vrf, Kind::LogicalBridge, Kind::Svi]
    } else {
        &Kind::ALL
    };

    async fn pass(&mut self, intent: &Arc<Intent>) -> PassReport {
        let mut world = *self.world.borrow_and_update();
        // What was put right is so for the passes after it.
        if !std::mem::take(&mut self.moved) && !world.refuses {
            world.drift = 0;
        }
        let generation = intent.generation;
        let keys = live(intent).into_iter();
        let keys = keys.filter(|key| Self::KINDS.contains(&key.kind));
        if !world.there {
            let unknown = || Component::new(State::Error("gone".to_owned()));
            return PassReport {
                generation,
                objects: keys.map(|key| (key, unknown())).collect(),
                node: vec!["gone".to_owned()],
                unobserved: Some("gone".to_owned()),
                ..PassReport::default()
            };
        }
        let changes = usize::try_from(generation.0 - self.seen).unwrap();
        self.seen = generation.0;
        let planned = changes + world.drift;
        let word = |key: ObjectKey| {
            let state = if world.waits && key.kind == Kind::BridgePort {
                State::Pending("netdev eth9 isn't there yet".to_owned())
            } else {
                State::Success
            };
            (key, Component::new(state))
        };
        PassReport {
            generation,
            planned,
            failed: if world.refuses { planned } else { 0 },
            repaired: if world.refuses { 0 } else { world.drift },
            objects: keys.map(word).collect::<BTreeMap<_, _>>(),
            ..PassReport::default()
        }
    }

    async fn dirty(&mut self) {
        if self.world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.moved = true;
    }
}

/// The agent; it ends when dropped.
pub struct Rig {
    pub linux: watch::Sender<World>,
    pub frr: watch::Sender<World>,
    pub frr_meter: FrrMeter,
    pub channel: Channel,
    pub gate: Gate,
    http: SocketAddr,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    pub async fn start() -> Self {
        let stop = CancellationToken::new();
        let directory = tempfile::tempdir().unwrap();
        let gate = gate(directory.path());
        let metrics = Metrics::default()
            .with(KernelEvents(Arc::default()))
            .with(Access(gate.clone()))
            .with_exports(&ExportMeter::default());
        let causes = Causes::default();
        let telemetry = StoreTelemetry {
            meter: metrics.store.clone(),
            causes: causes.clone(),
        };
        let none = watch::channel(Default::default()).1;
        let store = Store::open(
            &directory.path().join("store"),
            1001..=1100,
            none,
            telemetry,
        )
        .unwrap();
        let (linux, linux_seen) = watch::channel(World::default());
        let (frr, frr_seen) = watch::channel(World::default());
        let board = Board::new(vec![
            start::<false>(linux_seen, &store, &metrics, &causes, &stop),
            start::<true>(frr_seen, &store, &metrics, &causes, &stop),
        ]);
        tokio::spawn(collector::run(store.clone(), board.clone(), stop.clone()));
        let readiness = Readiness::new(board.clone(), &store, stop.clone());
        let objects = Objects {
            store: store.clone(),
            board: board.clone(),
        };
        let (rpc_meter, frr_meter) = (metrics.rpc.clone(), metrics.frr.clone());
        let health = Health {
            readiness,
            exposition: metrics.with(objects).exposition(),
        };
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_address = http.local_addr().unwrap();
        let served = axum::serve(http, http::router(health));
        tokio::spawn(
            served
                .with_graceful_shutdown(stop.clone().cancelled_owned())
                .into_future(),
        );

        let api = Api::new(store, board, LIMIT);
        let services = Routes::new(VrfServiceServer::new(api.clone()))
            .add_service(LogicalBridgeServiceServer::new(api.clone()))
            .add_service(BridgePortServiceServer::new(api.clone()))
            .add_service(SviServiceServer::new(api));
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = grpc.local_addr().unwrap();
        let served = Server::builder()
            .add_routes(rpc::metered(services, rpc_meter))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(grpc),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(served);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            linux,
            frr,
            frr_meter,
            gate,
            channel: channel.connect().await.unwrap(),
            http: http_address,
            stop,
            _directory: directory,
        }
    }

    /// `GET path`, as plain as a probe sends it: the status and the body.
    pub async fn get(&self, path: &str, accept: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: agent\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// `/metrics` as Prometheus asks for it.
    pub async fn scrape(&self) -> String {
        let (status, text) = self.get("/metrics", "text/plain").await;
        assert_eq!(status, 200, "{text}");
        text
    }
}

/// What listeners with a certificate share.
fn gate(directory: &Path) -> Gate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["agent.crt", "agent.key"].map(|name| directory.join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = TlsConfig {
        client_ca: cert.clone(),
        cert,
        key,
        client_crl: None,
        loopback: false,
    };
    let limits = LimitsConfig {
        connections: 1,
        ..LimitsConfig::default()
    };
    let tls = Tls::open(tls).unwrap();
    Gate::new(AccessConfig::default(), limits, Some(tls))
}

fn start<const FRR: bool>(
    world: watch::Receiver<World>,
    store: &Store,
    metrics: &Metrics,
    causes: &Causes,
    stop: &CancellationToken,
) -> Source {
    let (reports, seen) = watch::channel(Arc::new(reconcile::no_report_yet()));
    let backend = Played::<FRR> {
        world,
        seen: 0,
        moved: false,
    };
    let name = Played::<FRR>::NAME;
    let telemetry = PassTelemetry::new(name, metrics, causes.clone());
    let task = reconcile::run(backend, store.watch(), reports, telemetry, stop.clone());
    tokio::spawn(task);
    Source {
        backend: name,
        kinds: Played::<FRR>::KINDS,
        reports: seen,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is looked at over HTTP tells a state but no change of it"
)]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Looks until `look` finds it; the state tells nobody of its change.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            pause().await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}
