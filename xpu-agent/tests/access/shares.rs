//! What one caller leaves to others.

use std::process::Command;

use http::Response;
use hyper::body::Incoming;
use tokio::{io::AsyncReadExt, net::UnixStream};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use xpu_agent::access::limits::Reason;
use xpu_proto::evpn_gw::v1alpha1::{ListVrfsRequest, vrf_service_client::VrfServiceClient};

use crate::{
    raw::{Raw, Script, code},
    rig::{Rig, Target, call, eventually, from, is, knock, path, run},
};

#[tokio::test]
async fn connections_of_one_peer_are_bounded() {
    let rig = Rig::new("[limits]\nconnections_per_peer = 2").await;
    let limits = rig.gate.limits().clone();
    let socket = rig.unix();
    let first = UnixStream::connect(&socket).await.unwrap();
    let _second = UnixStream::connect(&socket).await.unwrap();
    eventually("two connections", || limits.connections() == 2).await;
    let mut third = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(
        third.read(&mut [0; 64]).await.unwrap_or(0),
        0,
        "it is closed"
    );
    assert_eq!(limits.refused(Reason::ConnectionsPerPeer), 1);
    // Loopback is another peer.
    is(
        &call(&Target::Clear(rig.tcp), &path("Vrf", "ListVrfs"), None).await,
        Code::Ok,
        "",
    );
    drop(first);
    eventually("one connection", || limits.connections() == 1).await;
    is(
        &call(&Target::Unix(&socket), &path("Vrf", "ListVrfs"), None).await,
        Code::Ok,
        "",
    );
    drop(_second);
    rig.stop().await;
}

/// Whoever is here may take any address of 127.0.0.0/8.
#[tokio::test]
async fn loopback_is_one_peer_whatever_the_address() {
    let rig = Rig::new("[limits]\nconnections_per_peer = 2").await;
    let limits = rig.gate.limits().clone();
    let held = [from(2, rig.tcp).await, from(3, rig.http).await];
    eventually("two connections", || limits.connections() == 2).await;
    let mut third = from(4, rig.tcp).await.unwrap();
    assert_eq!(
        third.read(&mut [0; 64]).await.unwrap_or(0),
        0,
        "it is closed"
    );
    assert_eq!(limits.refused(Reason::ConnectionsPerPeer), 1);
    drop(held);
    rig.stop().await;
}

/// What anybody can do who gets at a port leaves room for whom the node depends on, and for who
/// looks whether the agent is there.
#[tokio::test]
async fn streams_over_tcp_do_not_lock_the_unix_socket_and_probes_out() {
    let rig = Rig::new("[limits]\ncalls = 16").await;
    let limits = rig.gate.limits().clone();
    let mut held = Vec::new();
    for number in 0..20 {
        let mut client = HealthClient::new(rig.channel_from(2 + number % 2));
        match client.watch(HealthCheckRequest::default()).await {
            Ok(stream) => held.push(stream),
            Err(refused) => {
                let info = refused.get_details_error_info().unwrap();
                assert_eq!(info.metadata["config"], "limits.calls");
                assert_eq!(info.metadata["limit"], "14");
            }
        }
    }
    assert_eq!((held.len(), limits.calls()), (14, 14));
    let list = path("Vrf", "ListVrfs");
    is(
        &call(&Target::Unix(&rig.unix()), &list, None).await,
        Code::Ok,
        "",
    );
    let status = async |path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null", "--max-time", "20"]);
        command.args(["--write-out", "%{http_code}"]);
        command.arg(format!("http://{}{path}", rig.http));
        String::from_utf8(run(command).await.stdout).unwrap()
    };
    for (path, expected) in [
        ("/healthz", "200"),
        ("/readyz", "200"),
        ("/metrics", "429"),
        ("/v1/vrfs", "429"),
    ] {
        assert_eq!(status(path).await, expected, "{path}");
    }
    drop(held);
    rig.stop().await;
}

