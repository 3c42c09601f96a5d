use super::*;

fn access(text: &str) -> AccessConfig {
    toml::from_str(text).unwrap()
}

#[rstest::rstest]
#[case("URI:spiffe://lab/ops", "URI:spiffe://lab/ops", true)]
#[case("URI:spiffe://lab/ops", "URI:spiffe://lab/ops2", false)]
#[case("URI:spiffe://lab/ops", "DNS:spiffe://lab/ops", false)]
#[case("URI:spiffe://lab/node/*", "URI:spiffe://lab/node/7", true)]
#[case("URI:spiffe://lab/node/*", "URI:spiffe://lab/node/7/cni", true)]
#[case("URI:spiffe://lab/node/*", "URI:spiffe://lab/node/", false)]
#[case("URI:spiffe://lab/node/*", "URI:spiffe://lab/nodes/7", false)]
#[case("DNS:ops.example", "DNS:Ops.Example", true)]
#[case("DNS:*.example", "DNS:n7.example", true)]
#[case("DNS:*.example", "DNS:a.n7.example", false)]
#[case("DNS:*.example", "DNS:.example", false)]
#[case("DNS:*.example", "DNS:example", false)]
#[case("DNS:*.example", "DNS:*.example", false)]
#[case("DNS:n7.example", "DNS:*.example", false)]
fn names(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
    assert_eq!(matches(pattern, name), expected);
}

#[rstest::rstest]
#[case("uids = { bob = \"viewer\" }", "access.uids.bob")]
#[case("uids = { 007 = \"viewer\" }", "access.uids.007")]
#[case("uids = { 4294967296 = \"viewer\" }", "access.uids.4294967296")]
#[case(
    "certificates = { \"ops.example\" = \"admin\" }",
    "access.certificates"
)]
#[case("certificates = { \"URI:*\" = \"admin\" }", "access.certificates")]
#[case(
    "certificates = { \"URI:spiffe://*\" = \"admin\" }",
    "access.certificates"
)]
#[case(
    "certificates = { \"URI:spiffe://*/x\" = \"admin\" }",
    "access.certificates"
)]
#[case("certificates = { \"DNS:*\" = \"admin\" }", "access.certificates")]
#[case("certificates = { \"DNS:*.*.x\" = \"admin\" }", "access.certificates")]
fn what_would_never_or_always_match_is_refused(#[case] text: &str, #[case] key: &str) {
    let error = access(text).check().unwrap_err().to_string();
    assert!(error.starts_with(key), "{error}");
}

#[test]
fn root_stays_admin_unless_it_is_named() {
    let root = Peer::Unix { uid: 0, pid: None };
    let of = |text: &str| access(text).roles(&root);
    assert_eq!(of(""), Roles::from([Role::Admin]));
    assert_eq!(
        of("uids = { 1000 = \"viewer\" }"),
        Roles::from([Role::Admin])
    );
    assert_eq!(of("uids = { 0 = \"cni\" }"), Roles::from([Role::Cni]));
    assert_eq!(of("uids = { 0 = \"none\" }"), Roles::new());
}

#[test]
fn a_certificate_has_the_roles_of_all_its_names() {
    let config =
        access("certificates = { \"URI:spiffe://lab/*\" = \"viewer\", \"DNS:n7.lab\" = \"cni\" }");
    let peer = Peer::Certificate {
        address: "192.0.2.1:1".parse().unwrap(),
        names: vec!["DNS:n7.lab".to_owned(), "URI:spiffe://lab/n7".to_owned()],
    };
    assert_eq!(config.roles(&peer), Roles::from([Role::Viewer, Role::Cni]));
}

/// A certificate that is not trusted any more is named beside the pattern that it falls under.
#[test]
fn none_beats_what_other_patterns_grant() {
    let config = access(
        "certificates = { \"URI:spiffe://lab/*\" = \"admin\", \"URI:spiffe://lab/n7\" = \"none\" }",
    );
    let roles = |name: &str| {
        config.roles(&Peer::Certificate {
            address: "192.0.2.1:1".parse().unwrap(),
            names: vec![name.to_owned()],
        })
    };
    assert_eq!(roles("URI:spiffe://lab/n7"), Roles::new());
    assert_eq!(roles("URI:spiffe://lab/n8"), Roles::from([Role::Admin]));
    assert_eq!(roles("URI:spiffe://other/n8"), Roles::new());
    let closed = access(
        "certificates = { \"URI:spiffe://lab/*\" = \"none\", \"URI:spiffe://lab/n7\" = \"admin\" }",
    );
    let peer = Peer::Certificate {
        address: "192.0.2.1:1".parse().unwrap(),
        names: vec!["URI:spiffe://lab/n7".to_owned()],
    };
    assert_eq!(closed.roles(&peer), Roles::new(), "the wider one, too");
}
