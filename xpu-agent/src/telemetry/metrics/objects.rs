//! Objects by kind and state, and how far the backends are: read from store and board when
//! asked for.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use xpu_model::{
    BridgePortSpec, Generation, Intent, Kind, LogicalBridgeSpec, Spec, SviSpec, VrfSpec,
};

use crate::{
    reconcile::{Board, board::Said},
    store::Store,
};

/// What the store holds and what the board says of it.
pub struct Objects {
    /// The intent.
    pub store: Store,
    /// What has become of it.
    pub board: Board,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

/// The kind as labels are written.
const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Vrf => "vrf",
        Kind::LogicalBridge => "logical_bridge",
        Kind::BridgePort => "bridge_port",
        Kind::Svi => "svi",
    }
}

/// The states that are counted.
const STATES: [&str; 3] = ["up", "down", "deleting"];

impl Objects {
    fn count<S: Spec>(
        said: &Said,
        intent: &Intent,
        kind: Kind,
        counts: &mut BTreeMap<(Kind, &'static str), u32>,
    ) {
        // All of them, so that a number that falls to nothing is shown as 0.
        for state in STATES {
            counts.insert((kind, state), 0);
        }
        for object in S::objects(intent).values() {
            let state = if object.deleting {
                "deleting"
            } else if said.status(&object.key(), object.generation).is_up() {
                "up"
            } else {
                "down"
            };
            *counts.entry((kind, state)).or_default() += 1;
        }
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Before the intent that it is held against.
        let said = self.board.said();
        let intent = self.store.intent();
        let mut counts = BTreeMap::new();
        Self::count::<VrfSpec>(&said, &intent, Kind::Vrf, &mut counts);
        Self::count::<LogicalBridgeSpec>(&said, &intent, Kind::LogicalBridge, &mut counts);
        Self::count::<BridgePortSpec>(&said, &intent, Kind::BridgePort, &mut counts);
        Self::count::<SviSpec>(&said, &intent, Kind::Svi, &mut counts);
        let mut objects = encoder.encode_descriptor(
            "objects",
            "Objects by kind and state: up (packets can flow), down, deleting",
            None,
            MetricType::Gauge,
        )?;
        for ((kind, state), count) in counts {
            let labels = [("kind", label(kind)), ("state", state)];
            ConstGauge::new(count).encode(objects.encode_family(&labels)?)?;
        }

        let (waiting, capacity) = self.store.queue();
        let gauges: [(&str, &str, u64); 3] = [
            (
                "intent_generation",
                "The generation of the stored intent; each change is one more",
                intent.generation.0,
            ),
            (
                "store_queue_changes",
                "Changes that wait for the store",
                waiting,
            ),
            (
                "store_queue_limit_changes",
                "Changes that may wait for the store; more are refused with UNAVAILABLE",
                capacity,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)?;
        }

        let mut reached = encoder.encode_descriptor(
            "reconcile_generation",
            "The generation that each backend's last pass worked on",
            None,
            MetricType::Gauge,
        )?;
        for (backend, Generation(generation)) in self.board.generations() {
            let labels = [("backend", backend.as_str())];
            ConstGauge::new(generation).encode(reached.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
