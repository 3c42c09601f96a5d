//! A setting that a PF has for a VF: as the configuration names it, as the journal writes it, and as
//! people read it.

use std::fmt;

use serde::{Deserialize, Serialize};
use xpu_linux::sync::vf_side::{Carrier, VfSetting, VfSide};
use xpu_model::Mac;

/// A setting as the journal writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The address; null: the VF's own choice.
    Mac(Option<Mac>),
    /// Port VLAN and priority.
    Vlan {
        /// 0: none.
        vlan: u16,
        /// 0 to 7.
        qos: u8,
    },
    /// Mbit/s.
    Rates {
        /// Guaranteed.
        min: u32,
        /// At most.
        max: u32,
    },
    /// Source addresses are checked.
    Spoofchk(bool),
    /// The VF is trusted.
    Trust(bool),
    /// `auto`, `enable` or `disable`.
    LinkState(#[serde(with = "carrier_text")] Carrier),
}

impl Setting {
    /// The same setting as a PF has it.
    pub(super) const fn now(self, has: &VfSide) -> Self {
        match self {
            Self::Mac(_) => Self::Mac(has.mac),
            Self::Vlan { .. } => Self::Vlan {
                vlan: has.vlan,
                qos: has.qos,
            },
            Self::Rates { .. } => Self::Rates {
                min: has.min_tx_rate,
                max: has.max_tx_rate,
            },
            Self::Spoofchk(_) => Self::Spoofchk(has.spoofchk),
            Self::Trust(_) => Self::Trust(has.trust),
            Self::LinkState(_) => Self::LinkState(has.link_state),
        }
    }
}

impl From<Setting> for VfSetting {
    fn from(setting: Setting) -> Self {
        match setting {
            Setting::Mac(mac) => Self::Mac(mac),
            Setting::Vlan { vlan, qos } => Self::Vlan { vlan, qos },
            Setting::Rates { min, max } => Self::Rates { min, max },
            Setting::Spoofchk(on) => Self::SpoofChk(on),
            Setting::Trust(on) => Self::Trust(on),
            Setting::LinkState(carrier) => Self::LinkState(carrier),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::Mac(Some(mac)) => write!(f, "MAC {mac}"),
            Self::Mac(None) => write!(f, "no MAC"),
            Self::Vlan { vlan, qos } => write!(f, "priority {qos} (port VLAN {vlan})"),
            Self::Rates { min, max } => write!(f, "rates {min} to {max} Mbit/s"),
            Self::Spoofchk(on) => write!(f, "spoofchk {}", on_off(*on)),
            Self::Trust(on) => write!(f, "trust {}", on_off(*on)),
            Self::LinkState(carrier) => write!(f, "link_state {}", carrier_text::name(*carrier)),
        }
    }
}

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each is the key of that name, see `VfSettings`"
)]
pub enum SettingKey {
    Trust,
    Mac,
    VlanQos,
    MinTxRate,
    MaxTxRate,
    Spoofchk,
    LinkState,
}

impl SettingKey {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Mac => "mac",
            Self::VlanQos => "vlan_qos",
            Self::MinTxRate => "min_tx_rate",
            Self::MaxTxRate => "max_tx_rate",
            Self::Spoofchk => "spoofchk",
            Self::LinkState => "link_state",
        }
    }
}

/// A carrier as the configuration and the journal write it.
pub mod carrier_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use xpu_linux::sync::vf_side::Carrier;

    /// Its word.
    #[must_use]
    pub const fn name(carrier: Carrier) -> &'static str {
        match carrier {
            Carrier::Auto => "auto",
            Carrier::Enable => "enable",
            Carrier::Disable => "disable",
        }
    }

    /// Reads a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Carrier> {
        [Carrier::Auto, Carrier::Enable, Carrier::Disable]
            .into_iter()
            .find(|carrier| name(*carrier) == text)
    }

    pub(super) fn serialize<S: Serializer>(carrier: &Carrier, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name(*carrier))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Carrier, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no link state")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_from_the_journals_text() {
        let mac: Mac = "02:00:00:00:00:07".parse().unwrap();
        for (setting, text) in [
            (Setting::Mac(None), r#"{"mac":null}"#),
            (Setting::Mac(Some(mac)), r#"{"mac":"02:00:00:00:00:07"}"#),
            (
                Setting::Rates { min: 1, max: 2 },
                r#"{"rates":{"min":1,"max":2}}"#,
            ),
            (
                Setting::LinkState(Carrier::Disable),
                r#"{"link_state":"disable"}"#,
            ),
            (Setting::Trust(true), r#"{"trust":true}"#),
        ] {
            assert_eq!(serde_json::to_string(&setting).unwrap(), text);
            assert_eq!(serde_json::from_str::<Setting>(text).unwrap(), setting);
        }
        assert!(serde_json::from_str::<Setting>(r#"{"link_state":"up"}"#).is_err());
    }
}
