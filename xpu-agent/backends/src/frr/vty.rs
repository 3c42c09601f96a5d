//! A connection to one daemon's vty socket, which is what `vtysh` speaks to.
//!
//! The protocol (FRR `lib/vty.c`, `vtysh/vtysh.c`): a command ends in NUL; the answer is text,
//! then three NULs and a status byte. One command at a time. It is no documented interface, but
//! the same from FRR 8 to 10; everything that knows it is in this file.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use procfs::{Current, Uptime, process::Process, ticks_per_second};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::Socket;

/// How long a daemon may take to answer. zebra is known to be mute for seconds while it digests
/// thousands of VNIs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read: the running configuration of some ten thousand VRFs.
const MOST: usize = 64 * 1024 * 1024;

/// `CMD_SUCCESS` of FRR's `lib/command.h`.
const SUCCESS: u8 = 0;
/// `CMD_WARNING`: some commands answer it although they worked; text beginning `%` tells.
const WARNING: u8 = 1;
/// What an answer ends with, before the status.
const END: [u8; 3] = [0; 3];

/// Why a daemon did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum VtyError {
    /// There is no connection to be had.
    #[error("cannot connect to {socket} at {}; {}", path.display(), next_step(*socket, source))]
    Connect {
        /// Whose socket.
        socket: Socket,
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke: the daemon stopped or was restarted.
    #[error("the connection to {} broke", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{} did not answer `{command}` within {PATIENCE:?}", path.display())]
    Mute {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        command: String,
    },
    /// The command was refused.
    #[error("{}", if answer.is_empty() { "no reason given" } else { answer })]
    Refused {
        /// The status byte.
        status: u8,
        /// The daemon's words.
        answer: String,
    },
}

impl VtyError {
    /// Whether the connection can be used further.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether zebra does not run, so that nothing in FRR holds devices: its socket is missing, or
    /// nobody listens there. Of an error that only says that this agent can't connect (permissions,
    /// a full backlog), or of another daemon's, nothing follows for zebra.
    #[must_use]
    pub fn is_absence_of_zebra(&self) -> bool {
        let Self::Connect { socket, source, .. } = self else {
            return false;
        };
        *socket == Socket::Zebra && is_absence(source)
    }
}

/// Whether a connection failed because nobody listens.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

/// What an operator can do about a connection that failed.
fn next_step(socket: Socket, error: &io::Error) -> String {
    match error.kind() {
        _ if is_absence(error) => match socket {
            Socket::Zebra => "is FRR running? (`systemctl start frr`, or set frr.socket_directory)",
            Socket::Bgpd => {
                "is FRR running? (`systemctl restart frr`, with bgpd=yes in /etc/frr/daemons)"
            }
            Socket::Mgmtd => {
                "is FRR running? (`systemctl restart frr`; its log says why mgmtd ended)"
            }
        }
        .to_owned(),
        io::ErrorKind::PermissionDenied => {
            "run the agent as root, or as a member of the group frrvty".to_owned()
        }
        io::ErrorKind::WouldBlock => {
            format!("{socket} takes no more connections now; if this goes on, see its log")
        }
        _ => format!("see why {socket}'s socket can't be used"),
    }
}

/// An open connection, in the enable node.
#[derive(Debug)]
pub struct Vty {
    path: PathBuf,
    stream: UnixStream,
}

