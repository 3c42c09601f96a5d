//! A port: asked for, waited for until it is up, and deleted.

use std::time::Instant;

use tonic::Code;
use xpu_proto::evpn_gw::v1alpha1::{
    BpOperStatus, BridgePort, BridgePortSpec, BridgePortType, CompStatus, CreateBridgePortRequest,
    DeleteBridgePortRequest,
};

use super::{Agent, AgentError, ask::ask};
use crate::port::{Port, PortMode};

impl Agent {
    /// Creates the port and waits until it is up.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses, doesn't answer in time, or says that the port is not up.
    /// After any of these the port may exist.
    pub fn create(&mut self, port: &Port, deadline: Instant) -> Result<(), AgentError> {
        match self.try_create(port, deadline) {
            // Nobody else makes a port of this id: it is what an earlier attempt of the same
            // attachment left, with another VF or network.
            Err(AgentError::Refused {
                code: Code::AlreadyExists,
                ..
            }) => {
                self.delete(&port.id, deadline)?;
                self.try_create(port, deadline)
            }
            other => other,
        }
    }

    fn try_create(&mut self, port: &Port, deadline: Instant) -> Result<(), AgentError> {
        let request = CreateBridgePortRequest {
            bridge_port_id: port.id.clone(),
            bridge_port: Some(BridgePort {
                spec: Some(spec(port)),
                ..BridgePort::default()
            }),
        };
        let request = self.request(request, deadline);
        let call = self.client.create_bridge_port(request);
        let answer = ask(&self.runtime, &self.addr, deadline, call)?
            .map_err(|status| self.refusal(&status))?;
        up(port, &answer)
    }

    /// Deletes a port; that there is none is success.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses or doesn't answer in time; the port may be gone or not.
    pub fn delete(&mut self, id: &str, deadline: Instant) -> Result<(), AgentError> {
        let request = DeleteBridgePortRequest {
            name: format!("bridgePorts/{id}"),
            allow_missing: true,
        };
        let request = self.request(request, deadline);
        let call = self.client.delete_bridge_port(request);
        match ask(&self.runtime, &self.addr, deadline, call)? {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.refusal(&status)),
        }
    }
}

/// A port as the API has it.
pub fn spec(port: &Port) -> BridgePortSpec {
    let (ptype, logical_bridges) = match &port.attach {
        PortMode::Access(bridge) => (BridgePortType::Access, vec![bridge.to_string()]),
        PortMode::Trunk(bridges) => (
            BridgePortType::Trunk,
            bridges.iter().map(ToString::to_string).collect(),
        ),
        PortMode::Transparent => (BridgePortType::Trunk, Vec::new()),
    };
    BridgePortSpec {
        mac_address: port.mac.octets().to_vec(),
        ptype: ptype.into(),
        logical_bridges,
    }
}

/// Whether packets can flow, and if not, why: errors before what is merely pending.
fn up(port: &Port, answer: &BridgePort) -> Result<(), AgentError> {
    match why_down(answer) {
        None => Ok(()),
        Some(reasons) => Err(AgentError::Down {
            id: port.id.clone(),
            reasons,
        }),
    }
}

/// Why packets can't flow; `None`: they can.
pub fn why_down(answer: &BridgePort) -> Option<String> {
    let status = answer.status.clone().unwrap_or_default();
    if status.oper_status() == BpOperStatus::Up {
        return None;
    }
    let mut waiting: Vec<_> = status
        .components
        .iter()
        .filter(|component| component.status() != CompStatus::Success)
        .collect();
    waiting.sort_by_key(|component| component.status() != CompStatus::Error);
    let reasons: Vec<_> = waiting
        .iter()
        .map(|c| format!("{}: {}", c.name, reason(&c.details)))
        .collect();
    Some(if reasons.is_empty() {
        format!("the agent says {}", status.oper_status().as_str_name())
    } else {
        reasons.join("; ")
    })
}

/// A component's details are a JSON text; its `error` or `reason` is for people.
fn reason(details: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(details).ok();
    let words = ["error", "reason"]
        .iter()
        .find_map(|key| Some(json.as_ref()?.get(key)?.as_str()?.to_owned()));
    words.unwrap_or_else(|| {
        if details.is_empty() {
            "not ready".to_owned()
        } else {
            details.to_owned()
        }
    })
}

#[cfg(test)]
#[path = "../../tests/unit/agent.rs"]
mod tests;
