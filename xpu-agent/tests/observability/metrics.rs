//! `/metrics`, parsed by `prometheus-parse`, and its values while something happens.

use std::{collections::BTreeSet, time::UNIX_EPOCH};

use prometheus_parse::{Scrape, Value};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use xpu_agent::{
    access::{self, Listener, Protocol},
    config::Transport,
};
use xpu_proto::evpn_gw::v1alpha1::{
    BpOperStatus, BridgePort, BridgePortSpec, BridgePortType, CreateBridgePortRequest,
    CreateLogicalBridgeRequest, DeleteLogicalBridgeRequest, GetVrfRequest, LogicalBridge,
    LogicalBridgeSpec, bridge_port_service_client::BridgePortServiceClient,
    logical_bridge_service_client::LogicalBridgeServiceClient,
    vrf_service_client::VrfServiceClient,
};

use crate::rig::{Rig, World, until};

pub fn parse(text: &str) -> Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).expect("Prometheus' text format")
}

/// The sum of a metric's samples that have all of these labels; a histogram's is its count.
fn sum(scrape: &Scrape, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&prometheus_parse::Sample| {
        sample.metric == metric
            && labels
                .iter()
                .all(|(name, value)| sample.labels.get(name) == Some(*value))
    };
    let values = scrape.samples.iter().filter(has).map(|it| match &it.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
        other => panic!("{metric}: {other:?}"),
    });
    values.sum()
}

impl Rig {
    async fn value(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&parse(&self.scrape().await), metric, labels)
    }

    async fn until_value(&self, metric: &str, labels: &[(&str, &str)], wanted: f64) {
        until(&format!("{metric}{labels:?} = {wanted}"), async || {
            (self.value(metric, labels).await >= wanted).then_some(())
        })
        .await;
    }
}

/// Makes `net-1`, a LogicalBridge.
pub async fn create_bridge(rig: &Rig) {
    let bridge = LogicalBridge {
        spec: Some(LogicalBridgeSpec {
            vlan_id: 100,
            ..LogicalBridgeSpec::default()
        }),
        ..LogicalBridge::default()
    };
    LogicalBridgeServiceClient::new(rig.channel.clone())
        .create_logical_bridge(CreateLogicalBridgeRequest {
            logical_bridge_id: "net-1".to_owned(),
            logical_bridge: Some(bridge),
        })
        .await
        .unwrap();
}

/// The request for `port-1` in it.
pub fn port_request() -> CreateBridgePortRequest {
    CreateBridgePortRequest {
        bridge_port_id: "port-1".to_owned(),
        bridge_port: Some(BridgePort {
            spec: Some(BridgePortSpec {
                mac_address: vec![2, 0, 0, 0, 0, 1],
                ptype: BridgePortType::Access.into(),
                logical_bridges: vec!["net-1".to_owned()],
            }),
            ..BridgePort::default()
        }),
    }
}

