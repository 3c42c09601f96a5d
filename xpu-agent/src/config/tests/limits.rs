use super::*;

#[test]
fn limits_have_least_values() {
    LimitsConfig::default().check().unwrap();
    let none = LimitsConfig {
        calls: 0,
        ..LimitsConfig::default()
    };
    let expected = "0 is too small; set 1 or more";
    let message = |config: LimitsConfig| config.check().unwrap_err().to_string();
    assert_eq!(message(none), format!("limits.calls: {expected}"));
    let less_than_a_message_each = LimitsConfig {
        request_bytes: 1 << 20,
        ..LimitsConfig::default()
    };
    let error = message(less_than_a_message_each);
    assert!(error.starts_with("limits.request_bytes: "), "{error}");
}
