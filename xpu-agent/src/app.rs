//! The wiring: what is started, in which order, and how it ends.
//!
//! Start: store → backends (each opens its edge; Linux looks for what is not ours) →
//! loops → API. The first pass of each backend observes and repairs; calls are answered meanwhile.
//!
//! Stop: no new calls, the ones under way get a moment, the loops end after their pass. Kernel and
//! FRR stay as they are.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{info, warn};
use xpu_backends::frr::Startup;
use xpu_linux::kernel::StaleNeighbours;
use xpu_model::{IfName, Node};
use xpu_plan::FrrFacts;
use xpu_proto::evpn_gw::v1alpha1::{
    bridge_port_service_server::BridgePortServiceServer,
    logical_bridge_service_server::LogicalBridgeServiceServer,
    svi_service_server::SviServiceServer, vrf_service_server::VrfServiceServer,
};

use crate::{
    access::{
        self, Gate, Listener, Protocol,
        config::{LimitsConfig, Transport},
        descriptors, guard, reload,
        tls::Tls,
    },
    api::Api,
    config::Config,
    http,
    lifecycle::{
        self, ANSWERS, PASSES, http::Health, notify, readiness::Readiness, signals::Stopping,
    },
    listen,
    reconcile::{
        self, Backend, Board, Source, collector,
        frr::{FrrBackend, Kept, NoFrr},
        linux::LinuxBackend,
        silent,
    },
    store::{self, Ledger, Store, Told},
    telemetry::{
        Probe,
        metrics::{ExportMeter, KernelEvents, Metrics, Objects, RpcMeter},
        rpc,
        trace::Causes,
    },
};

/// The running agent.
pub struct App {
    stop: CancellationToken,
    /// Ends passes in the middle.
    abandon: CancellationToken,
    tasks: TaskTracker,
    /// The first task that ended by itself, if one did.
    ended: Arc<OnceLock<&'static str>>,
    /// Why the store ended, if it did.
    store: watch::Receiver<Option<store::Failure>>,
}

impl App {
    /// Starts everything; it ends with `stop`. At `hangup` certificates are read again.
    ///
    /// # Errors
    /// With what cannot be opened and what to do about it; nothing runs then.
    pub async fn start(
        config: &Config,
        exports: &ExportMeter,
        stop: CancellationToken,
        hangup: Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::default().with_exports(exports);
        let told = Told {
            meter: metrics.store.clone(),
            causes: Causes::default(),
        };
        let node = Arc::new(config.node()?);
        let (foreign, foreign_seen) = watch::channel(BTreeSet::new());
        let tables = config.vrf.table_first..=config.vrf.table_last;
        let causes = told.causes.clone();
        let store = Store::open(&config.store.directory, tables, foreign_seen, told)
            .context("the store cannot be opened")?;
        let app = Self {
            stop,
            abandon: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended: Arc::default(),
            store: store.failure(),
        };
        let (board, metrics) = app
            .start_backends(config, &node, &store, foreign, metrics, &causes)
            .await?;
        app.tasks.spawn(collector::run(
            store.clone(),
            board.clone(),
            app.stop.clone(),
        ));
        let readiness = Readiness::new(board.clone(), &store, app.stop.clone());
        let meter = metrics.rpc.clone();
        let objects = Objects {
            store: store.clone(),
            board: board.clone(),
        };
        let health = Health {
            readiness: readiness.clone(),
            exposition: metrics.with(objects).exposition(),
        };
        let deadline = Duration::from_millis(config.api.deadline_ms);
        let api = Api::new(store.clone(), board, deadline);
        app.serve(config, api, &meter, health, hangup).await?;
        app.spawn_until_stop("notify", notify::run(readiness, store));
        Ok(app)
    }

