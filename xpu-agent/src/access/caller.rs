//! Who is at the other end of a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::policy::{Role, Roles};
use crate::config::AccessConfig;

/// How a peer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By the kernel, over the unix socket (`SO_PEERCRED`, unix(7)).
    Unix {
        /// The effective user id when it connected.
        uid: u32,
        /// The process, for logs only: ids are used again.
        pid: Option<i32>,
    },
    /// Not at all: over loopback in clear. It is some process of this network namespace.
    Loopback(SocketAddr),
    /// Not at all: over the network in clear.
    Clear(SocketAddr),
    /// By a client certificate that the configured CA vouches for.
    Certificate {
        /// Where it comes from.
        address: SocketAddr,
        /// The certificate's URI and DNS names, written `URI:…` and `DNS:…`.
        names: Vec<String>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Unix {
                uid,
                pid: Some(pid),
            } => write!(f, "uid {uid} (pid {pid})"),
            Self::Loopback(address) => write!(f, "{address} over loopback in clear"),
            Self::Clear(address) => write!(f, "{address} in clear"),
            Self::Certificate { address, names } if names.is_empty() => {
                write!(f, "{address} by a certificate without URI and DNS names")
            }
            Self::Certificate { address, names } => {
                write!(f, "{address} by the certificate of {}", names.join(", "))
            }
        }
    }
}

/// A peer with its roles: an extension of each of its requests. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    peer: Peer,
    roles: Roles,
}

impl Caller {
    /// Gives a peer the roles that the configuration has for it.
    #[must_use]
    pub fn new(peer: Peer, config: &AccessConfig) -> Self {
        let roles = config.roles(&peer);
        Self(Arc::new(Known { peer, roles }))
    }

    /// Who it is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// What it is to the agent; nothing, if the configuration does not name it.
    #[must_use]
    pub fn roles(&self) -> &Roles {
        &self.0.roles
    }

    /// Whether it has proven who it is.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        matches!(self.0.peer, Peer::Unix { .. } | Peer::Certificate { .. })
    }

    /// The line of the configuration that would give it a role.
    #[must_use]
    pub fn grant(&self, role: Role) -> String {
        match &self.0.peer {
            Peer::Unix { uid, .. } => format!("{uid} = \"{role}\" in [access.uids]"),
            Peer::Loopback(_) => format!("access.loopback = \"{role}\""),
            Peer::Clear(_) => format!("access.insecure_role = \"{role}\""),
            Peer::Certificate { names, .. } => match names.first() {
                Some(name) => format!("\"{name}\" = \"{role}\" in [access.certificates]"),
                None => format!(
                    "a certificate with a URI or DNS name, and that name = \"{role}\" in \
                     [access.certificates]"
                ),
            },
        }
    }
}
