//! The kernel's events, as the followers count them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};
use xpu_linux::kernel::FollowCounts;

/// What the followers of the kernel's events have counted.
#[derive(Debug)]
pub struct KernelEvents(pub std::sync::Arc<FollowCounts>);

impl Collector for KernelEvents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = [
            (
                "netlink_events",
                "Datagrams of kernel events that were read",
                self.0.events(),
            ),
            (
                "netlink_overruns",
                "How often the kernel lost events because they were not read fast enough; each \
                 costs an observation of everything, or a list of all neighbours, none costs \
                 correctness",
                self.0.overruns(),
            ),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }
}
