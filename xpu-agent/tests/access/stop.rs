//! Clients that are there when the agent stops.

use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::rig::Rig;

#[tokio::test]
async fn streams_end_with_the_agent() {
    let rig = Rig::new("").await;
    let mut health = HealthClient::new(rig.channel());
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let mut states = watch.into_inner();
    assert!(states.message().await.unwrap().is_some());

    let mut reflection = ServerReflectionClient::new(rig.channel());
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let question = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    ask.send(question).await.unwrap();
    let answered = reflection.server_reflection_info(ReceiverStream::new(asked));
    let mut answers = answered.await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());

    // Neither client does anything about it.
    let stopped = tokio::time::timeout(Duration::from_secs(2), rig.stop()).await;
    assert!(stopped.is_ok(), "the streams hold the agent up");
    for ended in [
        states.message().await.map(drop),
        answers.message().await.map(drop),
    ] {
        let status = ended.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(
            status.message().contains("the agent is stopping"),
            "{status}"
        );
    }
    drop((health, reflection, ask));
}
