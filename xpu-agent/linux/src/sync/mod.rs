//! rtnetlink without a runtime: a blocking socket for a program that sends a
//! handful of messages and ends.
//!
//! A socket belongs to the network namespace of the thread that opened it, for its
//! whole life. [`socket`] sends and reads, [`link`] and [`address`] build requests, [`look`]
//! lists, [`peers`] looks into namespaces that the socket's knows, [`vf_side`] speaks to PFs, [`event`] waits for links to change, [`ioctl`] asks what needs
//! no RTNL, and [`announce`] tells neighbours of new addresses. Nothing here retries or decides.

pub mod address;
pub mod announce;
pub(crate) mod attribute;
pub mod event;
pub mod ioctl;
pub mod link;
pub mod look;
pub mod peers;
pub mod socket;
pub mod vf_side;

pub use link::LinkFacts;
pub use socket::{Request, Rtnl, RtnlError};
