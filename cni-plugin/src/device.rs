//! The VF: what it is before ([`inspect`]), how it goes into the pod ([`move_in`]), how it comes home
//! ([`send_home`]).
//!
//! What is written here says what is to be done to a netdev; `xpu-linux` says it to the kernel. A VF
//! that a userspace driver has got has no netdev, and is neither moved nor changed.

mod arrive;
mod change;
mod home;
mod inspect;
mod netdev;
mod stay;

pub use arrive::{Arrived, AtHome, Wanted, move_in, name_taken};
pub use home::{Away, WasInPod, await_return, send_home};
pub use inspect::{Found, has_no_netdev, inspect};
pub use stay::strip;

use change::{change_in_place, is_gone, other_mtu};

/// How a VF comes to its MAC, in the pod or at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacBy {
    /// It is told, in the message with its other settings, which moves it if it isn't there yet.
    Message,
    /// It takes the one that its PF has for it when it resets, which coming up or another MTU does.
    Reset,
    /// It has it, or never will, or it has no netdev to tell.
    Nobody,
}
