//! What goes over a wire.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{MsgFlags, recv},
};

use crate::harness::Node;

/// A tap on a link of the host.
pub struct Tap(OwnedFd);

impl Tap {
    pub fn on(netns: &str, link: &str) -> Self {
        let index = Node::link(netns, link)["ifindex"].as_i64().unwrap();
        let netns = File::open(Path::new("/run/netns").join(netns)).unwrap();
        let socket = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            let every = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
            // SAFETY: socket(2) and bind(2) on values that live through the calls.
            unsafe {
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
                assert!(fd >= 0, "{}", io::Error::last_os_error());
                let mut at: libc::sockaddr_ll = std::mem::zeroed();
                at.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
                at.sll_protocol = every;
                at.sll_ifindex = i32::try_from(index).unwrap();
                let size = u32::try_from(size_of_val(&at)).unwrap();
                assert_eq!(libc::bind(fd, (&raw const at).cast(), size), 0);
                let wait = libc::timeval {
                    tv_sec: 5,
                    tv_usec: 0,
                };
                let size = u32::try_from(size_of_val(&wait)).unwrap();
                let option = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
                assert_eq!(
                    libc::setsockopt(fd, option.0, option.1, (&raw const wait).cast(), size),
                    0
                );
                OwnedFd::from_raw_fd(fd)
            }
        })
        .join()
        .unwrap();
        Self(socket)
    }

    /// Waits for a frame that `is` it.
    #[track_caller]
    pub fn expect(&self, what: &str, is: impl Fn(&[u8]) -> bool) {
        let mut frame = [0; 2048];
        loop {
            let read = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty());
            let read = read.unwrap_or_else(|errno| panic!("{what} never came: {errno}"));
            if read >= 42 && is(&frame[..read.max(64)]) {
                return;
            }
        }
    }
}
