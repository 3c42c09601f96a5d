//! Callers that do not do as they should.
//!
//! Each looks at what it is answered, where there is an answer: one that is not refused, or that
//! does not get through at all, would measure nothing.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tonic::{Code, body::Body, transport::Channel};
use tower::ServiceExt;

use super::frames::{self, Frames};

const CREATE: &str = "/opi_api.network.evpn_gw.v1alpha1.BridgePortService/CreateBridgePort";
const LIST: &str = "/opi_api.network.evpn_gw.v1alpha1.BridgePortService/ListBridgePorts";
/// HTTP/2's own window, for clients that name none.
const WINDOW: u32 = 65_535;

async fn open(socket: &Path, bytes: &[u8]) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

/// A connection that begins a message of 1 MiB less 8 bytes, sends 16,000 of it and does not go
/// on.
///
/// # Errors
/// Where it can't connect.
pub async fn stuck(socket: &Path) -> Result<UnixStream> {
    let mut data = vec![0, 0, 0x0f, 0xff, 0xf8];
    data.resize(16_000, 0);
    let half = Frames::begin(WINDOW).call(1, CREATE).data(1, &data, false);
    open(socket, &half.bytes()).await
}

/// A connection that asks for two pages of ports, and lets the server send `window` bytes of each
/// beside their headers: those it waits for, so that the server has the pages then.
///
/// # Errors
/// Where it can't connect, or gets no answer.
pub async fn deaf(socket: &Path, window: u32) -> Result<UnixStream> {
    // `page_size` 250, the most there is.
    let page = [0, 0, 0, 0, 3, 0x08, 0xfa, 0x01];
    let begun = Frames::begin(window);
    let asks = [1, 3].into_iter().fold(begun, |frames, stream| {
        frames.call(stream, LIST).data(stream, &page, true)
    });
    let mut stream = open(socket, &asks.bytes()).await?;
    for _ in 0..2 {
        frames::until_headers(&mut stream).await?;
    }
    Ok(stream)
}

/// Clients that send a byte now and then: a half of them of a gRPC message, in a frame of its
/// own, the others of an HTTP request's head.
#[derive(Debug)]
pub struct Trickle {
    grpc: Vec<UnixStream>,
    http: Vec<TcpStream>,
    next: usize,
}

impl Trickle {
    /// Connects so many of both kinds.
    ///
    /// # Errors
    /// Where it can't.
    pub async fn begin(socket: &Path, http: SocketAddr, each: usize) -> Result<Self> {
        let mut trickle = Self {
            grpc: Vec::new(),
            http: Vec::new(),
            next: 0,
        };
        // Of a message of 1 MiB less 8 bytes.
        let head = [0, 0, 0x0f, 0xff, 0xf8];
        let head = Frames::begin(WINDOW).call(1, CREATE).data(1, &head, false);
        let head = head.bytes();
        for _ in 0..each {
            trickle.grpc.push(open(socket, &head).await?);
            let mut stream = TcpStream::connect(http).await?;
            stream.write_all(b"GET /v1/vrfs HTTP/1.1\r\nx: ").await?;
            trickle.http.push(stream);
        }
        Ok(trickle)
    }

    /// The next one of each kind sends a byte.
    ///
    /// # Errors
    /// Where the server has hung up.
    pub async fn step(&mut self) -> Result<()> {
        let next = self.next;
        self.next = (next + 1) % self.grpc.len().max(1);
        if let Some(stream) = self.grpc.get_mut(next) {
            stream.write_all(&Frames::more(1, b"x")).await?;
        }
        if let Some(stream) = self.http.get_mut(next) {
            stream.write_all(b"x").await?;
        }
        Ok(())
    }
}

/// Creates a port by a message of these bytes, whatever they are.
async fn create(channel: &Channel, message: Bytes) -> Result<Code> {
    let request = Request::post(CREATE)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(message)))?;
    let answer = channel.clone().oneshot(request).await?;
    let code = answer.headers().get("grpc-status");
    Ok(Code::from_bytes(
        code.context("no code in an answer without a message")?
            .as_bytes(),
    ))
}

/// A gRPC message of so many bytes.
#[must_use]
pub fn message(bytes: u32) -> Bytes {
    let mut message = vec![0];
    message.extend(bytes.to_be_bytes());
    message.resize(message.len() + bytes as usize, b'x');
    message.into()
}

/// Sends a message that is too large.
///
/// # Errors
/// Where it is not refused for that.
pub async fn oversized(channel: &Channel, message: Bytes) -> Result<()> {
    let code = create(channel, message).await?;
    ensure!(code == Code::ResourceExhausted, "answered with {code:?}");
    Ok(())
}

/// Sends a message that does not decode.
///
/// # Errors
/// Where that is not what it is answered.
pub async fn undecodable(channel: &Channel) -> Result<()> {
    // A field whose number and length have no end.
    let code = create(channel, Bytes::from_static(b"\0\0\0\0\x03\xff\xff\xff")).await?;
    ensure!(code == Code::Internal, "answered with {code:?}");
    Ok(())
}

/// A POST with this body, on a connection of its own, must get this status.
///
/// # Errors
/// Where it gets another.
pub async fn post(http: SocketAddr, body: &[u8], status: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "POST /v1/bridgePorts?bridgePortId=x HTTP/1.1\r\nhost: agent\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(http).await?;
    // The server may answer before it has read all, and hang up.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let answer = until_end(&mut stream).await;
    let first = answer.get(..12).unwrap_or(&answer);
    let first = String::from_utf8_lossy(first).into_owned();
    ensure!(
        first.ends_with(&format!(" {status}")),
        "answered with `{first}`"
    );
    Ok(())
}

/// What comes until the server hangs up, in order or not.
async fn until_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// What is no HTTP/2: no preface, half of one, and frames that are none after a good one.
pub const NO_HTTP2: [&[u8]; 3] = [
    &[0xa5; 1_000],
    b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// Sends the same bytes to both listeners, and waits until they hang up.
///
/// # Errors
/// Where it can't connect.
pub async fn noise(socket: &Path, http: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut grpc = open(socket, bytes).await?;
    let mut http = TcpStream::connect(http).await?;
    http.write_all(bytes).await?;
    until_end(&mut grpc).await;
    until_end(&mut http).await;
    Ok(())
}
