//! What is shown of each kind of object. Everything the agent sent is shown in some form:
//! an absent value as `-`, a number without a name as the number.

use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortType, CompStatus, Component, LogicalBridge, Svi, Vrf,
};
use xpu_proto::opinetcommon::v1alpha1::IpPrefix;

use crate::wire;

/// A label and its value.
pub type Fact = (&'static str, String);

/// An object as an operator reads it.
pub trait View: Stated + Default {
    /// What was asked for. The labels are the same for every object of the kind: they head
    /// the table's columns.
    fn facts(&self) -> Vec<Fact>;
}

/// What is the same of every kind.
pub trait Stated {
    /// The canonical name.
    fn name(&self) -> &str;

    /// What has become of it.
    fn state(&self) -> State<'_>;
}

/// The messages have these fields alike, and no type in common.
macro_rules! stated {
    ($($kind:ty),+) => {$(
        impl Stated for $kind {
            fn name(&self) -> &str {
                &self.name
            }

            fn state(&self) -> State<'_> {
                let status = self.status.as_ref();
                State {
                    oper: Oper::from_number(status.map_or(0, |it| it.oper_status)),
                    components: status.map_or(&[], |it| &it.components),
                }
            }
        }
    )+};
}

stated!(Vrf, LogicalBridge, BridgePort, Svi);

/// An object's status.
pub struct State<'a> {
    /// The sum.
    pub oper: Oper,
    /// Each component's part.
    pub components: &'a [Component],
}

/// Whether an object carries traffic. The four kinds have an enum each, with these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oper {
    /// Not said.
    Unknown,
    /// Packets can flow.
    Up,
    /// Stored, and not there yet.
    Down,
    /// Deleted, and not gone yet.
    ToBeDeleted,
}

impl Oper {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Up,
            2 => Self::Down,
            3 => Self::ToBeDeleted,
            _ => Self::Unknown,
        }
    }

    /// As the API's enums call it, without their prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::ToBeDeleted => "TO_BE_DELETED",
        }
    }
}

/// Where an agent doesn't say why an object is as it is.
pub const NO_REASON: &str = "the agent gives no reason";

impl State<'_> {
    /// What keeps the object from being up: the first component that has not succeeded,
    /// and its reason.
    pub fn trouble(&self) -> Option<String> {
        let component = self
            .components
            .iter()
            .find(|c| c.status() != CompStatus::Success)?;
        Some(format!("{}: {}", component.name, reason(component)))
    }
}

/// PENDING, SUCCESS, ERROR, or UNSPECIFIED.
pub fn component_status(component: &Component) -> &'static str {
    component
        .status()
        .as_str_name()
        .trim_start_matches("COMP_STATUS_")
}

/// The component's details, one fact each; a text that is no JSON object stays whole.
pub fn details(component: &Component) -> Vec<(String, String)> {
    match serde_json::from_str(&component.details) {
        Ok(serde_json::Value::Object(facts)) => {
            let bare = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            facts
                .into_iter()
                .map(|(name, value)| (name, bare(value)))
                .collect()
        }
        _ if component.details.is_empty() => Vec::new(),
        _ => vec![("details".to_owned(), component.details.clone())],
    }
}

/// The agent puts it under `reason`; other implementations of the API write any text.
fn reason(component: &Component) -> String {
    let details = details(component);
    let reason = details
        .into_iter()
        .find(|(name, _)| name == "reason")
        .map(|(_, reason)| reason);
    let any_text = || (!component.details.is_empty()).then(|| component.details.clone());
    reason
        .or_else(any_text)
        .unwrap_or_else(|| component_status(component).to_owned())
}

impl View for Vrf {
    fn facts(&self) -> Vec<Fact> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            ("VNI", or_dash(spec.vni)),
            ("Loopback", prefix_or_dash(spec.loopback_ip_prefix.as_ref())),
            ("VTEP", prefix_or_dash(spec.vtep_ip_prefix.as_ref())),
        ]
    }
}

impl View for LogicalBridge {
    fn facts(&self) -> Vec<Fact> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            ("VLAN", spec.vlan_id.to_string()),
            ("VNI", or_dash(spec.vni)),
            ("VTEP", prefix_or_dash(spec.vtep_ip_prefix.as_ref())),
        ]
    }
}

