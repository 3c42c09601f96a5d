//! Ports as they are asked for and answered, and where agents listen.

use xpu_proto::evpn_gw::v1alpha1::{BridgePortStatus, Component};

use super::*;

fn port(attach: Attach) -> Port {
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
    let access = spec(&port(Attach::Access(blue())));
    assert_eq!(access.ptype(), BridgePortType::Access);
    assert_eq!(access.logical_bridges, ["logicalBridges/blue"]);
    assert_eq!(access.mac_address, [2, 0, 0, 0, 0, 7]);
    let trunk = spec(&port(Attach::Trunk(vec![blue()])));
    assert_eq!(
        (trunk.ptype(), trunk.logical_bridges.len()),
        (BridgePortType::Trunk, 1)
    );
    let all = spec(&port(Attach::Transparent));
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
    let told = up(&port(Attach::Transparent), &answer)
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "linux: netdev `p1` is missing; frr: not ready; port cni-1 is not up"
    );
}

#[test]
fn addresses_read_back() {
    for text in [
        "unix:///run/a.sock",
        "http://127.0.0.1:50151",
        "http://[::1]:50151",
        "https://xpu.example:50151",
    ] {
        assert_eq!(text.parse::<AgentAddr>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "unix://a",
        "http://",
        "http://h",
        "http://:1",
        "http://h:x",
        "http://h:1/p",
        "tcp://h:1",
        "https://h",
        "https://",
    ] {
        assert!(text.parse::<AgentAddr>().is_err(), "{text}");
    }
}

#[test]
fn only_a_name_has_to_be_looked_up() {
    for (text, has_name) in [
        ("unix:///run/a.sock", false),
        ("http://127.0.0.1:50151", false),
        ("https://[fd00::1]:50151", false),
        ("https://xpu.example:50151", true),
        ("http://localhost:50151", true),
        // Libc takes this for an address, by way of a look-up.
        ("http://127.1:50151", true),
    ] {
        let addr: AgentAddr = text.parse().unwrap();
        assert_eq!(addr.has_name(), has_name, "{text}");
    }
}

/// Whose clock is first is chance: the agent has the same deadline.
#[test]
fn a_call_is_late_by_either_sides_clock() {
    assert!(is_late(&Status::cancelled("Timeout expired")));
    assert!(is_late(&Status::deadline_exceeded(
        "the port is not up yet"
    )));
    assert!(is_late(&Status::from_error(Box::new(TimeoutExpired(())))));
    let ended = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let mut ended_here = Status::cancelled("the connection ended");
    ended_here.set_source(std::sync::Arc::new(ended));
    assert!(!is_late(&ended_here));
    assert!(!is_late(&Status::unavailable("it stops")));
}

/// As the C library's look-up of a name, which nothing ends but an answer.
#[test]
fn what_waits_for_servers_of_names_keeps_no_call() {
    let (answer, answered) = std::sync::mpsc::channel::<()>();
    let start = Instant::now();
    let runtime = Runtime::new().unwrap();
    let look_up = async move {
        let wait = move || answered.recv_timeout(Duration::from_secs(8)).is_ok();
        tokio::task::spawn_blocking(wait).await.is_ok()
    };
    let addr = AgentAddr::default();
    let told = within(&runtime, &addr, start, look_up);
    assert!(matches!(told, Err(AgentError::Deadline { .. })), "{told:?}");
    drop(runtime);
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
    drop(answer);
}
