//! Who may what, and how much, over real sockets: the agent's services behind its listeners, and
//! clients that we did not write (curl, openssl) beside tonic's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test crate: its helpers fail the test they serve"
)]

mod absent;
mod certs;
mod frames;
mod http;
mod limits;
mod load;
mod log;
mod neighbour;
mod peers;
mod raw;
mod reload;
mod rig;
mod shares;
mod start;
mod stop;
mod tls;
