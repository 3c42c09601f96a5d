//! An agent for the node without a lab: it keeps ports in a map, on a real socket, behind the real
//! protocol, and makes each change durable before it answers, as the real one does.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use xpu_proto::evpn_gw::v1alpha1::{
    BpOperStatus, BridgePort, BridgePortSpec, BridgePortStatus, CompStatus, Component,
    CreateBridgePortRequest, DeleteBridgePortRequest, GetBridgePortRequest, ListBridgePortsRequest,
    ListBridgePortsResponse, UpdateBridgePortRequest,
    bridge_port_service_server::{BridgePortService, BridgePortServiceServer},
};

/// What a stored port is padded to, in bytes.
const RECORD: usize = 300;

/// The agent; its server ends with it.
#[derive(Debug)]
pub struct FakeAgent {
    socket: PathBuf,
    server: Option<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
}

impl FakeAgent {
    /// Listens on a socket in a folder, and stores there.
    ///
    /// # Errors
    /// Where it can't.
    pub fn start(socket: &Path) -> Result<Self> {
        let store = socket.with_extension("store");
        let store = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&store)
            .with_context(|| format!("cannot open {}", store.display()))?;
        let ports = Ports {
            ports: Mutex::default(),
            store: Mutex::new(store),
        };
        // Of a run that was killed.
        let _none = fs::remove_file(socket);
        let listens = socket.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (listening, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let listener = UnixListener::bind(&listens);
                let listener = match listener {
                    Ok(listener) => listener,
                    Err(error) => {
                        listening.send(Err(error))?;
                        return Ok(());
                    }
                };
                listening.send(Ok(()))?;
                Server::builder()
                    .add_service(BridgePortServiceServer::new(ports))
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                        // That the other end is gone asks for the same.
                        let _ended = stopped.await;
                    })
                    .await?;
                Ok(())
            })
        });
        ready.recv().context("the agent's thread ended")??;
        Ok(Self {
            socket: socket.to_owned(),
            server: Some((stop, thread)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.server.take() {
            // Either has ended by itself, which is as good.
            let _ended = stop.send(());
            let _ended = thread.join();
        }
    }
}

struct Ports {
    ports: Mutex<BTreeMap<String, BridgePortSpec>>,
    store: Mutex<File>,
}

impl Ports {
    fn ports(&self) -> MutexGuard<'_, BTreeMap<String, BridgePortSpec>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self) -> Result<(), Status> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let written = store.write_all(&[b'.'; RECORD]);
        written
            .and_then(|()| store.sync_data())
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// A port that is up, told as the real agent tells one.
fn told(id: &str, spec: BridgePortSpec) -> BridgePort {
    let component = |name: &str| Component {
        name: name.to_owned(),
        status: CompStatus::Success.into(),
        details: String::new(),
    };
    BridgePort {
        name: format!("bridgePorts/{id}"),
        spec: Some(spec),
        status: Some(BridgePortStatus {
            oper_status: BpOperStatus::Up.into(),
            components: vec![component("linux"), component("frr")],
        }),
    }
}

#[tonic::async_trait]
impl BridgePortService for Ports {
    async fn create_bridge_port(
        &self,
        request: Request<CreateBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        let request = request.into_inner();
        let spec = request.bridge_port.and_then(|port| port.spec);
        let spec = spec.ok_or_else(|| Status::invalid_argument("bridge_port.spec is required"))?;
        let id = request.bridge_port_id;
        self.ports().insert(id.clone(), spec.clone());
        self.commit()?;
        Ok(Response::new(told(&id, spec)))
    }

    async fn delete_bridge_port(
        &self,
        request: Request<DeleteBridgePortRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().name;
        self.ports().remove(name.trim_start_matches("bridgePorts/"));
        self.commit()?;
        Ok(Response::new(()))
    }

    async fn update_bridge_port(
        &self,
        _: Request<UpdateBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_bridge_port(
        &self,
        request: Request<GetBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        let name = request.into_inner().name;
        let id = name.trim_start_matches("bridgePorts/");
        let spec = self.ports().get(id).cloned();
        let spec = spec.ok_or_else(|| Status::not_found(name.clone()))?;
        Ok(Response::new(told(id, spec)))
    }

    async fn list_bridge_ports(
        &self,
        _: Request<ListBridgePortsRequest>,
    ) -> Result<Response<ListBridgePortsResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
