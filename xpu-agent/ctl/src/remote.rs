//! The agent's services, seen through one trait: the four kinds differ in nothing but
//! names. Calls return the agent's `Status` as it is; `commands.rs` puts it in context.

use std::time::Duration;

use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Request, Status};
use xpu_model::{Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1 as api;

/// A connection to the agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Cheap to clone.
    pub channel: Channel,
    /// How long one call may take; each call tells the agent so (`grpc-timeout`).
    pub timeout: Duration,
}

impl Agent {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

/// What the agent can be asked about one kind of object.
pub trait Remote: Sized {
    /// Which kind this is.
    const KIND: Kind;

    /// The API's answer to List: a page, or here all of it.
    type List: Serialize;

    /// Creates an object; an empty id asks the agent for a UUID.
    async fn create(agent: &Agent, id: String, object: Self) -> Result<Self, Status>;

    /// Reads an object.
    async fn get(agent: &Agent, key: &ObjectKey) -> Result<Self, Status>;

    /// Reads a page: its objects and the token of the next, empty on the last.
    async fn list(agent: &Agent, page_token: String) -> Result<(Vec<Self>, String), Status>;

    /// Takes the fields of `mask` over from `object`.
    async fn update(
        agent: &Agent,
        key: &ObjectKey,
        object: Self,
        mask: Vec<String>,
    ) -> Result<Self, Status>;

    /// Deletes an object.
    async fn delete(agent: &Agent, key: &ObjectKey, allow_missing: bool) -> Result<(), Status>;

    /// All objects as the API's List answers when they fit one page.
    fn as_list(objects: Vec<Self>) -> Self::List;
}

macro_rules! remote {
    (
        $kind:ident, $client:path,
        $create:ident($Create:ident { $id:ident, $object:ident }),
        $get:ident($Get:ident),
        $list:ident($List:ident -> $Listed:ident { $objects:ident }),
        $delete:ident($Delete:ident),
        $update:ident($Update:ident)
    ) => {
        impl Remote for api::$kind {
            const KIND: Kind = Kind::$kind;
            type List = api::$Listed;

            async fn create(agent: &Agent, id: String, object: Self) -> Result<Self, Status> {
                let message = api::$Create {
                    $id: id,
                    $object: Some(object),
                };
                let mut client = <$client>::new(agent.channel.clone());
                Ok(client.$create(agent.request(message)).await?.into_inner())
            }

            async fn get(agent: &Agent, key: &ObjectKey) -> Result<Self, Status> {
                let message = api::$Get {
                    name: key.to_string(),
                };
                let mut client = <$client>::new(agent.channel.clone());
                Ok(client.$get(agent.request(message)).await?.into_inner())
            }

            async fn list(
                agent: &Agent,
                page_token: String,
            ) -> Result<(Vec<Self>, String), Status> {
                let message = api::$List {
                    page_size: PAGE_SIZE,
                    page_token,
                };
                let mut client = <$client>::new(agent.channel.clone());
                let page = client.$list(agent.request(message)).await?.into_inner();
                Ok((page.$objects, page.next_page_token))
            }

            async fn update(
                agent: &Agent,
                key: &ObjectKey,
                object: Self,
                mask: Vec<String>,
            ) -> Result<Self, Status> {
                let message = api::$Update {
                    $object: Some(Self {
                        name: key.to_string(),
                        ..object
                    }),
                    update_mask: Some(xpu_proto::FieldMask { paths: mask }),
                    allow_missing: false,
                };
                let mut client = <$client>::new(agent.channel.clone());
                Ok(client.$update(agent.request(message)).await?.into_inner())
            }

            async fn delete(
                agent: &Agent,
                key: &ObjectKey,
                allow_missing: bool,
            ) -> Result<(), Status> {
                let message = api::$Delete {
                    name: key.to_string(),
                    allow_missing,
                };
                let mut client = <$client>::new(agent.channel.clone());
                client.$delete(agent.request(message)).await?;
                Ok(())
            }

            fn as_list($objects: Vec<Self>) -> Self::List {
                api::$Listed {
                    $objects,
                    next_page_token: String::new(),
                }
            }
        }
    };
}

/// The most the agent gives at once.
const PAGE_SIZE: i32 = 250;

remote!(
    Vrf, api::vrf_service_client::VrfServiceClient<Channel>,
    create_vrf(CreateVrfRequest { vrf_id, vrf }),
    get_vrf(GetVrfRequest),
    list_vrfs(ListVrfsRequest -> ListVrfsResponse { vrfs }),
    delete_vrf(DeleteVrfRequest),
    update_vrf(UpdateVrfRequest)
);
remote!(
    LogicalBridge, api::logical_bridge_service_client::LogicalBridgeServiceClient<Channel>,
    create_logical_bridge(CreateLogicalBridgeRequest { logical_bridge_id, logical_bridge }),
    get_logical_bridge(GetLogicalBridgeRequest),
    list_logical_bridges(ListLogicalBridgesRequest -> ListLogicalBridgesResponse { logical_bridges }),
    delete_logical_bridge(DeleteLogicalBridgeRequest),
    update_logical_bridge(UpdateLogicalBridgeRequest)
);
remote!(
    BridgePort, api::bridge_port_service_client::BridgePortServiceClient<Channel>,
    create_bridge_port(CreateBridgePortRequest { bridge_port_id, bridge_port }),
    get_bridge_port(GetBridgePortRequest),
    list_bridge_ports(ListBridgePortsRequest -> ListBridgePortsResponse { bridge_ports }),
    delete_bridge_port(DeleteBridgePortRequest),
    update_bridge_port(UpdateBridgePortRequest)
);
remote!(
    Svi, api::svi_service_client::SviServiceClient<Channel>,
    create_svi(CreateSviRequest { svi_id, svi }),
    get_svi(GetSviRequest),
    list_svis(ListSvisRequest -> ListSvisResponse { svis }),
    delete_svi(DeleteSviRequest),
    update_svi(UpdateSviRequest)
);
