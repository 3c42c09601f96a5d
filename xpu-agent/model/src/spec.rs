//! What a user may ask for: the specs of the four kinds.
//!
//! A spec that exists is valid in itself; rules that need other objects are in [`crate::rules`].

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    addr::IfAddr,
    alloc::{self, AllocationRules, VrfAllocation},
    intent::Intent,
    mac::Mac,
    name::{Id, Kind, ObjectKey},
    number::{Asn, VlanId, Vni},
    objects::{By, Objects},
    rules::{self, RuleError},
    several::{Gateways, TrunkBridges},
};

/// An L3 tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrfSpec {
    /// The L3VNI; none: the Vrf is local to this node.
    pub vni: Option<Vni>,
    /// The Vrf's own address; an IPv4 one is its router id and the base of its RD.
    pub loopback: IfAddr,
    /// The local VTEP; none: the node's default.
    pub vtep: Option<IfAddr>,
}

/// An L2 tenant network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalBridgeSpec {
    /// The VLAN on the tenant bridge; unique per node.
    pub vlan: VlanId,
    /// The L2VNI; none: the network is local to this node.
    pub vni: Option<Vni>,
    /// The local VTEP; none: the node's default.
    pub vtep: Option<IfAddr>,
}

/// Where a VF meets the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePortSpec {
    /// The VF's address.
    pub mac: Mac,
    /// Which LogicalBridges it carries, and how.
    pub mode: PortMode,
}

/// How a port carries LogicalBridges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortMode {
    /// One LogicalBridge, untagged.
    Access(Id),
    /// These LogicalBridges, tagged.
    Trunk(TrunkBridges),
    /// Every LogicalBridge, tagged, those made later too.
    TransparentTrunk,
}

/// The gateway of a LogicalBridge in a Vrf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SviSpec {
    /// The Vrf that routes.
    pub vrf: Id,
    /// The LogicalBridge that gets a gateway; one Svi each.
    pub logical_bridge: Id,
    /// The gateway's address, usually the same on every node (anycast gateway).
    pub mac: Mac,
    /// The gateway's IP addresses.
    pub gateways: Gateways,
    /// A BGP session with the tenant's own router, if wanted.
    pub bgp: Option<SviBgp>,
}

/// BGP with tenant routers in an Svi's subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SviBgp {
    /// The tenant's AS number.
    pub remote_as: Asn,
}

impl PortMode {
    /// A trunk of the named LogicalBridges; transparent when none is named.
    #[must_use]
    pub fn trunk(logical_bridges: BTreeSet<Id>) -> Self {
        TrunkBridges::try_from(logical_bridges).map_or(Self::TransparentTrunk, Self::Trunk)
    }

    /// Whether the port carries `logical_bridge`.
    #[must_use]
    pub fn carries(&self, logical_bridge: &Id) -> bool {
        match self {
            Self::Access(id) => id == logical_bridge,
            Self::Trunk(ids) => ids.contains(logical_bridge),
            Self::TransparentTrunk => true,
        }
    }

    /// The LogicalBridges named; a transparent trunk names none.
    #[must_use]
    pub fn named(&self) -> Vec<&Id> {
        match self {
            Self::Access(id) => vec![id],
            Self::Trunk(ids) => ids.iter().collect(),
            Self::TransparentTrunk => Vec::new(),
        }
    }
}

/// What all four specs have in common; [`Intent`]'s operations are written over it.
pub trait Spec:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Which kind this is the spec of.
    const KIND: Kind;

    /// What the agent chooses for an object and keeps as long as the object lives.
    type Allocation: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync;

    /// This kind's objects in an intent.
    fn objects(intent: &Intent) -> &Objects<Self>;

    /// The same, to change.
    fn objects_mut(intent: &mut Intent) -> &mut Objects<Self>;

    /// What an object with this spec is found by ([`Objects::find`]): the numbers that it has, and
    /// those that it refers to.
    fn found_by(&self) -> Vec<By>;

    /// Rules that need the other objects: references exist, numbers are free.
    ///
    /// # Errors
    /// The first rule broken.
    fn check(&self, id: &Id, intent: &Intent) -> Result<(), RuleError>;

    /// The objects that refer to `id`; while there is one, `id` cannot be deleted.
    fn referrers(id: &Id, intent: &Intent) -> Vec<ObjectKey>;

    /// Chooses what the kernel needs, keeping what `previous` has.
    ///
    /// # Errors
    /// [`RuleError::Exhausted`] when a range has no free number.
    fn allocate(
        &self,
        id: &Id,
        intent: &Intent,
        rules: &AllocationRules,
        previous: Option<&Self::Allocation>,
    ) -> Result<Self::Allocation, RuleError>;

    /// The key of the object `id` of this kind.
    #[must_use]
    fn key(id: &Id) -> ObjectKey {
        ObjectKey::new(Self::KIND, id.clone())
    }
}

