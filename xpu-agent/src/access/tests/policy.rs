use std::collections::BTreeMap;

use prost::Message;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET as REFLECTION;

use super::*;

/// Every method of the descriptors that are served, as `/service/method`.
fn served() -> Vec<String> {
    let sets = [xpu_proto::FILE_DESCRIPTOR_SET, HEALTH, REFLECTION];
    let files = sets
        .iter()
        .flat_map(|set| prost_types::FileDescriptorSet::decode(*set).unwrap().file);
    let mut paths = Vec::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    paths
}

/// Who may call what, written out: `v`iewer, `c`ni, `a`dmin.
const TABLE: &str = "
    Vrf            Get v-a  List v-a  Create --a  Update --a  Delete --a
    LogicalBridge  Get v-a  List v-a  Create --a  Update --a  Delete --a
    Svi            Get v-a  List v-a  Create --a  Update --a  Delete --a
    BridgePort     Get vca  List vca  Create -ca  Update -ca  Delete -ca
";

fn table() -> BTreeMap<String, String> {
    let mut table = BTreeMap::from([
        ("/grpc.health.v1.Health/Check".to_owned(), "vca".to_owned()),
        ("/grpc.health.v1.Health/Watch".to_owned(), "vca".to_owned()),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(),
            "v-a".to_owned(),
        ),
    ]);
    for line in TABLE.trim().lines() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap();
        while let (Some(verb), Some(who)) = (words.next(), words.next()) {
            let plural = if verb == "List" { "s" } else { "" };
            let service = format!("opi_api.network.evpn_gw.v1alpha1.{kind}Service");
            table.insert(format!("/{service}/{verb}{kind}{plural}"), who.to_owned());
        }
    }
    table
}

#[test]
fn every_served_method_has_its_rule() {
    let found: BTreeMap<_, _> = served()
        .into_iter()
        .map(|path| {
            let method: Result<Method, _> = path.parse();
            let may = |role| method.is_ok_and(|method| allowed(role, method));
            let letter = |role, letter| if may(role) { letter } else { '-' };
            let who = [
                letter(Role::Viewer, 'v'),
                letter(Role::Cni, 'c'),
                letter(Role::Admin, 'a'),
            ];
            (path, who.iter().collect::<String>())
        })
        .collect();
    assert_eq!(found, table());
}

#[rstest::rstest]
#[case::new_service("/opi_api.network.evpn_gw.v1alpha1.TunnelService/GetTunnel")]
#[case::new_version("/opi_api.network.evpn_gw.v1.VrfService/GetVrf")]
#[case::new_verb("/opi_api.network.evpn_gw.v1alpha1.VrfService/PurgeVrf")]
#[case::longer_name("/xopi_api.network.evpn_gw.v1alpha1.VrfService/GetVrf")]
#[case::no_method("/opi_api.network.evpn_gw.v1alpha1.VrfService")]
#[case::two_slashes("//opi_api.network.evpn_gw.v1alpha1.VrfService/GetVrf")]
#[case::root("/")]
#[case::empty("")]
fn what_has_no_rule_is_no_method(#[case] path: &str) {
    assert_eq!(path.parse::<Method>(), Err(Unknown));
}

#[test]
fn the_least_role_is_what_one_is_told_to_ask_for() {
    let of = |path: &str| least(path.parse().unwrap());
    let service = "/opi_api.network.evpn_gw.v1alpha1";
    assert_eq!(of(&format!("{service}.VrfService/GetVrf")), Role::Viewer);
    assert_eq!(of(&format!("{service}.VrfService/CreateVrf")), Role::Admin);
    assert_eq!(
        of(&format!("{service}.BridgePortService/CreateBridgePort")),
        Role::Cni
    );
}

#[test]
fn probes_ask_two_pages() {
    assert!(is_probe(&Verb::GET, "/healthz"));
    assert!(is_probe(&Verb::HEAD, "/readyz"));
    for (verb, path) in [
        (Verb::POST, "/healthz"),
        (Verb::GET, "/healthz/"),
        (Verb::GET, "/metrics"),
        (Verb::GET, "/v1/vrfs"),
    ] {
        assert!(!is_probe(&verb, path), "{verb} {path}");
    }
}
