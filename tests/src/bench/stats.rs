//! Statistics of samples: percentiles, and growth with size.

/// The `q`-th quantile (0 to 1) by nearest rank; NaN without samples.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among samples that fit in memory"
    )]
    let rank = (q.clamp(0.0, 1.0) * last as f64).round() as usize;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

/// The middle sample; between two, the mean of both. NaN without samples.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// The median of the ratios of samples that were taken side by side: what disturbs both of a
/// pair doesn't count.
#[must_use]
pub fn paired_ratio(a: &[f64], b: &[f64]) -> f64 {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// The slope of log(cost) over log(size), by least squares: 0 is a cost that doesn't grow, 1 one
/// that grows as the size does. Sizes below 1 count as 1.
#[must_use]
pub fn growth(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<_> = points
        .iter()
        .map(|(size, cost)| (size.max(1.0).ln(), cost.ln()))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    let n = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = logs.iter().map(|point| (point.0 - x).powi(2)).sum();
    over / under
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        let told = [0.0, 0.5, 0.9, 1.0].map(|q| quantile(&samples, q));
        assert_eq!(told, [1.0, 3.0, 5.0, 5.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn pairs_hide_what_disturbs_both() {
        let ratio = paired_ratio(&[2.0, 20.0, 200.0], &[1.0, 10.0, 100.0]);
        assert!((ratio - 2.0).abs() < 1e-9);
    }

    #[test]
    fn growth_tells_constant_from_linear() {
        let constant = [(10.0, 5.0), (1000.0, 5.0), (4000.0, 5.0)];
        let linear = [(10.0, 1.0), (100.0, 10.0), (1000.0, 100.0)];
        assert!(growth(&constant).abs() < 1e-9);
        assert!((growth(&linear) - 1.0).abs() < 1e-9);
        assert!(growth(&[(0.0, 1.0), (1.0, 2.0)]).is_nan());
    }
}
