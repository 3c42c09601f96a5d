//! What is printed, to the letter.

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::fake_agent::FakeAgent;
use crate::{Ran, command, run, succeed, xpuctl};

/// The usual objects: two bridges, a VRF, an SVI, three ports of which one is down.
fn filled() -> FakeAgent {
    let agent = FakeAgent::start();
    for words in [
        "vrf prod --loopback 10.0.0.1/32 --vni 5001",
        "lb blue --vlan 100 --vni 10100 --vtep 10.255.0.1/32",
        "lb green-network --vlan 7",
        "svi gw-blue --vrf prod --lb blue --mac 02:00:00:00:00:fe --gateway 10.1.0.1/24 \
         --gateway fd00:1::1/64 --enable-bgp --remote-as 65010",
        "port access --mac 02:00:00:00:00:01 --access blue",
        "port trunk --mac 02:00:00:00:00:02 --trunk blue,green-network",
    ] {
        succeed(&agent, &format!("create {words}"));
    }
    let down = xpuctl(
        &agent,
        "create port down --mac 02:00:00:00:00:03 --transparent",
    );
    assert_eq!(down.code, 0);
    agent
}

#[test]
fn tables() {
    let agent = filled();
    assert_eq!(
        succeed(&agent, "list vrfs"),
        "\
NAME  VNI   LOOPBACK     VTEP  STATUS  REASON
prod  5001  10.0.0.1/32  -     UP
"
    );
    assert_eq!(
        succeed(&agent, "list lb"),
        "\
NAME           VLAN  VNI    VTEP           STATUS  REASON
blue           100   10100  10.255.0.1/32  UP
green-network  7     -      -              UP
"
    );
    assert_eq!(
        succeed(&agent, "list ports"),
        "\
NAME    MAC                TYPE    LOGICAL-BRIDGES     STATUS  REASON
access  02:00:00:00:00:01  ACCESS  blue                UP
down    02:00:00:00:00:03  TRUNK   (all)               DOWN    linux: no netdev has this port's name yet
trunk   02:00:00:00:00:02  TRUNK   blue,green-network  UP
"
    );
    assert_eq!(
        succeed(&agent, "get svi gw-blue"),
        "\
NAME     VRF   LOGICAL-BRIDGE  MAC                GATEWAYS                  BGP-PEER-AS  STATUS  REASON
gw-blue  prod  blue            02:00:00:00:00:fe  10.1.0.1/24,fd00:1::1/64  65010        UP
"
    );
}

