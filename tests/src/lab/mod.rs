//! The host's side of the lab: one VM in which everything real is.
//!
//! - [`paths`]: where image, sockets and shared files live.
//! - [`preflight`]: the host packages and the space that it takes.
//! - [`recipe`], [`image`], [`initramfs`]: from Debian's archive to a bootable image.
//! - [`accel`], [`machine`], [`vm`]: QEMU: which accelerator, which devices, its life.
//! - [`client`], [`share`]: running commands in the guest and getting files there.
//! - [`deal`]: a test's binary over several machines.
//! - [`cli`]: the commands of the `lab` program.

pub mod accel;
pub mod cli;
pub mod client;
pub mod deal;
pub mod image;
pub mod initramfs;
pub mod machine;
pub mod paths;
pub mod preflight;
pub mod progress;
pub mod recipe;
pub mod share;
pub mod vm;
