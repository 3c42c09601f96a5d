//! The agent's API driven by clients that are not ours, in the lab: `grpcurl`, and the OPI
//! project's Python stubs with Google's protobuf library behind them.
//!
//! `make conformance` fetches them (`tests/conformance/api/`) and runs this.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    agent::{Agent, SOCKET},
    command,
    netns::Netns,
    topology::Topology,
};

/// Where the agent listens beside the unix socket.
const TCP: &str = "127.0.0.1:50151";
const HTTP: &str = "http://127.0.0.1:8082";
/// The port that clients make, and the representor that is its netdev.
const PORT: &str = "rep1";
/// The API's package.
const PACKAGE: &str = "opi_api.network.evpn_gw.v1alpha1";

/// A lab with an agent.
struct Served {
    _agent: Agent,
    /// Last, since it holds the right to the network.
    topology: Topology,
}

impl Served {
    fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        // The map of ports comes last; the clients' port is found by its id.
        let config = Agent::lab_config()?
            + &format!("\"{PORT}\" = \"{PORT}\"\n\n[access]\nloopback = \"admin\"\n");
        let agent = Agent::start(&topology.xpu, &config)?;
        Ok(Self {
            _agent: agent,
            topology,
        })
    }
}

/// `grpcurl` at one of the agent's sockets.
struct Grpcurl<'a> {
    xpu: &'a Netns,
    address: &'a str,
}

impl Grpcurl<'_> {
    fn run(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["grpcurl", "-plaintext", "-connect-timeout=20"];
        let (verb, options): (&str, &[&str]) = match words.split_last() {
            Some((verb, options)) => (verb, options),
            None => ("list", &[]),
        };
        all.extend(options);
        all.push(self.address);
        all.extend(verb.split(' '));
        command::run_words(&self.xpu.words(&all))
    }

    /// Calls a method with a request as JSON; what the method is, it asks by reflection.
    fn call(&self, kind: &str, method: &str, request: &Value) -> Result<Value> {
        let method = format!("{PACKAGE}.{kind}Service/{method}");
        let printed = self.run(&["-max-time", "60", "-d", &request.to_string(), &method])?;
        command::parse_json(&method, &printed)
    }
}

/// A kind with its field in requests, its collection, an object and another spec for it.
fn objects() -> [(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Value,
    Value,
); 4] {
    let v4 =
        |number: u32, len: u8| json!({"addr": {"af": "IP_AF_INET", "v4Addr": number}, "len": len});
    let svi = |last: u32| {
        json!({
            "vrf": "vrfs/vrf-red", "logicalBridge": "logicalBridges/net-blue",
            "macAddress": "AgBeAAAB", "gwIpPrefix": [v4(0x0a01_0000 + last, 24)],
        })
    };
    let port = |last: &str| json!({"macAddress": format!("AgAAAAA{last}"), "ptype": "BRIDGE_PORT_TYPE_TRUNK"});
    [
        (
            "Vrf",
            "vrf",
            "vrfs",
            "vrf-red",
            json!({"loopbackIpPrefix": v4(0x0aff_0101, 32)}),
            json!({"loopbackIpPrefix": v4(0x0aff_0102, 32)}),
        ),
        (
            "LogicalBridge",
            "logical_bridge",
            "logicalBridges",
            "net-blue",
            json!({"vlanId": 100}),
            json!({"vlanId": 101}),
        ),
        ("Svi", "svi", "svis", "svi-blue", svi(1), svi(2)),
        (
            "BridgePort",
            "bridge_port",
            "bridgePorts",
            PORT,
            port("B"),
            port("C"),
        ),
    ]
}

