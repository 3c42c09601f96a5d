//! `make bench-cni`: what the CNI plugin costs, against what the kernel makes anyone pay and
//! against other plugins.
//!
//! - [`suite`]: what is measured, the same on every [`site`]. Start reading there.
//! - [`site`]: where: natively with veth pairs as VFs ([`native`]), in the lab's machine with
//!   igb's VFs ([`lab`]).
//! - [`growth`]: what it costs with many pods and many links on the node.
//! - [`counts`]: system calls and netlink messages of a call, seen from outside ([`trace`]), and the
//!   order of what it does ([`deeds`]); both read from [`strace`]'s log, its bytes as [`netlink`].
//! - [`calls`]: a plugin run as a runtime runs it, [`quota`]: with little processor time.
//! - [`floor`]: the least number of the same netlink requests.
//! - [`agent`]: an agent that answers as the real one does, for where that can't run.

pub mod agent;
pub mod calls;
pub mod counts;
pub mod deeds;
pub mod floor;
pub mod growth;
pub mod lab;
pub mod native;
pub mod netlink;
pub mod quota;
pub mod site;
pub mod strace;
pub mod suite;
pub mod trace;
