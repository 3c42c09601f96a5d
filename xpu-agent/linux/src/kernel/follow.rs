//! Events: that something about links, addresses, rules, VNIs, settings or our own few FDB entries
//! and routes changed, and nothing else.
//!
//! The kernel's receive queue is the only queue. What the events say is thrown away, since the
//! pass that follows observes; so a lost event (`ENOBUFS`) is just one more reason for a pass. Only
//! of FDB entries it is kept which they were about, as those are asked for one by one.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use netlink_sys::Socket;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use super::{Moved, events::EventSocket, filter};

/// `RTNLGRP_LINK`, which carries bridge VLANs too; `RTNLGRP_NEIGH`, with the FDB;
/// `RTNLGRP_IPV4_IFADDR`; `RTNLGRP_IPV4_ROUTE`; `RTNLGRP_IPV4_RULE`; `RTNLGRP_IPV6_IFADDR`;
/// `RTNLGRP_IPV6_ROUTE`; `RTNLGRP_IPV6_RULE`; `RTNLGRP_IPV4_NETCONF` and `RTNLGRP_IPV6_NETCONF`,
/// which tell of forwarding and `rp_filter`; `RTNLGRP_TUNNEL` (`linux/rtnetlink.h`). Of neighbours
/// and routes only what [`super::filter`] lets pass.
const GROUPS: [u32; 11] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 35];

/// Why events cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("can't follow the kernel's events")]
pub struct FollowError(#[from] io::Error);

/// Follows the events of the network namespace in which it was made.
#[derive(Debug)]
pub struct Follower {
    socket: EventSocket,
    counts: Arc<FollowCounts>,
    moved: Moved,
}

/// What followers have read; for whoever shows it.
#[derive(Debug, Default)]
pub struct FollowCounts {
    events: AtomicU64,
    overruns: AtomicU64,
}

impl FollowCounts {
    /// A datagram was read.
    pub(super) fn read(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel lost some.
    pub(super) fn lost(&self) {
        self.overruns.fetch_add(1, Ordering::Relaxed);
    }

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
        Ok(Self {
            socket: EventSocket::open(&GROUPS, filter::attach)?,
            counts: Arc::default(),
            moved: Moved::default(),
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
        let Self {
            socket,
            counts,
            moved,
        } = self;
        Ok(socket.read(|socket| drain(socket, counts, moved)).await?)
    }

    /// Drains pending events, so they no longer complete [`Self::changed`]. Call right before
    /// observing. Returns which FDB entries they were about.
    pub fn catch_up(&mut self) -> Moved {
        // `changed` reports a socket that fails.
        let _ = drain(self.socket.socket(), &self.counts, &mut self.moved);
        std::mem::take(&mut self.moved)
    }
}

/// Empties the queue, whatever is in it. `WouldBlock` if it was empty.
fn drain(socket: &Socket, counts: &FollowCounts, moved: &mut Moved) -> io::Result<()> {
    // Of links only a beginning, which does not matter; an FDB entry has some 80 bytes.
    let mut buffer = [0; 256];
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(read) => {
                any = true;
                moved.note(&buffer[..read]);
                counts.read();
            }
            Err(Errno::ENOBUFS) => {
                any = true;
                *moved = Moved::all();
                counts.lost();
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if any => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

    use super::*;
    use crate::kernel::alone::{alone, ip};

    /// In a network namespace of its own, with a queue for a message or two: of ten bridges the
    /// kernel tells more.
    #[test]
    fn what_the_kernel_lost_is_counted_and_wakes_all_the_same() {
        alone(async {
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

    /// Completes if something was told that nobody has caught up with.
    async fn is_told(follower: &mut Follower) -> bool {
        let wait = std::time::Duration::from_millis(300);
        let event = tokio::time::timeout(wait, follower.changed()).await;
        event.is_ok()
    }

    #[test]
    fn settings_that_the_kernel_tells_of_wake() {
        alone(async {
            for (setting, before, after) in [
                ("ipv4/ip_forward", "1", "0"),
                ("ipv4/conf/lo/rp_filter", "0", "1"),
                ("ipv4/conf/all/rp_filter", "0", "1"),
                ("ipv6/conf/all/forwarding", "1", "0"),
            ] {
                let path = format!("/proc/sys/net/{setting}");
                std::fs::write(&path, before).unwrap();
                let mut follower = Follower::new().unwrap();
                std::fs::write(&path, after).unwrap();
                assert!(is_told(&mut follower).await, "{setting}");
            }
        });
    }

    #[test]
    fn what_was_caught_up_with_wakes_nobody() {
        alone(async {
            let mut follower = Follower::new().unwrap();
            ip("address add 192.0.2.1/32 dev lo");
            assert_eq!(follower.catch_up(), Moved::default());
            assert!(!is_told(&mut follower).await);
            ip("address add 192.0.2.2/32 dev lo");
            assert!(is_told(&mut follower).await);
            // Lost events may have been about anything, also after `changed` has read them.
            setsockopt(&follower.socket, RcvBuf, &1).unwrap();
            for number in 3..20 {
                ip(&format!("address add 192.0.2.{number}/32 dev lo"));
            }
            assert!(is_told(&mut follower).await);
            assert_eq!(follower.catch_up(), Moved::all());
        });
    }
}