fn every_method(grpcurl: &Grpcurl<'_>) -> Result<()> {
    for (kind, field, collection, id, spec, other) in objects() {
        let name = format!("{collection}/{id}");
        let create = json!({format!("{field}_id"): id, field: {"spec": spec}});
        let made = grpcurl.call(kind, &format!("Create{kind}"), &create)?;
        ensure!(
            made["name"] == name.as_str() && made["spec"] == spec,
            "{made}"
        );
        let got = grpcurl.call(kind, &format!("Get{kind}"), &json!({"name": name}))?;
        ensure!(got["spec"] == spec, "{got}");
        let listed = grpcurl.call(kind, &format!("List{kind}s"), &json!({"page_size": 5}))?;
        ensure!(listed[collection][0]["name"] == name.as_str(), "{listed}");
        let update =
            json!({field: {"name": name, "spec": other}, "updateMask": {"paths": ["spec"]}});
        let changed = grpcurl.call(kind, &format!("Update{kind}"), &update)?;
        ensure!(changed["spec"] == other, "{changed}");
        let state = changed["status"]["operStatus"].as_str().unwrap_or_default();
        ensure!(state.ends_with("_UP"), "{changed}");
    }
    let taken =
        json!({"logical_bridge_id": "net-two", "logical_bridge": {"spec": {"vlanId": 101}}});
    let refused = grpcurl.call("LogicalBridge", "CreateLogicalBridge", &taken);
    let words = refused.err().context("a VLAN was given twice")?.to_string();
    ensure!(
        words.contains("FailedPrecondition") && words.contains("logical_bridge.spec.vlan_id"),
        "{words}"
    );
    for (kind, _, _, id, ..) in objects().iter().rev() {
        let gone = grpcurl.call(kind, &format!("Delete{kind}"), &json!({"name": id}))?;
        ensure!(gone == json!({}), "{gone}");
    }
    Ok(())
}

#[test]
fn grpcurl_calls_every_method_with_reflection_and_health() -> Result<()> {
    let served = Served::start()?;
    // Its own flag for a unix socket is broken in 1.9: it dials TCP.
    let unix = format!("unix://{SOCKET}");
    for address in [TCP, &unix] {
        let xpu = &served.topology.xpu;
        let grpcurl = Grpcurl { xpu, address };
        let services = grpcurl.run(&["list"])?;
        for kind in ["Vrf", "LogicalBridge", "BridgePort", "Svi"] {
            let service = format!("{PACKAGE}.{kind}Service");
            ensure!(
                services.lines().any(|it| it == service),
                "{service}: {services}"
            );
            let described = grpcurl.run(&[&format!("describe {service}")])?;
            ensure!(described.matches("rpc ").count() == 5, "{described}");
            let health = grpcurl.run(&[
                "-d",
                &json!({"service": service}).to_string(),
                "grpc.health.v1.Health/Check",
            ])?;
            ensure!(health.contains("SERVING"), "{health}");
        }
        every_method(&grpcurl)?;
    }
    Ok(())
}

/// Runs a script with the OPI project's Python client, in the xPU's namespace.
fn python(xpu: &Netns, script: &str, arguments: &[&str]) -> Result<String> {
    let path = concat!(
        "PYTHONPATH=",
        env!("CARGO_MANIFEST_DIR"),
        "/../target/conformance/python"
    );
    let words = ["env", path, "PYTHONDONTWRITEBYTECODE=1", "python3", script];
    command::run_words(&xpu.words(&[&words, arguments].concat()))
}

#[test]
fn pydpu_calls_every_method_and_reads_the_same_over_http() -> Result<()> {
    let served = Served::start()?;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/conformance/api/every_method.py"
    );
    let unix = format!("unix://{SOCKET}");
    for target in [TCP, &unix] {
        let printed = python(&served.topology.xpu, script, &[target, HTTP, "--up"])?;
        ensure!(printed.contains("valid OpenAPI 3.1"), "{printed}");
    }
    Ok(())
}

/// `proto/tests` holds our descriptors against facts that were taken from this client once: they
/// are still what it says.
#[test]
fn the_public_descriptors_are_those_that_ours_are_held_against() -> Result<()> {
    const WRITTEN: &str = "/run/lab/public";
    let topology = Topology::ensure()?;
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/tests");
    python(
        &topology.host,
        &format!("{tests}/public_descriptors.py"),
        &[WRITTEN],
    )?;
    for file in ["public_api.txt", "public_objects.json"] {
        let fixture = fs::read_to_string(format!("{tests}/fixtures/{file}"))?;
        let written = fs::read_to_string(format!("{WRITTEN}/{file}"))?;
        ensure!(
            !fixture.is_empty() && fixture == written,
            "{file} is now\n{written}"
        );
    }
    Ok(())
}
