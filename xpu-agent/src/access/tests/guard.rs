use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::{access::caller::Peer, config::AccessConfig};

const CREATE_PORT: &str = "/opi_api.network.evpn_gw.v1alpha1.BridgePortService/CreateBridgePort";
const CREATE_VRF: &str = "/opi_api.network.evpn_gw.v1alpha1.VrfService/CreateVrf";
const GET_VRF: &str = "/opi_api.network.evpn_gw.v1alpha1.VrfService/GetVrf";

fn config() -> AccessConfig {
    toml::from_str(
        r#"
        uids = { 1000 = "viewer", 1001 = "cni" }
        certificates = { "URI:spiffe://lab/cni/*" = "cni", "DNS:ops.example" = "admin" }
        "#,
    )
    .unwrap()
}

fn uid(uid: u32) -> Caller {
    Caller::new(Peer::Unix { uid, pid: None }, &config())
}

fn certificate(names: &[&str]) -> Caller {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let address = "192.0.2.7:4000".parse().unwrap();
    Caller::new(Peer::Certificate { address, names }, &config())
}

fn loopback() -> Caller {
    Caller::new(Peer::Loopback("127.0.0.1:4000".parse().unwrap()), &config())
}

#[rstest::rstest]
#[case(Some(uid(0)), CREATE_VRF, None)]
#[case(Some(uid(1000)), GET_VRF, None)]
#[case(Some(uid(1000)), CREATE_VRF, Some(Code::PermissionDenied))]
#[case(Some(uid(1001)), CREATE_PORT, None)]
#[case(Some(uid(1001)), GET_VRF, Some(Code::PermissionDenied))]
#[case(Some(uid(7)), GET_VRF, Some(Code::PermissionDenied))]
#[case(Some(uid(7)), "/nothing/Here", Some(Code::PermissionDenied))]
#[case(Some(uid(0)), "/nothing/Here", Some(Code::Unimplemented))]
#[case(Some(certificate(&["URI:spiffe://lab/cni/n7"])), CREATE_PORT, None)]
#[case(Some(certificate(&["URI:spiffe://lab/cni/n7"])), GET_VRF, Some(Code::PermissionDenied))]
#[case(Some(certificate(&["URI:x://y", "DNS:OPS.example"])), CREATE_VRF, None)]
#[case(Some(certificate(&[])), GET_VRF, Some(Code::PermissionDenied))]
#[case(Some(loopback()), GET_VRF, None)]
#[case(Some(loopback()), CREATE_VRF, Some(Code::PermissionDenied))]
#[case(None, GET_VRF, Some(Code::Unauthenticated))]
#[case(None, "/nothing/Here", Some(Code::Unauthenticated))]
fn who_may_what(#[case] caller: Option<Caller>, #[case] path: &str, #[case] code: Option<Code>) {
    let refused = check(caller.as_ref(), path).err();
    assert_eq!(refused.map(|refusal| refusal.code()), code);
}

#[test]
fn an_unknown_caller_without_a_role_is_unauthenticated() {
    let config = AccessConfig {
        loopback: crate::config::Grant::None,
        ..config()
    };
    let caller = Caller::new(loopback().peer().clone(), &config);
    let refusal = check(Some(&caller), GET_VRF).unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    assert_eq!(
        refusal.to_string(),
        format!(
            "{GET_VRF} is for known callers, and 127.0.0.1:4000 over loopback in clear is not \
             one: connect over the unix socket or by a client certificate; or set \
             access.loopback = \"viewer\""
        )
    );
}

#[rstest::rstest]
#[case(
    uid(1000),
    "uid 1000 has the role viewer",
    "1000 = \"admin\" in [access.uids]"
)]
#[case(uid(7), "uid 7 has no role", "7 = \"admin\" in [access.uids]")]
#[case(
    certificate(&["URI:spiffe://lab/cni/n7"]),
    "192.0.2.7:4000 by the certificate of URI:spiffe://lab/cni/n7 has the role cni",
    "\"URI:spiffe://lab/cni/n7\" = \"admin\" in [access.certificates]"
)]
#[case(
    loopback(),
    "127.0.0.1:4000 over loopback in clear has the role viewer",
    "access.loopback = \"admin\""
)]
fn a_refusal_names_the_caller_and_the_key(
    #[case] caller: Caller,
    #[case] who: &str,
    #[case] grant: &str,
) {
    let refusal = check(Some(&caller), CREATE_VRF).unwrap_err();
    let status = Status::from(refusal);
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        format!(
            "{who} and may not call {CREATE_VRF}; the agent's configuration allows it with {grant}"
        )
    );
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "ROLE_REQUIRED");
    assert_eq!(info.metadata["role"], "admin");
    assert_eq!(info.metadata["config"], grant);
    assert_eq!(info.metadata["method"], CREATE_VRF);
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_service() {
    use std::convert::Infallible;
    use tower::ServiceExt;

    let inner = tower::service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new("reached".to_owned()))
    });
    let guarded = GuardLayer::default().layer(inner);
    let mut request = Request::get(GET_VRF).body(()).unwrap();
    let refused = guarded.clone().oneshot(request.clone()).await.unwrap();
    assert_eq!(refused.body(), "");
    assert_eq!(refused.headers()["grpc-status"], "16");
    request.extensions_mut().insert(uid(1000));
    let served = guarded.oneshot(request).await.unwrap();
    assert_eq!(served.body(), "reached");
}
