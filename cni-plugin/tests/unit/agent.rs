//! Ports as they are asked for and answered.

use xpu_proto::evpn_gw::v1alpha1::{BridgePortStatus, Component};

use super::*;

fn port(attach: PortMode) -> Port {
    Port {
        id: "cni-1".to_owned(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        attach,
    }
}

fn blue() -> xpu_model::ObjectKey {
    xpu_model::ObjectKey::parse(xpu_model::Kind::LogicalBridge, "blue").unwrap()
}

#[test]
fn each_way_to_attach_has_its_port_type() {
    let access = spec(&port(PortMode::Access(blue())));
    assert_eq!(access.ptype(), BridgePortType::Access);
    assert_eq!(access.logical_bridges, ["logicalBridges/blue"]);
    assert_eq!(access.mac_address, [2, 0, 0, 0, 0, 7]);
    let trunk = spec(&port(PortMode::Trunk(vec![blue()])));
    assert_eq!(
        (trunk.ptype(), trunk.logical_bridges.len()),
        (BridgePortType::Trunk, 1)
    );
    let all = spec(&port(PortMode::Transparent));
    assert_eq!(
        (all.ptype(), all.logical_bridges.len()),
        (BridgePortType::Trunk, 0)
    );
}

#[test]
fn a_port_that_is_down_says_why_errors_first() {
    let component = |name: &str, status: CompStatus, details: &str| Component {
        name: name.to_owned(),
        status: status.into(),
        details: details.to_owned(),
    };
    let components = vec![
        component("frr", CompStatus::Pending, ""),
        component(
            "linux",
            CompStatus::Error,
            r#"{"error":"netdev `p1` is missing"}"#,
        ),
        component("pipeline", CompStatus::Success, "{}"),
    ];
    let status = BridgePortStatus {
        oper_status: BpOperStatus::Down.into(),
        components,
    };
    let answer = BridgePort {
        status: Some(status),
        ..BridgePort::default()
    };
    let told = up(&port(PortMode::Transparent), &answer)
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "linux: netdev `p1` is missing; frr: not ready; port cni-1 is not up"
    );
}
