//! Events: that something about links, addresses, rules, VNIs or our own few FDB entries and routes
//! changed, and nothing else.
//!
//! The kernel's receive queue is the only queue. What the events say is thrown away, since the
//! pass that follows observes; so a lost event (`ENOBUFS`) is just one more reason for a pass.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use tokio::io::unix::AsyncFd;

use super::filter;

/// `RTNLGRP_LINK`, which carries bridge VLANs too; `RTNLGRP_NEIGH`, with the FDB;
/// `RTNLGRP_IPV4_IFADDR`; `RTNLGRP_IPV4_ROUTE`; `RTNLGRP_IPV4_RULE`; `RTNLGRP_IPV6_IFADDR`;
/// `RTNLGRP_IPV6_ROUTE`; `RTNLGRP_IPV6_RULE`; `RTNLGRP_TUNNEL` (`linux/rtnetlink.h`). Of
/// neighbours and routes only what [`super::filter`] lets pass.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 35];

/// Why events cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("can't follow the kernel's events")]
pub struct FollowError(#[from] io::Error);

/// Follows the events of the network namespace in which it was made.
#[derive(Debug)]
pub struct Follower {
    socket: AsyncFd<Socket>,
    counts: Arc<FollowCounts>,
}

/// What a follower has read; for whoever shows it.
#[derive(Debug, Default)]
pub struct FollowCounts {
    events: AtomicU64,
    overruns: AtomicU64,
}

impl FollowCounts {
    /// Datagrams that were read.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How often the kernel said that it lost some (`ENOBUFS`).
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

impl Follower {
    /// Subscribes. Observe after this, so that no change falls between.
    ///
    /// # Errors
    /// [`FollowError`] when there is no socket to be had.
    pub fn new() -> Result<Self, FollowError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Before the groups, or what does not concern us would be in the queue already.
        filter::attach(&socket)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        // SAFETY: the descriptor is the socket's own; the socket is owned here, is never closed
        // or replaced while it lives, and so stays open as long as the `AsyncFd`.
        let registered = unsafe { AsyncFd::register(socket) };
        let socket = registered.map_err(|error| error.into_parts().1)?;
        Ok(Self {
            socket,
            counts: Arc::default(),
        })
    }

    /// What has been read so far, to look at while it goes on.
    #[must_use]
    pub fn counts(&self) -> Arc<FollowCounts> {
        self.counts.clone()
    }

    /// Completes when something changed since the last call. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn changed(&mut self) -> Result<(), FollowError> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| drain(socket.get_ref(), &self.counts)) {
                Ok(drained) => return Ok(drained?),
                Err(_would_block) => {}
            }
        }
    }
}

/// Empties the queue, whatever is in it. `WouldBlock` if it was empty.
fn drain(socket: &Socket, counts: &FollowCounts) -> io::Result<()> {
    // The content does not matter, so a short buffer that truncates is enough.
    let mut buffer = [0; 64];
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => {
                any = true;
                counts.events.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::ENOBUFS) => {
                any = true;
                counts.overruns.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if any => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::{
        sched::{CloneFlags, unshare},
        sys::socket::{setsockopt, sockopt::RcvBuf},
    };

    use super::*;

    fn ip(arguments: &str) {
        let ran = Command::new("ip").args(arguments.split(' ')).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "ip {arguments}: {ran:?}");
    }

    /// In a network namespace of its own, with a queue for a message or two: of ten bridges the
    /// kernel tells more.
    #[test]
    fn what_the_kernel_lost_is_counted_and_wakes_all_the_same() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut follower = Follower::new().unwrap();
            setsockopt(&follower.socket, RcvBuf, &1).unwrap();
            for number in 0..10 {
                ip(&format!("link add lost{number} type bridge"));
            }
            let counts = follower.counts();
            follower.changed().await.unwrap();
            assert!(counts.overruns() >= 1, "{counts:?}");
            // The queue is empty, and takes what comes.
            let (overruns, events) = (counts.overruns(), counts.events());
            ip("address add 192.0.2.1/32 dev lo");
            follower.changed().await.unwrap();
            assert_eq!((counts.overruns(), counts.events()), (overruns, events + 1));
        });
    }
}
