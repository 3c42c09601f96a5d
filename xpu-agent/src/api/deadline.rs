//! How long a change may wait: what the client gives, the agent's own bound at most.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The header of a call's deadline (gRPC over HTTP/2, "Timeout").
const HEADER: &str = "grpc-timeout";

/// The time to wait, from the call's `grpc-timeout`.
///
/// A tenth is kept back (50 ms at least, but never more than half), so that the answer, which
/// says how far things are, reaches the client before it gives up.
pub(super) fn of(metadata: &MetadataMap, bound: Duration) -> Duration {
    let header = metadata.get(HEADER).and_then(|value| value.to_str().ok());
    match header.and_then(parse) {
        None => bound,
        Some(timeout) => {
            let reserve = (timeout / 10).max(Duration::from_millis(50));
            (timeout - reserve.min(timeout / 2)).min(bound)
        }
    }
}

/// `TimeoutValue TimeoutUnit`: at most eight digits and one of `HMSmun`.
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("1S", Some(Duration::from_secs(1)))]
    #[case("1500m", Some(Duration::from_millis(1500)))]
    #[case("99999999H", Some(Duration::from_secs(99_999_999 * 3600)))]
    #[case("123456789S", None)]
    #[case("S", None)]
    #[case("", None)]
    #[case("é", None)]
    #[case("-1S", None)]
    fn headers(#[case] header: &str, #[case] expected: Option<Duration>) {
        assert_eq!(parse(header), expected);
    }

    #[test]
    fn the_answer_is_early_enough_and_bounded() {
        let bound = Duration::from_secs(5);
        let mut metadata = MetadataMap::new();
        assert_eq!(of(&metadata, bound), bound);
        metadata.insert(HEADER, "2000000u".parse().unwrap());
        assert_eq!(of(&metadata, bound), Duration::from_millis(1800));
        metadata.insert(HEADER, "60S".parse().unwrap());
        assert_eq!(of(&metadata, bound), bound);
        metadata.insert(HEADER, "10m".parse().unwrap());
        assert_eq!(of(&metadata, bound), Duration::from_millis(5));
    }
}
