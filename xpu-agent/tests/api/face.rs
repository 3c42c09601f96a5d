//! The two faces of the API, to make the same call at each.

use std::collections::BTreeMap;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::StatusExt;
use tower::ServiceExt;

use crate::{
    calls::{Call, HttpCall, Kind},
    rig::Rig,
};

/// A refusal as a client sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// The fields and what is said of them.
    pub fields: Vec<(String, String)>,
    /// The reason of an `ErrorInfo` with its metadata.
    pub info: Option<(String, BTreeMap<String, String>)>,
}

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    Grpc,
    Http,
}

impl Face {
    pub async fn call(self, rig: &Rig, call: &Call) -> Result<Value, Refusal> {
        match self {
            Self::Grpc => grpc(rig, call).await,
            Self::Http => http(rig, call).await,
        }
    }
}

async fn grpc(rig: &Rig, call: &Call) -> Result<Value, Refusal> {
    let (kind, verb, request) = match call {
        Call::Create(kind, id, spec) => {
            let (id_field, field) = (format!("{}_id", kind.field), kind.field);
            (kind, "Create", json!({id_field: id, field: {"spec": spec}}))
        }
        Call::Get(kind, name) => (kind, "Get", json!({"name": name})),
        Call::List(kind, size, token) => {
            let request = json!({"page_size": size, "page_token": token});
            (kind, "List", request)
        }
        Call::Update {
            kind,
            name,
            spec,
            mask,
            allow_missing,
        } => {
            let field = kind.field;
            let mut request = json!({
                field: {"name": name, "spec": spec}, "allow_missing": allow_missing,
            });
            if let Some(mask) = mask {
                request["update_mask"] = mask.as_str().into();
            }
            (kind, "Update", request)
        }
        Call::Delete(kind, name, allow_missing) => {
            let request = json!({"name": name, "allow_missing": allow_missing});
            (kind, "Delete", request)
        }
    };
    let plural = if verb == "List" { "s" } else { "" };
    let method = format!("{verb}{}{plural}", kind.message);
    unary(rig, kind, &method, request).await.map_err(|status| {
        let details = status.get_error_details();
        let violations = details.bad_request().into_iter();
        Refusal {
            code: status.code(),
            message: status.message().to_owned(),
            fields: violations
                .flat_map(|bad| &bad.field_violations)
                .map(|it| (it.field.clone(), it.description.clone()))
                .collect(),
            info: details.error_info().map(|info| {
                (
                    info.reason.clone(),
                    info.metadata.clone().into_iter().collect(),
                )
            }),
        }
    })
}

/// A call by the method's name, with the request as JSON.
pub async fn unary(rig: &Rig, kind: &Kind, method: &str, request: Value) -> Result<Value, Status> {
    let pool = DescriptorPool::decode(xpu_proto::FILE_DESCRIPTOR_SET).unwrap();
    let service = format!("opi_api.network.evpn_gw.v1alpha1.{}Service", kind.message);
    let service = pool.get_service_by_name(&service).unwrap();
    let method = service.methods().find(|it| it.name() == method).unwrap();
    let message = DynamicMessage::deserialize(method.input(), request).unwrap();
    let path = format!("/{}/{}", service.full_name(), method.name());
    let mut client = Grpc::new(rig.channel.clone());
    client.ready().await.unwrap();
    let codec = Dynamic(method.output());
    let answer = client
        .unary(tonic::Request::new(message), path.parse().unwrap(), codec)
        .await?;
    Ok(serde_json::to_value(answer.into_inner()).unwrap())
}

async fn http(rig: &Rig, call: &Call) -> Result<Value, Refusal> {
    let HttpCall { method, path, body } = call.http();
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let (status, answer) = send(rig, request.body(body).unwrap()).await;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let refusal = refusal(&answer);
    assert_eq!(status, http_code(refusal.code), "{answer}");
    Err(refusal)
}

/// Sends any HTTP request; the answer must be JSON.
pub async fn send(rig: &Rig, request: Request<Body>) -> (StatusCode, Value) {
    let response = rig.http.clone().oneshot(request).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Reads a `google.rpc.Status`.
pub fn refusal(answer: &Value) -> Refusal {
    let details = answer["details"].as_array().unwrap();
    let of = |name: &str| {
        let name = format!("type.googleapis.com/google.rpc.{name}");
        details.iter().find(move |it| it["@type"] == name.as_str())
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let violations = of("BadRequest").and_then(|bad| bad["fieldViolations"].as_array());
    Refusal {
        code: Code::from_i32(answer["code"].as_i64().unwrap().try_into().unwrap()),
        message: text(&answer["message"]),
        fields: violations
            .into_iter()
            .flatten()
            .map(|it| (text(&it["field"]), text(&it["description"])))
            .collect(),
        info: of("ErrorInfo").map(|info| {
            let metadata = serde_json::from_value(info["metadata"].clone()).unwrap();
            (text(&info["reason"]), metadata)
        }),
    }
}

/// `google/rpc/code.proto`, for the codes that the agent uses.
fn http_code(code: Code) -> StatusCode {
    let number = match code {
        // Of what is used up the API knows only what no retry mends.
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted => 400,
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::DeadlineExceeded => 504,
        other => panic!("{other:?} is not expected"),
    };
    StatusCode::from_u16(number).unwrap()
}

/// Reads answers as this message.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).unwrap();
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        Ok(Some(DynamicMessage::decode(self.0.clone(), from).unwrap()))
    }
}
