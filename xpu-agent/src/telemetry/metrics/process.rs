//! The process, under the names that Prometheus' own client libraries use.

use std::fmt;

use procfs::process::{LimitValue, Process as ProcProcess};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// This process, read from `/proc/self` when asked for.
#[derive(Debug)]
pub struct Process;

/// What is read at once.
struct Reading {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    start_seconds: f64,
    threads: i64,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Reading {
    fn take() -> procfs::ProcResult<Self> {
        let process = ProcProcess::myself()?;
        let stat = process.stat()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks since boot: 2^53 of them are millions of years"
        )]
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let limit = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let boot = procfs::boot_time_secs()? as f64;
        Ok(Self {
            cpu_seconds: seconds(stat.utime + stat.stime),
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            start_seconds: boot + seconds(stat.starttime),
            threads: stat.num_threads,
            open_fds: process
                .fd_count()
                .ok()
                .and_then(|count| u64::try_from(count).ok()),
            max_fds: limit,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Without /proc these are left out, as other clients do; the rest is shown.
        let Ok(reading) = Reading::take() else {
            return Ok(());
        };
        let cpu = encoder.encode_descriptor(
            "process_cpu",
            "Processor time, user and system",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(reading.cpu_seconds).encode(cpu)?;
        let start = encoder.encode_descriptor(
            "process_start_time",
            "When the process started, since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(reading.start_seconds).encode(start)?;
        let gauges = [
            (
                "process_resident_memory",
                "Memory in use",
                Some(Unit::Bytes),
                Some(reading.resident_bytes),
            ),
            (
                "process_virtual_memory",
                "Address space in use",
                Some(Unit::Bytes),
                Some(reading.virtual_bytes),
            ),
            (
                "process_threads",
                "Threads",
                None,
                u64::try_from(reading.threads).ok(),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                reading.open_fds,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open",
                None,
                reading.max_fds,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}
