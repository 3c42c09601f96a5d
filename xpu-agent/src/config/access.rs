//! `[access]`: who has which role.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigError, error::value};
use crate::access::{
    caller::Peer,
    policy::{Role, Roles},
};

/// `[access]`: who has which role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The role of a process on the unix socket, by its user id. Root is `admin` if it is not
    /// here. Who is not here has none.
    pub uids: BTreeMap<String, Grant>,
    /// The role of a client certificate, by a name in it: `URI:spiffe://…` or `DNS:…`, as
    /// `openssl x509 -ext subjectAltName` prints them. `URI:…/*` stands for everything below,
    /// `DNS:*.…` for one label. Of several that fit all count, unless one of them is `none`.
    pub certificates: BTreeMap<String, Grant>,
    /// The role of who comes over loopback in clear: any process of the agent's network
    /// namespace can, whoever's it is.
    pub loopback: Grant,
    /// Serve TCP in clear beyond loopback.
    pub insecure: bool,
    /// With `insecure`: the role of who comes over the network in clear, which is anybody.
    pub insecure_role: Grant,
}

/// A role, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// May call nothing.
    None,
    /// [`Role::Viewer`]
    Viewer,
    /// [`Role::Cni`]
    Cni,
    /// [`Role::Admin`]
    Admin,
}

impl Grant {
    /// The role, if there is one.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::None => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Cni => Some(Role::Cni),
            Self::Admin => Some(Role::Admin),
        }
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            uids: BTreeMap::new(),
            certificates: BTreeMap::new(),
            loopback: Grant::Viewer,
            insecure: false,
            insecure_role: Grant::Viewer,
        }
    }
}

impl AccessConfig {
    /// The roles of a peer.
    #[must_use]
    pub fn roles(&self, peer: &Peer) -> Roles {
        match peer {
            Peer::Unix { uid, .. } => match self.uids.get(&uid.to_string()) {
                Some(grant) => grant.role().into_iter().collect(),
                None if *uid == 0 => Roles::from([Role::Admin]),
                None => Roles::new(),
            },
            Peer::Loopback(_) => self.loopback.role().into_iter().collect(),
            Peer::Clear(_) => self.insecure_role.role().into_iter().collect(),
            Peer::Certificate { names, .. } => {
                let granted = self
                    .certificates
                    .iter()
                    .filter(|(pattern, _)| names.iter().any(|name| matches(pattern, name)));
                // One that says none outweighs all others, so that it fails closed.
                let granted: Option<Roles> = granted.map(|(_, grant)| grant.role()).collect();
                granted.unwrap_or_default()
            }
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of the first value that cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for uid in self.uids.keys() {
            // As the kernel's number is printed, else it would never be found.
            if uid.parse::<u32>().map(|it| it.to_string()).as_ref() != Ok(uid) {
                let problem = "is no user id; write the number that `id -u` prints";
                return Err(value(&format!("access.uids.{uid}"), problem));
            }
        }
        for pattern in self.certificates.keys() {
            let problem = match pattern.split_once(':') {
                Some(("URI", uri)) => {
                    let fixed = uri.strip_suffix("/*").unwrap_or(uri);
                    !fixed.contains("://") || fixed.ends_with("://") || fixed.contains('*')
                }
                Some(("DNS", dns)) => {
                    let fixed = dns.strip_prefix("*.").unwrap_or(dns);
                    fixed.is_empty() || fixed.contains('*')
                }
                _ => true,
            };
            if problem {
                return Err(value(
                    &format!("access.certificates.{pattern:?}"),
                    "is no name; write \"URI:spiffe://domain/path\", \"URI:spiffe://domain/*\", \
                     \"DNS:host.domain\" or \"DNS:*.domain\"",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a name of a certificate (`URI:…`, `DNS:…`) is one that the pattern stands for.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.split_once(':'), name.split_once(':')) {
        (Some(("URI", pattern)), Some(("URI", name))) => match pattern.strip_suffix('*') {
            // The pattern keeps its last slash: `…/node/*` is not about `…/nodes/1`.
            Some(start) => name.len() > start.len() && name.starts_with(start),
            None => name == pattern,
        },
        (Some(("DNS", pattern)), Some(("DNS", name))) => {
            let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
            match pattern.strip_prefix("*.") {
                // A certificate for a wildcard is for no one host.
                Some(domain) => name.split_once('.').is_some_and(|(label, rest)| {
                    label != "*" && !label.is_empty() && rest == domain
                }),
                None => name == pattern,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "tests/access.rs"]
mod tests;
