//! An agent that keeps objects in memory and refuses none: what an agent refuses, and how, is seen
//! at the agent's own API ([`crate::served`]). This one plays what that one does not do when asked.
//! What it does depends on ids and values that tests choose:
//!
//! - a port whose id starts with `down` is DOWN for want of a netdev;
//! - a VRF whose id starts with `hang` is never answered;
//! - pages hold two objects, whatever is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::server::Router;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use xpu_proto::evpn_gw::v1alpha1 as api;
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortStatus, Component, LogicalBridge, LogicalBridgeStatus, Svi, SviStatus,
    Vrf, VrfStatus,
};

use crate::Asked;

/// Everything the agent holds, and what it saw.
#[derive(Default)]
pub struct State {
    pub vrfs: BTreeMap<String, Vrf>,
    pub logical_bridges: BTreeMap<String, LogicalBridge>,
    pub bridge_ports: BTreeMap<String, BridgePort>,
    pub svis: BTreeMap<String, Svi>,
    /// Every page has this token, if set: a broken agent.
    pub endless_token: Option<String>,
    /// What the next lists are refused with.
    pub troubles: VecDeque<Code>,
    /// How many lists are answered before the agent falls silent.
    pub lists_left: Option<usize>,
    /// The paths of the last update's mask.
    pub last_mask: Vec<String>,
    /// The `grpc-timeout` of the last create.
    pub last_timeout: Option<String>,
}

/// The agent; dropping it stops it.
pub struct FakeAgent {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

#[derive(Clone)]
struct Services(Arc<Mutex<State>>);

impl FakeAgent {
    /// On a unix socket.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("agent.sock");
        let endpoint = format!("unix://{}", path.display());
        Self::serving(dir, Server::builder(), |runtime, router| {
            let guard = runtime.enter();
            let listener = UnixListener::bind(&path).expect("a socket");
            drop(guard);
            runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
            endpoint
        })
    }

    /// On a port of the loopback address, with TLS.
    pub fn start_tls(tls: ServerTlsConfig) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Server::builder().tls_config(tls);
        Self::serving(dir, server.expect("certificates"), |runtime, router| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
            let listener = listener.expect("a port");
            let port = listener.local_addr().expect("is bound").port();
            runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
            format!("https://localhost:{port}")
        })
    }

    fn serving(
        dir: TempDir,
        mut server: Server,
        serve: impl FnOnce(&Runtime, Router) -> String,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let runtime = Runtime::new().expect("a runtime");
        let services = Services(Arc::clone(&state));
        let router = server
            .add_service(api::vrf_service_server::VrfServiceServer::new(
                services.clone(),
            ))
            .add_service(
                api::logical_bridge_service_server::LogicalBridgeServiceServer::new(
                    services.clone(),
                ),
            )
            .add_service(
                api::bridge_port_service_server::BridgePortServiceServer::new(services.clone()),
            )
            .add_service(api::svi_service_server::SviServiceServer::new(services));
        let endpoint = serve(&runtime, router);
        Self {
            endpoint,
            state,
            runtime: Some(runtime),
            _dir: dir,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics holding the state")
    }
}

impl Asked for FakeAgent {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        // A call that is never answered must not hold the test up.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

const UP: i32 = 1;
const DOWN: i32 = 2;

fn component(name: &str, status: api::CompStatus, details: &str) -> Component {
    Component {
        name: name.into(),
        status: status.into(),
        details: details.into(),
    }
}

fn working(name: &str, details: &str) -> Component {
    component(name, api::CompStatus::Success, details)
}

/// What the services do per kind, beside keeping objects.
trait Realise: Clone + PartialEq + Serialize + DeserializeOwned {
    fn collection(state: &mut State) -> &mut BTreeMap<String, Self>;
    fn realised(self, name: String) -> Self;
    fn same_spec(&self, other: &Self) -> bool;
}

impl Realise for Vrf {
    fn collection(state: &mut State) -> &mut BTreeMap<String, Self> {
        &mut state.vrfs
    }

