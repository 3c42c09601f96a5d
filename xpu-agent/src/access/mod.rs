//! Who may what, and how much of it: everything between a socket and the API.
//!
//! ```text
//! unix ──┐                    ┌ who is it? ─▶ Caller ─┐
//! TCP  ──┼─▶ serve: accept ───┤                       ├─▶ limits ─▶ Guard ─▶ API
//! TLS  ──┘                    └ bounds per peer ──────┘
//! ```
//!
//! **Does:** [`serve`] accepts connections and tells who is at the other end ([`caller`]), by the
//! unix socket's peer credentials or by a client certificate ([`tls`]). Every request carries its
//! [`Caller`] as an extension. [`limits`] bound what a peer can hold of the agent. [`guard`]
//! stands around the API's routes and asks one pure function, [`policy::allowed`], so a request
//! that an HTTP gateway passes on in process is judged like one that came by gRPC.
//!
//! **Never:** reads a message or knows an object.
//!
//! **Start reading at** [`policy`], then [`guard`].

mod bind;
mod body;
pub mod caller;
mod connection;
pub mod descriptors;
pub mod guard;
mod io;
pub mod limits;
mod log_throttle;
pub mod policy;
mod refusal;
pub mod reload;
pub mod serve;
pub mod tls;

pub use caller::Caller;
pub use guard::{Guard, GuardLayer};
pub use policy::Role;
pub use refusal::Refusal;
pub use serve::{Gate, Listener, Protocol, serve};