impl View for BridgePort {
    fn facts(&self) -> Vec<Fact> {
        let spec = self.spec.clone().unwrap_or_default();
        let kind = match spec.ptype() {
            BridgePortType::Access => "ACCESS".to_owned(),
            BridgePortType::Trunk => "TRUNK".to_owned(),
            BridgePortType::Unspecified => spec.ptype.to_string(),
        };
        let transparent = spec.ptype() == BridgePortType::Trunk && spec.logical_bridges.is_empty();
        let bridges = match transparent {
            true => "(all)".to_owned(),
            false => list(
                spec.logical_bridges
                    .iter()
                    .map(|name| wire::id_of(name).to_owned()),
            ),
        };
        vec![
            ("MAC", wire::show_mac(&spec.mac_address)),
            ("Type", kind),
            ("Logical bridges", bridges),
        ]
    }
}

impl View for Svi {
    fn facts(&self) -> Vec<Fact> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            ("VRF", wire::id_of(&spec.vrf).to_owned()),
            (
                "Logical bridge",
                wire::id_of(&spec.logical_bridge).to_owned(),
            ),
            ("MAC", wire::show_mac(&spec.mac_address)),
            (
                "Gateways",
                list(spec.gw_ip_prefix.iter().map(wire::show_prefix)),
            ),
            (
                "BGP peer AS",
                or_dash(spec.enable_bgp.then_some(spec.remote_as)),
            ),
        ]
    }
}

fn or_dash(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn prefix_or_dash(prefix: Option<&IpPrefix>) -> String {
    prefix.map_or_else(|| "-".to_owned(), wire::show_prefix)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let joined = items.collect::<Vec<_>>().join(",");
    if joined.is_empty() {
        "-".to_owned()
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use xpu_proto::evpn_gw::v1alpha1::{BpOperStatus, LbOperStatus, SviOperStatus, VrfOperStatus};

    use super::*;

    fn component(status: CompStatus, details: &str) -> Component {
        Component {
            name: "linux".into(),
            status: status.into(),
            details: details.into(),
        }
    }

    #[test]
    fn the_four_enums_share_their_numbers_and_words() {
        for number in 1..=3 {
            let word = Oper::from_number(number).as_str();
            let names = [
                VrfOperStatus::try_from(number).map(|status| status.as_str_name()),
                LbOperStatus::try_from(number).map(|status| status.as_str_name()),
                BpOperStatus::try_from(number).map(|status| status.as_str_name()),
                SviOperStatus::try_from(number).map(|status| status.as_str_name()),
            ];
            for name in names {
                assert!(
                    name.expect("is declared")
                        .ends_with(&format!("_STATUS_{word}"))
                );
            }
        }
        assert_eq!(Oper::from_number(0), Oper::Unknown);
        assert_eq!(Oper::from_number(77), Oper::Unknown);
    }

    #[test]
    fn trouble_is_the_first_component_that_has_not_succeeded() {
        let good = component(CompStatus::Success, r#"{"reason":"none"}"#);
        let bad = component(CompStatus::Error, r#"{"reason":"no netdev","tries":2}"#);
        let trouble = |components: &[Component]| {
            State {
                oper: Oper::Down,
                components,
            }
            .trouble()
        };
        assert_eq!(
            trouble(&[good.clone(), bad]),
            Some("linux: no netdev".to_owned())
        );
        assert_eq!(trouble(&[good]), None);
        let bare = component(CompStatus::Pending, "");
        assert_eq!(trouble(&[bare]), Some("linux: PENDING".to_owned()));
        let text = component(CompStatus::Error, "device busy");
        assert_eq!(trouble(&[text]), Some("linux: device busy".to_owned()));
    }

    #[test]
    fn details_that_are_no_json_object_stay_whole() {
        let shown = |text| details(&component(CompStatus::Success, text));
        assert_eq!(shown(""), []);
        assert_eq!(shown("{oops"), [("details".to_owned(), "{oops".to_owned())]);
        assert_eq!(shown("[1]"), [("details".to_owned(), "[1]".to_owned())]);
        assert_eq!(
            shown(r#"{"rd":"10.0.0.1:7"}"#),
            [("rd".to_owned(), "10.0.0.1:7".to_owned())]
        );
    }
}
