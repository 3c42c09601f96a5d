//! HTTP/2 by the frame (RFC 9113): a client that keeps to no limit that it is told of, as none of
//! the libraries can be made to.

use std::path::Path;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the server sends of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Frames(UnixStream);

impl Frames {
    pub async fn connect(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        stream.write_all(preface).await.unwrap();
        let mut frames = Self(stream);
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let stream = stream.to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream, payload].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// Begins a gRPC call; its message is owed.
    pub async fn begin(&mut self, stream: u32, path: &str) {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        // Of HPACK (RFC 7541): POST and http by their index, then literals, whose names have an
        // index (4: `:path`, 1: `:authority`, 31: `content-type`) or stand there.
        let headers = [
            vec![0x83, 0x86, 0x04],
            text(path),
            vec![0x01],
            text("agent"),
            vec![0x0f, 0x10],
            text("application/grpc"),
            vec![0x00],
            text("te"),
            text("trailers"),
        ]
        .concat();
        self.send(HEADERS, END_HEADERS, stream, &headers).await;
    }

    /// Sends the message that is owed, an empty one.
    pub async fn finish(&mut self, stream: u32) {
        self.send(DATA, END_STREAM, stream, &[0; 5]).await;
    }

    /// The next frame of a stream; what concerns the connection is done meanwhile.
    pub async fn next(&mut self) -> Sent {
        loop {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).await.unwrap();
            let [a, b, c, kind, flags, stream @ ..] = header;
            let length = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            let stream = u32::from_be_bytes(stream);
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                _ if stream == 0 => {}
                _ => {
                    return Sent {
                        kind,
                        stream,
                        payload,
                    };
                }
            }
        }
    }

    /// The next frame of this kind, and the stream it is of.
    pub async fn next_of(&mut self, kind: u8) -> Sent {
        loop {
            let frame = self.next().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }
}
