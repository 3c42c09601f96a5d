//! Which role may call which method. One pure function, [`allowed`], decides.
//!
//! | | `viewer` | `cni` | `admin` |
//! |---|---|---|---|
//! | Get and List of every kind | yes | BridgePorts only | yes |
//! | Create, Update, Delete | – | BridgePorts only | yes |
//! | gRPC health | yes | yes | yes |
//! | gRPC reflection | yes | – | yes |
//! | anything without a rule here | – | – | – |

use std::{collections::BTreeSet, fmt, str::FromStr};

use http::Method as Verb;
use serde::{Deserialize, Serialize};
use xpu_proto::evpn_gw::v1alpha1::{
    bridge_port_service_server, logical_bridge_service_server, svi_service_server,
    vrf_service_server,
};

/// What a caller is to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// The CNI plugin of a node: BridgePorts, and nothing else.
    Cni,
    /// May do everything.
    Admin,
}

impl Role {
    /// From the least powerful to the most powerful.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Cni, Self::Admin];

    /// As it stands in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Cni => "cni",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The roles of one caller: a certificate with several names may have several.
pub type Roles = BTreeSet<Role>;

/// A method of the API, from the path of its HTTP request (`/package.Service/Method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Of one of the four services.
    Object {
        /// Whether the object is a BridgePort.
        bridge_port: bool,
        /// Whether it only reads.
        reads: bool,
    },
    /// `grpc.health.v1.Health`.
    Health,
    /// `grpc.reflection.v1.ServerReflection`, and its older form, which clients try.
    Reflection,
}

/// The path names nothing that has a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl FromStr for Method {
    type Err = Unknown;

    fn from_str(path: &str) -> Result<Self, Unknown> {
        let (service, method) = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .ok_or(Unknown)?;
        let bridge_port = match service {
            bridge_port_service_server::SERVICE_NAME => true,
            vrf_service_server::SERVICE_NAME
            | logical_bridge_service_server::SERVICE_NAME
            | svi_service_server::SERVICE_NAME => false,
            "grpc.health.v1.Health" => return Ok(Self::Health),
            "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => {
                return Ok(Self::Reflection);
            }
            _ => return Err(Unknown),
        };
        let starts = |verbs: &[&str]| verbs.iter().any(|verb| method.starts_with(verb));
        let reads = starts(&["Get", "List"]);
        if !reads && !starts(&["Create", "Update", "Delete"]) {
            return Err(Unknown);
        }
        Ok(Self::Object { bridge_port, reads })
    }
}

/// Whether a role may call a method.
#[must_use]
pub const fn allowed(role: Role, method: Method) -> bool {
    match (role, method) {
        (Role::Admin, _) | (_, Method::Health) => true,
        (Role::Viewer, Method::Reflection) => true,
        (Role::Cni, Method::Reflection) => false,
        (Role::Viewer, Method::Object { reads, .. }) => reads,
        (Role::Cni, Method::Object { bridge_port, .. }) => bridge_port,
    }
}

/// The least powerful role that may call a method.
#[must_use]
pub fn least(method: Method) -> Role {
    let may = Role::ALL.into_iter().find(|role| allowed(*role, method));
    may.unwrap_or(Role::Admin)
}

/// Whether a method's messages come one by one for as long as the caller likes, so that no time
/// limit applies.
#[must_use]
pub fn streams(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || path.parse() == Ok(Method::Reflection)
}

/// Whether a request at the HTTP listener is a liveness or readiness probe's. It is answered
/// whatever is under way: its caller would take a refusal for a broken agent, and the answer costs
/// no more than the refusal.
#[must_use]
pub fn is_probe(verb: &Verb, path: &str) -> bool {
    matches!(*verb, Verb::GET | Verb::HEAD) && matches!(path, "/healthz" | "/readyz")
}

#[cfg(test)]
#[path = "tests/policy.rs"]
mod tests;
