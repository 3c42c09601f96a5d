//! Callers that do as they should.

use std::{ops::Range, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::Instant};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortSpec, BridgePortType, CreateBridgePortRequest,
    CreateLogicalBridgeRequest, GetBridgePortRequest, LogicalBridge, LogicalBridgeSpec,
    bridge_port_service_client::BridgePortServiceClient,
    logical_bridge_service_client::LogicalBridgeServiceClient,
};

const BRIDGE: &str = "bench-1";

/// A connection of its own, made when it is first used.
#[must_use]
pub fn channel(socket: PathBuf) -> Channel {
    let dial = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent").connect_with_connector_lazy(dial)
}

/// The LogicalBridge that all ports are in.
///
/// # Errors
/// The server's.
pub async fn prepare(channel: Channel) -> Result<(), Status> {
    let spec = LogicalBridgeSpec {
        vlan_id: 100,
        ..Default::default()
    };
    let request = CreateLogicalBridgeRequest {
        logical_bridge_id: BRIDGE.to_owned(),
        logical_bridge: Some(LogicalBridge {
            spec: Some(spec),
            ..Default::default()
        }),
    };
    let mut client = LogicalBridgeServiceClient::new(channel);
    client.create_logical_bridge(request).await.map(drop)
}

fn id(number: usize) -> String {
    format!("port-{number}")
}

async fn create(channel: Channel, number: usize) -> Result<(), Status> {
    let [.., a, b, c] = number.to_be_bytes();
    let request = CreateBridgePortRequest {
        bridge_port_id: id(number),
        bridge_port: Some(BridgePort {
            spec: Some(BridgePortSpec {
                mac_address: vec![2, 0, 0, a, b, c],
                ptype: BridgePortType::Access.into(),
                logical_bridges: vec![BRIDGE.to_owned()],
            }),
            ..Default::default()
        }),
    };
    let mut client = BridgePortServiceClient::new(channel);
    let mut again = tokio::time::interval(Duration::from_millis(20));
    loop {
        match client.create_bridge_port(request.clone()).await {
            // The store's queue is full.
            Err(busy) if busy.code() == Code::Unavailable => again.tick().await,
            answer => return answer.map(drop),
        };
    }
}

/// Creates ports of these numbers, `at_once` at a time, over all channels; how long that took.
///
/// # Errors
/// The first that the server refuses.
pub async fn create_all(
    channels: &[Channel],
    numbers: Range<usize>,
    at_once: usize,
) -> Result<Duration> {
    let start = Instant::now();
    let channels = channels.iter().cycle().cloned();
    let calls = numbers
        .zip(channels)
        .map(|(number, channel)| create(channel, number));
    let failed = stream::iter(calls)
        .buffer_unordered(at_once)
        .filter_map(|answer| std::future::ready(answer.err()));
    let failed: Vec<_> = failed.collect().await;
    ensure!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    Ok(start.elapsed())
}

/// Gets a port over and over; each answer's time in µs.
///
/// # Errors
/// The server's.
pub async fn get(channel: &Channel, times: usize) -> Result<Vec<f64>, Status> {
    let mut client = BridgePortServiceClient::new(channel.clone());
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let request = GetBridgePortRequest { name: id(0) };
        let start = Instant::now();
        client.get_bridge_port(request).await?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(samples)
}
