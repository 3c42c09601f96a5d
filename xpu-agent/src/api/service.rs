//! The four gRPC services: each method picks its request apart and calls the generic operation.

use tonic::{Request, Response, Status};
use xpu_model::{BridgePortSpec, LogicalBridgeSpec, SviSpec, VrfSpec};
use xpu_proto::evpn_gw::v1alpha1::{
    self as pb, bridge_port_service_server::BridgePortService,
    logical_bridge_service_server::LogicalBridgeService, svi_service_server::SviService,
    vrf_service_server::VrfService,
};

use super::Api;

/// The services differ in names alone, which the proto compiler puts into types and methods.
macro_rules! service {
    (
        $service:ident for $spec:ty, $message:ident as $field:ident, $id:ident;
        create $create:ident($create_request:ident), get $get:ident($get_request:ident),
        list $list:ident($list_request:ident) -> $list_response:ident { $plural:ident },
        update $update:ident($update_request:ident), delete $delete:ident($delete_request:ident)
    ) => {
        #[tonic::async_trait]
        impl $service for Api {
            async fn $create(
                &self,
                request: Request<pb::$create_request>,
            ) -> Result<Response<pb::$message>, Status> {
                let (
                    metadata,
                    extensions,
                    pb::$create_request {
                        $id: id,
                        $field: message,
                    },
                ) = request.into_parts();
                let api = &self.of_caller(&extensions);
                api.within(&metadata, |end| async move {
                    api.create::<$spec>(&id, message, end).await
                })
                .await
            }

            async fn $get(
                &self,
                request: Request<pb::$get_request>,
            ) -> Result<Response<pb::$message>, Status> {
                let pb::$get_request { name } = request.into_inner();
                Ok(Response::new(self.get::<$spec>(&name)?))
            }

            async fn $list(
                &self,
                request: Request<pb::$list_request>,
            ) -> Result<Response<pb::$list_response>, Status> {
                let pb::$list_request {
                    page_size,
                    page_token,
                } = request.into_inner();
                let ($plural, next_page_token) = self.list::<$spec>(page_size, &page_token)?;
                Ok(Response::new(pb::$list_response {
                    $plural,
                    next_page_token,
                }))
            }

            async fn $update(
                &self,
                request: Request<pb::$update_request>,
            ) -> Result<Response<pb::$message>, Status> {
                let (metadata, extensions, request) = request.into_parts();
                let pb::$update_request {
                    $field: message,
                    update_mask,
                    allow_missing,
                } = request;
                let api = &self.of_caller(&extensions);
                api.within(&metadata, |end| async move {
                    api.update::<$spec>(message, update_mask, allow_missing, end)
                        .await
                })
                .await
            }

            async fn $delete(
                &self,
                request: Request<pb::$delete_request>,
            ) -> Result<Response<()>, Status> {
                let (
                    metadata,
                    extensions,
                    pb::$delete_request {
                        name,
                        allow_missing,
                    },
                ) = request.into_parts();
                let api = &self.of_caller(&extensions);
                api.within(&metadata, |end| async move {
                    api.delete::<$spec>(&name, allow_missing, end).await
                })
                .await
            }
        }
    };
}

service! {
    VrfService for VrfSpec, Vrf as vrf, vrf_id;
    create create_vrf(CreateVrfRequest), get get_vrf(GetVrfRequest),
    list list_vrfs(ListVrfsRequest) -> ListVrfsResponse { vrfs },
    update update_vrf(UpdateVrfRequest), delete delete_vrf(DeleteVrfRequest)
}

service! {
    LogicalBridgeService for LogicalBridgeSpec, LogicalBridge as logical_bridge, logical_bridge_id;
    create create_logical_bridge(CreateLogicalBridgeRequest),
    get get_logical_bridge(GetLogicalBridgeRequest),
    list list_logical_bridges(ListLogicalBridgesRequest)
        -> ListLogicalBridgesResponse { logical_bridges },
    update update_logical_bridge(UpdateLogicalBridgeRequest),
    delete delete_logical_bridge(DeleteLogicalBridgeRequest)
}

service! {
    BridgePortService for BridgePortSpec, BridgePort as bridge_port, bridge_port_id;
    create create_bridge_port(CreateBridgePortRequest),
    get get_bridge_port(GetBridgePortRequest),
    list list_bridge_ports(ListBridgePortsRequest) -> ListBridgePortsResponse { bridge_ports },
    update update_bridge_port(UpdateBridgePortRequest),
    delete delete_bridge_port(DeleteBridgePortRequest)
}

service! {
    SviService for SviSpec, Svi as svi, svi_id;
    create create_svi(CreateSviRequest), get get_svi(GetSviRequest),
    list list_svis(ListSvisRequest) -> ListSvisResponse { svis },
    update update_svi(UpdateSviRequest), delete delete_svi(DeleteSviRequest)
}
