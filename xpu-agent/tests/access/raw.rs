//! An HTTP/2 client whose requests are as a test wants them.

use std::{
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::Code;

/// A body of these bytes; after them it ends, or stays open for ever.
#[derive(Clone)]
pub struct Script {
    bytes: Option<Bytes>,
    ends: bool,
}

impl Script {
    pub fn new(bytes: &[u8], ends: bool) -> Self {
        let bytes = Some(Bytes::copy_from_slice(bytes));
        Self { bytes, ends }
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.bytes.take(), self.ends) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, true) => Poll::Ready(None),
            // Nobody wakes it.
            (None, false) => Poll::Pending,
        }
    }
}

/// An HTTP/2 connection on which bodies are as a test wants them.
pub struct Raw(http2::SendRequest<Script>);

impl Raw {
    pub async fn connect(socket: &Path, window: u32) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn call(&mut self, path: &str, body: Script) -> hyper::Result<Response<Incoming>> {
        let request = Request::post(format!("http://agent{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}

/// The code of an answer without a message.
pub fn code(response: &Response<Incoming>) -> Option<Code> {
    let status = response.headers().get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}
