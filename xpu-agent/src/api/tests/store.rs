//! What the store cannot do, as clients of both faces are told.

use std::sync::atomic::Ordering::Relaxed;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tonic::service::Routes;
use tower::ServiceExt;
use xpu_proto::evpn_gw::v1alpha1::logical_bridge_service_client::LogicalBridgeServiceClient;

use super::*;
use crate::{app, config::LimitsConfig, store};

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: Code,
    reason: String,
    message: String,
}

#[derive(Clone, Copy, Debug)]
enum Face {
    Grpc,
    Http,
}

impl Face {
    /// Creates an object, which must fail; over HTTP with this status.
    async fn create(self, api: Api, http: StatusCode) -> Refusal {
        let limits = LimitsConfig::default();
        let services = app::services(api, &limits).await.unwrap();
        match self {
            Self::Grpc => grpc(services).await,
            Self::Http => {
                let router = crate::http::router(&services, limits.message_bytes, Router::new());
                let (status, refusal) = post(router.unwrap()).await;
                assert_eq!(status, http, "{refusal:?}");
                refusal
            }
        }
    }
}

async fn grpc(services: Routes) -> Refusal {
    let mut client = LogicalBridgeServiceClient::new(services);
    let request = CreateLogicalBridgeRequest {
        logical_bridge_id: "net-blue".to_owned(),
        logical_bridge: Some(bridge("", 100)),
    };
    let status = client.create_logical_bridge(request).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "network.opiproject.org");
    Refusal {
        code: status.code(),
        reason: info.reason,
        message: status.message().to_owned(),
    }
}

async fn post(router: Router) -> (StatusCode, Refusal) {
    let request = Request::post("/v1/logicalBridges?logicalBridgeId=net-blue")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"spec":{"vlanId":100}}"#));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let code = json["code"].as_i64().unwrap().try_into().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let refusal = Refusal {
        code: Code::from_i32(code),
        reason: text(&json["details"][0]["reason"]),
        message: text(&json["message"]),
    };
    (status, refusal)
}

#[tokio::test]
async fn a_full_queue_is_told_as_such() {
    for face in [Face::Grpc, Face::Http] {
        let rig = Rig::new();
        let go_on = rig.stall().await;
        let (_, places) = rig.store.queue();
        let delete = |_| {
            let mut delete = Box::pin(rig.store.delete::<LogicalBridgeSpec>(id()));
            assert!(delete.as_mut().now_or_never().is_none());
            delete
        };
        let waiting: Vec<_> = (0..places).map(delete).collect();
        let refusal = face
            .create(rig.api.clone(), StatusCode::SERVICE_UNAVAILABLE)
            .await;
        let expected = Refusal {
            code: Code::Unavailable,
            reason: "STORE_BUSY".to_owned(),
            message: format!("{places} changes are waiting to be stored; try again"),
        };
        assert_eq!(refusal, expected, "{face:?}");
        drop((go_on, waiting));
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_then_that_the_agent_stops() {
    for face in [Face::Grpc, Face::Http] {
        let (store, broken) = store::tests::on_a_disk();
        let rig = Rig::over(store, tempfile::tempdir().unwrap());
        broken.store(true, Relaxed);
        let refusal = face
            .create(rig.api.clone(), StatusCode::INTERNAL_SERVER_ERROR)
            .await;
        let Refusal {
            code,
            reason,
            message,
        } = &refusal;
        assert_eq!((*code, reason.as_str()), (Code::Internal, "DISK_FAILED"));
        let parts = [
            "/test/intent.redb cannot be written",
            "see to the space and the health of the disk that holds it, and start the agent again",
        ];
        for part in parts {
            assert!(message.contains(part), "{face:?}: {message}");
        }
        let refusal = face.create(rig.api, StatusCode::SERVICE_UNAVAILABLE).await;
        let expected = Refusal {
            code: Code::Unavailable,
            reason: "AGENT_STOPPING".to_owned(),
            message: "the agent is stopping; try again when it is back".to_owned(),
        };
        assert_eq!(refusal, expected, "{face:?}");
    }
}