    async fn start_backends(
        &self,
        config: &Config,
        node: &Arc<Node>,
        store: &Store,
        foreign: watch::Sender<BTreeSet<IfName>>,
        metrics: Metrics,
        causes: &Causes,
    ) -> anyhow::Result<(Board, Metrics)> {
        let managed = if config.frr.enabled {
            FrrFacts::Unknown
        } else {
            FrrFacts::Unmanaged
        };
        let (facts, facts_seen) = watch::channel(managed);
        let foreign_seen = foreign.subscribe();
        let linux = LinuxBackend::open(node.clone(), facts_seen, foreign)
            .await
            .context("netlink cannot be used; the agent needs CAP_NET_ADMIN")?;
        let applied = linux.applied();
        let metrics = metrics.with(KernelEvents(linux.events()));
        let silent = StaleNeighbours::new().context("neighbours cannot be followed")?;
        let silent = silent::run(linux.kernel(), silent, self.stop.clone());
        self.spawn_until_stop("silent-hosts", async move {
            if let Err(error) = silent.await {
                warn!(%error, "silent hosts are no longer asked; the agent stops to be started anew");
            }
        });
        let mut sources = vec![self.start_loop(linux, store, &metrics, causes)];
        if config.frr.enabled {
            let directory = config.frr.socket_directory.clone();
            let kept = Kept {
                ledger: Ledger::open(&config.store.directory)?,
                startup: config.frr.startup().map(Startup::new),
            };
            let (node, meter) = (node.clone(), metrics.frr.clone());
            let frr = FrrBackend::new(directory, kept, node, facts, applied, foreign_seen, meter);
            sources.push(self.start_loop(frr, store, &metrics, causes));
        } else {
            sources.push(self.start_loop(NoFrr, store, &metrics, causes));
        }
        Ok((Board::new(sources), metrics))
    }

    fn start_loop<B: Backend>(
        &self,
        backend: B,
        store: &Store,
        metrics: &Metrics,
        causes: &Causes,
    ) -> Source {
        let (reports, seen) = watch::channel(Arc::new(reconcile::no_report_yet()));
        let probe = Probe::new(B::NAME, metrics, causes.clone());
        let task = reconcile::run(backend, store.watch(), reports, probe, self.stop.clone());
        let abandon = self.abandon.clone();
        self.spawn_until_stop(B::NAME.as_str(), async move {
            abandon.run_until_cancelled_owned(task).await;
        });
        Source {
            backend: B::NAME,
            kinds: B::KINDS,
            reports: seen,
        }
    }

    /// Spawns a task that must not end before the agent does: if it does (a panic, say), the
    /// agent stops, and what supervises it starts a new one that observes everything anew.
    fn spawn_until_stop(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let first = self.ended.clone();
        self.tasks.spawn(async move {
            let ended = tokio::spawn(task).await;
            if !stop.is_cancelled() {
                warn!(
                    task = name,
                    ?ended,
                    "ended by itself, which is a fault of the agent's; it stops to be started anew. \
                     Please report it with the log before this line"
                );
                // A later one is a consequence.
                let _ = first.set(name);
                stop.cancel();
            }
        });
    }

