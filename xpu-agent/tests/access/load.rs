//! Many clients, good and bad ones: what they hold is bounded, and nothing of them stays.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::net::UnixStream;
use tonic::{Code, transport::Channel};
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortSpec, BridgePortType, CreateBridgePortRequest,
    CreateLogicalBridgeRequest, ListVrfsRequest, LogicalBridge, LogicalBridgeSpec,
    bridge_port_service_client::BridgePortServiceClient,
    logical_bridge_service_client::LogicalBridgeServiceClient,
    vrf_service_client::VrfServiceClient,
};

use crate::{
    limits::{Raw, Script},
    rig::{Rig, eventually, path},
};

const CONNECTIONS: usize = 1_000;
const CALLS: u32 = 10_000;
const ROOM: &str = "[limits]\nconnections = 2000\nconnections_per_peer = 2000\n\
                    calls_per_second = 1000000\ncalls_burst = 1000000\n";

fn port(number: u32) -> CreateBridgePortRequest {
    let [_, a, b, c] = number.to_be_bytes();
    CreateBridgePortRequest {
        bridge_port_id: format!("port-{number}"),
        bridge_port: Some(BridgePort {
            spec: Some(BridgePortSpec {
                mac_address: vec![2, 0, 0, a, b, c],
                ptype: BridgePortType::Access.into(),
                logical_bridges: vec!["logicalBridges/blue-1".to_owned()],
            }),
            ..Default::default()
        }),
    }
}

/// Creates a port; when the agent says that it is busy, again.
async fn create(channel: Channel, number: u32) -> Result<(), tonic::Status> {
    let mut client = BridgePortServiceClient::new(channel);
    let mut again = tokio::time::interval(Duration::from_millis(20));
    loop {
        match client.create_bridge_port(port(number)).await {
            Err(busy) if busy.code() == Code::Unavailable => again.tick().await,
            answer => return answer.map(drop),
        };
    }
}

async fn bridge(rig: &Rig) {
    let request = CreateLogicalBridgeRequest {
        logical_bridge_id: "blue-1".to_owned(),
        logical_bridge: Some(LogicalBridge {
            spec: Some(LogicalBridgeSpec {
                vlan_id: 100,
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let mut client = LogicalBridgeServiceClient::new(rig.channel());
    client.create_logical_bridge(request).await.unwrap();
}

/// 1,000 connections make 10,000 calls: each port is created, and then created again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_create_ports() {
    let rig = Rig::new(ROOM).await;
    bridge(&rig).await;
    let limits = rig.gate.limits().clone();
    let channels: Vec<_> = (0..CONNECTIONS).map(|_| rig.channel()).collect();
    let calls = (0..CALLS).map(|call| {
        let channel = channels[call as usize % CONNECTIONS].clone();
        // Two calls after each other for each port.
        create(channel, call / 2)
    });
    let failed: Vec<_> = stream::iter(calls)
        .buffer_unordered(CONNECTIONS)
        .filter_map(|answer| std::future::ready(answer.err()))
        .collect()
        .await;
    assert_eq!(
        failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [""; 0]
    );
    assert!(
        limits.connections() >= CONNECTIONS,
        "{}",
        limits.connections()
    );
    assert_eq!(limits.calls(), 0);
    drop(channels);
    eventually("nobody is connected", || limits.connections() == 0).await;
    rig.stop().await;
}

/// Whatever a client does to its connection and calls, nothing of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_clients_leave_nothing() {
    let config = format!("{ROOM}request_ms = 60000\nhandshake_ms = 60000");
    let rig = Rig::new(&config).await;
    bridge(&rig).await;
    let limits = rig.gate.limits().clone();
    let mut good = VrfServiceClient::new(rig.channel());
    good.list_vrfs(ListVrfsRequest::default()).await.unwrap();

    let create = path("BridgePort", "CreateBridgePort");
    let mut held = Vec::new();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(UnixStream::connect(rig.unix()).await.unwrap());
        let mut raw = Raw::connect(&rig.unix(), 65_535).await;
        let create = create.clone();
        // In the middle of its message.
        let half = Script::new(&[0, 0, 0, 1, 0, 10], false);
        held.push(tokio::spawn(async move {
            raw.call(&create, half).await.map(drop)
        }));
        good.list_vrfs(ListVrfsRequest::default()).await.unwrap();
    }
    eventually("calls are under way", || limits.calls() == 200).await;
    assert_eq!(limits.connections(), 401);
    // All of them vanish in the middle of it.
    for call in &held {
        call.abort();
    }
    drop((held, silent));
    eventually("they are gone", || {
        (limits.connections(), limits.calls()) == (1, 0)
    })
    .await;
    good.list_vrfs(ListVrfsRequest::default()).await.unwrap();
    drop(good);
    rig.stop().await;
}
