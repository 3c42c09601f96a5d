use std::{net::Ipv4Addr, path::Path};

use xpu_model::node::{PeerAddress, RemoteAs};

use super::*;

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Config::load(&ConfigFile::chosen(Some(path)), env)
}

/// The message with its causes, as the operator sees it.
fn with_causes(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn nothing_set_is_valid() {
    assert_eq!(
        Config::read("", "the test", std::iter::empty()).unwrap(),
        Config::default()
    );
}

#[test]
fn environment_wins_over_the_file() {
    let config = load(
        "[underlay]\nvtep = \"10.0.0.1\"\nmtu = 9000\n",
        &[
            ("XPU_AGENT_UNDERLAY__VTEP", "10.0.0.2"),
            ("XPU_AGENT_API__DEADLINE_MS", "700"),
            ("XPU_AGENT_UNDERLAY__VXLAN_PORT", "8473"),
            ("XPU_AGENT_CONFIG", "/etc/elsewhere"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(config.underlay.vtep, Some("10.0.0.2".parse().unwrap()));
    assert_eq!(config.underlay.mtu, 9000);
    assert_eq!(config.api.deadline_ms, 700);
    // What planners get.
    assert_eq!(config.node().unwrap().vxlan_port.get(), 8473);
    assert_eq!(Config::default().node().unwrap().vxlan_port.get(), 4789);
}

#[test]
fn bgp_becomes_the_base_instance() {
    let config = load(
        r#"
        [underlay]
        vtep = "10.255.0.1"
        [bgp]
        asn = 65001
        keepalive = 1
        hold = 3
        route_targets = "asn-vni"
        [[bgp.peers]]
        address = "10.254.0.2"
        bfd = true
        [[bgp.peers]]
        interface = "uplink1"
        remote_as = 65000
        "#,
        &[],
    )
    .unwrap();
    let node = config.node().unwrap();
    let bgp = node.bgp.unwrap();
    assert_eq!(bgp.router_id, Ipv4Addr::new(10, 255, 0, 1));
    assert_eq!(bgp.peers[0].remote_as, RemoteAs::External);
    assert!(bgp.peers[0].bfd);
    assert_eq!(
        bgp.peers[1].at,
        PeerAddress::Interface("uplink1".parse().unwrap())
    );
    assert_eq!(node.route_targets, RouteTargets::Fixed(bgp.asn));
}

#[rstest::rstest]
#[case("stroe = 1", "unknown field `stroe`")]
#[case(
    "[api]\ntcp = \"0.0.0.0:1\"",
    "api.tcp: 0.0.0.0 can be reached from outside"
)]
#[case(
    "[http]\nlisten = \"0.0.0.0:1\"",
    "http.listen: 0.0.0.0 can be reached from outside"
)]
#[case("[underlay]\nmtu = 20", "underlay.mtu: 20 is no MTU")]
#[case(
    "[vrf]\ntable_first = 200\ntable_last = 300",
    "vrf.table_first: 200 to 300 holds tables of the kernel's own"
)]
#[case(
    "[vrf]\ntable_first = 255\ntable_last = 300",
    "vrf.table_first: 255 to 300 holds tables of the kernel's own"
)]
#[case(
    "[vrf]\ntable_first = 1\ntable_last = 253",
    "vrf.table_first: 1 to 253 holds tables of the kernel's own"
)]
#[case(
    "[vrf]\ntable_first = 253\ntable_last = 253",
    "vrf.table_first: 253 to 253 holds tables of the kernel's own"
)]
#[case(
    "[vrf]\ntable_first = 0\ntable_last = 9",
    "vrf.table_first: must be from 1"
)]
#[case(
    "[ports]\nresolver = \"mac-map\"\nmap = { X = \"eth0\" }",
    "ports.map: `X` is neither"
)]
#[case(
    "[ports]\nmap = { port1 = \"eth0\" }",
    "ports.resolver is not \"mac-map\""
)]
#[case(
    "[ports]\nresolver = \"mac-map\"\nmap = { \"02:00:00:00:00:0a\" = \"eth0\", \
     \"02:00:00:00:00:0A\" = \"eth1\" }",
    "is eth1 already; keep one entry"
)]
#[case(
    "[ports]\nmap_file = \"/etc/ports\"",
    "ports.map_file: is set, but ports.resolver is not \"mac-map\""
)]
#[case(
    "[ports]\nresolver = \"mac-map\"\nmap_file = \"ports\"",
    "ports.map_file: `ports` is no absolute path"
)]
#[case(
    "[bgp]\nasn = 0\nrouter_id = \"1.1.1.1\"",
    "bgp.asn: 0 is no AS number"
)]
#[case("[bgp]\nasn = 1", "bgp.router_id: is needed")]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\n[[bgp.peers]]\nbfd = true",
    "bgp.peers[0]: set either"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\nkeepalive = 4\nhold = 9",
    "bgp.keepalive: 4 is more than a third of bgp.hold, 9; set 3 or less"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\nkeepalive = 0\nhold = 2",
    "bgp.hold: 2 is too short"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\nkeepalive = 4",
    "bgp.hold: is not set"
)]
#[case("[http]\nlisten = \"here\"", "http.listen: `here` is no address")]
#[case("[log]\nfilter = \"=,=\"", "log.filter: `=,=` is no log filter")]
#[case("[log]\nformat = \"xml\"", "unknown variant `xml`")]
#[case(
    "[telemetry]\nsample_ratio = 1.5",
    "telemetry.sample_ratio: 1.5 is not from 0 to 1"
)]
#[case(
    "[telemetry]\nsample_ratio = nan",
    "telemetry.sample_ratio: NaN is not from 0 to 1"
)]
#[case(
    "[telemetry]\notlp_endpoint = \"collector\"",
    "telemetry.otlp_endpoint: `collector` cannot be used; write http://"
)]
#[case(
    "[telemetry]\notlp_endpoint = \"https://collector:4317\"",
    "TLS to a collector is not supported"
)]
#[case(
    "[store]\ndirectory = \"here\"",
    "store.directory: `here` is no absolute path"
)]
#[case("[store]\ndirectory = \"\"", "store.directory: `` is no absolute path")]
#[case(
    "[api]\nunix = \"agent.sock\"",
    "api.unix: `agent.sock` is no absolute path"
)]
#[case(
    "[frr]\nsocket_directory = \"frr\"",
    "frr.socket_directory: `frr` is no absolute path"
)]
#[case("[api]\ntcp = \"50151\"", "api.tcp: `50151` is no address")]
#[case(
    "[api]\nunix = \"\"\ntcp = \"\"",
    "neither api.unix nor api.tcp is set"
)]
#[case("[api]\ndeadline_ms = 0", "api.deadline_ms: 0 is no time to wait")]
#[case(
    "[vrf]\ntable_first = 5000\ntable_last = 4000",
    "vrf.table_first: must be from 1"
)]
#[case("[vrf]\ntable_first = 0", "vrf.table_first: must be from 1")]
#[case("[underlay]\nvtep = \"10.0.0\"", "invalid IP address syntax")]
#[case(
    "[underlay]\nvxlan_port = 0",
    "invalid value: integer `0`, expected a nonzero u16"
)]
#[case(
    "[underlay]\nvtep = \"224.0.0.1\"",
    "underlay.vtep: 224.0.0.1 is no address of a node"
)]
#[case(
    "[underlay]\nvtep = \"0.0.0.0\"",
    "underlay.vtep: 0.0.0.0 is no address of a node"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\n[[bgp.peers]]\naddress = \"10.0.0.1\"\n\
     remote_as = \"inside\"",
    "bgp.peers[0]: remote_as `inside`"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\n[[bgp.peers]]\naddress = \"10.0.0.1\"\n\
     [[bgp.peers]]\naddress = \"10.0.0.1\"",
    "bgp.peers[1]: 10.0.0.1 is a peer already"
)]
#[case(
    "[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\nhold = 9",
    "bgp.keepalive: is not set"
)]
fn mistakes_are_named(#[case] text: &str, #[case] message: &str) {
    let error = with_causes(&load(text, &[]).unwrap_err());
    assert!(error.contains(message), "{error}");
}

