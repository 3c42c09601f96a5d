//! How a command gets from the host into the guest and its output back.
//!
//! The wire is a virtio-serial port per job: a unix socket on the host, a character device in
//! the guest. [`protocol`] defines the frames, [`serve`] is the guest's end; the host's end is
//! [`crate::lab::client`].

pub mod job;
pub mod port;
pub mod programs;
pub mod protocol;
pub mod serve;
pub mod terminal;