#[tokio::test]
async fn the_rate_is_held_per_caller() {
    let rig = Rig::new("[limits]\ncalls_per_second = 1\ncalls_burst = 3").await;
    let mut client = VrfServiceClient::new(rig.channel());
    let mut refused = Vec::new();
    for _ in 0..10 {
        refused.extend(client.list_vrfs(ListVrfsRequest::default()).await.err());
    }
    let first = refused.first().unwrap();
    assert_eq!(first.code(), Code::ResourceExhausted, "{first}");
    assert!(
        first.message().contains("limits.calls_per_second"),
        "{first}"
    );
    assert!(first.get_details_retry_info().is_some());
    // Loopback is another caller.
    is(
        &call(&Target::Clear(rig.tcp), &path("Vrf", "ListVrfs"), None).await,
        Code::Ok,
        "",
    );
    drop(client);
    rig.stop().await;
}

/// A call whose message does not come to its end, and holds its place.
fn endless(rig: &Rig, sent: &[u8]) -> tokio::task::JoinHandle<Response<Incoming>> {
    let (socket, body) = (rig.unix(), Script::new(sent, false));
    let create = path("Vrf", "CreateVrf");
    tokio::spawn(async move {
        let mut client = Raw::connect(&socket, 65_535).await;
        client.call(&create, body).await.unwrap()
    })
}

/// The refusal of a limit that passes.
#[track_caller]
fn passes(answer: &Response<Incoming>, key: &str) {
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["config"], key);
    assert!(status.get_details_retry_info().is_some(), "{status}");
}

#[tokio::test]
async fn calls_under_way_are_bounded_over_all_callers() {
    let rig = Rig::new("[limits]\ncalls = 2").await;
    let limits = rig.gate.limits().clone();
    let list = path("Vrf", "ListVrfs");
    let held = [endless(&rig, &[0, 0]), endless(&rig, &[0, 0])];
    eventually("two calls", || limits.calls() == 2).await;
    let mut client = Raw::connect(&rig.unix(), 65_535).await;
    let answer = client.call(&list, Script::new(&[0; 5], true)).await;
    passes(&answer.unwrap(), "limits.calls");
    assert_eq!(limits.refused(Reason::Calls), 1);
    // Another caller has no place of its own.
    let refused = knock(&Target::Clear(rig.tcp), &list, None).await;
    is(&refused, Code::ResourceExhausted, "limits.calls");
    for call in held {
        call.abort();
    }
    eventually("no call", || limits.calls() == 0).await;
    let answer = client.call(&list, Script::new(&[0; 5], true)).await;
    assert_eq!(answer.unwrap().status(), 200);
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn messages_under_way_are_bounded() {
    let rig = Rig::new("[limits]\nmessage_bytes = 16384\nrequest_bytes = 32768").await;
    let limits = rig.gate.limits().clone();
    // Of 16000 bytes 10000 are there: two such are more than one caller's half.
    let part = [&[0, 0, 0, 0x3e, 0x80][..], &[0; 10_000]].concat();
    let (first, second) = (endless(&rig, &part), endless(&rig, &part));
    let (answer, held) = match futures::future::select(first, second).await {
        futures::future::Either::Left(ended) => ended,
        futures::future::Either::Right(ended) => ended,
    };
    passes(&answer.unwrap(), "limits.request_bytes");
    assert_eq!(limits.refused(Reason::RequestBytes), 1);
    held.abort();
    eventually("no call", || limits.calls() == 0).await;
    // Their room is given back.
    let whole = [&[0, 0, 0, 0x3e, 0x80][..], &[0; 16_000]].concat();
    let mut client = Raw::connect(&rig.unix(), 65_535).await;
    let create = path("Vrf", "CreateVrf");
    let answer = client
        .call(&create, Script::new(&whole, true))
        .await
        .unwrap();
    assert_ne!(code(&answer), Some(Code::ResourceExhausted), "it was read");
    drop((answer, client));
    rig.stop().await;
}
