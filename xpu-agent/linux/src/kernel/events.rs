//! A socket to which the kernel sends the events of some groups. Its receive queue is the only
//! queue.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

/// A subscription in one network namespace.
#[derive(Debug)]
pub(super) struct EventSocket(AsyncFd<Socket>);

impl EventSocket {
    /// Subscribes to these groups (`RTNLGRP_*`) in the calling thread's network namespace. The
    /// filter is attached before that, or what does not concern us would be in the queue already.
    pub(super) fn open(
        groups: &[u32],
        attach_filter: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        attach_filter(&socket)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        // SAFETY: the descriptor is the socket's own; the socket is owned here, is never closed
        // or replaced while it lives, and so stays open as long as the `AsyncFd`.
        let registered = unsafe { AsyncFd::register(socket) };
        let socket = registered.map_err(|error| error.into_parts().1)?;
        Ok(Self(socket))
    }

    /// Reads once there is something: again when `read` says `WouldBlock`. Cancel-safe, if `read`
    /// leaves nothing half done.
    pub(super) async fn read<T>(
        &self,
        mut read: impl FnMut(&Socket) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(done) = ready.try_io(|socket| read(socket.get_ref())) {
                return done;
            }
        }
    }

    /// The socket, to read what is there already.
    pub(super) fn socket(&self) -> &Socket {
        self.0.get_ref()
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
