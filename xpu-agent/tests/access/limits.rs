//! What a client cannot make the agent do or hold.

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt;
use xpu_agent::access::limits::Reason;
use xpu_proto::evpn_gw::v1alpha1::{
    CreateVrfRequest, ListVrfsRequest, vrf_service_client::VrfServiceClient,
};

use crate::{
    frames::{Frames, HEADERS, RST_STREAM, Sent},
    log::Log,
    raw::{Raw, Script, code},
    rig::{Rig, eventually, path},
};

#[tokio::test]
async fn messages_that_are_too_large_or_none() {
    let rig = Rig::new("[limits]\nmessage_bytes = 65536").await;
    let limits = rig.gate.limits().clone();
    let mut client = VrfServiceClient::new(rig.channel());
    let large = CreateVrfRequest {
        vrf_id: "x".repeat(70_000),
        vrf: None,
    };
    let refused = client.create_vrf(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.metadata["config"], "limits.message_bytes");
    assert_eq!(limits.refused(Reason::MessageBytes), 1);
    let fits = CreateVrfRequest {
        vrf_id: "x".repeat(60_000),
        vrf: None,
    };
    let reached = client.create_vrf(fits).await.unwrap_err();
    assert_eq!(reached.code(), Code::InvalidArgument);

    let mut raw = Raw::connect(&rig.unix(), 65_535).await;
    let create = path("Vrf", "CreateVrf");
    // Announced, not sent: no room is made for it.
    let announced = Script::new(&[0, 0xff, 0xff, 0xff, 0xff], false);
    let answer = raw.call(&create, announced).await.unwrap();
    assert_eq!(code(&answer), Some(Code::ResourceExhausted));
    let second = Script::new(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], false);
    let answer = raw.call(&create, second).await.unwrap();
    assert_eq!(code(&answer), Some(Code::ResourceExhausted));
    for malformed in [
        &b"\x00\x00\x00\x00\x03\xff\xff\xff"[..],
        b"\x01\x00\x00\x00\x00",
        b"\x07\x00\x00\x00\x01a",
        b"\x00\x00",
        b"",
    ] {
        let answer = raw
            .call(&create, Script::new(malformed, true))
            .await
            .unwrap();
        let code = code(&answer);
        assert!(
            !matches!(code, None | Some(Code::Ok)),
            "{malformed:?}: {code:?}"
        );
    }
    client.list_vrfs(ListVrfsRequest::default()).await.unwrap();
    drop((client, raw));
    rig.stop().await;
}

/// A stream may have as many messages as it likes, one after the other: each of them is bounded,
/// by less than a call's, and has its room until the next.
#[tokio::test]
async fn messages_of_a_stream_are_bounded_one_by_one() {
    let rig = Rig::new("[limits]\nmessage_bytes = 16384\nrequest_bytes = 32768").await;
    let limits = rig.gate.limits().clone();
    let mut client = ServerReflectionClient::new(rig.channel());
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let question = |bytes| ServerReflectionRequest {
        host: "x".repeat(bytes),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    ask.send(question(4_000)).await.unwrap();
    let answered = client.server_reflection_info(ReceiverStream::new(asked));
    let mut answers = answered.await.unwrap().into_inner();
    for _ in 0..10 {
        assert!(answers.message().await.unwrap().is_some());
        ask.send(question(4_000)).await.unwrap();
    }
    assert!(answers.message().await.unwrap().is_some());
    // Nothing of it has room any more, so another call gets what one caller may have.
    let whole = [&[0, 0, 0, 0x3e, 0x80][..], &[0; 16_000]].concat();
    let mut raw = Raw::connect(&rig.unix(), 65_535).await;
    let create = path("Vrf", "CreateVrf");
    let answer = raw.call(&create, Script::new(&whole, true)).await.unwrap();
    assert_ne!(code(&answer), Some(Code::ResourceExhausted), "it was read");

    ask.send(question(4_200)).await.unwrap();
    // The service ends the stream and does not say why.
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(limits.refused(Reason::MessageBytes), 1);
    drop((client, ask, answers, answer, raw));
    rig.stop().await;
}

#[tokio::test]
async fn headers_are_bounded() {
    let with_header = async |rig: &Rig, length: usize| {
        let mut client = VrfServiceClient::new(rig.channel());
        let mut request = tonic::Request::new(ListVrfsRequest::default());
        let long = "x".repeat(length).parse().unwrap();
        request.metadata_mut().insert("long", long);
        client.list_vrfs(request).await.map(drop)
    };
    let rig = Rig::new("[limits]\nheader_bytes = 4096").await;
    // Less than the default, which lets it through.
    assert!(with_header(&rig, 8_000).await.is_err());
    with_header(&rig, 2_000).await.unwrap();
    rig.stop().await;
    let rig = Rig::new("").await;
    with_header(&rig, 8_000).await.unwrap();
    assert!(with_header(&rig, 20_000).await.is_err());
    rig.stop().await;
}

/// An answer has no more room in headers than a request.
#[tokio::test]
async fn a_refusal_does_not_quote_more_than_a_line() {
    let rig = Rig::new("").await;
    let long: String = ["/no/", &"x".repeat(10_000)].concat();
    let mut client = tonic::client::Grpc::new(rig.channel());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ListVrfsRequest, ListVrfsRequest>::default();
    let request = tonic::Request::new(ListVrfsRequest::default());
    let path = long.parse().unwrap();
    let refused = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "METHOD_UNKNOWN");
    assert!(refused.message().contains("(10004 bytes)"), "{refused}");
    drop(client);
    rig.stop().await;
}

