//! HTTP/2 by hand (RFC 9113), for clients that do what no library does.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes of a connection from the client's side, frame after frame.
#[derive(Debug)]
pub struct Frames(Vec<u8>);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// Of a DATA frame: nothing comes after it.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

impl Frames {
    /// The preface, and SETTINGS. `window`: how many bytes of an answer the server may send
    /// before it is told that they are read.
    #[must_use]
    pub fn begin(window: u32) -> Self {
        let mut frames = Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
        let mut settings = WINDOW.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        frames.frame(SETTINGS, 0, 0, &settings);
        frames
    }

    /// The HEADERS of a call, in a stream that the client has not used: 1, 3, 5 …
    #[must_use]
    pub fn call(mut self, stream: u32, path: &str) -> Self {
        // HPACK (RFC 7541): :method POST and :scheme http by index, the others as literals.
        let mut headers = vec![0x83, 0x86];
        for (name, value) in [
            (":path", path),
            (":authority", "agent"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            headers.push(0);
            for text in [name, value] {
                headers.push(u8::try_from(text.len()).unwrap_or_default());
                headers.extend(text.bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS, stream, &headers);
        self
    }

    /// DATA of a call; `ends` where it is the last.
    #[must_use]
    pub fn data(mut self, stream: u32, data: &[u8], ends: bool) -> Self {
        self.frame(DATA, if ends { END_STREAM } else { 0 }, stream, data);
        self
    }

    /// DATA of a call that has been begun.
    #[must_use]
    pub fn more(stream: u32, data: &[u8]) -> Vec<u8> {
        Self(Vec::new()).data(stream, data, false).bytes()
    }

    /// What there is so far.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or_default();
        self.0.extend(&length.to_be_bytes()[1..]);
        self.0.extend([kind, flags]);
        self.0.extend(stream.to_be_bytes());
        self.0.extend(payload);
    }
}

/// Reads frames until one of them is HEADERS.
///
/// # Errors
/// Where the connection ends before.
pub async fn until_headers(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        if kind == HEADERS {
            return Ok(());
        }
    }
}
