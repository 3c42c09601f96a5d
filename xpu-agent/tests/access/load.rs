//! Many clients, good and bad ones: what they hold is bounded, and nothing of them stays.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::{net::UnixStream, task::JoinSet};
use tonic::{Code, transport::Channel};
use xpu_agent::store::Missing;
use xpu_model::{Id, VrfSpec};
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortSpec, BridgePortType, CreateBridgePortRequest,
    CreateLogicalBridgeRequest, DeleteVrfRequest, ListVrfsRequest, LogicalBridge,
    LogicalBridgeSpec, bridge_port_service_client::BridgePortServiceClient,
    logical_bridge_service_client::LogicalBridgeServiceClient,
    vrf_service_client::VrfServiceClient,
};

use crate::{
    raw::{Raw, Script},
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

/// One caller's changes do not fill the store's queue, however many it asks for at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_does_not_shut_others_out_of_the_store() {
    let rig = Rig::new(&format!("[access]\nloopback = \"admin\"\n{ROOM}")).await;
    let (begins, begun) = tokio::sync::oneshot::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let store = rig.store.clone();
    let stalled = tokio::spawn(async move {
        let hold = move |_: Option<&VrfSpec>| {
            begins.send(()).unwrap();
            let _ = waits.recv();
            Err(())
        };
        let id = Id::user("nobody-s").unwrap();
        store.update(id, Missing::Create, hold).await
    });
    begun.await.unwrap();

    let delete = |channel: Channel| async move {
        let request = DeleteVrfRequest {
            name: "vrf-none".to_owned(),
            allow_missing: true,
        };
        VrfServiceClient::new(channel).delete_vrf(request).await
    };
    let (_, places) = rig.store.queue();
    // A connection has 128 calls.
    let channels: Vec<_> = (0..8).map(|_| rig.channel()).collect();
    let many = (0..places + 100).zip(channels.iter().cycle().cloned());
    let mut many: JoinSet<_> = many.map(|(_, channel)| delete(channel)).collect();
    let share = places / 2;
    for _ in share..places + 100 {
        let refused = many.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.message().contains("of this caller"), "{refused}");
    }
    assert_eq!(rig.store.queue(), (share, places));
    let other = tokio::spawn(delete(rig.channel_from(2)));
    eventually("the other waits", || rig.store.queue().0 == share + 1).await;
    drop(go_on);
    other.await.unwrap().unwrap();
    assert!(stalled.await.unwrap().is_err());
    many.shutdown().await;
    drop(channels);
    rig.stop().await;
}
