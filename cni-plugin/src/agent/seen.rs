//! Ports as the agent has them, to compare with what was asked for.

use std::time::Instant;

use tonic::Code;
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortSpec, BridgePortType, GetBridgePortRequest, ListBridgePortsRequest,
};

use super::{
    Agent, AgentError,
    ask::ask,
    port::{spec, why_down},
};
use crate::port::Port;

/// The most that the API gives in one page.
const PAGE: i32 = 250;

/// The most pages that are read: an agent that never ends its list must not hold a call
/// until its deadline.
const PAGES: usize = 400;

/// A port as the agent has it, in words that compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// The VF's MAC.
    pub mac: String,
    /// Its type and its bridges, in order of their names.
    pub attach: String,
    /// Why it is not UP; `None`: it is.
    pub down: Option<String>,
}

impl Seen {
    /// What the agent should have of a port that was asked for.
    #[must_use]
    pub fn wanted(port: &Port) -> Self {
        Self::of(port.id.clone(), &spec(port), None)
    }

    fn of(id: String, spec: &BridgePortSpec, down: Option<String>) -> Self {
        let octets: Vec<_> = spec
            .mac_address
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let kind = match spec.ptype() {
            BridgePortType::Access => "ACCESS",
            BridgePortType::Trunk => "TRUNK",
            BridgePortType::Unspecified => "no type",
        };
        let mut bridges = spec.logical_bridges.clone();
        bridges.sort();
        let bridges = match (bridges.is_empty(), spec.ptype()) {
            (true, BridgePortType::Trunk) => "all bridges".to_owned(),
            (true, _) => "no bridge".to_owned(),
            (false, _) => bridges.join(", "),
        };
        Self {
            id,
            mac: octets.join(":"),
            attach: format!("{kind} in {bridges}"),
            down,
        }
    }

    fn read(answer: &BridgePort) -> Self {
        let id = answer.name.rsplit('/').next().unwrap_or_default();
        let spec = answer.spec.clone().unwrap_or_default();
        Self::of(id.to_owned(), &spec, why_down(answer))
    }
}

impl Agent {
    /// A port; `None`: there is none of that id.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses or doesn't answer in time.
    pub fn get(&mut self, id: &str, deadline: Instant) -> Result<Option<Seen>, AgentError> {
        let request = GetBridgePortRequest {
            name: format!("bridgePorts/{id}"),
        };
        let request = self.request(request, deadline);
        let call = self.client.get_bridge_port(request);
        match ask(&self.runtime, &self.addr, deadline, call)? {
            Ok(answer) => Ok(Some(Seen::read(&answer))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// Every port.
    ///
    /// # Errors
    /// [`AgentError`] when the agent refuses or doesn't answer in time.
    pub fn list(&mut self, deadline: Instant) -> Result<Vec<Seen>, AgentError> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let request = ListBridgePortsRequest {
                page_size: PAGE,
                page_token,
            };
            let request = self.request(request, deadline);
            let call = self.client.list_bridge_ports(request);
            let page = ask(&self.runtime, &self.addr, deadline, call)?
                .map_err(|status| self.refusal(&status))?;
            found.extend(page.bridge_ports.iter().map(Seen::read));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
        Err(AgentError::Refused {
            code: Code::OutOfRange,
            message: format!("its list of ports has more than {PAGES} pages"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortMode;

    fn bridge(name: &str) -> xpu_model::ObjectKey {
        xpu_model::ObjectKey::parse(xpu_model::Kind::LogicalBridge, name).unwrap()
    }

    fn port(attach: PortMode) -> Port {
        Port {
            id: "cni-1".to_owned(),
            mac: "02:00:00:00:00:07".parse().unwrap(),
            attach,
        }
    }

    #[test]
    fn a_port_that_is_as_asked_for_reads_the_same() {
        for (attach, told) in [
            (
                PortMode::Access(bridge("blue")),
                "ACCESS in logicalBridges/blue",
            ),
            (
                PortMode::Trunk(vec![bridge("green"), bridge("blue")]),
                "TRUNK in logicalBridges/blue, logicalBridges/green",
            ),
            (PortMode::Transparent, "TRUNK in all bridges"),
        ] {
            let wanted = Seen::wanted(&port(attach.clone()));
            assert_eq!(
                (wanted.mac.as_str(), wanted.attach.as_str()),
                ("02:00:00:00:00:07", told)
            );
            let mut answer = BridgePort {
                name: "bridgePorts/cni-1".to_owned(),
                spec: Some(spec(&port(attach))),
                status: None,
            };
            // The agent may keep the bridges in another order.
            answer.spec.as_mut().unwrap().logical_bridges.reverse();
            let seen = Seen::read(&answer);
            assert!(seen.down.is_some());
            assert_eq!(Seen { down: None, ..seen }, wanted);
        }
    }

    #[test]
    fn an_answer_without_content_is_no_panic() {
        let seen = Seen::read(&BridgePort::default());
        assert_eq!(
            (seen.mac.as_str(), seen.attach.as_str()),
            ("", "no type in no bridge")
        );
    }
}