    fn realised(self, name: String) -> Self {
        let frr =
            r#"{"importRts":["65001:5001","65002:5001"],"localAS":65001,"rd":"10.0.0.1:5001"}"#;
        let components = vec![
            working("linux", r#"{"routingTable":1001}"#),
            working("frr", frr),
        ];
        let status = VrfStatus {
            oper_status: UP,
            components,
        };
        Self {
            name,
            status: Some(status),
            ..self
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Realise for LogicalBridge {
    fn collection(state: &mut State) -> &mut BTreeMap<String, Self> {
        &mut state.logical_bridges
    }

    fn realised(self, name: String) -> Self {
        let components = vec![working("linux", ""), working("frr", "")];
        let status = LogicalBridgeStatus {
            oper_status: UP,
            components,
        };
        Self {
            name,
            status: Some(status),
            ..self
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Realise for BridgePort {
    fn collection(state: &mut State) -> &mut BTreeMap<String, Self> {
        &mut state.bridge_ports
    }

    fn realised(self, name: String) -> Self {
        let missing = r#"{"reason":"no netdev has this port's name yet"}"#;
        let (oper_status, linux) = match name.starts_with("bridgePorts/down") {
            true => (DOWN, component("linux", api::CompStatus::Pending, missing)),
            false => (UP, working("linux", "")),
        };
        let status = BridgePortStatus {
            oper_status,
            components: vec![linux],
        };
        Self {
            name,
            status: Some(status),
            ..self
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Realise for Svi {
    fn collection(state: &mut State) -> &mut BTreeMap<String, Self> {
        &mut state.svis
    }

    fn realised(self, name: String) -> Self {
        let status = SviStatus {
            oper_status: UP,
            components: vec![working("linux", "")],
        };
        Self {
            name,
            status: Some(status),
            ..self
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Services {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no service panics holding the state")
    }

    async fn create<K: Realise>(&self, name: String, object: K) -> Result<Response<K>, Status> {
        if name.starts_with("vrfs/hang") {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        if let Some(stored) = K::collection(&mut state).get(&name) {
            return match stored.same_spec(&object) {
                true => Ok(Response::new(stored.clone())),
                false => Err(Status::internal("what is refused is for the served agent")),
            };
        }
        let realised = object.realised(name.clone());
        K::collection(&mut state).insert(name, realised.clone());
        Ok(Response::new(realised))
    }

    fn get<K: Realise>(&self, name: &str) -> Result<Response<K>, Status> {
        let found = K::collection(&mut self.state()).get(name).cloned();
        found.map(Response::new).ok_or_else(|| missing(name))
    }

    async fn list_trouble(&self) -> Result<(), Status> {
        let (trouble, silent) = {
            let mut state = self.state();
            let silent = state.lists_left == Some(0);
            state.lists_left = state.lists_left.map(|left| left.saturating_sub(1));
            (state.troubles.pop_front(), silent)
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let trouble = trouble.map(|code| match code {
            // As the agent's limits say it.
            Code::ResourceExhausted => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
                Status::with_error_details(code, "busy", details)
            }
            Code::InvalidArgument => {
                let (field, why) = ("page_size", "250 is too much");
                let details = ErrorDetails::with_bad_request_violation(field, why);
                Status::with_error_details(code, format!("{field}: {why}"), details)
            }
            code => Status::new(code, "busy"),
        });
        trouble.map_or(Ok(()), Err)
    }

    /// A page of two; the token is the last name given.
    fn page<K: Realise>(&self, after: &str) -> (Vec<K>, String) {
        let mut state = self.state();
        let endless = state.endless_token.clone();
        let all = K::collection(&mut state);
        let rest: Vec<_> = all
            .iter()
            .filter(|(name, _)| name.as_str() > after)
            .collect();
        let page = rest
            .iter()
            .take(2)
            .map(|(_, object)| (*object).clone())
            .collect();
        let more = rest.get(1).filter(|_| rest.len() > 2);
        let token = more.map_or_else(String::new, |(name, _)| (*name).clone());
        (page, endless.unwrap_or(token))
    }

    /// Takes over the fields that the mask names, by their JSON.
    fn update<K: Realise>(
        &self,
        name: &str,
        change: &K,
        mask: Option<xpu_proto::FieldMask>,
    ) -> Result<Response<K>, Status> {
        let mut state = self.state();
        state.last_mask = mask.unwrap_or_default().paths;
        let mask = state.last_mask.clone();
        let all = K::collection(&mut state);
        let stored = all.get(name).ok_or_else(|| missing(name))?;
        let object = |it: &K| serde_json::to_value(it).expect("is JSON");
        let (mut merged, change) = (object(stored), object(change));
        for path in mask {
            let field = camel(path.strip_prefix("spec.").expect("a field of the spec"));
            let spec: &mut Map<String, Value> =
                merged["spec"].as_object_mut().expect("is an object");
            match change["spec"].get(&field) {
                Some(value) => spec.insert(field, value.clone()),
                None => spec.remove(&field),
            };
        }
        let merged: K = serde_json::from_value(merged).expect("is an object of the API");
        all.insert(name.to_owned(), merged.clone());
        Ok(Response::new(merged))
    }

    fn delete<K: Realise>(&self, name: &str, allow_missing: bool) -> Result<Response<()>, Status> {
        let mut state = self.state();
        match K::collection(&mut state).remove(name) {
            None if !allow_missing => Err(missing(name)),
            _ => Ok(Response::new(())),
        }
    }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (head, rest) = word.split_at(1);
        camel + &head.to_uppercase() + rest
    })
}

/// The one refusal that is played, since what is deleted is looked for.
fn missing(name: &str) -> Status {
    Status::not_found(format!("{name} does not exist"))
}

macro_rules! serve {
    (
        $kind:ident, $service:path, $collection:literal,
        $create:ident($Create:ident { $id:ident, $object:ident }),
        $get:ident($Get:ident),
        $list:ident($List:ident -> $Listed:ident { $objects:ident }),
        $delete:ident($Delete:ident),
        $update:ident($Update:ident)
    ) => {
        #[tonic::async_trait]
        impl $service for Services {
            async fn $create(
                &self,
                request: Request<api::$Create>,
            ) -> Result<Response<api::$kind>, Status> {
                let timeout = request.metadata().get("grpc-timeout");
                let timeout = timeout
                    .and_then(|text| text.to_str().ok())
                    .map(str::to_owned);
                self.state().last_timeout = timeout;
                let request = request.into_inner();
                let id = match request.$id.as_str() {
                    "" => "9f8b7a6c-0000-4000-8000-000000000001",
                    id => id,
                };
                let name = format!("{}/{id}", $collection);
                self.create(name, request.$object.unwrap_or_default()).await
            }

            async fn $get(
                &self,
                request: Request<api::$Get>,
            ) -> Result<Response<api::$kind>, Status> {
                self.get(&request.get_ref().name)
            }

            async fn $list(
                &self,
                request: Request<api::$List>,
            ) -> Result<Response<api::$Listed>, Status> {
                self.list_trouble().await?;
                let ($objects, next_page_token) = self.page(&request.get_ref().page_token);
                Ok(Response::new(api::$Listed {
                    $objects,
                    next_page_token,
                }))
            }

            async fn $delete(
                &self,
                request: Request<api::$Delete>,
            ) -> Result<Response<()>, Status> {
                let request = request.into_inner();
                self.delete::<api::$kind>(&request.name, request.allow_missing)
            }

            async fn $update(
                &self,
                request: Request<api::$Update>,
            ) -> Result<Response<api::$kind>, Status> {
                let request = request.into_inner();
                let change = request.$object.unwrap_or_default();
                self.update(&change.name, &change, request.update_mask)
            }
        }
    };
}

serve!(
    Vrf, api::vrf_service_server::VrfService, "vrfs",
    create_vrf(CreateVrfRequest { vrf_id, vrf }),
    get_vrf(GetVrfRequest),
    list_vrfs(ListVrfsRequest -> ListVrfsResponse { vrfs }),
    delete_vrf(DeleteVrfRequest),
    update_vrf(UpdateVrfRequest)
);
serve!(
    LogicalBridge, api::logical_bridge_service_server::LogicalBridgeService, "logicalBridges",
    create_logical_bridge(CreateLogicalBridgeRequest { logical_bridge_id, logical_bridge }),
    get_logical_bridge(GetLogicalBridgeRequest),
    list_logical_bridges(ListLogicalBridgesRequest -> ListLogicalBridgesResponse { logical_bridges }),
    delete_logical_bridge(DeleteLogicalBridgeRequest),
    update_logical_bridge(UpdateLogicalBridgeRequest)
);
serve!(
    BridgePort, api::bridge_port_service_server::BridgePortService, "bridgePorts",
    create_bridge_port(CreateBridgePortRequest { bridge_port_id, bridge_port }),
    get_bridge_port(GetBridgePortRequest),
    list_bridge_ports(ListBridgePortsRequest -> ListBridgePortsResponse { bridge_ports }),
    delete_bridge_port(DeleteBridgePortRequest),
    update_bridge_port(UpdateBridgePortRequest)
);
serve!(
    Svi, api::svi_service_server::SviService, "svis",
    create_svi(CreateSviRequest { svi_id, svi }),
    get_svi(GetSviRequest),
    list_svis(ListSvisRequest -> ListSvisResponse { svis }),
    delete_svi(DeleteSviRequest),
    update_svi(UpdateSviRequest)
);
