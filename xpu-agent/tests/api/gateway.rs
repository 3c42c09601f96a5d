//! What is HTTP's own: paths, methods, content types, query parameters, JSON.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt;
use xpu_agent::config::LimitsConfig;
use xpu_model::status::State;

use crate::{
    calls::KINDS,
    face::{refusal, send},
    rig::{Rig, Script},
};

fn request(method: Method, uri: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri);
    request
        .header("content-type", "application/json; charset=utf-8")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

async fn get(rig: &Rig, uri: &str) -> (StatusCode, Value) {
    send(rig, request(Method::GET, uri, "")).await
}

#[tokio::test]
async fn a_network_is_made_changed_and_removed() {
    let rig = Rig::start().await;
    let body = r#"{"spec": {"vlanId": 100, "vni": 10100}}"#;
    let made = send(
        &rig,
        request(
            Method::POST,
            "/v1/logicalBridges?logicalBridgeId=net-blue",
            body,
        ),
    );
    let (status, made) = made.await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        made,
        json!({
            "name": "logicalBridges/net-blue",
            "spec": {"vlanId": 100, "vni": 10100},
            "status": {
                "operStatus": "LB_OPER_STATUS_UP",
                "components": [{
                    "name": "linux",
                    "status": "COMP_STATUS_SUCCESS",
                    "details": "{\"routingTable\":1001}",
                }],
            },
        })
    );
    // Names of the `.proto` file, numbers as text, an id without its query parameter's own case.
    let body = r#"{"spec": {"vlan_id": "7", "vni": 8}, "name": "the path goes before this"}"#;
    let uri = "/v1/logicalBridges/net-blue?update_mask=spec.vlan_id";
    let (status, changed) = send(&rig, request(Method::PATCH, uri, body)).await;
    assert_eq!(
        (status, &changed["spec"]),
        (StatusCode::OK, &json!({"vlanId": 7, "vni": 10100}))
    );
    let (_, list) = get(&rig, "/v1/logicalBridges").await;
    assert_eq!(list, json!({"logicalBridges": [changed]}));
    let (status, gone) = send(
        &rig,
        request(Method::DELETE, "/v1/logicalBridges/net-blue", ""),
    )
    .await;
    assert_eq!((status, gone), (StatusCode::OK, json!({})));
    assert_eq!(
        get(&rig, "/v1/logicalBridges/net-blue").await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_method_of_the_four_services_has_its_route() {
    let rig = Rig::start().await;
    for kind in KINDS {
        let collection = format!("/v1/{}", kind.collection);
        let object = format!("{collection}/none-such");
        let id = format!("{}Id", kind.collection.strip_suffix('s').unwrap());
        for (method, uri, body, code) in [
            (Method::GET, collection.clone(), "", None),
            (
                Method::POST,
                format!("{collection}?{id}=x"),
                "{}",
                Some(Code::InvalidArgument),
            ),
            (Method::GET, object.clone(), "", Some(Code::NotFound)),
            (Method::PATCH, object.clone(), "{}", Some(Code::NotFound)),
            (Method::DELETE, object.clone(), "", Some(Code::NotFound)),
            (
                Method::DELETE,
                format!("{object}?allowMissing=true"),
                "",
                None,
            ),
        ] {
            let (_, answer) = send(&rig, request(method.clone(), &uri, body)).await;
            let answered = answer.get("code").map(|_| refusal(&answer).code);
            assert_eq!(answered, code, "{method} {uri}: {answer}");
        }
    }
}

/// Every refusal that is the gateway's: HTTP code, gRPC code, field, message.
#[tokio::test]
async fn requests_that_cannot_be_read_are_refused() {
    let rig = Rig::start().await;
    let before = rig.store.intent();
    let bridges = "/v1/logicalBridges";
    let bridge = "/v1/logicalBridges/net-blue";
    for (method, uri, body, http, field, message) in [
        (
            Method::POST,
            bridges,
            "{",
            400,
            "",
            "the body is no JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            Method::POST,
            bridges,
            "[]",
            400,
            "logical_bridge",
            "logical_bridge: invalid type: sequence, expected a map",
        ),
        (
            Method::PATCH,
            bridge,
            "5",
            400,
            "logical_bridge",
            "logical_bridge: must be a JSON object",
        ),
        (
            Method::POST,
            bridges,
            r#"{"spec": {"vlanID": 5}}"#,
            400,
            "logical_bridge.spec",
            "logical_bridge.spec: unrecognized field name 'vlanID'",
        ),
        (
            Method::POST,
            bridges,
            r#"{"spec": {"vlanId": -5}}"#,
            400,
            "logical_bridge.spec.vlan_id",
            "logical_bridge.spec.vlan_id: `-5` is no whole number from 0 to 4294967295",
        ),
        (
            Method::POST,
            "/v1/bridgePorts",
            r#"{"spec": {"macAddress": "02:00:00:00:00:01"}}"#,
            400,
            "bridge_port.spec.mac_address",
            "bridge_port.spec.mac_address: `02:00:00:00:00:01` is no base64, in which JSON has bytes \
             (invalid base64: Invalid symbol 58, offset 2.)",
        ),
        (
            Method::POST,
            "/v1/bridgePorts",
            r#"{"spec": {"ptype": "TRUNK"}}"#,
            400,
            "bridge_port.spec.ptype",
            "bridge_port.spec.ptype: `TRUNK` is none of BRIDGE_PORT_TYPE_UNSPECIFIED, \
             BRIDGE_PORT_TYPE_ACCESS, BRIDGE_PORT_TYPE_TRUNK",
        ),
        (
            Method::POST,
            "/v1/svis",
            r#"{"spec": {"gwIpPrefix": [{}, {"len": "x"}]}}"#,
            400,
            "svi.spec.gw_ip_prefix[1].len",
            "svi.spec.gw_ip_prefix[1].len: `x` is no whole number from -2147483648 to 2147483647",
        ),
        (
            Method::POST,
            "/v1/vrfs",
            r#"{"spec": {"loopbackIpPrefix": {"addr": {"v4Addr": 1, "v6Addr": "AA=="}}}}"#,
            400,
            "vrf.spec.loopback_ip_prefix.addr",
            "vrf.spec.loopback_ip_prefix.addr: multiple fields provided for oneof 'v4_or_v6'",
        ),
        (
            Method::POST,
            bridges,
            r#"{"spec": {"vlanId": 5, "vlanId": 6}}"#,
            400,
            "",
            "`vlanId` is given twice at line 1 column 31",
        ),
        (
            Method::POST,
            bridges,
            r#"{"spec": {"vlanId": 5, "vlan_id": 6}}"#,
            400,
            "logical_bridge.spec.vlan_id",
            "logical_bridge.spec.vlan_id: is given twice",
        ),
        (
            Method::PATCH,
            "/v1/svis/svi-blue",
            r#"{"spec": {"gwIpPrefix": [{}, {"addr": {"v4_addr": 1, "v4Addr": 1}}]}}"#,
            400,
            "svi.spec.gw_ip_prefix[1].addr.v4_addr",
            "svi.spec.gw_ip_prefix[1].addr.v4_addr: is given twice",
        ),
        (
            Method::GET,
            "/v1/vrfs?pageSize=many",
            "",
            400,
            "page_size",
            "page_size: `many` is no whole number from -2147483648 to 2147483647",
        ),
        (
            Method::GET,
            "/v1/vrfs?size=5",
            "",
            400,
            "size",
            "size: ListVrfs has no such query parameter",
        ),
        (
            Method::GET,
            "/v1/vrfs?pageSize=5&page_size=6",
            "",
            400,
            "page_size",
            "page_size: is given twice",
        ),
        (
            Method::DELETE,
            "/v1/vrfs/vrf-red?allowMissing=yes",
            "",
            400,
            "allow_missing",
            "allow_missing: `yes` is neither true nor false",
        ),
        (
            Method::DELETE,
            "/v1/vrfs/vrf-red?name=vrf-blue",
            "",
            400,
            "name",
            "name: DeleteVrf has no such query parameter",
        ),
        (
            Method::PATCH,
            "/v1/vrfs/vrf-red?vrf.spec.vni=5",
            "{}",
            400,
            "vrf.spec.vni",
            "vrf.spec.vni: UpdateVrf has no such query parameter",
        ),
        (
            Method::PATCH,
            "/v1/vrfs/vrf-red?updateMask=spec._",
            "{}",
            400,
            "update_mask",
            "update_mask: invalid field mask",
        ),
        (
            Method::GET,
            "/v1/vrfs/vrf-red",
            "{}",
            400,
            "",
            "GET /v1/vrfs/{id} takes no body",
        ),
        (
            Method::GET,
            "/v1/vrfs/%ff",
            "",
            400,
            "",
            "Invalid UTF-8 in `id`",
        ),
        (
            Method::GET,
            "/v1/vrfs/a%2fb",
            "",
            400,
            "name",
            "name: `a/b` is no valid id; use 4 to 63 of a-z, 0-9 and `-`, a letter first, no `-` last",
        ),
        (
            Method::GET,
            "/v2/vrfs",
            "",
            404,
            "",
            "there is no /v2/vrfs; /openapi.json lists what is",
        ),
        (
            Method::PUT,
            "/v1/vrfs",
            "{}",
            405,
            "",
            "/v1/vrfs has no PUT; the header `Allow` lists what it has",
        ),
        (
            Method::POST,
            "/healthz",
            "{}",
            405,
            "",
            "/healthz has no POST; the header `Allow` lists what it has",
        ),
        (
            Method::DELETE,
            "/readyz",
            "",
            405,
            "",
            "/readyz has no DELETE; the header `Allow` lists what it has",
        ),
        (
            Method::PUT,
            "/metrics",
            "",
            405,
            "",
            "/metrics has no PUT; the header `Allow` lists what it has",
        ),
    ] {
        let (status, answer) = send(&rig, request(method.clone(), uri, body)).await;
        let refusal = refusal(&answer);
        let answered = refusal
            .fields
            .first()
            .map_or("", |(field, _)| field.as_str());
        assert_eq!(
            (status.as_u16(), answered, refusal.message.as_str()),
            (http, field, message),
            "{method} {uri} {body}"
        );
        let code = match http {
            404 => Code::NotFound,
            405 => Code::Unimplemented,
            _ => Code::InvalidArgument,
        };
        assert_eq!(refusal.code, code, "{method} {uri}");
    }
    assert_eq!(rig.store.intent(), before);
}

#[tokio::test]
async fn other_content_types_and_long_bodies_are_refused() {
    let rig = Rig::start().await;
    let form = Request::post("/v1/vrfs")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("{}"))
        .unwrap();
    let (status, answer) = send(&rig, form).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(refusal(&answer).code, Code::InvalidArgument);
    let mut two = request(Method::POST, "/v1/vrfs", "{}");
    let second = "text/plain".parse().unwrap();
    two.headers_mut().append("content-type", second);
    let (status, _) = send(&rig, two).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for (coding, expected) in [("gzip", 415), ("identity, br", 415), ("Identity", 400)] {
        let mut coded = request(Method::POST, "/v1/vrfs", "{}");
        let value = coding.parse().unwrap();
        coded.headers_mut().insert("content-encoding", value);
        let response = rig.http.clone().oneshot(coded).await.unwrap();
        assert_eq!(response.status(), expected, "{coding}");
        let accepted = response.headers().get("accept-encoding");
        assert_eq!(accepted.is_some_and(|it| it == "identity"), expected == 415);
    }
    let most = LimitsConfig::default().message_bytes;
    let long = " ".repeat(most + 1);
    let (status, answer) = send(&rig, request(Method::POST, "/v1/vrfs", &long)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let refused = refusal(&answer);
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.info.unwrap().1["config"], "limits.message_bytes");
    let fits = request(Method::POST, "/v1/vrfs", &long[..most]);
    let (status, answer) = send(&rig, fits).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}: it was read");
}

#[tokio::test]
async fn what_a_path_has_is_told_with_405() {
    let rig = Rig::start().await;
    let request = request(Method::PUT, "/v1/vrfs/vrf-red", "");
    let response = rig.http.clone().oneshot(request).await.unwrap();
    let allow = response.headers()["allow"].to_str().unwrap();
    let mut methods: Vec<_> = allow.split(',').collect();
    methods.sort_unstable();
    assert_eq!(methods, ["DELETE", "GET", "HEAD", "PATCH"]);
}

/// The agent itself would wait for an hour.
#[tokio::test]
async fn a_deadline_in_the_header_holds() {
    let rig = Rig::with(Script {
        live: State::Pending("waits for ever".to_owned()),
        deadline: Duration::from_secs(3_600),
        ..Script::default()
    })
    .await;
    let uri = "/v1/logicalBridges?logicalBridgeId=net-blue";
    let mut create = request(Method::POST, uri, r#"{"spec": {"vlanId": 5}}"#);
    let timeout = "200m".parse().unwrap();
    create.headers_mut().insert("Grpc-Timeout", timeout);
    let (_, made) = send(&rig, create).await;
    assert_eq!(made["status"]["operStatus"], "LB_OPER_STATUS_DOWN");
}