#[rstest::rstest]
#[case(1, 252)]
#[case(256, u32::MAX)]
fn tables_beside_the_kernels_own_may_be_used(#[case] first: u32, #[case] last: u32) {
    let config = load(
        &format!("[vrf]\ntable_first = {first}\ntable_last = {last}"),
        &[],
    )
    .unwrap();
    assert_eq!(
        (config.vrf.table_first, config.vrf.table_last),
        (first, last)
    );
}

/// The commented example.
const EXAMPLE: &str = include_str!("../../../../netconf-examples/agent.toml");

/// The example with all that is commented out in it: `#` right before a key or a section. A map of
/// ports is only for the resolver that reads it, which is not the default.
fn whole_example() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        None if line == "resolver = \"name\"" => "resolver = \"mac-map\"",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What is printed by `--check-config` is a configuration again, and the same.
#[test]
fn what_is_printed_can_be_read() {
    let config = load(&whole_example(), &[]).unwrap();
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(load(&printed, &[]).unwrap(), config);
    let defaults = toml::to_string(&Config::default()).unwrap();
    assert_eq!(load(&defaults, &[]).unwrap(), Config::default());
}

/// The commented example names every key that there is, so that nobody has to read the source.
#[test]
fn the_example_has_every_key() {
    fn keys(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            match value.as_table() {
                Some(inner) => keys(&format!("{path}."), inner, found),
                None => found.push(path),
            }
        }
    }
    let example: toml::Table = toml::from_str(&whole_example()).unwrap();
    let printed = toml::to_string(&load(&whole_example(), &[]).unwrap());
    let printed: toml::Table = toml::from_str(&printed.unwrap()).unwrap();
    let (mut known, mut shown) = (Vec::new(), Vec::new());
    keys("", &printed, &mut known);
    keys("", &example, &mut shown);
    let missing: Vec<_> = known.iter().filter(|key| !shown.contains(key)).collect();
    assert!(missing.is_empty(), "not in the example: {missing:?}");
}

