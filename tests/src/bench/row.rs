//! One figure of a benchmark: its value, what it is measured against, and its target.

use serde::{Deserialize, Serialize};

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, and where: `native: ADD p50`.
    pub metric: String,
    /// How many samples are behind the value.
    pub n: u64,
    /// The figure.
    pub value: f64,
    /// Its unit: `ms`, `MiB`, `messages`. Empty where the value is a pure number.
    pub unit: String,
    /// The least that the kernel makes anyone pay, in the same unit and run.
    pub floor: Option<f64>,
    /// What somebody else's program takes, in the same unit and run.
    pub peer: Option<f64>,
    /// The value against peer or floor, taken pair by pair where the runs were interleaved.
    pub ratio: Option<f64>,
    /// The target.
    pub target: Option<Target>,
    /// Whether the target is met; `None` where there is none.
    pub ok: Option<bool>,
    /// What floor and peer are.
    pub against: String,
}

/// What a figure must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The rule in words: `≤ 1.15 × floor + 1.5 ms`.
    pub rule: String,
    /// The number that it comes to.
    pub limit: f64,
}

/// What to look at, and from which side.
#[derive(Debug, Clone, Copy)]
enum Side {
    ValueAtMost,
    RatioAtMost,
    RatioAtLeast,
}

impl Row {
    /// A figure without a target.
    pub fn new(metric: impl Into<String>, n: usize, value: f64, unit: &str) -> Self {
        Self {
            metric: metric.into(),
            n: u64::try_from(n).unwrap_or(u64::MAX),
            value,
            unit: unit.to_owned(),
            floor: None,
            peer: None,
            ratio: None,
            target: None,
            ok: None,
            against: String::new(),
        }
    }

    /// Whether it is a time, which another machine takes longer or shorter for.
    #[must_use]
    pub fn is_time(&self) -> bool {
        ["s", "ms", "µs"].contains(&&*self.unit)
    }

    /// The least that anyone pays, and what that is. The ratio is the value's to it.
    #[must_use]
    pub fn floor(mut self, floor: f64, what: &str) -> Self {
        self.floor = Some(floor);
        self.ratio = Some(self.value / floor);
        self.tell(what);
        self
    }

    /// What somebody else's program takes, and which. The ratio is the value's to it.
    #[must_use]
    pub fn peer(mut self, peer: f64, what: &str) -> Self {
        self.peer = Some(peer);
        self.ratio = Some(self.value / peer);
        self.tell(what);
        self
    }

    /// A ratio that was taken in another way, as the median of pairs.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    /// A remark on the row.
    #[must_use]
    pub fn note(mut self, what: &str) -> Self {
        self.tell(what);
        self
    }

    /// The value must be at most `limit`.
    #[must_use]
    pub fn at_most(self, limit: f64) -> Self {
        let rule = format!("≤ {}", plain(limit));
        let rule = if self.unit.is_empty() {
            rule
        } else {
            format!("{rule} {}", self.unit)
        };
        self.judge(Side::ValueAtMost, rule, limit)
    }

    /// The value must be at most `factor` floors and `extra` of its unit.
    #[must_use]
    pub fn at_most_floor(self, factor: f64, extra: f64) -> Self {
        let limit = factor * self.floor.unwrap_or(f64::NAN) + extra;
        let rule = format!(
            "≤ {} × floor + {} {}",
            plain(factor),
            plain(extra),
            self.unit
        );
        self.judge(Side::ValueAtMost, rule, limit)
    }

    /// The ratio must be at most `limit`.
    #[must_use]
    pub fn ratio_at_most(self, limit: f64) -> Self {
        let rule = format!("ratio ≤ {}", plain(limit));
        self.judge(Side::RatioAtMost, rule, limit)
    }

    /// The ratio must be at least `limit`.
    #[must_use]
    pub fn ratio_at_least(self, limit: f64) -> Self {
        let rule = format!("ratio ≥ {}", plain(limit));
        self.judge(Side::RatioAtLeast, rule, limit)
    }

    fn judge(mut self, side: Side, rule: String, limit: f64) -> Self {
        // What is missing compares as NaN does: never good enough.
        let ratio = self.ratio.unwrap_or(f64::NAN);
        self.ok = Some(match side {
            Side::ValueAtMost => self.value <= limit,
            Side::RatioAtMost => ratio <= limit,
            Side::RatioAtLeast => ratio >= limit,
        });
        self.target = Some(Target { rule, limit });
        self
    }

    fn tell(&mut self, what: &str) {
        if !self.against.is_empty() {
            self.against.push_str("; ");
        }
        self.against.push_str(what);
    }
}

/// A number with as many digits as it deserves: three that count.
#[must_use]
pub fn plain(number: f64) -> String {
    if !number.is_finite() {
        return "–".to_owned();
    }
    let digits = match number.abs() {
        0.0 => 0,
        size if size >= 100.0 || number.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_missed_and_says_its_rule() {
        let row = Row::new("ADD", 100, 18.0, "ms")
            .floor(16.0, "one move")
            .at_most_floor(1.15, 1.5);
        assert_eq!(row.ok, Some(true));
        assert_eq!(
            row.target.as_ref().map(|target| target.rule.as_str()),
            Some("≤ 1.15 × floor + 1.50 ms")
        );
        let row = Row::new("ADD", 100, 20.0, "ms")
            .floor(16.0, "one move")
            .at_most_floor(1.15, 1.5);
        assert_eq!(row.ok, Some(false));
        let row = Row::new("faster", 9, 3.0, "×")
            .ratio(3.0)
            .ratio_at_least(2.5);
        assert_eq!(row.ok, Some(true));
        assert_eq!(Row::new("plain", 1, 1.0, "ms").ok, None);
    }

    #[test]
    fn what_was_not_measured_meets_no_target() {
        assert_eq!(
            Row::new("x", 1, 1.0, "ms").at_most_floor(2.0, 1.0).ok,
            Some(false)
        );
        assert_eq!(
            Row::new("x", 1, 1.0, "ms").ratio_at_most(9.0).ok,
            Some(false)
        );
        assert_eq!(
            Row::new("x", 1, f64::NAN, "ms").at_most(9.0).ok,
            Some(false)
        );
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        let told = [0.0, 0.0123, 1.5, 16.02, 1234.5, 4.0, f64::NAN].map(plain);
        assert_eq!(told, ["0", "0.012", "1.50", "16.0", "1234", "4", "–"]);
    }
}