impl Vty {
    /// Connects to a daemon's socket.
    ///
    /// # Errors
    /// [`VtyError`] when nobody listens or the daemon refuses to enter the enable node.
    pub async fn connect(socket: Socket, path: &Path) -> Result<Self, VtyError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| VtyError::Connect {
                socket,
                path: path.to_owned(),
                source,
            })?;
        let mut vty = Self {
            path: path.to_owned(),
            stream,
        };
        vty.run("enable").await?;
        Ok(vty)
    }

    /// How long ago the daemon's process started; `None` where it can't be told, as when it is in
    /// another PID namespace.
    pub fn age(&self) -> Option<Duration> {
        let pid = self.stream.peer_cred().ok()?.pid()?;
        let stat = Process::new(pid).ok()?.stat().ok()?;
        let ticks = Duration::from_secs(stat.starttime) / u32::try_from(ticks_per_second()).ok()?;
        let up = Duration::from_secs_f64(Uptime::current().ok()?.uptime);
        Some(up.saturating_sub(ticks))
    }

    /// Runs a command and returns what it said.
    ///
    /// # Errors
    /// [`VtyError`]; after one that is no refusal the connection is of no more use.
    pub async fn run(&mut self, command: &str) -> Result<String, VtyError> {
        match timeout(PATIENCE, self.exchange(command)).await {
            Ok(Ok((answer, status))) => judge(answer, status),
            Ok(Err(source)) => Err(VtyError::Broken {
                path: self.path.clone(),
                source,
            }),
            Err(_) => Err(VtyError::Mute {
                path: self.path.clone(),
                command: command.to_owned(),
            }),
        }
    }

    async fn exchange(&mut self, command: &str) -> io::Result<(String, u8)> {
        debug_assert!(
            !command.contains(['\0', '\n', '\r']),
            "tokens of checked types: {command:?}"
        );
        self.stream.write_all(command.as_bytes()).await?;
        self.stream.write_all(&[0]).await?;
        let mut answer = Vec::new();
        loop {
            if let [text @ .., a, b, c, status] = answer.as_slice()
                && [*a, *b, *c] == END
            {
                return Ok((String::from_utf8_lossy(text).into_owned(), *status));
            }
            if answer.len() > MOST {
                return Err(io::Error::other("the answer has no end"));
            }
            if self.stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Completes when the daemon closes the connection, or says something unasked. Cancel-safe.
    pub async fn closed(&self) {
        // Readiness stays from before when an answer filled the buffer that it was read into: only
        // a read tells, and it takes stale readiness away.
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end, a byte out of turn, or an error: this connection is of no more use.
                _ => return,
            }
        }
    }
}

/// Success, or a warning that does not begin like an error (evpn: `%`).
fn judge(answer: String, status: u8) -> Result<String, VtyError> {
    let complains = answer.trim_start().starts_with('%');
    match status {
        SUCCESS => Ok(answer),
        WARNING if !complains => Ok(answer),
        status => Err(VtyError::Refused {
            status,
            answer: answer.trim().replace('\n', "; "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use xpu_model::cause::chain;

    use super::*;

    fn refused(socket: Socket, kind: io::ErrorKind) -> VtyError {
        VtyError::Connect {
            socket,
            path: "/run/frr/some.vty".into(),
            source: kind.into(),
        }
    }

    /// Devices are taken down under an FRR that is said to be absent, and zebra can crash of it.
    #[test]
    fn only_zebras_socket_without_a_listener_says_that_frr_holds_nothing() {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, WouldBlock};
        for kind in [ConnectionRefused, NotFound] {
            assert!(refused(Socket::Zebra, kind).is_absence_of_zebra(), "{kind}");
            for other in [Socket::Mgmtd, Socket::Bgpd] {
                assert!(
                    !refused(other, kind).is_absence_of_zebra(),
                    "{other} {kind}"
                );
            }
        }
        for kind in [PermissionDenied, WouldBlock] {
            assert!(
                !refused(Socket::Zebra, kind).is_absence_of_zebra(),
                "{kind}"
            );
        }
        let broken = VtyError::Broken {
            path: "/run/frr/zebra.vty".into(),
            source: io::ErrorKind::UnexpectedEof.into(),
        };
        assert!(!broken.is_absence_of_zebra());
    }

    #[test]
    fn a_connection_that_fails_says_whose_why_and_what_to_do() {
        use io::ErrorKind::{ConnectionRefused, PermissionDenied};
        for (error, next) in [
            (refused(Socket::Zebra, ConnectionRefused), "is FRR running?"),
            (refused(Socket::Bgpd, ConnectionRefused), "/etc/frr/daemons"),
            (refused(Socket::Zebra, PermissionDenied), "frrvty"),
        ] {
            let VtyError::Connect { socket, source, .. } = &error else {
                unreachable!("{error}");
            };
            let (name, cause) = (socket.to_string(), source.to_string());
            let told = chain(&error);
            for part in [name.as_str(), "/run/frr/some.vty", next, &cause] {
                assert!(told.contains(part), "{told} lacks {part}");
            }
        }
    }
}
