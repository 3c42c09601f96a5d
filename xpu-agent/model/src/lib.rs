//! The domain: values that cannot be wrong, the four object kinds, the rules between them.
//!
//! **Does:** parse and validate names, addresses and numbers ([`Mac`], [`VlanId`], [`Vni`],
//! [`IfAddr`], …); hold the intent of a node as one value ([`Intent`]) and change it by the
//! rules of the API ([`rules`]); give every Vrf the numbers the kernel needs ([`alloc`]);
//! name what the backends report ([`status`]) and what they need of the node
//! ([`requirements`]).
//!
//! **Never:** does I/O, waits, knows protobuf, netlink, FRR or the clock. A caller that needs
//! randomness or time hands it in.
//!
//! **Start reading at** [`intent`], then [`rules`].

pub mod addr;
pub mod alloc;
pub mod cause;
pub mod ifname;
pub mod intent;
pub mod mac;
pub mod name;
pub mod node;
pub mod number;
pub mod objects;
pub mod requirements;
pub mod rules;
pub mod several;
pub mod shown;
pub mod spec;
pub mod status;

pub use addr::{IfAddr, Prefix};
pub use alloc::VrfAllocation;
pub use ifname::IfName;
pub use intent::{Generation, Intent, Object};
pub use mac::Mac;
pub use name::{Id, Kind, ObjectKey};
pub use node::Node;
pub use number::{Asn, IfIndex, Mtu, TableId, VlanId, Vni};
pub use objects::Objects;
pub use rules::{FieldViolation, RuleError};
pub use several::Gateways;
pub use spec::{BridgePortSpec, LogicalBridgeSpec, PortMode, Spec, SviBgp, SviSpec, VrfSpec};
