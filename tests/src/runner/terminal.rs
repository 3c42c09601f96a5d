//! The size of a terminal: the one thing about terminals for which `nix` has no safe call.

use std::os::fd::{AsFd, AsRawFd};

use nix::pty::Winsize;

use super::protocol::WindowSize;

nix::ioctl_read_bad!(
    /// `TIOCGWINSZ`, see `ioctl_tty(2)`.
    tiocgwinsz,
    nix::libc::TIOCGWINSZ,
    Winsize
);
nix::ioctl_write_ptr_bad!(
    /// `TIOCSWINSZ`, see `ioctl_tty(2)`.
    tiocswinsz,
    nix::libc::TIOCSWINSZ,
    Winsize
);

/// The size of the terminal behind `fd`.
///
/// # Errors
/// `ENOTTY` where `fd` is no terminal.
pub fn size(fd: impl AsFd) -> nix::Result<WindowSize> {
    let mut size = to_kernel(WindowSize {
        rows: 0,
        columns: 0,
    });
    // SAFETY: the descriptor is open for the call, and the kernel writes one `winsize`.
    unsafe { tiocgwinsz(fd.as_fd().as_raw_fd(), &raw mut size) }?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Gives the terminal behind `fd` a new size; the programs on it get `SIGWINCH`.
///
/// # Errors
/// `ENOTTY` where `fd` is no terminal.
pub fn resize(fd: impl AsFd, size: WindowSize) -> nix::Result<()> {
    let size = to_kernel(size);
    // SAFETY: the descriptor is open for the call, and the kernel reads one `winsize`.
    unsafe { tiocswinsz(fd.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// As the kernel's `winsize`; the pixel sizes are unused.
pub fn to_kernel(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
