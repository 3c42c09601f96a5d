//! The wiring: what is started, in which order, and how it ends.
//!
//! Start: certificates and sockets (so that what is wrong there is told before anything is
//! touched) → store → backends (each opens its edge; Linux looks for what is not ours) → loops →
//! API. The first pass of each backend observes and repairs; calls are answered meanwhile.
//!
//! Stop: no new calls, streams end, the loops end after their pass, and the calls that wait for
//! them get a moment. Kernel and FRR stay as they are.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use axum::Router;
use futures::future::join;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};
use xpu_backends::frr::Startup;
use xpu_linux::kernel::StaleNeighbours;
use xpu_model::{IfName, Node, node::PortResolver};
use xpu_plan::FrrFacts;
use xpu_proto::evpn_gw::v1alpha1::{
    bridge_port_service_server::BridgePortServiceServer,
    logical_bridge_service_server::LogicalBridgeServiceServer,
    svi_service_server::SviServiceServer, vrf_service_server::VrfServiceServer,
};

use crate::{
    access::{self, guard, reload},
    api::Api,
    config::{Config, LimitsConfig},
    http,
    lifecycle::{
        self, ANSWERS, PASSES, http::Health, notify, parts::Parts, readiness::Readiness,
        signals::Stopping,
    },
    listen::{Bound, Listeners},
    ports,
    reconcile::{
        self, Backend, Board, Source, collector,
        frr::{FrrBackend, Kept, NoFrr},
        linux::LinuxBackend,
        silent,
    },
    store::{self, Ledger, Store, StoreTelemetry},
    telemetry::{
        PassTelemetry,
        metrics::{Access, ExportMeter, KernelEvents, Metrics, Objects, RpcMeter},
        rpc,
        trace::Causes,
    },
};

/// The running agent.
pub struct App {
    stop: CancellationToken,
    /// Ends passes in the middle.
    abandon: CancellationToken,
    /// The loops.
    passes: Parts,
    /// Whatever else runs, listeners above all.
    others: Parts,
    /// The first task that ended by itself, if one did.
    ended: Arc<OnceLock<&'static str>>,
    /// Why the store ended, if it did.
    store: watch::Receiver<Option<store::Failure>>,
}

