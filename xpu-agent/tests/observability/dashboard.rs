//! The Grafana dashboard of `netconf-examples/`: its queries parse (by `promql-parser`), and ask
//! for metrics and labels that the agent exports.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::{
    parser::{self, AggregateExpr, Expr, LabelModifier, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use serde_json::Value;
use xpu_proto::evpn_gw::v1alpha1::bridge_port_service_client::BridgePortServiceClient;

use crate::{
    metrics::{create_bridge, parse, port_request},
    rig::Rig,
};

const DASHBOARD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../netconf-examples/grafana/xpu-agent.json"
);

/// What a query asks for.
#[derive(Debug, Default)]
struct Asked {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Asked {
    fn selector(&mut self, selector: &VectorSelector) {
        self.metrics.extend(selector.name.clone());
        let matchers = selector.matchers.matchers.iter();
        self.labels.extend(matchers.map(|it| it.name.clone()));
    }
}

impl ExprVisitor for Asked {
    type Error = String;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(AggregateExpr {
                modifier: Some(LabelModifier::Include(labels)),
                ..
            }) => self.labels.extend(labels.labels.iter().cloned()),
            _ => {}
        }
        Ok(true)
    }
}

/// Every panel's title and queries, rows' inner panels too.
fn queries(dashboard: &Value) -> Vec<(String, Vec<String>)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        if panel["type"] == "row" {
            found.extend(queries(panel));
            continue;
        }
        let targets = panel["targets"].as_array().into_iter().flatten();
        let texts = targets.map(|it| it["expr"].as_str().unwrap().to_owned());
        found.push((title, texts.collect()));
    }
    found
}

#[tokio::test]
async fn every_query_parses_and_asks_for_what_is_exported() {
    let text = std::fs::read_to_string(DASHBOARD).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let rig = Rig::start().await;
    rig.frr_meter.answered("10.3");
    create_bridge(&rig).await;
    let mut ports = BridgePortServiceClient::new(rig.channel.clone());
    ports.create_bridge_port(port_request()).await.unwrap();
    let exposition = rig.scrape().await;
    let declared: BTreeSet<&str> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in parse(&exposition).samples {
        let of = labels.entry(sample.metric.clone()).or_default();
        of.extend(sample.labels.keys().cloned());
        if matches!(sample.value, prometheus_parse::Value::Histogram(_)) {
            labels
                .entry(format!("{}_bucket", sample.metric))
                .or_default()
                .extend(sample.labels.keys().cloned().chain(["le".to_owned()]));
        }
    }
    // What Prometheus itself adds when it scrapes.
    let scraped = ["job", "instance", "le"].map(str::to_owned);

    let panels = queries(&dashboard);
    assert!(panels.len() >= 15, "{} panels", panels.len());
    let mut shown = BTreeSet::new();
    for (title, queries) in panels {
        assert!(!queries.is_empty(), "panel `{title}` asks nothing");
        for query in queries {
            let plain = query
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*");
            assert!(
                !plain.contains('$'),
                "panel `{title}`: a variable in {plain}"
            );
            let parsed = parser::parse(&plain)
                .unwrap_or_else(|error| panic!("panel `{title}`: {query}: {error}"));
            let mut asked = Asked::default();
            walk_expr(&mut asked, &parsed).unwrap();
            assert!(!asked.metrics.is_empty(), "{query}");
            let mut known: BTreeSet<String> = scraped.iter().cloned().collect();
            for metric in &asked.metrics {
                let family = ["_bucket", "_count", "_sum"]
                    .iter()
                    .find_map(|suffix| metric.strip_suffix(suffix))
                    .filter(|family| declared.contains(family))
                    .unwrap_or(metric);
                assert!(
                    declared.contains(family),
                    "panel `{title}`: {metric} is not exported"
                );
                known.extend(labels.get(metric).into_iter().flatten().cloned());
                shown.insert(family.to_owned());
            }
            let unknown: Vec<_> = asked.labels.difference(&known).collect();
            assert!(unknown.is_empty(), "panel `{title}`: {query}: {unknown:?}");
        }
    }
    let ours = declared.iter().filter(|it| it.starts_with("xpu_agent_"));
    let missing: Vec<_> = ours.filter(|it| !shown.contains(**it)).collect();
    assert!(
        missing.is_empty(),
        "exported but shown nowhere: {missing:?}"
    );
}
