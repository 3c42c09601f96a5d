use super::*;

#[test]
fn apps_do_not_count_for_each_other() {
    let (one, other) = (Metrics::default(), Metrics::default());
    one.rpc.begun();
    let (one, other) = (one.exposition(), other.exposition());
    let text = |it: &Exposition| it.text(Format::Prometheus).unwrap();
    assert!(text(&one).contains("xpu_agent_rpcs_in_flight 1"));
    assert!(text(&other).contains("xpu_agent_rpcs_in_flight 0"));
}

#[rstest::rstest]
#[case("", Format::Prometheus)]
#[case("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus)]
#[case(
    "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    Format::OpenMetrics
)]
fn formats(#[case] accept: &str, #[case] format: Format) {
    assert_eq!(Format::accepted(accept), format);
}
