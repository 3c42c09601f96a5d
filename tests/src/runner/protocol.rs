//! Frames between the host's `lab` and the guest's `lab-guest`. No I/O here.
//!
//! A frame is one type byte, the payload's length as little-endian `u32`, and the payload. A
//! virtio-serial port outlives its users and has no notion of a connection, so bytes of a client
//! that died may still be under way in both directions. Each session therefore starts with
//! [`Frame::Hello`] carrying a fresh nonce, and a [`Decoder`] that has not seen its hello discards
//! everything before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest payload a frame may carry, in bytes. Longer output is cut into several frames.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// How many serial ports, and so how many jobs at the same time, a VM has.
pub const PORTS: usize = 6;

/// The exit code of a job that ran longer than it was allowed to (as of `timeout(1)`).
pub const EXIT_TIMEOUT: i32 = 124;

/// The exit code for trouble that is not the command's: no VM, VM died, guest mute.
pub const EXIT_LAB: i32 = 125;

/// The name of a job port as QEMU and the guest's kernel know it.
pub fn port_name(index: usize) -> String {
    format!("job{index}")
}

const HEADER: usize = 5;
const MAGIC: [u8; 8] = *b"xpu-lab1";
const HELLO_PAYLOAD: usize = MAGIC.len() + NONCE;
const NONCE: usize = 16;

/// What tells one session on a port from the one before it.
pub type Nonce = [u8; NONCE];

/// One command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Program and arguments; the program is searched for in the guest's `PATH`.
    pub argv: Vec<String>,
    /// Variables set on top of the guest's own environment.
    pub env: BTreeMap<String, String>,
    /// Working directory in the guest.
    pub cwd: String,
    /// Seconds after which the job is ended with [`EXIT_TIMEOUT`]; `None` means never.
    pub timeout_s: Option<u64>,
    /// A terminal of this size instead of three pipes.
    pub pty: Option<WindowSize>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a session; the guest answers with the same nonce.
    Hello(Nonce),
    /// Host to guest: run this.
    Start(JobSpec),
    /// Host to guest: bytes for the job's standard input.
    Stdin(Vec<u8>),
    /// Host to guest: standard input ends here.
    StdinEnd,
    /// Host to guest: the terminal has a new size.
    Resize(WindowSize),
    /// Guest to host: bytes of the job's standard output.
    Stdout(Vec<u8>),
    /// Guest to host: bytes of the job's standard error.
    Stderr(Vec<u8>),
    /// Guest to host: the job is over, with this exit code (128 + n after signal n).
    Exit(i32),
}

