//! The two bodies of a call: what arrives is bounded in size and time, what leaves holds the
//! call's place until it is read.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::{Refusal, connection::FRAME, limits::Permit};

/// When the messages of a call come.
pub(super) enum Pace {
    /// One request and one answer; the answer is counted among these until it is read.
    Once(Arc<Unread>),
    /// At any time, until the agent stops.
    Stream(CancellationToken),
}

/// Completes when a stream has to end; whoever polls it is woken then.
type End = Pin<Box<WaitForCancellationFutureOwned>>;

fn end(stop: &CancellationToken) -> End {
    Box::pin(stop.clone().cancelled_owned())
}

/// What a stream ends with.
fn stopping() -> Status {
    Status::unavailable("the agent is stopping; try again when it is back")
}

/// The messages of a gRPC body, each behind its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
#[derive(Default)]
struct Prefixed {
    /// The start of the next message's prefix.
    prefix: Vec<u8>,
    /// Bytes of the message under way that are to come.
    left: usize,
}

impl Prefixed {
    /// Whether nothing of a message is under way.
    fn is_between(&self) -> bool {
        self.left == 0 && self.prefix.is_empty()
    }

    /// Follows the body over more of its bytes, and checks the length of each message that begins
    /// in them. Whether any does.
    ///
    /// # Errors
    /// That of `check`, for the first length that it refuses.
    fn follow<E>(
        &mut self,
        mut data: &[u8],
        check: impl Fn(usize) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut begins = false;
        while !data.is_empty() {
            let of_message = self.left.min(data.len());
            self.left -= of_message;
            data = data.get(of_message..).unwrap_or_default();
            let of_prefix = if self.left == 0 {
                data.len().min(FRAME - self.prefix.len())
            } else {
                0
            };
            let (start, rest) = data.split_at(of_prefix);
            self.prefix.extend(start);
            data = rest;
            if let [_, a, b, c, d] = self.prefix[..] {
                self.prefix.clear();
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                check(self.left)?;
                begins = true;
            }
        }
        Ok(begins)
    }
}

/// A request's body as it arrives.
pub(super) struct Inbound<B> {
    body: B,
    permit: Arc<Permit>,
    arrival: Arrival,
    /// Of a gRPC body. Any other body is one message.
    messages: Option<Prefixed>,
}

/// How long a request's body is waited for.
enum Arrival {
    /// All of it must be here by then.
    Once(Pin<Box<Sleep>>),
    /// Messages come at any time, until then.
    Stream(End),
}

impl<B> Inbound<B> {
    /// `grpc`: the body is of length-prefixed messages.
    pub(super) fn new(body: B, permit: Arc<Permit>, grpc: bool, pace: &Pace) -> Self {
        let limit = permit.limits().config().request();
        Self {
            body,
            permit,
            arrival: match pace {
                Pace::Once(_) => Arrival::Once(Box::pin(sleep_until(Instant::now() + limit))),
                Pace::Stream(stop) => Arrival::Stream(end(stop)),
            },
            messages: grpc.then(Prefixed::default),
        }
    }

    const fn is_stream(&self) -> bool {
        matches!(self.arrival, Arrival::Stream(_))
    }

    /// Takes the room for more of the body, or refuses it. A message of gRPC is refused by the
    /// length it announces: its reader makes room for all of it at once.
    fn arrive(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let is_stream = self.is_stream();
        let permit = &self.permit;
        let check = |length| match is_stream {
            true => permit.check_stream_message_size(length),
            false => permit.check_message_size(length),
        };
        let begins = match &mut self.messages {
            Some(messages) => messages.follow(data, check)?,
            None => false,
        };
        if !is_stream {
            // A call has one message. What comes behind it counts as a part of it.
            let framing = if self.messages.is_some() { FRAME } else { 0 };
            let all = permit.held().saturating_add(data.len());
            permit.check_message_size(all.saturating_sub(framing))?;
        } else if begins {
            permit.give_back();
        }
        permit.hold(data.len())
    }
}

impl<B> Body for Inbound<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Arrival::Stream(end) = &mut self.arrival
            && end.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(stopping())));
        }
        match &self.messages {
            // A body that announces too many bytes is refused before it is read, since reading it
            // would hold other callers up.
            None => {
                let more = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
                let all = self.permit.held().saturating_add(more);
                self.permit.check_message_size(all)?;
            }
            // More of a stream is asked for when the messages before have been handled.
            Some(messages) if self.is_stream() && messages.is_between() => self.permit.give_back(),
            Some(_) => {}
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let Arrival::Once(late) = &mut self.arrival else {
                return Poll::Pending;
            };
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Some(Err(self.permit.slow().into())));
        };
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(broken(error.into())))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            self.arrive(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body does not go on: what HTTP/2 says of it, or its framing is wrong, as where the
/// connection ends in the middle of it; that is the client's mistake.
fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    Status::try_from_error(error).unwrap_or_else(|error| {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let cause = cause.unwrap_or_default();
        Status::invalid_argument(format!("the body cannot be read: {error}{cause}"))
    })
}

