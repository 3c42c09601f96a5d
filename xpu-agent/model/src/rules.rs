//! The rules between objects, and what it is called when one is broken.
//!
//! Tombstones count as holders of their numbers: until every backend has let go of a VLAN or a
//! VNI, nobody else can have it.

use crate::{
    intent::Intent,
    name::{Id, ObjectKey},
    number::{VlanId, Vni},
    objects::By,
    shown::listed,
    spec::{BridgePortSpec, LogicalBridgeSpec, PortMode, Spec, SviSpec, VrfSpec},
};

/// One field that is wrong, for `google.rpc.BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path in the request, like `spec.vlan_id`.
    pub field: String,
    /// What is wrong, with the value and what would be right.
    pub description: String,
}

/// Why a change of the intent is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The id is taken by an object with another spec.
    #[error("{key} exists with another spec; update it, or choose another id")]
    AlreadyExists {
        /// The object.
        key: ObjectKey,
    },
    /// No such object.
    #[error("{key} does not exist")]
    NotFound {
        /// The object.
        key: ObjectKey,
    },
    /// Others refer to the object.
    #[error("{key} is in use by {}; delete or change them first", listed(by))]
    Referenced {
        /// The object.
        key: ObjectKey,
        /// Those that refer to it.
        by: Vec<ObjectKey>,
    },
    /// The object refers to one that does not exist.
    #[error("{field}: {key} does not exist; create it first")]
    MissingReference {
        /// The field that refers.
        field: &'static str,
        /// The object meant.
        key: ObjectKey,
    },
    /// A value that must be unique is taken.
    #[error("{field}: {value} is in use by {holder}; choose another")]
    Conflict {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
        /// Who has it.
        holder: ObjectKey,
    },
    /// What the agent chooses from is used up.
    #[error("no free {what} is left in {range}; {mend}")]
    Exhausted {
        /// What is used up.
        what: &'static str,
        /// The range, as text.
        range: String,
        /// The next step.
        mend: &'static str,
    },
}

/// Fails if a reference names no live object.
pub(crate) fn check_exists<S: Spec>(
    field: &'static str,
    id: &Id,
    intent: &Intent,
) -> Result<(), RuleError> {
    match intent.get::<S>(id) {
        Some(_) => Ok(()),
        None => Err(RuleError::MissingReference {
            field,
            key: S::key(id),
        }),
    }
}

/// Fails if another LogicalBridge has the VLAN.
pub(crate) fn check_vlan_unique(vlan: VlanId, id: &Id, intent: &Intent) -> Result<(), RuleError> {
    let mut holders = intent.logical_bridges.find(&By::Vlan(vlan));
    let holder = holders.find(|lb| lb.id != *id);
    conflict("spec.vlan_id", vlan, holder.map(|lb| lb.key()))
}

/// Fails if another LogicalBridge or Vrf has the VNI.
pub(crate) fn check_vni_unique(
    vni: Option<Vni>,
    key: &ObjectKey,
    intent: &Intent,
) -> Result<(), RuleError> {
    let Some(vni) = vni else { return Ok(()) };
    let by = By::Vni(vni);
    let (bridges, vrfs) = (intent.logical_bridges.find(&by), intent.vrfs.find(&by));
    let mut holders = bridges.map(|lb| lb.key()).chain(vrfs.map(|vrf| vrf.key()));
    conflict("spec.vni", vni, holders.find(|holder| holder != key))
}

/// Fails if another port has the MAC in a LogicalBridge that this one carries.
pub(crate) fn check_mac_unique(
    spec: &BridgePortSpec,
    id: &Id,
    intent: &Intent,
) -> Result<(), RuleError> {
    let meets = |other: &PortMode| match (&spec.mode, other) {
        (PortMode::TransparentTrunk, _) | (_, PortMode::TransparentTrunk) => true,
        (mode, other) => mode.named().into_iter().any(|lb| other.carries(lb)),
    };
    let mut holders = intent.bridge_ports.find(&By::Mac(spec.mac));
    let holder = holders.find(|port| port.id != *id && meets(&port.spec.mode));
    conflict("spec.mac_address", spec.mac, holder.map(|port| port.key()))
}

/// Fails if the LogicalBridge has another Svi: it has one at most.
pub(crate) fn check_only_svi(spec: &SviSpec, id: &Id, intent: &Intent) -> Result<(), RuleError> {
    let by = By::LogicalBridge(spec.logical_bridge.clone());
    let holder = intent.svis.find(&by).find(|svi| svi.id != *id);
    let value = LogicalBridgeSpec::key(&spec.logical_bridge);
    conflict("spec.logical_bridge", value, holder.map(|svi| svi.key()))
}

/// Fails if a gateway's subnet overlaps with another Svi's in the same Vrf.
pub(crate) fn check_gateways_disjoint(
    spec: &SviSpec,
    id: &Id,
    intent: &Intent,
) -> Result<(), RuleError> {
    let by = By::Vrf(spec.vrf.clone());
    for svi in intent.svis.find(&by).filter(|svi| svi.id != *id) {
        for gateway in spec.gateways.iter() {
            let overlaps = |other: &crate::IfAddr| other.subnet().overlaps(gateway.subnet());
            if svi.spec.gateways.iter().any(overlaps) {
                return conflict("spec.gw_ip_prefix", gateway, Some(svi.key()));
            }
        }
    }
    Ok(())
}

fn conflict(
    field: &'static str,
    value: impl ToString,
    holder: Option<ObjectKey>,
) -> Result<(), RuleError> {
    match holder {
        None => Ok(()),
        Some(holder) => Err(RuleError::Conflict {
            field,
            value: value.to_string(),
            holder,
        }),
    }
}

/// Whether a Vrf's device name is another Vrf's already; names are looked up in the kernel and
/// in FRR, so they are unique per node.
pub(crate) fn vrf_device_is_free(device: &crate::IfName, id: &Id, intent: &Intent) -> bool {
    let takes = |vrf: &std::sync::Arc<crate::Object<VrfSpec>>| {
        vrf.id != *id && vrf.allocation.device == *device
    };
    !intent.vrfs.values().any(takes)
}
