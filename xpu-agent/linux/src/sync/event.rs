//! Waiting for a link to change, with a deadline instead of a poll.
//!
//! Subscribe first, then look, then wait: what changes between the look and the wait
//! is in the queue.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};

use super::{
    link::{LinkFacts, RawLinkMessage},
    socket::RtnlError,
};

/// `RTMGRP_LINK` of `linux/rtnetlink.h`.
const LINK_GROUP: u32 = 1;

/// A subscription to the links of one namespace.
#[derive(Debug)]
pub struct LinkEvents {
    socket: Socket,
    buffer: Vec<u8>,
}

impl LinkEvents {
    /// Subscribes in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`RtnlError::Open`].
    pub fn subscribe() -> Result<Self, RtnlError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(RtnlError::Open)?;
        socket
            .bind(&SocketAddr::new(0, LINK_GROUP))
            .map_err(RtnlError::Open)?;
        Ok(Self {
            socket,
            buffer: vec![0; 32 * 1024],
        })
    }

    /// Waits until a link is as `wanted`, at most until `deadline`. `None`: no such
    /// event came, or some were lost (look again).
    ///
    /// # Errors
    /// [`RtnlError::Transport`].
    pub fn wait(
        &mut self,
        deadline: Instant,
        wanted: impl Fn(&LinkFacts) -> bool,
    ) -> Result<Option<LinkFacts>, RtnlError> {
        let failed = |errno: Errno| RtnlError::Transport {
            what: "wait for a link".to_owned(),
            source: io::Error::from(errno),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond isn't spent spinning.
            let left = PollTimeout::try_from(left.as_millis().saturating_add(1))
                .unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                left,
            ) {
                Ok(0) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno)),
                Ok(_) => {}
            }
            match self.read() {
                Ok(Read::Link(link)) if wanted(&link) => return Ok(Some(link)),
                Ok(Read::Link(_) | Read::Other) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(Read::Lost) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// The first event already received of a link as `wanted`. `None`: there was none, or some
    /// were lost.
    ///
    /// # Errors
    /// [`RtnlError::Transport`].
    pub fn find_received(
        &mut self,
        wanted: impl Fn(&LinkFacts) -> bool,
    ) -> Result<Option<LinkFacts>, RtnlError> {
        let failed = |errno: Errno| RtnlError::Transport {
            what: "read the events of links".to_owned(),
            source: io::Error::from(errno),
        };
        loop {
            match self.read() {
                Ok(Read::Link(link)) if wanted(&link) => return Ok(Some(link)),
                Ok(Read::Link(_) | Read::Other) | Err(Errno::EINTR) => {}
                Ok(Read::Lost) | Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// The next event, without waiting for one.
    fn read(&mut self) -> Result<Read, Errno> {
        let read = match recv(
            self.socket.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(read) => read,
            Err(Errno::ENOBUFS) => return Ok(Read::Lost),
            Err(errno) => return Err(errno),
        };
        // Notifications come one to a datagram; one that can't be read isn't ours.
        let message = NetlinkMessage::<RawLinkMessage>::deserialize(&self.buffer[..read]);
        let link = match message.map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(RawLinkMessage(link))) => link,
            _ => None,
        };
        Ok(link.map_or(Read::Other, Read::Link))
    }
}

/// What a read gave.
enum Read {
    Link(LinkFacts),
    Other,
    /// Events were dropped for want of room.
    Lost,
}