impl App {
    /// Starts everything; it ends with `stop`. At `hangup` certificates and the map of ports are
    /// read again.
    ///
    /// # Errors
    /// With what cannot be opened and what to do about it; nothing runs then.
    pub async fn start(
        config: &Config,
        exports: &ExportMeter,
        stop: CancellationToken,
        hangup: watch::Receiver<()>,
    ) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(config).await?;
        let metrics = Metrics::default().with_exports(exports);
        let telemetry = StoreTelemetry {
            meter: metrics.store.clone(),
            causes: Causes::default(),
        };
        let (netdevs, netdevs_seen) = watch::channel(config.ports.read()?);
        let (foreign, foreign_seen) = watch::channel(BTreeSet::new());
        let tables = config.vrf.table_first..=config.vrf.table_last;
        let causes = telemetry.causes.clone();
        let store = Store::open(&config.store.directory, tables, foreign_seen, telemetry)
            .context("the store cannot be opened")?;
        let app = Self {
            stop,
            abandon: CancellationToken::new(),
            passes: Parts::default(),
            others: Parts::default(),
            ended: Arc::default(),
            store: store.failure(),
        };
        let (board, metrics) = app
            .start_backends(config, netdevs_seen, &store, foreign, metrics, &causes)
            .await?;
        let tombstones = collector::run(store.clone(), board.clone(), app.stop.clone());
        drop(app.others.spawn("collector", tombstones));
        let readiness = Readiness::new(board.clone(), &store, app.stop.clone());
        let meter = metrics.rpc.clone();
        let objects = Objects {
            store: store.clone(),
            board: board.clone(),
        };
        let health = Health {
            readiness: readiness.clone(),
            exposition: metrics
                .with(objects)
                .with(Access(listeners.gate.clone()))
                .exposition(),
        };
        let deadline = Duration::from_millis(config.api.deadline_ms);
        let api = Api::new(store.clone(), board, deadline);
        let pages = lifecycle::http::router(health);
        let faces = faces(api, &config.limits, meter, pages).await?;
        let followed = ports::run(
            config.ports.clone(),
            netdevs,
            hangup.clone(),
            app.stop.clone(),
        );
        app.spawn_until_stop(&app.others, "port-map", followed);
        app.serve(listeners, &faces, hangup);
        app.spawn_until_stop(&app.others, "notify", notify::run(readiness, store));
        Ok(app)
    }

    async fn start_backends(
        &self,
        config: &Config,
        ports: watch::Receiver<PortResolver>,
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
        let node = Arc::new(Node {
            ports: ports.borrow().clone(),
            ..config.node()?
        });
        let foreign_seen = foreign.subscribe();
        let opened = LinuxBackend::open(node.clone(), facts_seen, foreign);
        let opened = self.stop.run_until_cancelled(opened).await;
        let linux = opened
            .context("the agent was stopped while it looked at the kernel's devices")?
            .context("netlink cannot be used; the agent needs CAP_NET_ADMIN")?
            .with_ports(ports);
        let applied = linux.applied();
        let metrics = metrics.with(KernelEvents(linux.events()));
        let silent =
            StaleNeighbours::new(linux.events()).context("neighbours cannot be followed")?;
        let silent = silent::run(linux.kernel(), silent, self.stop.clone());
        self.spawn_until_stop(&self.others, "silent-hosts", async move {
            if let Err(error) = silent.await {
                warn!(
                    %error,
                    "silent hosts are no longer asked; the agent stops to be started anew. If this \
                     comes again, see what the kernel's log (dmesg) says"
                );
            }
        });
        let mut sources = vec![self.start_loop(linux, store, &metrics, causes)];
        if config.frr.enabled {
            let directory = config.frr.socket_directory.clone();
            let kept = Kept {
                ledger: Ledger::open(&config.store.directory)?,
                startup: config.frr.startup().map(Startup::new),
            };
            let meter = metrics.frr.clone();
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
        let telemetry = PassTelemetry::new(B::NAME, metrics, causes.clone());
        let task = reconcile::run(
            backend,
            store.watch(),
            reports,
            telemetry,
            self.stop.clone(),
        );
        let abandon = self.abandon.clone();
        self.spawn_until_stop(&self.passes, B::NAME.as_str(), async move {
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
        among: &Parts,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let first = self.ended.clone();
        drop(among.spawn(name, async move {
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
        }));
    }

    fn serve(&self, listeners: Listeners, faces: &Faces, hangup: watch::Receiver<()>) {
        let Listeners { gate, bound } = listeners;
        if let Some(tls) = gate.tls() {
            let followed = reload::run(tls.clone(), hangup, self.stop.clone());
            self.spawn_until_stop(&self.others, "certificates", followed);
        }
        for Bound {
            name,
            protocol,
            listener,
        } in bound
        {
            let routes = faces.of(protocol).clone();
            let served = access::serve(listener, protocol, routes, gate.clone(), self.stop.clone());
            self.spawn_until_stop(&self.others, name, served);
        }
    }

    /// Runs until it is stopped, then ends without touching kernel or FRR.
    ///
    /// # Errors
    /// When a part of the agent ended by itself.
    pub async fn run(self, stopping: &Stopping) -> anyhow::Result<()> {
        self.stop.cancelled().await;
        stopping.begin();
        info!("stopping; kernel and FRR stay as they are");
        if let Err(passes) = self.passes.ended_within(PASSES).await {
            warn!(
                ?passes,
                after = ?PASSES,
                "passes are still under way and are abandoned; if FRR's is among them, see FRR's \
                 log. The next start observes how far they came"
            );
            self.abandon.cancel();
        }
        let (passes, others) = join(
            self.passes.ended_within(ANSWERS),
            self.others.ended_within(ANSWERS),
        )
        .await;
        if let Err(passes) = passes {
            warn!(
                ?passes,
                "do not end though they were abandoned; the process ends without them. Please \
                 report it"
            );
        }
        if let Err(parts) = others {
            warn!(
                ?parts,
                after = ?ANSWERS,
                "have calls whose clients do not read the answers, or work that does not end; \
                 they are dropped. Nothing is lost: what was changed is stored. A listener here \
                 that comes again has such a client (ss -tnp, ss -xp while the agent runs); \
                 another part that does is a fault of the agent's, please report it"
            );
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

/// What the listeners serve.
#[derive(Clone, Debug)]
pub struct Faces {
    grpc: Routes,
    http: Routes,
}

impl Faces {
    /// The one that a listener of this protocol serves.
    #[must_use]
    pub const fn of(&self, protocol: access::Protocol) -> &Routes {
        match protocol {
            access::Protocol::Grpc => &self.grpc,
            access::Protocol::Http => &self.http,
        }
    }
}

/// Puts around the services what holds for every caller, and makes the HTTP face of the result,
/// with other `pages` beside it.
///
/// # Errors
/// When the API's descriptors cannot be served, which a test rules out.
pub async fn faces(
    api: Api,
    limits: &LimitsConfig,
    meter: RpcMeter,
    pages: Router,
) -> anyhow::Result<Faces> {
    let guarded = guard::around(services(api, limits).await?);
    let grpc = rpc::metered(guarded, meter);
    let http = http::router(&grpc, limits.message_bytes, pages)?;
    Ok(Faces {
        grpc,
        http: Routes::from(http),
    })
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