#[test]
fn descriptions() {
    let agent = filled();
    assert_eq!(
        succeed(&agent, "describe vrf prod"),
        "\
Name:      vrfs/prod
VNI:       5001
Loopback:  10.0.0.1/32
VTEP:      -
Status:    UP
Components:
  linux     SUCCESS
    routingTable: 1001
  frr       SUCCESS
    importRts: [\"65001:5001\",\"65002:5001\"]
    localAS: 65001
    rd: 10.0.0.1:5001
"
    );
    assert_eq!(
        succeed(&agent, "describe port down"),
        "\
Name:             bridgePorts/down
MAC:              02:00:00:00:00:03
Type:             TRUNK
Logical bridges:  (all)
Status:           DOWN
Components:
  linux     PENDING
    reason: no netdev has this port's name yet
"
    );
}

#[test]
fn json_is_the_apis_own() {
    let agent = filled();
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("is JSON");
    let port = json!({
        "name": "bridgePorts/access",
        "spec": {
            "macAddress": "AgAAAAAB",
            "ptype": "BRIDGE_PORT_TYPE_ACCESS",
            "logicalBridges": ["logicalBridges/blue"],
        },
        "status": {
            "operStatus": "BP_OPER_STATUS_UP",
            "components": [{ "name": "linux", "status": "COMP_STATUS_SUCCESS" }],
        },
    });
    assert_eq!(parse(succeed(&agent, "get port access -o json")), port);
    assert_eq!(parse(succeed(&agent, "describe port access -o json")), port);

    let listed = parse(succeed(&agent, "list ports -o json"));
    assert_eq!(listed["bridgePorts"].as_array().map(Vec::len), Some(3));
    assert_eq!(listed["bridgePorts"][0], port);
    assert_eq!(listed.get("nextPageToken"), None);

    assert_eq!(
        parse(succeed(&agent, "delete port access -o json")),
        json!({})
    );
    assert_eq!(
        parse(succeed(&FakeAgent::start(), "list svis -o json")),
        json!({})
    );
}

#[test]
fn names_feed_other_commands() {
    let agent = filled();
    assert_eq!(succeed(&agent, "list svi -o name"), "svis/gw-blue\n");
    assert_eq!(
        succeed(&agent, "describe svi gw-blue -o name"),
        "svis/gw-blue\n"
    );
    assert_eq!(
        succeed(&agent, "delete svi gw-blue -o name"),
        "svis/gw-blue\n"
    );
}

#[test]
fn an_empty_list_says_so_beside_stdout() {
    let ran = xpuctl(&FakeAgent::start(), "list svi");
    let stderr = "xpuctl: there are no svis\n".to_owned();
    assert_eq!(
        ran,
        Ran {
            code: 0,
            stdout: String::new(),
            stderr
        }
    );
}

#[test]
fn an_object_that_is_down_is_shown_and_warned_about() {
    let agent = FakeAgent::start();
    let ran = xpuctl(
        &agent,
        "create port down-1 --mac 02:00:00:00:00:03 --transparent",
    );
    assert_eq!(ran.code, 0);
    assert!(
        ran.stdout
            .lines()
            .nth(1)
            .is_some_and(|row| row.contains("DOWN")),
        "{}",
        ran.stdout
    );
    assert_eq!(
        ran.stderr,
        "xpuctl: warning: bridgePorts/down-1 is stored and DOWN: linux: no netdev has this port's name yet\n"
    );
    // Showing it later is no occasion for a warning.
    succeed(&agent, "get port down-1");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let agent = filled();
    for words in ["list ports", "list ports -o json", "describe vrf prod"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut xpuctl = command(words);
        xpuctl
            .env("XPUCTL_ENDPOINT", &agent.endpoint)
            .stdout(writer);
        let ran = run_with_stdout(xpuctl);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words}");
    }
    // Nobody listening on stderr changes no exit code either.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut xpuctl = command("get vrf none");
    let status = xpuctl
        .env("XPUCTL_ENDPOINT", &agent.endpoint)
        .stderr(writer)
        .status();
    assert_eq!(status.expect("xpuctl starts").code(), Some(1));
}

/// Like [`run`], which would set stdout to a pipe that is read.
fn run_with_stdout(mut command: std::process::Command) -> Ran {
    let child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("xpuctl starts");
    let output = child.wait_with_output().expect("xpuctl ends");
    let stderr = String::from_utf8(output.stderr).expect("stderr is text");
    let code = output
        .status
        .code()
        .expect("xpuctl exits, it is not killed");
    Ran {
        code,
        stdout: String::new(),
        stderr,
    }
}

#[test]
fn texts_of_the_agent_do_not_reach_the_terminal_raw() {
    let agent = filled();
    for object in agent.state().bridge_ports.values_mut() {
        for component in object
            .status
            .iter_mut()
            .flat_map(|status| &mut status.components)
        {
            component.details = "\u{1b}]0;owned\u{7}\n".to_owned();
            component.set_status(xpu_proto::evpn_gw::v1alpha1::CompStatus::Error);
        }
    }
    for words in ["list ports", "describe port access"] {
        let text = succeed(&agent, words);
        assert!(text.contains("\\u{1b}]0;owned\\u{7}\\n"), "{text}");
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{text:?}"
        );
    }
}

#[test]
fn no_output_has_raw_controls() {
    let agent = filled();
    for port in agent.state().bridge_ports.values_mut() {
        let status = port.status.as_mut().expect("has one");
        status.components[0].details = "\u{7f}\u{9b}31m\u{85}".to_owned();
    }
    for output in ["table", "wide", "json", "yaml", "name"] {
        for words in ["list ports", "get port access", "describe port access"] {
            let text = succeed(&agent, &format!("{words} -o {output}"));
            let raw = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(raw), "{words} -o {output}: {text:?}");
        }
    }
    let json = succeed(&agent, "get port access -o json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert_eq!(
        json["status"]["components"][0]["details"],
        "\u{7f}\u{9b}31m\u{85}"
    );
}

#[test]
fn help_is_there_for_every_command() {
    for words in [
        "--help",
        "create --help",
        "create svi --help",
        "delete --help",
    ] {
        let ran = run(&mut command(words));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words}");
        assert!(ran.stdout.contains("--endpoint"), "{words}: {}", ran.stdout);
    }
}
