//! A trace from `xpu-cni`'s caller to what the agent applies in kernel and FRR, taken by an OTLP
//! collector.
#![expect(clippy::unwrap_used, reason = "in threads of the test's own")]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use xpu_tests::guest::{
    agent::Agent, operator::create, pod::Pod, runtime::Attachment, topology::Topology,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

const ADDRESS: &str = "127.0.0.1:4317";
/// Where no collector is: one that was started runs as long as the tests.
const NOBODY: &str = "127.0.0.1:4316";

/// Takes spans, on a thread of its own that ends with the test's process.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    fn start(topology: &Topology) -> Result<Self> {
        let listener = topology.xpu.within(|| Ok(TcpListener::bind(ADDRESS)?))?;
        listener.set_nonblocking(true)?;
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = TcpListenerStream::new(listener);
                let server = Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        Ok(collector)
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn of(&self, trace: &str) -> Vec<Span> {
        let spans = self.0.lock().unwrap();
        let of = spans.iter().filter(|span| hex(&span.trace_id) == trace);
        of.cloned().collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|it| it.scope_spans);
        let spans = scopes.flat_map(|it| it.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced_config(collector: &str) -> Result<String> {
    let config = Agent::lab_config()?;
    Ok(format!(
        "[telemetry]\notlp_endpoint = \"http://{collector}\"\n{config}"
    ))
}

#[test]
fn an_add_with_a_traceparent_is_one_trace_down_to_what_the_kernel_gets() -> Result<()> {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CALLER: &str = "00f067aa0ba902b7";
    let topology = Topology::clean()?;
    let collector = Collector::start(&topology)?;
    let agent = Agent::start(&topology.xpu, &traced_config(ADDRESS)?)?;
    let lab = Lab {
        vfs: topology.vfs()?,
        agent: Some(agent),
        topology,
    };
    create("logical-bridge net-blue --vlan 100 --vni 10100")?;
    let pod = Pod::create("traced")?;
    let vf = lab.vfs.first().context("no VF")?;
    Attachment::new(&pod, vf, json!({ "logical_bridge": "net-blue" }))
        .traced(&format!("00-{TRACE}-{CALLER}-01"))
        .add()?;

    let spans = wait_until("the whole trace is collected", CONVERGENCE, || {
        let spans = collector.of(TRACE);
        let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
        for name in ["commit", "pass", "observe", "plan", "apply"] {
            ensure!(
                names.contains(name),
                "no `{name}` in {names:?}; of any trace there are {} spans",
                collector.count()
            );
        }
        let call = names.iter().any(|name| name.ends_with("/CreateBridgePort"));
        ensure!(call, "no call in {names:?}");
        Ok(spans)
    })?;
    let ids: BTreeSet<_> = spans.iter().map(|span| hex(&span.span_id)).collect();
    for span in &spans {
        let parent = hex(&span.parent_span_id);
        ensure!(
            parent == CALLER || ids.contains(&parent),
            "`{}` is not connected: {span:?}",
            span.name
        );
    }
    // The events of an `apply` say what was done.
    let applied: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "apply")
        .flat_map(|span| &span.events)
        .map(|event| format!("{:?}", event.attributes))
        .collect();
    ensure!(
        applied
            .iter()
            .any(|action| action.contains(&vf.representor)),
        "no action on {}: {applied:?}",
        vf.representor
    );
    Ok(())
}

#[test]
fn a_collector_that_is_away_slows_and_breaks_nothing() -> Result<()> {
    let topology = Topology::clean()?;
    let agent = Agent::start(&topology.xpu, &traced_config(NOBODY)?)?;
    let lab = Lab {
        vfs: topology.vfs()?,
        agent: Some(agent),
        topology,
    };
    for vlan in 100..110 {
        create(&format!("logical-bridge net-{vlan} --vlan {vlan}"))?;
    }
    wait_until("the loss is counted", CONVERGENCE, || {
        let xpu = &lab.topology.xpu;
        let lost = xpu_tests::guest::http::metric(xpu, "xpu_agent_trace_spans_total", &["lost"])?;
        ensure!(lost > 0.0, "{lost} spans lost");
        Ok(())
    })?;
    let log = std::fs::read_to_string(xpu_tests::guest::agent::LOG)?;
    let told = log.matches("traces are lost").count();
    ensure!(told == 1, "told {told} times: {log}");
    Ok(())
}