/// The answers of one connection that are not yet read.
#[derive(Default)]
pub(super) struct Unread(Mutex<Tickets>);

#[derive(Default)]
struct Tickets {
    next: u64,
    /// A later ticket has a later time, so the first entry is the oldest answer.
    since: BTreeMap<u64, Instant>,
}

impl Unread {
    fn tickets(&self) -> std::sync::MutexGuard<'_, Tickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.tickets().since.values().next().copied()
    }
}

/// Counts an answer among the unread ones.
struct Ticket {
    number: u64,
    unread: Arc<Unread>,
}

impl Ticket {
    fn draw(unread: Arc<Unread>) -> Self {
        let mut tickets = unread.tickets();
        let number = tickets.next;
        tickets.next += 1;
        tickets.since.insert(number, Instant::now());
        drop(tickets);
        Self { number, unread }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.unread.tickets().since.remove(&self.number);
    }
}

/// An answer's body until it is read.
///
/// An HTTP/2 stream takes a whole chunk as soon as its client's window has room for one byte, and
/// keeps what the window has no room for (RFC 9113, 5.2). It takes the next chunk when the window
/// is larger than what it keeps. So the last byte of each chunk is a chunk of its own: the body,
/// and the place that it holds, stays until the client has made room for all of the answer.
pub(super) struct Outbound {
    body: tonic::body::Body,
    departure: Departure,
    /// The last byte of the chunk before.
    last: Option<Bytes>,
    _permit: Option<Arc<Permit>>,
}

/// How long an answer's body goes on.
enum Departure {
    /// Until all of it is read.
    Once { _unread: Ticket },
    /// Messages go at any time, until then.
    Stream(End),
    /// A stream was ended: nothing comes any more.
    Ended,
}

impl Outbound {
    /// Without a permit it is the body of a call that has no place: a refused one, or a probe.
    pub(super) fn new(body: tonic::body::Body, permit: Option<Arc<Permit>>, pace: Pace) -> Self {
        Self {
            body,
            departure: match pace {
                Pace::Once(unread) => Departure::Once {
                    _unread: Ticket::draw(unread),
                },
                Pace::Stream(stop) => Departure::Stream(end(&stop)),
            },
            last: None,
            _permit: permit,
        }
    }

    /// Keeps the last byte of a chunk back.
    fn without_last(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if data.len() > 1 => {
                self.last = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Before a stream ends, so that its last message is whole.
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        match &mut self.departure {
            Departure::Ended => return Poll::Ready(None),
            Departure::Stream(end) => {
                if end.as_mut().poll(context).is_ready() {
                    self.departure = Departure::Ended;
                    let mut trailers = HeaderMap::new();
                    // A text of ours, which fits into a header.
                    let _ = stopping().add_header(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
            Departure::Once { .. } => {}
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| Ok(self.without_last(frame?))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.departure, Departure::Ended)
            || (self.last.is_none() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let last = self.last.as_ref().map_or(0, |last| last.len() as u64);
        // The upper bound first: the lower one may not be above it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + last);
        }
        hint.set_lower(hint.lower() + last);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut; and a length is known before its message is there.
    #[test]
    fn messages_are_told_from_each_other() {
        let bytes = [
            &b"\0\0\0\0\x02ab"[..],
            b"\0\0\0\0\0",
            b"\0\0\0\x01\0",
            &[0; 256],
            b"\0\0\0",
        ]
        .concat();
        for size in 1..=bytes.len() {
            let lengths = std::cell::RefCell::new(Vec::new());
            let mut messages = Prefixed::default();
            let check = |length| {
                lengths.borrow_mut().push(length);
                Ok::<_, ()>(())
            };
            let mut begun = 0;
            for part in bytes.chunks(size) {
                begun += usize::from(messages.follow(part, check).unwrap());
            }
            assert_eq!(lengths.into_inner(), [2, 0, 256], "{size}");
            assert!((1..=3).contains(&begun), "{size}: {begun}");
            assert!(!messages.is_between(), "{size}: in the middle of a prefix");
        }
    }
}