/// Every family has a help text and a type, every sample belongs to one, and names are made as
/// Prometheus' documentation asks (what `promtool check metrics` looks for).
#[tokio::test]
async fn the_text_is_well_formed() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    let text = rig.scrape().await;
    let scrape = parse(&text);
    let named = |kind: &str| -> BTreeSet<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split(' ').next()).collect()
    };
    let (helped, typed) = (named("# HELP "), named("# TYPE "));
    assert_eq!(helped, typed);
    assert!(helped.len() >= 30, "{helped:?}");
    for name in &helped {
        assert!(
            name.starts_with("xpu_agent_") || name.starts_with("process_"),
            "{name}"
        );
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let mut words = line.split(' ').skip(2);
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        let milli = ["_ms", "_milliseconds", "_us", "_kilobytes"];
        assert!(!milli.iter().any(|unit| name.ends_with(unit)), "{line}");
    }
    assert!(!scrape.samples.is_empty());
    let (status, open) = rig.get("/metrics", "application/openmetrics-text").await;
    assert_eq!(status, 200);
    assert!(open.ends_with("# EOF\n"), "OpenMetrics has an end");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    let mut vrfs = VrfServiceClient::new(rig.channel.clone());
    let request = GetVrfRequest {
        name: "nobody".to_owned(),
    };
    let refused = vrfs.get_vrf(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let counted = |method: &'static str, code: &'static str| [("method", method), ("code", code)];
    const CALLS: &str = "xpu_agent_rpc_duration_seconds_count";
    rig.until_value(CALLS, &counted("CreateLogicalBridge", "OK"), 1.0)
        .await;
    rig.until_value(CALLS, &counted("GetVrf", "NOT_FOUND"), 1.0)
        .await;
    assert_eq!(rig.value("xpu_agent_rpcs_in_flight", &[]).await, 0.0);

    // A path that somebody thought up makes no label.
    let path = http::uri::PathAndQuery::from_static("/made.up.Service/Of42");
    let mut client = tonic::client::Grpc::new(rig.channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetVrfRequest, GetVrfRequest>::default();
    let request = tonic::Request::new(GetVrfRequest::default());
    let refused = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    rig.until_value(CALLS, &counted("other", "UNIMPLEMENTED"), 1.0)
        .await;
    assert!(!rig.scrape().await.contains("Of42"));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_counted_and_in_flight_no_more() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    // The change is refused by the machine, so the call waits for it.
    rig.linux.send_replace(World {
        refuses: true,
        there: false,
        ..World::default()
    });
    rig.until_value("xpu_agent_reconcile_unobserved_total", &[], 1.0)
        .await;
    let mut ports = BridgePortServiceClient::new(rig.channel.clone());
    let call = tokio::spawn(async move { ports.create_bridge_port(port_request()).await });
    rig.until_value("xpu_agent_rpcs_in_flight", &[], 1.0).await;
    call.abort();
    let labels = [("method", "CreateBridgePort"), ("code", "CANCELLED")];
    rig.until_value("xpu_agent_rpc_duration_seconds_count", &labels, 1.0)
        .await;
    assert_eq!(rig.value("xpu_agent_rpcs_in_flight", &[]).await, 0.0);
}

#[tokio::test]
async fn store_passes_and_objects_move() {
    let rig = Rig::start().await;
    let state = |state: &'static str| [("kind", "logical_bridge"), ("state", state)];
    assert_eq!(rig.value("xpu_agent_objects", &state("up")).await, 0.0);
    create_bridge(&rig).await;
    rig.until_value("xpu_agent_objects", &state("up"), 1.0)
        .await;
    let scrape = parse(&rig.scrape().await);
    let value = |metric: &str, labels: &[(&str, &str)]| sum(&scrape, metric, labels);
    assert_eq!(
        value("xpu_agent_store_commits_total", &[("result", "ok")]),
        1.0
    );
    assert_eq!(
        value("xpu_agent_store_changes_total", &[("result", "made")]),
        1.0
    );
    assert_eq!(
        value("xpu_agent_store_commit_duration_seconds_count", &[]),
        1.0
    );
    assert_eq!(value("xpu_agent_intent_generation", &[]), 1.0);
    for backend in ["linux", "frr"] {
        let labels = [("backend", backend)];
        assert_eq!(value("xpu_agent_reconcile_generation", &labels), 1.0);
        let intent = [("backend", backend), ("cause", "intent")];
        assert_eq!(value("xpu_agent_reconcile_passes_total", &intent), 1.0);
        assert_eq!(
            value("xpu_agent_reconcile_plan_actions_count", &labels),
            1.0
        );
        assert!(value("xpu_agent_reconcile_duration_seconds_count", &labels) >= 2.0);
        assert_eq!(
            value("xpu_agent_reconcile_drift_repaired_total", &labels),
            0.0
        );
    }
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(value("process_start_time_seconds", &[]) > 1.7e9);
}

#[tokio::test]
async fn drift_is_what_somebody_else_changed_and_trouble_makes_a_backoff() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    let linux = [("backend", "linux")];
    const DRIFT: &str = "xpu_agent_reconcile_drift_repaired_total";
    // A change of the intent is none.
    rig.until_value("xpu_agent_reconcile_actions_total", &linux, 1.0)
        .await;
    assert_eq!(rig.value(DRIFT, &linux).await, 0.0);
    rig.linux.send_replace(World {
        drift: 3,
        ..World::default()
    });
    rig.until_value(DRIFT, &linux, 3.0).await;
    assert_eq!(
        rig.value("xpu_agent_reconcile_backoff_seconds", &linux)
            .await,
        0.0
    );
    rig.linux.send_replace(World {
        drift: 2,
        refuses: true,
        ..World::default()
    });
    let failed = [("backend", "linux"), ("result", "failed")];
    rig.until_value("xpu_agent_reconcile_actions_total", &failed, 2.0)
        .await;
    rig.until_value("xpu_agent_reconcile_backoff_seconds", &linux, 0.05)
        .await;
    let retry = [("backend", "linux"), ("cause", "retry")];
    rig.until_value("xpu_agent_reconcile_passes_total", &retry, 2.0)
        .await;
    assert_eq!(
        rig.value(DRIFT, &linux).await,
        3.0,
        "what fails repairs nothing"
    );
}

