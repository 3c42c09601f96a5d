use pretty_assertions::assert_eq;

use super::*;

fn parse(text: &str) -> Result<Vec<Manifest>, String> {
    let found = documents("file", text).map_err(|error| error.to_string())?;
    found
        .into_iter()
        .map(|(place, value)| manifest(value).map_err(|why| format!("{place}: {why}")))
        .collect()
}

const YAML: &str = "\
# The whole tenant.
kind: Vrf
name: prod
spec:
  vni: 5001
  loopbackIpPrefix: 10.0.0.1/32
---
kind: LogicalBridge
name: logicalBridges/blue
spec: {vlanId: 100, vni: 10100, vtepIpPrefix: 10.255.0.1/32}
---
kind: Svi
name: gw-blue
spec:
  vrf: prod
  logicalBridge: blue
  macAddress: 02:00:00:00:00:11
  gwIpPrefix: [10.1.0.1/24, 'fd00:1::1/64']
  enableBgp: true
  remoteAs: 65010
---
---
kind: BridgePort
name: trunk
spec:
  macAddress: 10:20:30:40:50:51
  ptype: TRUNK
  logicalBridges: [blue, //network.opiproject.org/bridges/blue]
";

#[test]
fn yaml_in_flow_style_is_no_json_and_read_all_the_same() {
    let one = "{kind: LogicalBridge, name: blue, spec: {vlanId: 100}}\n";
    assert_eq!(parse(one).unwrap().len(), 1);
    let block = "kind: LogicalBridge\nname: pink\nspec:\n  vlanId: 101\n";
    assert_eq!(
        parse(&format!("{one}---\n{one}---\n{block}"))
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn people_write_it_like_this() {
    let read = parse(YAML).expect("is right");
    let names: Vec<_> = read.iter().map(|it| it.key.to_string()).collect();
    assert_eq!(
        names,
        [
            "vrfs/prod",
            "logicalBridges/blue",
            "svis/gw-blue",
            "bridgePorts/trunk"
        ]
    );
    let Spec::BridgePort(port) = &read[3].spec else {
        panic!("{read:?}")
    };
    // Digits and colons are no number in YAML 1.2.
    assert_eq!(port.mac_address.0.to_string(), "10:20:30:40:50:51");
    assert_eq!(port.logical_bridges.len(), 1, "a set");
}

#[test]
fn what_is_written_reads_back() {
    let read = parse(YAML).expect("is right");
    let yaml = crate::manifest::yaml(&read).expect("is written");
    assert_eq!(parse(&yaml).as_ref(), Ok(&read), "{yaml}");
    let json = crate::manifest::json(&read).expect("is written");
    assert_eq!(parse(&json).as_ref(), Ok(&read), "{json}");
}

#[test]
fn the_apis_own_json_is_taken() {
    let text = r#"
        {"vrfs": [{"name": "vrfs/prod", "status": {"operStatus": "VRF_OPER_STATUS_UP"}, "spec":
            {"loopbackIpPrefix": {"addr": {"af": "IP_AF_INET", "v4Addr": 167772161}, "len": 32}}}],
         "nextPageToken": ""}
        {"name": "bridgePorts/port", "spec":
            {"macAddress": "AgAAAAAB", "ptype": "BRIDGE_PORT_TYPE_ACCESS",
             "logicalBridges": ["logicalBridges/blue"]}}
        [{"kind": "Svi", "name": "gw-1", "spec": {"vrf": "vrfs/prod", "remoteAs": 0,
            "logical_bridge": "blue", "mac_address": "AgAAAAAB", "gw_ip_prefix": ["10.1.0.1/24"]}}]"#;
    let read = parse(text).expect("is right");
    assert_eq!(read.len(), 3);
    let human = "kind: Vrf\nname: prod\nspec: {loopbackIpPrefix: 10.0.0.1/32}\n";
    assert_eq!(read[..1], parse(human).expect("is right"));
}

/// Each with what the message must name: the place, the field, the value or what is missing.
#[test]
fn mistakes_are_named() {
    let port = |spec: &str| format!("kind: BridgePort\nname: port\nspec: {{{spec}}}\n");
    let svi = |spec: &str| {
        let rest = "vrf: prod, logicalBridge: blue, macAddress: 02:00:00:00:00:01";
        format!("kind: Svi\nname: gw-1\nspec: {{{rest}, {spec}}}\n")
    };
    let bridge = |spec: &str| format!("kind: LogicalBridge\nname: blue\nspec: {{{spec}}}\n");
    for (text, parts) in [
        ("kind: [".to_owned(), vec!["file is no YAML", "line 1"]),
        ("{\"kind\": ".to_owned(), vec!["file is no JSON", "line 1"]),
        ("just words".to_owned(), vec!["kind, name and spec"]),
        (
            "kind: Router\nname: blue\n".to_owned(),
            vec!["kind", "\"Router\"", "LogicalBridge"],
        ),
        (
            "name: blue\nspec: {}\n".to_owned(),
            vec!["kind: it is missing"],
        ),
        (
            "kind: Vrf\nspec: {}\n".to_owned(),
            vec!["name: it is missing"],
        ),
        (
            "kind: Vrf\nname: 5\nspec: {}\n".to_owned(),
            vec!["name: 5 is no text"],
        ),
        (
            "kind: Vrf\nname: a_b\nspec: {}\n".to_owned(),
            vec!["name", "`a_b`"],
        ),
        (
            "kind: Vrf\nname: svis/blue\nspec: {}\n".to_owned(),
            vec!["`svis/blue`"],
        ),
        (
            "kind: Vrf\nname: prod\n".to_owned(),
            vec!["vrfs/prod: spec: it is missing"],
        ),
        (
            "kind: Vrf\nname: prod\nspec: {}\n".to_owned(),
            vec!["loopbackIpPrefix"],
        ),
        (
            "kind: Vrf\nname: prod\nspec: {}\nspecs: {}\n".to_owned(),
            vec!["specs", "no such field"],
        ),
        (bridge("vlanId: 4095"), vec!["spec.vlanId", "4095", "4094"]),
        (bridge("vlanId: ten"), vec!["spec.vlanId", "ten"]),
        (bridge("vlanId: 1, vxlan: 2"), vec!["vxlan", "vni"]),
        (
            bridge("vlanId: 1, vtepIpPrefix: 10.0.0.1"),
            vec!["spec.vtepIpPrefix", "10.0.0.1"],
        ),
        (
            svi("gwIpPrefix: []"),
            vec!["spec.gwIpPrefix", "at least one"],
        ),
        (
            svi("gwIpPrefix: [10.0.0.1/24, 10.0.0.1/33]"),
            vec!["spec.gwIpPrefix[1]", "33"],
        ),
        (
            svi("gwIpPrefix: [10.0.0.1/24], enableBgp: true"),
            vec!["spec.remoteAs"],
        ),
        (
            svi("gwIpPrefix: [10.0.0.1/24], remoteAs: 7"),
            vec!["spec.remoteAs", "7"],
        ),
        (
            port("macAddress: 01:00:5e:00:00:01, ptype: TRUNK"),
            vec!["spec.macAddress", "01:00:5e"],
        ),
        (
            port("macAddress: 02:00:00:00:00:01, ptype: HYBRID"),
            vec!["spec.ptype", "HYBRID", "TRUNK"],
        ),
        (
            port("macAddress: 02:00:00:00:00:01, ptype: ACCESS"),
            vec!["spec.logicalBridges", "0"],
        ),
        (
            port("macAddress: 02:00:00:00:00:01, ptype: ACCESS, logicalBridges: [vrfs/blue]"),
            vec!["spec.logicalBridges", "vrfs/blue"],
        ),
        (
            format!("{}---\n{}", bridge("vlanId: 1"), bridge("vlanId: 0")),
            vec!["document 2", "vlanId"],
        ),
    ] {
        let error = parse(&text).expect_err(&text);
        for part in parts {
            assert!(error.contains(part), "{text}\n{error}\nlacks {part:?}");
        }
    }
}

#[test]
fn directories_are_read_and_no_object_twice() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let below = folder.path().join("below");
    fs::create_dir(&below).expect("a directory");
    let source = [Source::Path(folder.path().into())];
    assert!(matches!(read(&source), Err(SourceError::Empty { .. })));
    let vrf = "kind: Vrf\nname: prod\nspec: {loopbackIpPrefix: 10.0.0.1/32}\n";
    fs::write(below.join("a.yml"), vrf).expect("a file");
    fs::write(folder.path().join("notes.txt"), "no: [manifest").expect("a file");
    assert_eq!(read(&source).expect("is right").len(), 1);
    fs::write(folder.path().join("b.yaml"), vrf).expect("a file");
    let error = read(&source).expect_err("is there twice").to_string();
    assert!(
        error.contains("vrfs/prod") && error.contains("a.yml") && error.contains("b.yaml"),
        "{error}"
    );
    let none = [Source::Path(folder.path().join("none.yaml"))];
    let error = read(&none).expect_err("is not there").to_string();
    assert!(error.contains("none.yaml"), "{error}");
}