    async fn serve(
        &self,
        config: &Config,
        api: Api,
        meter: &RpcMeter,
        health: Health,
        hangup: Arc<Notify>,
    ) -> anyhow::Result<()> {
        descriptors::raise(&config.limits, 3);
        let tls = config.tls.clone().map(Tls::open).transpose()?;
        if let Some(tls) = tls.clone() {
            let followed = reload::run(tls, hangup, self.stop.clone());
            self.spawn_until_stop("certificates", followed);
        }
        let gate = Gate::new(config.access.clone(), config.limits.clone(), tls);
        // What is layered on the services holds for every listener, HTTP included.
        let routes = guard::around(services(api, &config.limits).await?);
        let routes = rpc::metered(routes, meter.clone());
        if !config.api.unix.as_os_str().is_empty() {
            let listener = listen::unix(&config.api.unix, config.api.unix_group)?;
            info!(path = %config.api.unix.display(), "serving gRPC on a unix socket");
            let listener = Listener::Unix(listener);
            self.spawn_server("grpc-unix", Protocol::Grpc, listener, &gate, routes.clone());
        }
        if let Some((address, transport)) = config.tcp()? {
            let listener = gate
                .tcp(address, transport)
                .await
                .with_context(|| format!("cannot listen on {address}; set api.tcp"))?;
            info!(%address, ?transport, "serving gRPC over TCP");
            if transport == Transport::Insecure {
                warn!(
                    %address,
                    "access.insecure: everybody who reaches the address is {:?}, unseen and \
                     unencrypted; set tls.cert, tls.key and tls.client_ca instead",
                    config.access.insecure_role
                );
            }
            self.spawn_server("grpc-tcp", Protocol::Grpc, listener, &gate, routes.clone());
        }
        if let Some((address, transport)) = config.http()? {
            let listener = gate
                .tcp(address, transport)
                .await
                .with_context(|| format!("cannot listen on {address}; set http.listen"))?;
            info!(%address, ?transport, "serving HTTP");
            let pages = lifecycle::http::router(health);
            let pages = Routes::from(http::router(&routes, config.limits.message_bytes, pages)?);
            self.spawn_server("http", Protocol::Http, listener, &gate, pages);
        }
        Ok(())
    }

    fn spawn_server(
        &self,
        name: &'static str,
        protocol: Protocol,
        listener: Listener,
        gate: &Gate,
        routes: Routes,
    ) {
        let stop = self.stop.clone();
        let served = access::serve(listener, protocol, routes, gate.clone(), stop);
        self.spawn_until_stop(name, served);
    }

    /// Runs until it is stopped, then ends without touching kernel or FRR.
    ///
    /// # Errors
    /// When a part of the agent ended by itself.
    pub async fn run(self, stopping: &Stopping) -> anyhow::Result<()> {
        self.stop.cancelled().await;
        stopping.begin();
        info!("stopping; kernel and FRR stay as they are");
        self.tasks.close();
        if timeout(PASSES, self.tasks.wait()).await.is_err() {
            warn!(
                after = ?PASSES,
                "passes are still under way and are abandoned; if FRR does not answer, see its \
                 log. The next start observes how far they came"
            );
            self.abandon.cancel();
            if timeout(ANSWERS, self.tasks.wait()).await.is_err() {
                warn!(after = ?ANSWERS, "connections are still open and are dropped");
            }
        }
        // Without the store the loops end, so that is what the others' end is about.
        if let Some(failure) = self.store.borrow().clone() {
            return Err(failure.into());
        }
        anyhow::ensure!(
            self.ended.get().is_none(),
            "a part of the agent ended by itself; the log says which"
        );
        Ok(())
    }
}

/// The four services, with health and reflection beside them, as they are before
/// [`guard::around`] them decides who may call them.
///
/// # Errors
/// When the API's descriptors cannot be served, which a test rules out.
pub async fn services(api: Api, limits: &LimitsConfig) -> anyhow::Result<Routes> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<VrfServiceServer<Api>>().await;
    health
        .set_serving::<LogicalBridgeServiceServer<Api>>()
        .await;
    health.set_serving::<BridgePortServiceServer<Api>>().await;
    health.set_serving::<SviServiceServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(xpu_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the API's descriptors cannot be served")?;
    let most = limits.message_bytes;
    Ok(Routes::new(health_service.max_decoding_message_size(most))
        .add_service(reflection.max_decoding_message_size(most))
        .add_service(VrfServiceServer::new(api.clone()).max_decoding_message_size(most))
        .add_service(LogicalBridgeServiceServer::new(api.clone()).max_decoding_message_size(most))
        .add_service(BridgePortServiceServer::new(api.clone()).max_decoding_message_size(most))
        .add_service(SviServiceServer::new(api).max_decoding_message_size(most)))
}
