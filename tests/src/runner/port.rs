//! A virtio-serial port as the guest sees it: a character device that is never closed, with or
//! without somebody at the host's end.
//!
//! The kernel learns of the host's end being opened or closed from a queue of its own, which a
//! worker reads: bytes may overtake it. For a moment it may say "disconnected" of a host that has
//! long come back, so a hang-up counts only when it lasts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const CLASS: &str = "/sys/class/virtio-ports";

/// How long a hang-up must last to be one.
const HANG_UP: Duration = Duration::from_millis(200);

/// An open port. Reads and writes never block.
#[derive(Debug)]
pub struct Port {
    file: File,
    changes: Epoll,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// Nothing, and the kernel knows of nobody at the host's end.
    Disconnected,
}

impl Port {
    /// Opens the port to which QEMU gave this name.
    ///
    /// # Errors
    /// `NotFound` where the machine has no such port; else what opening the device said.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(device(name)?)?;
        // Edge-triggered: a level-triggered wait would spin while no host is connected, since the
        // kernel reports a hang-up for all of that time.
        let changes = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        changes.add(
            &file,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0),
        )?;
        Ok(Self { file, changes })
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// What `read(2)` said.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match (&self.file).read(buffer) {
            Ok(0) => Ok(Received::Disconnected),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(error) if would_block(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sleeps until bytes or room for bytes arrive, or the host's end is opened or closed.
    ///
    /// # Errors
    /// What `epoll_wait(2)` said.
    pub fn wait(&self) -> io::Result<()> {
        self.wait_for(EpollTimeout::NONE)
    }

    fn wait_for(&self, patience: EpollTimeout) -> io::Result<()> {
        let mut events = [EpollEvent::empty()];
        match self.changes.wait(&mut events, patience) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nobody holds the host's end, now and for the next [`HANG_UP`].
    ///
    /// # Errors
    /// What `poll(2)` said.
    pub fn stays_disconnected(&self) -> io::Result<bool> {
        let deadline = Instant::now() + HANG_UP;
        loop {
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::empty())];
            poll(&mut fds, PollTimeout::ZERO)?;
            if !fds[0].any().unwrap_or(false) {
                return Ok(false);
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(true);
            }
            let rest = rest + Duration::from_millis(1);
            self.wait_for(EpollTimeout::try_from(rest).map_err(io::Error::other)?)?;
        }
    }

    /// Writes as much as fits now and drops it from the front of `pending`.
    ///
    /// # Errors
    /// What `write(2)` said.
    pub fn send(&self, pending: &mut Vec<u8>) -> io::Result<()> {
        write_some(&self.file, pending)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes from the front of `pending` until all is written or the file takes no more.
///
/// # Errors
/// What `write(2)` said, except that it would block.
pub fn write_some(mut file: &File, pending: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    let result = loop {
        let rest = pending.get(written..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(());
        }
        match file.write(rest) {
            Ok(0) => break Ok(()),
            Ok(count) => written += count,
            Err(error) if would_block(&error) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    pending.drain(..written);
    result
}

/// Whether the call may succeed later or again.
pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn device(name: &str) -> io::Result<String> {
    for entry in fs::read_dir(CLASS)? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name"))?.trim_end() == name {
            return Ok(format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    Err(io::Error::new(
        ErrorKind::NotFound,
        format!("no port named {name} in {CLASS}"),
    ))
}