/// A client in a loop must not fill the log's disk.
#[tokio::test]
async fn refused_calls_are_logged_now_and_then() {
    for (config, why) in [
        ("[access.uids]\n0 = \"none\"", "has no role"),
        (
            "[limits]\ncalls_per_second = 1\ncalls_burst = 1",
            "limits.calls_per_second",
        ),
    ] {
        let log = Log::follow();
        let begun = tokio::time::Instant::now();
        let rig = Rig::new(config).await;
        let mut client = VrfServiceClient::new(rig.channel());
        let mut refused = 0;
        for _ in 0..100 {
            let called = client.list_vrfs(ListVrfsRequest::default()).await;
            refused += usize::from(called.is_err());
        }
        let lines = log.lines(&["refused", why]);
        // One a second, on a machine that is busy with other things.
        let most = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap();
        assert!(refused > 2 * most, "{refused} in {:?}", begun.elapsed());
        assert!((1..=most).contains(&lines.len()), "{lines:#?}");
        drop(client);
        rig.stop().await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_disconnected() {
    let rig = Rig::new("[limits]\nhandshake_ms = 300").await;
    let limits = rig.gate.limits().clone();
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"\r\n"] {
        let before = limits.refused(Reason::HandshakeSlow);
        let mut stream = UnixStream::connect(rig.unix()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // The server's own first frame may come; then the end.
        let _ = stream.read_to_end(&mut answer).await;
        eventually("no connection", || limits.connections() == 0).await;
        // What is not HTTP/2 ends earlier, by itself.
        let counted = limits.refused(Reason::HandshakeSlow) - before;
        assert!(counted == 1 || said == b"\r\n", "{said:?}");
    }
    // Who has said that it is there may be silent.
    let mut client = Raw::connect(&rig.unix(), 65_535).await;
    let silent = tokio::time::Instant::now() + std::time::Duration::from_millis(900);
    tokio::time::sleep_until(silent).await;
    let list = path("Vrf", "ListVrfs");
    client
        .call(&list, Script::new(&[0; 5], true))
        .await
        .unwrap();
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn who_sends_or_reads_too_slowly_is_refused() {
    let rig = Rig::new("[limits]\nrequest_ms = 300\nresponse_ms = 300").await;
    let limits = rig.gate.limits().clone();
    let list = path("Vrf", "ListVrfs");
    let mut sends = Raw::connect(&rig.unix(), 65_535).await;
    let answer = sends
        .call(&list, Script::new(&[0, 0], false))
        .await
        .unwrap();
    assert_eq!(code(&answer), Some(Code::DeadlineExceeded));
    assert_eq!(limits.refused(Reason::RequestSlow), 1);
    drop((answer, sends));

    // Windows that have no room for the five bytes of the answer, or for some of them.
    for (window, disconnected) in [(0, 1), (1, 2), (4, 3)] {
        let mut reads = Raw::connect(&rig.unix(), window).await;
        let answer = reads.call(&list, Script::new(&[0; 5], true)).await.unwrap();
        eventually("disconnected", || {
            limits.refused(Reason::ResponseSlow) == disconnected
        })
        .await;
        drop(answer);
        eventually("nothing is held", || {
            (limits.connections(), limits.calls()) == (0, 0)
        })
        .await;
    }
    rig.stop().await;
}

/// A client that makes room for a byte at a time is answered like any other, and holds its place
/// until it has made room for all.
#[tokio::test]
async fn an_answer_comes_through_a_small_window() {
    let rig = Rig::new("").await;
    let list = path("Vrf", "ListVrfs");
    // Which services there are (`list_services`, an empty text).
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let question = [0, 0, 0, 0, 2, 0x3a, 0];
    for (path, message) in [(list.as_str(), &[0; 5][..]), (reflection, &question)] {
        let mut client = Raw::connect(&rig.unix(), 1).await;
        let answer = client.call(path, Script::new(message, true)).await.unwrap();
        assert_eq!(rig.gate.limits().calls(), 1, "{path}");
        let read = answer.into_body().collect().await.unwrap();
        let trailers = read.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0", "{path}");
        let bytes = read.to_bytes();
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        assert_eq!(bytes.len(), 5 + usize::try_from(length).unwrap(), "{path}");
    }
    rig.stop().await;
}

/// A stream too many is refused, and its connection lives: what is refused so may be sent again
/// (RFC 9113, 8.7). Clients that keep to what they are told wait by themselves.
#[tokio::test]
async fn streams_of_one_connection_are_bounded() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let rig = Rig::new("[limits]\nstreams_per_connection = 2").await;
    let list = path("Vrf", "ListVrfs");
    let mut client = Frames::connect(&rig.unix()).await;
    for stream in [1, 3, 5] {
        client.begin(stream, &list).await;
    }
    let refused = Sent {
        kind: RST_STREAM,
        stream: 5,
        payload: REFUSED_STREAM.to_vec(),
    };
    assert_eq!(client.next().await, refused);
    client.finish(1).await;
    assert_eq!(client.next_of(HEADERS).await.stream, 1, "it is answered");
    // The trailers; then its place is free.
    assert_eq!(client.next_of(HEADERS).await.stream, 1);
    client.begin(7, &list).await;
    client.finish(7).await;
    assert_eq!(client.next_of(HEADERS).await.stream, 7);
    drop(client);
    rig.stop().await;
}
