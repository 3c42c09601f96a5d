//! The status messages: one operational status and a component per backend.

use xpu_model::status::{Component, State};
use xpu_proto::evpn_gw::v1alpha1 as pb;

use crate::reconcile::board::ObjectStatus;

pub(super) fn components(status: &ObjectStatus) -> Vec<pb::Component> {
    let show = |(backend, component): &(xpu_model::status::Backend, Component)| pb::Component {
        name: backend.to_string(),
        status: match component.state {
            State::Success => pb::CompStatus::Success,
            State::Pending(_) => pb::CompStatus::Pending,
            State::Error(_) | State::Refused(_) => pb::CompStatus::Error,
        }
        .into(),
        details: component.details(),
    };
    status.components.iter().map(show).collect()
}

/// The status message of a kind; the four have the same values under different names.
macro_rules! message {
    ($message:ident, $oper:ident, $object:expr, $status:expr) => {{
        let oper_status = if $object.deleting {
            pb::$oper::ToBeDeleted
        } else if $status.is_up() {
            pb::$oper::Up
        } else {
            pb::$oper::Down
        };
        let components = super::status::components($status);
        Some(pb::$message {
            oper_status: oper_status.into(),
            components,
        })
    }};
}
pub(super) use message;