macro_rules! nothing_allocated {
    () => {
        type Allocation = ();

        fn allocate(
            &self,
            _: &Id,
            _: &Intent,
            _: &AllocationRules,
            _: Option<&()>,
        ) -> Result<(), RuleError> {
            Ok(())
        }
    };
}

macro_rules! stored_in {
    ($field:ident) => {
        fn objects(intent: &Intent) -> &Objects<Self> {
            &intent.$field
        }

        fn objects_mut(intent: &mut Intent) -> &mut Objects<Self> {
            &mut intent.$field
        }
    };
}

impl Spec for VrfSpec {
    const KIND: Kind = Kind::Vrf;
    type Allocation = VrfAllocation;
    stored_in!(vrfs);

    fn found_by(&self) -> Vec<By> {
        self.vni.map(By::Vni).into_iter().collect()
    }

    fn check(&self, id: &Id, intent: &Intent) -> Result<(), RuleError> {
        rules::check_vni_unique(self.vni, &Self::key(id), intent)
    }

    fn referrers(id: &Id, intent: &Intent) -> Vec<ObjectKey> {
        let svis = intent.svis.find(&By::Vrf(id.clone()));
        svis.map(|svi| svi.key()).collect()
    }

    fn allocate(
        &self,
        id: &Id,
        intent: &Intent,
        rules: &AllocationRules,
        previous: Option<&VrfAllocation>,
    ) -> Result<VrfAllocation, RuleError> {
        alloc::vrf(id, intent, rules, previous)
    }
}

impl Spec for LogicalBridgeSpec {
    const KIND: Kind = Kind::LogicalBridge;
    stored_in!(logical_bridges);
    nothing_allocated!();

    fn found_by(&self) -> Vec<By> {
        let vni = self.vni.map(By::Vni);
        [By::Vlan(self.vlan)].into_iter().chain(vni).collect()
    }

    fn check(&self, id: &Id, intent: &Intent) -> Result<(), RuleError> {
        rules::check_vlan_unique(self.vlan, id, intent)?;
        rules::check_vni_unique(self.vni, &Self::key(id), intent)
    }

    fn referrers(id: &Id, intent: &Intent) -> Vec<ObjectKey> {
        let by = By::LogicalBridge(id.clone());
        let ports = intent.bridge_ports.find(&by).map(|port| port.key());
        let svis = intent.svis.find(&by).map(|svi| svi.key());
        ports.chain(svis).collect()
    }
}

impl Spec for BridgePortSpec {
    const KIND: Kind = Kind::BridgePort;
    stored_in!(bridge_ports);
    nothing_allocated!();

    fn found_by(&self) -> Vec<By> {
        let named = self.mode.named().into_iter().cloned();
        let named = named.map(By::LogicalBridge);
        [By::Mac(self.mac)].into_iter().chain(named).collect()
    }

    fn check(&self, id: &Id, intent: &Intent) -> Result<(), RuleError> {
        for logical_bridge in self.mode.named() {
            rules::check_exists::<LogicalBridgeSpec>(
                "spec.logical_bridges",
                logical_bridge,
                intent,
            )?;
        }
        rules::check_mac_unique(self, id, intent)
    }

    fn referrers(_: &Id, _: &Intent) -> Vec<ObjectKey> {
        Vec::new()
    }
}

impl Spec for SviSpec {
    const KIND: Kind = Kind::Svi;
    stored_in!(svis);
    nothing_allocated!();

    fn found_by(&self) -> Vec<By> {
        let bridge = By::LogicalBridge(self.logical_bridge.clone());
        vec![bridge, By::Vrf(self.vrf.clone())]
    }

    fn check(&self, id: &Id, intent: &Intent) -> Result<(), RuleError> {
        rules::check_exists::<VrfSpec>("spec.vrf", &self.vrf, intent)?;
        rules::check_exists::<LogicalBridgeSpec>(
            "spec.logical_bridge",
            &self.logical_bridge,
            intent,
        )?;
        rules::check_only_svi(self, id, intent)?;
        rules::check_gateways_disjoint(self, id, intent)
    }

    fn referrers(_: &Id, _: &Intent) -> Vec<ObjectKey> {
        Vec::new()
    }
}
