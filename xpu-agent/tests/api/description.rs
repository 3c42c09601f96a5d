//! `/openapi.json`: that it describes what is served.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::{
    calls::KINDS,
    face::{Face, refusal, send},
    rig::Rig,
    world::everything,
};

/// The API's package.
const PACKAGE: &str = "opi_api.network.evpn_gw.v1alpha1";

async fn description(rig: &Rig) -> Value {
    let request = Request::get("/openapi.json").body(Default::default());
    let (status, document) = send(rig, request.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    document
}

#[tokio::test]
async fn the_description_names_every_route_and_schema() {
    let rig = Rig::start().await;
    let document = description(&rig).await;
    assert_eq!(document["openapi"], "3.1.0");
    for kind in KINDS {
        let path = format!("/v1/{}", kind.collection);
        for (path, methods) in [
            (path.clone(), ["get", "post"].as_slice()),
            (format!("{path}/{{id}}"), &["get", "patch", "delete"]),
        ] {
            for method in methods {
                let operation = &document["paths"][&path][method];
                assert_ne!(operation["description"], "", "{method} {path}");
            }
        }
    }
    let spec = &document["components"]["schemas"][format!("{PACKAGE}.VrfSpec")];
    assert_eq!(spec["required"], json!(["loopbackIpPrefix"]));
    assert_eq!(
        spec["properties"]["vni"]["description"],
        "The layer-3 VNI: 1 to 16777215, unique over logical bridges and VRFs. Absent: the VRF \
         routes on this xPU only."
    );
    let references = references(&document);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(text) if key == "$ref" => vec![text],
                _ => references(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// What a message cannot tell from absence is not given: the schemas say so too.
#[tokio::test]
async fn a_required_field_has_to_have_a_value() {
    let rig = Rig::start().await;
    let document = description(&rig).await;
    let field = |message: &str, field: &str| {
        let schemas = &document["components"]["schemas"];
        schemas[format!("{PACKAGE}.{message}")]["properties"][field].clone()
    };
    for (path, body, message, name, keyword, expected) in [
        (
            "logicalBridges",
            json!({"vlanId": 0}),
            "LogicalBridgeSpec",
            "vlanId",
            "minimum",
            json!(1),
        ),
        (
            "bridgePorts",
            json!({"macAddress": "", "ptype": "BRIDGE_PORT_TYPE_TRUNK"}),
            "BridgePortSpec",
            "macAddress",
            "minLength",
            json!(1),
        ),
        (
            "bridgePorts",
            json!({"macAddress": "AgAAAAAB", "ptype": "BRIDGE_PORT_TYPE_UNSPECIFIED"}),
            "BridgePortSpec",
            "ptype",
            "enum",
            json!(["BRIDGE_PORT_TYPE_ACCESS", "BRIDGE_PORT_TYPE_TRUNK"]),
        ),
        (
            "svis",
            json!({"gwIpPrefix": []}),
            "SviSpec",
            "gwIpPrefix",
            "minItems",
            json!(1),
        ),
        (
            "svis",
            json!({"vrf": ""}),
            "SviSpec",
            "vrf",
            "minLength",
            json!(1),
        ),
    ] {
        refused(&rig, path, &body).await;
        assert_eq!(field(message, name)[keyword], expected, "{message}.{name}");
        // Of a PATCH's body nothing is required, and a field that may be absent may be empty.
        let partial = field(&format!("{message}.Partial"), name);
        assert!(partial.is_object(), "{message}.{name}");
        assert_ne!(partial[keyword], expected, "{message}.{name}");
    }
    assert_eq!(field("SviSpec", "remoteAs")["minimum"], 0);
}

#[tokio::test]
async fn alternatives_exclude_each_other() {
    let rig = Rig::start().await;
    let both = json!({"v4Addr": 1, "v6Addr": "AA=="});
    refused(
        &rig,
        "vrfs",
        &json!({"loopbackIpPrefix": {"addr": both, "len": 32}}),
    )
    .await;
    let document = description(&rig).await;
    let schemas = &document["components"]["schemas"];
    let address = &schemas["opi_api.network.opinetcommon.v1alpha1.IPAddress"];
    let pairs = json!({"anyOf": [{"required": ["v4Addr", "v6Addr"]}]});
    assert_eq!(address["not"], pairs);
    assert_eq!(address["properties"]["v6Addr"]["contentEncoding"], "base64");
    // A pattern, since `contentEncoding` binds nobody (JSON Schema 2020-12, 8.1).
    assert_eq!(
        address["properties"]["v6Addr"]["pattern"],
        "^(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}={0,2}|[A-Za-z0-9+/_-]{3}=?)?$"
    );
    assert_eq!(schemas[format!("{PACKAGE}.VrfSpec")].get("not"), None);
}

#[tokio::test]
async fn a_patch_may_have_no_body_and_a_post_must() {
    let rig = Rig::start().await;
    for call in everything() {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let paths = &description(&rig).await["paths"];
    for (method, path, described, expected) in [
        ("patch", "/v1/vrfs/vrf-red", "/v1/vrfs/{id}", StatusCode::OK),
        ("post", "/v1/vrfs", "/v1/vrfs", StatusCode::BAD_REQUEST),
    ] {
        let request = Request::builder()
            .method(method.to_uppercase().as_str())
            .uri(path);
        let (status, answer) = send(&rig, request.body("".into()).unwrap()).await;
        assert_eq!(status, expected, "{answer}");
        let body = &paths[described][method]["requestBody"];
        assert_eq!(body["required"], !status.is_success(), "{method}");
    }
}

async fn refused(rig: &Rig, collection: &str, spec: &Value) {
    let body = json!({"spec": spec}).to_string();
    let request = Request::post(format!("/v1/{collection}"))
        .header("content-type", "application/json")
        .body(body.into());
    let (status, answer) = send(rig, request.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{spec}");
    assert!(!refusal(&answer).fields.is_empty(), "{answer}");
}
