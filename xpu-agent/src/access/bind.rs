//! Listening on a TCP address, also on one that the machine gets only later.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::warn;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on an address. One that no interface has yet is listened on all the same (`ip(7)`,
/// `IP_FREEBIND`), and warned about: at boot the agent may be there before the address is, and an
/// IPv6 address counts only once no other machine is found to have it.
///
/// # Errors
/// The kernel's: the address is taken, or the family is missing. A device that the address names
/// (`[fe80::1%7]`) has to be there: the kernel looks for it whatever is set (`ENODEV`).
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of an agent that was just stopped may linger.
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&address.into())?;
            warn!(
                %address,
                "no interface has the address yet; it is listened on and can be reached once one \
                 has it. If that does not come, correct the configuration, or `ip address add` it"
            );
        }
        bound => bound?,
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
