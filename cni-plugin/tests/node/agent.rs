//! An agent that keeps ports in a map, on a real socket, behind the real protocol.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};
use xpu_proto::evpn_gw::v1alpha1::{
    BpOperStatus, BridgePort, BridgePortSpec, BridgePortStatus, CompStatus, Component,
    CreateBridgePortRequest, DeleteBridgePortRequest, GetBridgePortRequest, ListBridgePortsRequest,
    ListBridgePortsResponse, UpdateBridgePortRequest,
    bridge_port_service_server::{BridgePortService, BridgePortServiceServer},
};

/// How the agent answers to Create, and to Delete where it is full.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    /// UP.
    #[default]
    Willing,
    /// DOWN, and why.
    Down(&'static str),
    /// An error, nothing kept.
    Refusing(&'static str),
    /// Too many calls, nothing kept; and, if it helps, when to try again.
    Full(Option<Duration>),
}

#[derive(Default)]
struct State {
    ports: Mutex<BTreeMap<String, BridgePortSpec>>,
    mood: Mutex<Mood>,
    traceparent: Mutex<Option<String>>,
    down: Mutex<BTreeMap<String, &'static str>>,
    /// For the next call that creates or deletes, before and after it did so.
    before: Mutex<Option<Hold>>,
    after: Mutex<Option<Hold>>,
}

/// The server's end of [`Held`].
struct Hold {
    /// How many calls pass before.
    passing: u32,
    entered: mpsc::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A call that the agent keeps waiting until this is released or dropped.
pub struct Held {
    /// Tells when the call has come that far.
    pub entered: mpsc::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    pub fn release(self) {
        let _caller_is_gone = self.release.send(());
    }
}

fn held() -> (Hold, Held) {
    let ((entered, told), (release, released)) = (mpsc::channel(), oneshot::channel());
    let hold = Hold {
        passing: 0,
        entered,
        released,
    };
    (
        hold,
        Held {
            entered: told,
            release,
        },
    )
}

async fn wait(hold: &Mutex<Option<Hold>>) {
    let hold = {
        let mut hold = hold.lock().unwrap();
        match hold.as_mut() {
            Some(Hold { passing, .. }) if *passing > 0 => {
                *passing -= 1;
                None
            }
            _ => hold.take(),
        }
    };
    if let Some(Hold {
        entered, released, ..
    }) = hold
    {
        let _nobody_asks = entered.send(());
        let _either_way = released.await;
    }
}

impl State {
    fn mood(&self) -> Mood {
        self.mood.lock().unwrap().clone()
    }

    /// A port as Get and List tell it.
    fn port(&self, id: &str, spec: &BridgePortSpec) -> BridgePort {
        let why = self.down.lock().unwrap().get(id).copied();
        port(id, spec.clone(), why)
    }
}

/// A port that is UP, or DOWN and why.
fn port(id: &str, spec: BridgePortSpec, down: Option<&str>) -> BridgePort {
    let oper = match down {
        Some(_) => BpOperStatus::Down,
        None => BpOperStatus::Up,
    };
    let component = down.map(|why| Component {
        name: "linux".to_owned(),
        status: CompStatus::Error.into(),
        details: why.to_owned(),
    });
    BridgePort {
        name: format!("bridgePorts/{id}"),
        spec: Some(spec),
        status: Some(BridgePortStatus {
            oper_status: oper.into(),
            components: component.into_iter().collect(),
        }),
    }
}

/// As the real agent tells that one of its limits is reached.
fn full(after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info("LIMIT_REACHED", "", HashMap::new());
    if after.is_some() {
        details.set_retry_info(after);
    }
    let told = "too many calls at once from one peer";
    Status::with_error_details(Code::ResourceExhausted, told, details)
}

/// The agent; its server ends with it.
pub struct FakeAgent {
    socket: PathBuf,
    state: Arc<State>,
    server: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl FakeAgent {
    /// Listens on `socket`.
    pub fn start(socket: &Path) -> Self {
        let agent = Self {
            socket: socket.to_owned(),
            state: Arc::default(),
            server: Mutex::default(),
        };
        agent.serve();
        agent
    }

    /// Listens (again).
    pub fn serve(&self) {
        let (stop, stopped) = oneshot::channel();
        let (listening, ready) = mpsc::channel();
        let (socket, state) = (self.socket.clone(), Arc::clone(&self.state));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&socket).unwrap();
                listening.send(()).unwrap();
                let incoming = UnixListenerStream::new(listener);
                let serve = Server::builder()
                    .add_service(BridgePortServiceServer::new(Ports(state)))
                    .serve_with_incoming(incoming);
                tokio::select! {
                    done = serve => done.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        ready.recv().unwrap();
        *self.server.lock().unwrap() = Some((stop, thread));
    }

    /// Goes away, with its socket.
    pub fn stop(&self) {
        let server = self.server.lock().unwrap().take();
        if let Some((stop, thread)) = server {
            let _ended_already = stop.send(());
            thread.join().unwrap();
            std::fs::remove_file(&self.socket).unwrap();
        }
    }

    /// Keeps the next call that creates or deletes waiting for its answer.
    pub fn hold(&self) -> Held {
        let (hold, held) = held();
        *self.state.after.lock().unwrap() = Some(hold);
        held
    }

    /// Keeps the next call that creates or deletes waiting, with nothing done.
    pub fn hold_before(&self) -> Held {
        self.hold_before_later(0)
    }

    /// The same with a later one, after so many have passed.
    pub fn hold_before_later(&self, passing: u32) -> Held {
        let (mut hold, held) = held();
        hold.passing = passing;
        *self.state.before.lock().unwrap() = Some(hold);
        held
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// The ids of the ports there are.
    pub fn ports(&self) -> Vec<String> {
        self.state.ports.lock().unwrap().keys().cloned().collect()
    }

    /// What the only port was asked to be.
    #[track_caller]
    pub fn only_port(&self) -> (String, BridgePortSpec) {
        let ports = self.state.ports.lock().unwrap();
        assert_eq!(ports.len(), 1, "{ports:?}");
        ports
            .iter()
            .map(|(id, spec)| (id.clone(), spec.clone()))
            .next()
            .unwrap()
    }

    /// Lets a port go down, or with `None` up again.
    pub fn set_down(&self, id: &str, why: Option<&'static str>) {
        let mut down = self.state.down.lock().unwrap();
        down.remove(id);
        down.extend(why.map(|why| (id.to_owned(), why)));
    }

    /// Changes a port behind everybody's back; `None` removes it.
    pub fn put(&self, id: &str, spec: Option<BridgePortSpec>) {
        let mut ports = self.state.ports.lock().unwrap();
        ports.remove(id);
        ports.extend(spec.map(|spec| (id.to_owned(), spec)));
    }

    /// The last call's `traceparent`.
    pub fn traceparent(&self) -> Option<String> {
        self.state.traceparent.lock().unwrap().clone()
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Ports(Arc<State>);

#[tonic::async_trait]
impl BridgePortService for Ports {
    async fn create_bridge_port(
        &self,
        request: Request<CreateBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        let trace = request
            .metadata()
            .get("traceparent")
            .map(|v| v.to_str().unwrap().to_owned());
        *self.0.traceparent.lock().unwrap() = trace;
        assert!(
            request.metadata().contains_key("grpc-timeout"),
            "a call has a deadline"
        );
        let CreateBridgePortRequest {
            bridge_port_id: id,
            bridge_port,
        } = request.into_inner();
        let spec = bridge_port.unwrap().spec.unwrap();
        let mood = self.0.mood();
        match mood {
            Mood::Refusing(why) => return Err(Status::failed_precondition(why)),
            Mood::Full(after) => return Err(full(after)),
            Mood::Willing | Mood::Down(_) => {}
        }
        wait(&self.0.before).await;
        {
            let mut ports = self.0.ports.lock().unwrap();
            if ports.get(&id).is_some_and(|kept| *kept != spec) {
                return Err(Status::already_exists(format!(
                    "bridgePorts/{id} is another port"
                )));
            }
            // As the real agent: a MAC is unique, whatever the port.
            let mac = &spec.mac_address;
            if let Some((other, _)) = ports
                .iter()
                .find(|(kept, s)| **kept != id && s.mac_address == *mac)
            {
                return Err(Status::failed_precondition(format!(
                    "bridgePorts/{other} has this MAC"
                )));
            }
            ports.insert(id.clone(), spec.clone());
        }
        wait(&self.0.after).await;
        let down = match mood {
            Mood::Down(why) => Some(why),
            _ => None,
        };
        Ok(Response::new(port(&id, spec, down)))
    }

    async fn delete_bridge_port(
        &self,
        request: Request<DeleteBridgePortRequest>,
    ) -> Result<Response<()>, Status> {
        let DeleteBridgePortRequest {
            name,
            allow_missing,
        } = request.into_inner();
        let id = name.strip_prefix("bridgePorts/").unwrap();
        if let Mood::Full(after) = self.0.mood() {
            return Err(full(after));
        }
        wait(&self.0.before).await;
        let gone = self.0.ports.lock().unwrap().remove(id);
        wait(&self.0.after).await;
        match gone {
            None if !allow_missing => Err(Status::not_found(name.clone())),
            _ => Ok(Response::new(())),
        }
    }

    async fn list_bridge_ports(
        &self,
        request: Request<ListBridgePortsRequest>,
    ) -> Result<Response<ListBridgePortsResponse>, Status> {
        // As the API has it, but with pages so small that every list has several.
        const PAGE: usize = 2;
        let from = request.into_inner().page_token;
        let ports = self.0.ports.lock().unwrap();
        let mut rest = ports.range(from..);
        let page = rest.by_ref().take(PAGE);
        Ok(Response::new(ListBridgePortsResponse {
            bridge_ports: page.map(|(id, spec)| self.0.port(id, spec)).collect(),
            next_page_token: rest.next().map(|(id, _)| id.clone()).unwrap_or_default(),
        }))
    }

    async fn get_bridge_port(
        &self,
        request: Request<GetBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        let name = request.into_inner().name;
        let id = name.strip_prefix("bridgePorts/").unwrap();
        match self.0.ports.lock().unwrap().get(id) {
            Some(spec) => Ok(Response::new(self.0.port(id, spec))),
            None => Err(Status::not_found(name)),
        }
    }

    async fn update_bridge_port(
        &self,
        _: Request<UpdateBridgePortRequest>,
    ) -> Result<Response<BridgePort>, Status> {
        Err(Status::unimplemented("the plugin doesn't update"))
    }
}
