//! The values of VF settings, read from their JSON. Pure.

use serde_json::Value;
use xpu_linux::sync::vf_side::Carrier;

use crate::{
    config::{ConfigError, Section, invalid},
    pf::{VfSettings, carrier_text},
    port::PortMode,
};

/// `on`, `off`, or a JSON boolean.
///
/// # Errors
/// [`ConfigError::Invalid`] for anything else.
pub fn on_off(key: &str, value: &Value) -> Result<bool, ConfigError> {
    match value {
        Value::Bool(on) => Ok(*on),
        Value::String(text) if text == "on" => Ok(true),
        Value::String(text) if text == "off" => Ok(false),
        other => Err(invalid(
            key,
            format!("{other} is neither \"on\" nor \"off\""),
        )),
    }
}

/// `auto`, `enable` or `disable`.
///
/// # Errors
/// [`ConfigError::Invalid`] for anything else.
pub fn link_state(value: &Value) -> Result<Carrier, ConfigError> {
    value.as_str().and_then(carrier_text::parse).ok_or_else(|| {
        let reason = format!("{value} is none of \"auto\", \"enable\", \"disable\"");
        invalid("link_state", reason)
    })
}

/// A priority (PCP, IEEE 802.1Q).
///
/// # Errors
/// [`ConfigError::Invalid`] above 7.
pub fn priority(value: u32) -> Result<u8, ConfigError> {
    match u8::try_from(value) {
        Ok(qos @ 0..=7) => Ok(qos),
        _ => Err(invalid(
            "vlan_qos",
            format!("{value} is not between 0 and 7"),
        )),
    }
}

/// The pod's own rate of `runtimeConfig.bandwidth` (bit/s) in the Mbit/s that a VF counts in,
/// rounded up; a VF has no burst, and no limit of what it receives.
///
/// # Errors
/// [`ConfigError::Unsupported`] for a limit of what the pod receives.
pub fn egress_rate(bandwidth: &Section<'_>) -> Result<Option<u32>, ConfigError> {
    const INGRESS: &str = "ingressRate";
    let rate = |key: &str| match bandwidth.value(key) {
        None => Ok(0),
        Some(value) => value
            .as_u64()
            .ok_or_else(|| bandwidth.invalid(key, format!("{value} is no rate in bit/s"))),
    };
    let ingress = rate(INGRESS)?;
    if ingress != 0 {
        return Err(ConfigError::Unsupported {
            key: bandwidth.path(INGRESS),
            value: ingress.into(),
            reason: "bit/s can't be kept: a VF limits only what its pod sends; remove the key",
        });
    }
    let egress = rate("egressRate")?.div_ceil(1_000_000);
    let egress = u32::try_from(egress).unwrap_or(u32::MAX);
    Ok((egress != 0).then_some(egress))
}

/// Whether the rates go together.
///
/// # Errors
/// [`ConfigError::Invalid`] for a guarantee above the limit.
pub fn consistent(asked: &VfSettings) -> Result<(), ConfigError> {
    match (asked.min_tx_rate, asked.max_tx_rate) {
        (Some(min), Some(max)) if max != 0 && min > max => Err(invalid(
            "min_tx_rate",
            format!("{min} is above max_tx_rate {max}; guarantee at most that"),
        )),
        _ => Ok(()),
    }
}

/// Whether the priority goes with the way to attach.
///
/// A PF gives frames a priority by tagging them itself: with the port VLAN that it has for the VF,
/// else with VID 0, which an access port takes for untagged. A VF that is tagged by its PF has no
/// tags of its own any more.
///
/// # Errors
/// [`ConfigError::Invalid`] for a priority on a trunk.
pub fn priority_fits(asked: &VfSettings, attach: &PortMode) -> Result<(), ConfigError> {
    match (asked.vlan_qos, attach) {
        (Some(qos @ 1..), PortMode::Trunk(_) | PortMode::Transparent) => Err(invalid(
            "vlan_qos",
            format!(
                "{qos} would have the PF tag every frame, and those of a trunk bring tags of their \
                 own; remove the key, or attach by logical_bridge"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn switches_are_words_or_booleans() {
        assert!(on_off("trust", &json!("on")).unwrap());
        assert!(!on_off("trust", &json!(false)).unwrap());
        for wrong in [json!("yes"), json!(1), json!({})] {
            let told = on_off("trust", &wrong).unwrap_err().to_string();
            assert!(told.starts_with("`trust`"), "{told}");
        }
        assert_eq!(link_state(&json!("disable")).unwrap(), Carrier::Disable);
        assert!(link_state(&json!("up")).is_err());
    }

    #[test]
    fn a_rate_is_rounded_up_and_what_a_vf_cannot_do_is_refused() {
        let rate = |value: Value| egress_rate(&Section::whole(value.as_object().unwrap()));
        assert_eq!(rate(json!({})).unwrap(), None);
        assert_eq!(
            rate(json!({"egressRate": 1, "egressBurst": 9})).unwrap(),
            Some(1)
        );
        assert_eq!(rate(json!({"egressRate": 25_000_000})).unwrap(), Some(25));
        assert_eq!(
            rate(json!({"egressRate": u64::MAX})).unwrap(),
            Some(u32::MAX)
        );
        assert!(rate(json!({"ingressRate": 1})).is_err());
        assert!(rate(json!({"egressRate": -1})).is_err());
    }

    #[test]
    fn a_guarantee_stays_below_the_limit() {
        let asked = |min, max| VfSettings {
            min_tx_rate: Some(min),
            max_tx_rate: Some(max),
            ..VfSettings::default()
        };
        assert!(consistent(&asked(5, 10)).is_ok());
        assert!(consistent(&asked(5, 0)).is_ok(), "0 is no limit");
        assert!(consistent(&asked(11, 10)).is_err());
        assert!(priority(7).is_ok() && priority(8).is_err());
    }
}