/// One port that waits for its netdev does not hide what is put right elsewhere.
#[tokio::test]
async fn drift_is_counted_while_something_is_pending() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    rig.linux.send_replace(World {
        waits: true,
        ..World::default()
    });
    let mut ports = BridgePortServiceClient::new(rig.channel.clone());
    let mut request = tonic::Request::new(port_request());
    request.set_timeout(std::time::Duration::from_millis(200));
    let made = ports.create_bridge_port(request).await;
    let status = made.unwrap().into_inner().status.unwrap();
    assert_eq!(status.oper_status(), BpOperStatus::Down);
    let linux = [("backend", "linux")];
    const DRIFT: &str = "xpu_agent_reconcile_drift_repaired_total";
    assert_eq!(rig.value(DRIFT, &linux).await, 0.0);
    rig.linux.send_replace(World {
        waits: true,
        drift: 3,
        ..World::default()
    });
    rig.until_value(DRIFT, &linux, 3.0).await;
    // Nor is a pass that tries again taken for one.
    let retry = [("backend", "linux"), ("cause", "retry")];
    let tries = rig.value("xpu_agent_reconcile_passes_total", &retry).await;
    rig.until_value("xpu_agent_reconcile_passes_total", &retry, tries + 2.0)
        .await;
    assert_eq!(rig.value(DRIFT, &linux).await, 3.0);
}

/// That it is forgotten once it is gone is a commit, and no change that anybody asked for.
#[tokio::test]
async fn a_delete_is_one_change() {
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    let request = DeleteLogicalBridgeRequest {
        name: "net-1".to_owned(),
        allow_missing: false,
    };
    LogicalBridgeServiceClient::new(rig.channel.clone())
        .delete_logical_bridge(request)
        .await
        .unwrap();
    // Answered once it is forgotten.
    let made = [("result", "made")];
    let scrape = parse(&rig.scrape().await);
    let value = |metric: &str, labels: &[(&str, &str)]| sum(&scrape, metric, labels);
    assert_eq!(
        value("xpu_agent_store_commits_total", &[("result", "ok")]),
        3.0
    );
    assert_eq!(value("xpu_agent_store_changes_total", &made), 2.0);
    assert_eq!(value("xpu_agent_store_batch_changes_count", &[]), 2.0);
    assert_eq!(value("xpu_agent_store_batch_changes_sum", &[]), 2.0);
}

#[tokio::test]
async fn what_the_listeners_hold_and_refuse_is_told() {
    let rig = Rig::start().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = rig.gate.tcp(any, Transport::Loopback).await.unwrap();
    let Listener::Tcp(socket, _) = &listener else {
        panic!("no TCP")
    };
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = access::serve(
        listener,
        Protocol::Grpc,
        tonic::service::Routes::default(),
        rig.gate.clone(),
        stop.clone(),
    );
    let served = tokio::spawn(served);
    const REFUSALS: &str = "xpu_agent_refusals_total";
    let connections = [("reason", "connections")];
    assert_eq!(rig.value("xpu_agent_connections", &[]).await, 0.0);
    assert_eq!(rig.value(REFUSALS, &connections).await, 0.0);
    // There is place for one.
    let _first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(rig.value("xpu_agent_connections", &[]).await, 1.0);
    assert_eq!(rig.value(REFUSALS, &connections).await, 1.0);
    assert_eq!(
        rig.value(REFUSALS, &[]).await,
        1.0,
        "and of no other reason"
    );
    stop.cancel();
    served.await.unwrap();
    assert_eq!(rig.value("xpu_agent_connections", &[]).await, 0.0);

    let tls = rig.gate.tls().unwrap();
    let ends = tls.not_after().duration_since(UNIX_EPOCH).unwrap();
    let shown = rig.value("xpu_agent_tls_not_after_seconds", &[]).await;
    assert_eq!(shown, ends.as_secs_f64());
    const RELOADS: &str = "xpu_agent_tls_reloads_total";
    let of = |result: &'static str| [("result", result)];
    std::fs::write(&tls.files().cert, "no certificate").unwrap();
    tls.reload();
    assert_eq!(rig.value(RELOADS, &of("failed")).await, 1.0);
    assert_eq!(rig.value(RELOADS, &of("taken")).await, 0.0);
}
