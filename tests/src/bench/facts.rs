//! The machine that figures come from.

use std::fs;

use nix::time::{ClockId, clock_getres};
use serde::{Deserialize, Serialize};

use crate::guest::command;

/// What tells one machine's figures from another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// The processor's model.
    pub processor: String,
    /// How many the scheduler has.
    pub processors: usize,
    /// The kernel's tick, which RCU's waits are multiples of, in Hz.
    pub hz: u32,
    /// MiB.
    pub memory: u64,
    /// Today, as UTC has it: `2026-11-25`.
    pub date: String,
}

impl Facts {
    /// Those of this machine. What can't be told is empty or 0.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            value
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory = memory
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            hz: hz(),
            memory: memory.unwrap_or_default() / 1024,
            date: command::run("date -u +%F")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "Linux {} (HZ={}), {} × {}, {} MiB, {}",
            self.kernel, self.hz, self.processors, self.processor, self.memory, self.date
        )
    }
}

/// The coarse clock moves once a tick.
fn hz() -> u32 {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(|tick| tick.tv_nsec());
    let tick = tick
        .ok()
        .and_then(|nanoseconds| u32::try_from(nanoseconds).ok());
    tick.filter(|tick| *tick > 0)
        .map_or(0, |tick| 1_000_000_000 / tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told() {
        let facts = Facts::here();
        assert!(!facts.kernel.is_empty() && facts.processors > 0 && facts.memory > 0);
        assert!([100, 250, 300, 1000].contains(&facts.hz), "{facts:?}");
    }
}
