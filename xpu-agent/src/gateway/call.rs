//! A unary call of a gRPC service in the same process, with messages known by descriptor only.

use http::{Extensions, HeaderMap, HeaderName, uri::PathAndQuery};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    service::Routes,
};

/// Headers of the HTTP request that mean the same to a gRPC service.
const PASSED: [HeaderName; 5] = [
    http::header::AUTHORIZATION,
    http::header::USER_AGENT,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Calls the method; the services find the HTTP request's `extensions` on the gRPC one.
pub(super) async fn unary(
    services: Routes,
    rpc: &MethodDescriptor,
    headers: &HeaderMap,
    extensions: Extensions,
    message: DynamicMessage,
) -> Result<DynamicMessage, Status> {
    let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    let path = PathAndQuery::try_from(path)
        .map_err(|error| Status::internal(format!("{}: {error}", rpc.full_name())))?;
    let mut metadata = HeaderMap::new();
    for name in PASSED {
        if let Some(value) = headers.get(&name) {
            metadata.insert(name, value.clone());
        }
    }
    let metadata = MetadataMap::from_headers(metadata);
    let request = Request::from_parts(metadata, extensions, message);
    // The limits are for what comes from outside; a page of large objects may be long.
    let mut client = Grpc::new(services).max_decoding_message_size(usize::MAX);
    let Ok(()) = client.ready().await;
    let answer = client.unary(request, path, Reflected(rpc.output())).await?;
    Ok(answer.into_inner())
}

/// Reads answers as this message.
struct Reflected(MessageDescriptor);

impl Codec for Reflected {
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

impl Encoder for Reflected {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(to)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Reflected {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), from)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