/// Why bytes are not a frame. The session can't go on after it.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// A type byte that this version does not know.
    #[error("frame of unknown type {0:#04x}")]
    UnknownType(u8),
    /// A length over [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes, the most is {MAX_PAYLOAD}")]
    TooLong(usize),
    /// A payload that does not fit its type.
    #[error("malformed {kind} frame of {length} bytes")]
    Malformed {
        /// The frame's type.
        kind: &'static str,
        /// Payload length in bytes.
        length: usize,
    },
    /// A payload that is not the JSON its type asks for.
    #[error("malformed {kind} frame")]
    Json {
        /// The frame's type.
        kind: &'static str,
        /// What the JSON parser said.
        #[source]
        source: serde_json::Error,
    },
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`] for a payload over [`MAX_PAYLOAD`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        match self {
            Self::Hello(nonce) => put(out, b'H', &[MAGIC.as_slice(), nonce.as_slice()].concat()),
            Self::Start(spec) => put(out, b'S', &json("start", spec)?),
            Self::Stdin(bytes) => put(out, b'I', bytes),
            Self::StdinEnd => put(out, b'E', &[]),
            Self::Resize(size) => put(out, b'W', &json("resize", size)?),
            Self::Stdout(bytes) => put(out, b'1', bytes),
            Self::Stderr(bytes) => put(out, b'2', bytes),
            Self::Exit(code) => put(out, b'X', &code.to_le_bytes()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, ProtocolError> {
        let malformed = |kind| ProtocolError::Malformed {
            kind,
            length: payload.len(),
        };
        match kind {
            b'H' => payload
                .strip_prefix(&MAGIC)
                .and_then(|nonce| Nonce::try_from(nonce).ok())
                .map(Self::Hello)
                .ok_or_else(|| malformed("hello")),
            b'S' => parse("start", payload).map(Self::Start),
            b'I' => Ok(Self::Stdin(payload.to_vec())),
            b'E' => Ok(Self::StdinEnd),
            b'W' => parse("resize", payload).map(Self::Resize),
            b'1' => Ok(Self::Stdout(payload.to_vec())),
            b'2' => Ok(Self::Stderr(payload.to_vec())),
            b'X' => <[u8; 4]>::try_from(payload)
                .map(|code| Self::Exit(i32::from_le_bytes(code)))
                .map_err(|_| malformed("exit")),
            other => Err(ProtocolError::UnknownType(other)),
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) -> Result<(), ProtocolError> {
    let too_long = || ProtocolError::TooLong(payload.len());
    if payload.len() > MAX_PAYLOAD {
        return Err(too_long());
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_long())?;
    out.push(kind);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

fn json<T: Serialize>(kind: &'static str, value: &T) -> Result<Vec<u8>, ProtocolError> {
    serde_json::to_vec(value).map_err(|source| ProtocolError::Json { kind, source })
}

fn parse<T: for<'de> Deserialize<'de>>(
    kind: &'static str,
    payload: &[u8],
) -> Result<T, ProtocolError> {
    serde_json::from_slice(payload).map_err(|source| ProtocolError::Json { kind, source })
}

/// Cuts a stream of bytes into frames, from the first hello on.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Discard until a hello: any, or the one with this nonce.
    Seeking(Option<Nonce>),
    Framed,
}

impl Decoder {
    /// A decoder for the guest, which takes any hello as the start of a session.
    pub fn awaiting_any() -> Self {
        Self {
            buffer: Vec::new(),
            phase: Phase::Seeking(None),
        }
    }

    /// A decoder for the host, which waits for the answer to its own hello.
    pub fn awaiting(nonce: Nonce) -> Self {
        Self {
            buffer: Vec::new(),
            phase: Phase::Seeking(Some(nonce)),
        }
    }

    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame; `None` means more bytes are needed.
    ///
    /// # Errors
    /// [`ProtocolError`] once the stream is framed and the next bytes are no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        if let Phase::Seeking(wanted) = self.phase {
            return Ok(self.seek(wanted));
        }
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(ProtocolError::TooLong(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame::decode(kind, payload)?;
        self.buffer.drain(..HEADER + length);
        Ok(Some(frame))
    }

    /// Drops everything up to the wanted hello, and that too.
    fn seek(&mut self, wanted: Option<Nonce>) -> Option<Frame> {
        const WHOLE: usize = HEADER + HELLO_PAYLOAD;
        let found = self
            .buffer
            .windows(WHOLE)
            .enumerate()
            .find_map(|(at, window)| {
                match Frame::decode(*window.first()?, window.get(HEADER..)?) {
                    Ok(Frame::Hello(nonce)) if wanted.is_none_or(|wanted| wanted == nonce) => {
                        Some((at, nonce))
                    }
                    _ => None,
                }
            });
        let Some((at, nonce)) = found else {
            // The start of a hello may stand at the end; nothing before it is needed again.
            let keep_from = (self.buffer.len() + 1).saturating_sub(WHOLE);
            self.buffer.drain(..keep_from);
            return None;
        };
        self.buffer.drain(..at + WHOLE);
        self.phase = Phase::Framed;
        Some(Frame::Hello(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Nonce = [7; NONCE];
    const THEIRS: Nonce = [9; NONCE];

    fn every_kind() -> Vec<Frame> {
        vec![
            Frame::Start(JobSpec {
                argv: vec!["ping".into(), "-c1".into(), "::1".into()],
                env: BTreeMap::from([("A".into(), "b c".into())]),
                cwd: "/".into(),
                timeout_s: Some(3),
                pty: Some(WindowSize {
                    rows: 24,
                    columns: 80,
                }),
            }),
            Frame::Stdin(vec![0, 255, 10]),
            Frame::StdinEnd,
            Frame::Resize(WindowSize {
                rows: 1,
                columns: 2,
            }),
            Frame::Stdout(vec![b'H'; MAX_PAYLOAD]),
            Frame::Stderr(Vec::new()),
            Frame::Exit(-1),
            Frame::Hello(THEIRS),
        ]
    }

    fn bytes(frames: &[Frame]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            frame.encode(&mut out).expect("fits");
        }
        out
    }

    fn drain(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().expect("frames")).collect()
    }

    #[test]
    fn every_frame_survives_any_fragmentation() {
        let mut expected = vec![Frame::Hello(OURS)];
        expected.extend(every_kind());
        let stream = bytes(&expected);
        for chunk in [1, 3, 4096, stream.len()] {
            let mut decoder = Decoder::awaiting_any();
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                decoder.push(part);
                seen.extend(drain(&mut decoder));
            }
            assert_eq!(seen, expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn what_a_dead_client_left_behind_is_skipped() {
        let mut stream = bytes(&[Frame::Hello(THEIRS), Frame::Stdout(b"old".to_vec())]);
        stream.extend_from_slice(&[b'1', 0xff, 0xff]);
        stream.extend(bytes(&[Frame::Hello(OURS), Frame::Exit(0)]));
        let mut decoder = Decoder::awaiting(OURS);
        let mut seen = Vec::new();
        for byte in stream {
            decoder.push(&[byte]);
            seen.extend(drain(&mut decoder));
        }
        assert_eq!(seen, [Frame::Hello(OURS), Frame::Exit(0)]);
    }

    #[test]
    fn seeking_keeps_no_more_than_a_hello() {
        let mut decoder = Decoder::awaiting(OURS);
        decoder.push(&vec![b'H'; 1 << 20]);
        assert_eq!(decoder.next_frame().expect("no frame yet"), None);
        assert!(decoder.buffer.len() < HEADER + HELLO_PAYLOAD);
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_on_both_ends() {
        let long = Frame::Stdout(vec![0; MAX_PAYLOAD + 1]);
        assert!(matches!(
            long.encode(&mut Vec::new()),
            Err(ProtocolError::TooLong(_))
        ));

        let mut decoder = Decoder::awaiting_any();
        decoder.push(&bytes(&[Frame::Hello(OURS)]));
        decoder.push(&[b'1', 0xff, 0xff, 0xff, 0x7f]);
        decoder.next_frame().expect("hello");
        assert!(matches!(
            decoder.next_frame(),
            Err(ProtocolError::TooLong(_))
        ));
    }

    #[test]
    fn garbage_after_the_hello_is_an_error() {
        for garbage in [b"Z\0\0\0\0".as_slice(), b"X\x01\0\0\0\0", b"S\x02\0\0\0{}"] {
            let mut decoder = Decoder::awaiting_any();
            decoder.push(&bytes(&[Frame::Hello(OURS)]));
            decoder.push(garbage);
            decoder.next_frame().expect("hello");
            decoder.next_frame().expect_err("must be refused");
        }
    }
}
