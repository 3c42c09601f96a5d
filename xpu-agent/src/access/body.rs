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

use super::{connection::FRAME, limits::Permit};

/// When the messages of a call come.
pub(super) enum Pace {
    /// One each way: the answer waits among these until it is read.
    Once(Arc<Unread>),
    /// When they come, until the agent stops.
    Stream(CancellationToken),
}

impl Pace {
    fn end(&self) -> Option<End> {
        match self {
            Self::Once(_) => None,
            Self::Stream(stop) => Some(Box::pin(stop.clone().cancelled_owned())),
        }
    }
}

/// Completes when a stream has to end.
type End = Pin<Box<WaitForCancellationFutureOwned>>;

/// Whether a stream has to end now; else the task is woken when it has.
fn ends(end: &mut Option<End>, context: &mut Context<'_>) -> bool {
    end.as_mut()
        .is_some_and(|end| end.as_mut().poll(context).is_ready())
}

/// What a stream ends with.
fn stopping() -> Status {
    Status::unavailable("the agent is stopping; try again when it is back")
}

/// A request's body as it arrives.
pub(super) struct Inbound<B> {
    body: B,
    permit: Arc<Permit>,
    /// When all of it must be here; never, for a stream of messages.
    late: Option<Pin<Box<Sleep>>>,
    /// Of a stream.
    end: Option<End>,
    /// The start of a gRPC message, which says how long it is (gRPC over HTTP/2,
    /// "Length-Prefixed-Message"), until it is known.
    prefix: Option<Vec<u8>>,
    /// How many bytes of the body are not the message's.
    framing: usize,
}

impl<B> Inbound<B> {
    /// `grpc`: the body is of length-prefixed messages.
    pub(super) fn new(body: B, permit: Arc<Permit>, grpc: bool, pace: &Pace) -> Self {
        let limit = permit.limits().config().request();
        Self {
            body,
            permit,
            late: matches!(pace, Pace::Once(_))
                .then(|| Box::pin(sleep_until(Instant::now() + limit))),
            end: pace.end(),
            prefix: grpc.then(Vec::new),
            framing: if grpc { FRAME } else { 0 },
        }
    }

    /// Refuses a message by the length it announces: its reader makes room for all of it at once.
    fn announced(&mut self, data: &[u8]) -> Result<(), Status> {
        let Some(prefix) = &mut self.prefix else {
            return Ok(());
        };
        prefix.extend(data.iter().take(FRAME - prefix.len()));
        if let [_, a, b, c, d] = prefix[..] {
            self.prefix = None;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            self.permit.announce(length)?;
        }
        Ok(())
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
        if ends(&mut self.end, context) {
            return Poll::Ready(Some(Err(stopping())));
        }
        // What says itself that it is too long is not read: other callers would wait for that. A gRPC
        // message says so in its prefix.
        if self.framing == 0 {
            self.permit.expect(self.body.size_hint().lower())?;
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let late = self.late.as_mut();
            let Some(late) = late else {
                return Poll::Pending;
            };
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Some(Err(self.permit.slow().into())));
        };
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            self.announced(data)?;
            self.permit
                .arrive(data.len(), self.framing)
                .map_err(Status::from)?;
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

/// The answers of one connection that are not yet read.
#[derive(Default)]
pub(super) struct Unread(Mutex<Tickets>);

#[derive(Default)]
struct Tickets {
    next: u64,
    /// Tickets and times grow together, so the first is the oldest.
    since: BTreeMap<u64, Instant>,
}

impl Unread {
    fn tickets(&self) -> std::sync::MutexGuard<'_, Tickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> u64 {
        let mut tickets = self.tickets();
        let ticket = tickets.next;
        tickets.next += 1;
        tickets.since.insert(ticket, Instant::now());
        ticket
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.tickets().since.values().next().copied()
    }
}

/// An answer's body until it is read.
///
/// An HTTP/2 stream takes a whole chunk as soon as its client's window has room for one byte, and
/// keeps what the window has no room for (RFC 9113, 5.2). It takes the next chunk when the window
/// is larger than what it keeps. So an answer's last byte is a chunk of its own: the body, and the
/// place that it holds, stays until the client has made room for all of the answer.
pub(super) struct Outbound {
    body: tonic::body::Body,
    /// A stream's messages come when they come: it has no ticket.
    ticket: Option<(u64, Arc<Unread>)>,
    /// The last byte of the chunk before.
    last: Option<Bytes>,
    /// Of a stream.
    end: Option<End>,
    /// Nothing comes any more.
    ended: bool,
    _permit: Option<Arc<Permit>>,
}

impl Outbound {
    /// Without a permit it is the body of a call that has no place: a refused one, or a probe.
    pub(super) fn new(body: tonic::body::Body, permit: Option<Arc<Permit>>, pace: Pace) -> Self {
        Self {
            body,
            end: pace.end(),
            ticket: match pace {
                Pace::Once(unread) => Some((unread.add(), unread)),
                Pace::Stream(_) => None,
            },
            last: None,
            ended: false,
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

impl Drop for Outbound {
    fn drop(&mut self) {
        if let Some((ticket, unread)) = &self.ticket {
            unread.tickets().since.remove(ticket);
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
        if self.ended {
            return Poll::Ready(None);
        }
        if ends(&mut self.end, context) {
            self.ended = true;
            let mut trailers = HeaderMap::new();
            // A text of ours, which fits into a header.
            let _ = stopping().add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            // A stream holds its place until it ends, whatever its messages are in.
            Some(Ok(frame)) if self.ticket.is_some() => Some(Ok(self.without_last(frame))),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.last.is_none() && self.body.is_end_stream())
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