#[test]
fn the_links_of_a_service_called_like_the_agent_are_no_keys() {
    let links = [
        ("XPU_AGENT_SERVICE_HOST", "10.96.0.9"),
        ("XPU_AGENT_SERVICE_PORT", "50151"),
        ("XPU_AGENT_SERVICE_PORT_GRPC", "50151"),
        ("XPU_AGENT_PORT", "tcp://10.96.0.9:50151"),
        ("XPU_AGENT_PORT_50151_TCP", "tcp://10.96.0.9:50151"),
        ("XPU_AGENT_PORT_50151_TCP_ADDR", "10.96.0.9"),
        ("XPU_AGENT_PORT_50151_TCP_PORT", "50151"),
        ("XPU_AGENT_PORT_50151_TCP_PROTO", "tcp"),
        ("XPU_AGENT_HTTP_SERVICE_HOST", "10.96.0.10"),
        ("XPU_AGENT_HTTP_SERVICE_PORT", "8082"),
        ("XPU_AGENT_HTTP_SERVICE_PORT_REST", "8082"),
        ("XPU_AGENT_HTTP_PORT", "tcp://10.96.0.10:8082"),
        ("XPU_AGENT_HTTP_PORT_8082_TCP_ADDR", "10.96.0.10"),
        ("XPU_AGENT_PORTS__RESOLVER", "mac-map"),
    ];
    let config = load("", &links).unwrap();
    assert_eq!(config.ports.resolver, ResolverConfig::MacMap, "a key still");
    let typo = with_causes(&load("", &[("XPU_AGENT_PORT__RESOLVER", "name")]).unwrap_err());
    assert!(typo.contains("unknown field `port`"), "{typo}");
}

#[test]
fn bytes_that_are_no_text_matter_only_under_our_prefix() {
    use std::os::unix::ffi::OsStringExt;

    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let theirs = [
        (bytes(b"\xff"), bytes(b"1")),
        (bytes(b"LANG"), bytes(b"\xff")),
    ];
    assert_eq!(
        Config::read("", "the test", theirs.into_iter()).unwrap(),
        Config::default()
    );
    let ours = [(bytes(b"XPU_AGENT_API__UNIX"), bytes(b"\xff"))];
    let error = Config::read("", "the test", ours.into_iter()).unwrap_err();
    assert_eq!(with_causes(&error), "XPU_AGENT_API__UNIX: is not UTF-8");
}

#[rstest::rstest]
#[case("/run/frr", None, "/etc/frr")]
#[case("/var/run/frr/blue", None, "/etc/frr/blue")]
#[case("/srv/frr", None, "/etc/frr")]
#[case("/run/frr/blue", Some("/srv/frr"), "/srv/frr")]
fn frrs_startup_configuration_is_beside_its_sockets(
    #[case] sockets: &str,
    #[case] directory: Option<&str>,
    #[case] expected: &str,
) {
    let mut frr = FrrConfig {
        socket_directory: sockets.into(),
        config_directory: directory.map(Into::into),
        ..FrrConfig::default()
    };
    let found = frr.startup().unwrap();
    assert_eq!(found.components().as_path(), Path::new(expected));
    frr.save = false;
    assert_eq!(frr.startup(), None);
}

/// So that it can be taken as it is, and then changed.
#[test]
fn the_example_as_it_stands_is_the_defaults() {
    assert_eq!(load(EXAMPLE, &[]).unwrap(), Config::default());
}
