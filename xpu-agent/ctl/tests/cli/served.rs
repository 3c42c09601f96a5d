//! The agent's own API in this process, over a store on disk: what it refuses here, it refuses.
//! Its one backend does at once what it is asked, but lets go of what is deleted only when it may.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use xpu_agent::api::Api;
use xpu_agent::reconcile::{Board, Source, collector};
use xpu_agent::store::Store;
use xpu_model::status::{Backend, Component, PassReport, State};
use xpu_model::{Intent, Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::bridge_port_service_server::BridgePortServiceServer;
use xpu_proto::evpn_gw::v1alpha1::logical_bridge_service_server::LogicalBridgeServiceServer;
use xpu_proto::evpn_gw::v1alpha1::svi_service_server::SviServiceServer;
use xpu_proto::evpn_gw::v1alpha1::vrf_service_server::VrfServiceServer;

use crate::Asked;

/// The agent; dropping it stops it.
pub struct ServedAgent {
    endpoint: String,
    holds: watch::Sender<bool>,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl ServedAgent {
    pub fn start() -> Self {
        Self::with(100, Duration::from_secs(10))
    }

    /// With room for so many Vrfs; a change waits so long for the backend, if its caller does.
    pub fn with(vrfs: u32, deadline: Duration) -> Self {
        let tables = 1001..=1000 + vrfs;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("agent.sock");
        let runtime = Runtime::new().expect("a runtime");
        let (holds, held) = watch::channel(false);
        let guard = runtime.enter();
        let foreign = watch::channel(Default::default()).1;
        let directory = dir.path().join("store");
        let store = Store::open(&directory, tables, foreign, Default::default());
        let store = store.expect("a store");
        let board = Board::new(vec![Source {
            backend: Backend::Linux,
            kinds: &Kind::ALL,
            reports: play(&store, held),
        }]);
        let never = CancellationToken::new();
        runtime.spawn(collector::run(store.clone(), board.clone(), never));
        let api = Api::new(store, board, deadline);
        let router = Server::builder()
            .add_service(VrfServiceServer::new(api.clone()))
            .add_service(LogicalBridgeServiceServer::new(api.clone()))
            .add_service(BridgePortServiceServer::new(api.clone()))
            .add_service(SviServiceServer::new(api));
        let listener = UnixListener::bind(&path).expect("a socket");
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        drop(guard);
        Self {
            endpoint: format!("unix://{}", path.display()),
            holds,
            runtime: Some(runtime),
            _dir: dir,
        }
    }

    /// Whether the backend keeps what is deleted.
    pub fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }
}

impl Asked for ServedAgent {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for ServedAgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The backend: reports on each intent.
fn play(store: &Store, mut holds: watch::Receiver<bool>) -> watch::Receiver<Arc<PassReport>> {
    let (reports, seen) = watch::channel(Arc::default());
    let mut intent = store.watch();
    tokio::spawn(async move {
        loop {
            let (snapshot, held) = (
                intent.borrow_and_update().clone(),
                *holds.borrow_and_update(),
            );
            let kept = "the kernel has not let go of it";
            let component = |(key, deleting)| match (deleting, held) {
                (false, _) => Some((key, Component::new(State::Success))),
                (true, true) => Some((key, Component::new(State::Pending(kept.to_owned())))),
                (true, false) => None,
            };
            reports.send_replace(Arc::new(PassReport {
                generation: snapshot.generation,
                objects: objects(&snapshot)
                    .into_iter()
                    .filter_map(component)
                    .collect(),
                ..PassReport::default()
            }));
            tokio::select! {
                changed = intent.changed() => if changed.is_err() { return },
                changed = holds.changed() => if changed.is_err() { return },
            }
        }
    });
    seen
}

/// Every object with whether it is deleted.
fn objects(intent: &Intent) -> Vec<(ObjectKey, bool)> {
    let mut all = Vec::new();
    all.extend(intent.vrfs.values().map(|it| (it.key(), it.deleting)));
    all.extend(
        intent
            .logical_bridges
            .values()
            .map(|it| (it.key(), it.deleting)),
    );
    all.extend(
        intent
            .bridge_ports
            .values()
            .map(|it| (it.key(), it.deleting)),
    );
    all.extend(intent.svis.values().map(|it| (it.key(), it.deleting)));
    all
}
