//! One trace from a caller's span to the passes that its change needs.

use std::{collections::BTreeSet, sync::LazyLock};

use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;
use xpu_proto::evpn_gw::v1alpha1::{
    ListSvisRequest, bridge_port_service_client::BridgePortServiceClient,
    svi_service_client::SviServiceClient,
};

use crate::{
    collector::SPANS,
    metrics::{create_bridge, port_request},
    rig::{Rig, until},
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|it| it.key == key);
    format!("{:?}", value.and_then(|it| it.value.clone()))
}

#[tokio::test]
async fn a_call_with_a_traceparent_is_one_connected_trace_down_to_its_passes() {
    LazyLock::force(&SPANS);
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    let rig = Rig::start().await;
    create_bridge(&rig).await;
    let mut request = Request::new(port_request());
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    let mut ports = BridgePortServiceClient::new(rig.channel.clone());
    ports.create_bridge_port(request).await.unwrap();

    let spans = until("the call, its commit and a pass", async || {
        let spans = SPANS.of(&hex(TRACE));
        let passes = spans.iter().filter(|span| span.name == "pass").count();
        (spans.iter().any(|span| span.name == "commit")
            && spans
                .iter()
                .any(|span| span.name.ends_with("CreateBridgePort"))
            && passes >= 1)
            .then_some(spans)
    })
    .await;
    let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    let call = spans
        .iter()
        .find(|span| span.name.ends_with("/CreateBridgePort"))
        .unwrap();
    assert_eq!(call.parent_span_id, hex(CALLER), "{call:?}");
    assert!(attribute(call, "code").contains("OK"), "{call:?}");
    for span in &spans {
        assert!(
            ids.contains(&span.parent_span_id) || span.parent_span_id == hex(CALLER),
            "not connected: {span:?}"
        );
    }
    let passes: Vec<_> = spans.iter().filter(|span| span.name == "pass").collect();
    let of = |backend: &str| {
        passes
            .iter()
            .any(|it| attribute(it, "backend").contains(backend))
    };
    // FRR has no part in a port.
    assert!(of("linux") && !of("frr"), "{passes:#?}");
    for pass in passes {
        assert_eq!(pass.parent_span_id, call.span_id, "{pass:?}");
    }
}

#[tokio::test]
async fn a_call_without_one_begins_a_trace_and_a_broken_one_breaks_nothing() {
    LazyLock::force(&SPANS);
    let rig = Rig::start().await;
    let mut svis = SviServiceClient::new(rig.channel.clone());
    let parents = [
        None,
        Some(""),
        Some("00-xyz"),
        Some("00-0af7-1-01"),
        Some("ff-ff-ff-ff"),
    ];
    for parent in parents {
        // No other test calls this method.
        let mut request = Request::new(ListSvisRequest::default());
        if let Some(broken) = parent {
            let metadata = request.metadata_mut();
            metadata.insert("traceparent", broken.parse().unwrap());
        }
        svis.list_svis(request).await.unwrap();
    }
    let spans = until("a span of each call", async || {
        let spans = SPANS.named("ListSvis");
        (spans.len() >= parents.len()).then_some(spans)
    })
    .await;
    assert_eq!(spans.len(), parents.len(), "{spans:#?}");
    for span in &spans {
        assert_eq!(span.parent_span_id, [0; 0], "{span:?}");
    }
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    assert_eq!(
        traces.len(),
        parents.len(),
        "each begins its own: {spans:#?}"
    );
    assert!(
        traces
            .iter()
            .all(|it| it.len() == 16 && it.iter().any(|byte| *byte != 0))
    );
}
