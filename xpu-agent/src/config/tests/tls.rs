use super::*;

#[rstest::rstest]
#[case("127.0.0.1", false, None, Ok(Transport::Loopback))]
#[case("::1", true, None, Ok(Transport::Loopback))]
#[case("0.0.0.0", true, None, Ok(Transport::Insecure))]
#[case("0.0.0.0", false, None, Err(()))]
#[case("127.0.0.1", false, Some(false), Ok(Transport::Loopback))]
#[case("127.0.0.1", false, Some(true), Ok(Transport::Tls))]
#[case("192.0.2.1", false, Some(false), Ok(Transport::Tls))]
fn how_an_address_is_served(
    #[case] address: &str,
    #[case] insecure: bool,
    #[case] tls: Option<bool>,
    #[case] expected: Result<Transport, ()>,
) {
    let access = AccessConfig {
        insecure,
        ..AccessConfig::default()
    };
    let tls = tls.map(|loopback| TlsConfig {
        cert: "c".into(),
        key: "k".into(),
        client_ca: "a".into(),
        client_crl: None,
        loopback,
    });
    let transport = Transport::of(address.parse().unwrap(), &access, tls.as_ref());
    assert_eq!(transport.map_err(drop), expected);
}
