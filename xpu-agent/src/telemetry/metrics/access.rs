//! Who is at the listeners, what was refused, and how long the certificate lasts: read from the
//! gate when asked for.

use std::{fmt, time::UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::store::as_f64;
use crate::access::{Gate, limits::Reason};

/// What all listeners share.
pub struct Access(pub Gate);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

impl Collector for Access {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let limits = self.0.limits();
        let gauges = [
            (
                "connections",
                "Connections that are open, over all listeners",
                limits.connections(),
            ),
            (
                "calls",
                "Calls that hold a place among limits.calls: being received, answered, or their \
                 answer read",
                limits.calls(),
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(as_f64(value)).encode(metric)?;
        }

        let mut refusals = encoder.encode_descriptor(
            "refusals",
            "Connections and calls that were refused or ended, by what did it: the key of \
             [limits], NAME_slow for its NAME_ms, rate for its calls_per_second; handshake is one \
             of TLS that failed, not_loopback one to a loopback address from elsewhere",
            None,
            MetricType::Counter,
        )?;
        for reason in Reason::ALL {
            let labels = [("reason", reason.as_str())];
            let refused = ConstCounter::new(limits.refused(reason));
            refused.encode(refusals.encode_family(&labels)?)?;
        }

        let Some(tls) = self.0.tls() else {
            return Ok(());
        };
        let not_after = tls.not_after().duration_since(UNIX_EPOCH);
        let metric = encoder.encode_descriptor(
            "tls_not_after",
            "When the agent's certificate ends, since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(not_after.unwrap_or_default().as_secs_f64()).encode(metric)?;
        let (taken, failed) = tls.reloads();
        let mut reloads = encoder.encode_descriptor(
            "tls_reloads",
            "How often certificates, client CAs or revocation lists were taken over, or could not be",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in [("taken", taken), ("failed", failed)] {
            let labels = [("result", result)];
            ConstCounter::new(count).encode(reloads.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
