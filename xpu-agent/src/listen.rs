//! The listening sockets.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use tokio::net::UnixListener;
use tracing::{info, warn};

use crate::{
    access::{Gate, Listener, Protocol, descriptors, tls::Tls},
    config::{Config, Transport},
    lifecycle::instance,
};

/// The listeners of a configuration: bound, so that nothing can be wrong with them any more, and
/// not yet served; who connects waits.
pub struct Listeners {
    /// What they share.
    pub gate: Gate,
    /// The sockets.
    pub bound: Vec<Bound>,
}

/// A socket with what is served on it.
#[derive(Debug)]
pub struct Bound {
    /// What it is called in logs.
    pub name: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// The socket.
    pub listener: Listener,
}

impl Listeners {
    /// Opens the certificates and binds everything. What is served in clear to everybody is
    /// warned about.
    ///
    /// # Errors
    /// When a certificate cannot be used, or a socket cannot be bound; the error names the key.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        descriptors::raise(&config.limits, 3);
        let tls = config.tls.clone().map(Tls::open).transpose()?;
        let gate = Gate::new(config.access.clone(), config.limits.clone(), tls);
        let mut bound = Vec::new();
        if !config.api.unix.as_os_str().is_empty() {
            let socket = unix(&config.api.unix, config.api.unix_group)?;
            info!(path = %config.api.unix.display(), "listening for gRPC on a unix socket");
            bound.push(Bound {
                name: "grpc-unix",
                protocol: Protocol::Grpc,
                listener: Listener::Unix(socket),
            });
        }
        for (name, key, protocol, at) in [
            ("grpc-tcp", "api.tcp", Protocol::Grpc, config.tcp()?),
            ("http", "http.listen", Protocol::Http, config.http()?),
        ] {
            let Some((address, transport)) = at else {
                continue;
            };
            bound.push(Bound {
                name,
                protocol,
                listener: tcp(&gate, config, key, address, transport).await?,
            });
        }
        Ok(Self { gate, bound })
    }
}

/// Listens on the TCP address of a key.
async fn tcp(
    gate: &Gate,
    config: &Config,
    key: &str,
    address: SocketAddr,
    transport: Transport,
) -> anyhow::Result<Listener> {
    let listener = gate
        .tcp(address, transport)
        .await
        .with_context(|| format!("cannot listen on {address}; set {key}"))?;
    info!(%address, ?transport, "listening, as {key} says");
    if transport == Transport::Insecure {
        warn!(
            %address,
            "access.insecure: everybody who reaches the address of {key} is {:?}, unseen and \
             unencrypted; set tls.cert, tls.key and tls.client_ca instead",
            config.access.insecure_role
        );
    }
    Ok(listener)
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something else is at the path.
    #[error("{} is there and is no socket; move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens already.
    #[error("another process listens on {}; stop it, or set api.unix", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens on a unix socket that only its owner can use (mode 0600), in a directory that is made
/// with mode 0700 if it is not there; with a group, its members too (0660 and 0750). What a
/// stopped agent left behind is removed.
///
/// A directory that is there is the operator's and stays as it is, but for the agent's own,
/// [`instance::DIRECTORY`], which is there before: the lock is in it, and systemd makes it.
///
/// # Errors
/// [`ListenError`] when the path is no socket, another process listens on it, or the directory or
/// the socket cannot be made.
pub fn unix(path: &Path, group: Option<u32>) -> Result<UnixListener, ListenError> {
    unix_beside(path, group, Path::new(instance::DIRECTORY))
}

/// [`unix`], with another directory as the agent's own.
fn unix_beside(path: &Path, group: Option<u32>, own: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        if !directory.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .and_then(|()| share(directory, group, 0o750))
                .map_err(failed)?;
        } else if directory == own {
            share(directory, group, 0o750).map_err(failed)?;
        } else if let Some(group) = group
            && !may_enter(directory, group).map_err(failed)?
        {
            warn!(
                directory = %directory.display(),
                group,
                "api.unix_group: the group cannot reach the socket; let it into the directory \
                 (chgrp and chmod g+x), or set api.unix"
            );
        }
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse {
                path: path.to_owned(),
            });
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    share(path, group, 0o660).map_err(failed)?;
    Ok(listener)
}

/// Gives a path to the group, if there is one, and then this mode.
fn share(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    if group.is_none() {
        return Ok(());
    }
    chown(path, None, group)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Whether the members of a group, or all users, get into a directory.
fn may_enter(directory: &Path, group: u32) -> io::Result<bool> {
    let found = fs::metadata(directory)?;
    let mode = found.mode();
    // Who is in the group of the directory is not among the others.
    Ok(if found.gid() == group {
        mode & 0o010 != 0
    } else {
        mode & 0o001 != 0
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::lifecycle::instance::Instance;

    /// A user and a group that no account has.
    const SOMEBODY: u32 = 54_321;

    /// curl's end, as a user of the group: 0, or 7 for that it could not connect.
    async fn call(path: &Path) -> (Option<i32>, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20"]);
        curl.arg("http://agent/").arg("--unix-socket").arg(path);
        curl.uid(SOMEBODY).gid(SOMEBODY);
        let ended = tokio::task::spawn_blocking(move || curl.output().unwrap());
        let output = ended.await.unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), message)
    }

    /// Answers one request; who asked.
    async fn serve(listener: UnixListener) -> u32 {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(answer).await.unwrap();
        stream.peer_cred().unwrap().uid()
    }

    /// As at `/run/xpu-agent/agent.sock`: the lock is taken first, or systemd has made the
    /// directory.
    #[tokio::test]
    async fn the_group_gets_at_a_socket_beside_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let own = directory.path().join("xpu-agent");
        let lock = Instance::lock(&own).unwrap();
        let path = own.join("agent.sock");
        let alone = unix_beside(&path, None, &own).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&own), mode(&path)), (0o700, 0o600));
        assert_eq!(call(&path).await.0, Some(7), "without a group");

        drop(alone);
        let shared = unix_beside(&path, Some(SOMEBODY), &own).unwrap();
        assert_eq!((mode(&own), mode(&path)), (0o750, 0o660));
        let server = tokio::spawn(serve(shared));
        assert_eq!(call(&path).await, (Some(0), String::new()));
        assert_eq!(server.await.unwrap(), SOMEBODY);
        drop(lock);
        Instance::lock(&own).unwrap();
        assert_eq!(mode(&own), 0o750, "the next lock leaves it so");
    }

    #[test]
    fn others_directories_are_looked_at_and_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (mode, group, may) in [
            (0o700, SOMEBODY, false),
            (0o755, SOMEBODY, true),
            (0o711, SOMEBODY, true),
            (0o750, SOMEBODY, false),
            (0o750, 0, true),
            (0o701, 0, false),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            chown(path, None, Some(0)).unwrap();
            assert_eq!(may_enter(path, group).unwrap(), may, "{mode:o} {group}");
        }
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/agent.sock");
        let first = unix(&path, None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(unix(&path, None), Err(ListenError::InUse { .. })));
        drop(first);
        unix(&path, None).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            unix(&path, None),
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
