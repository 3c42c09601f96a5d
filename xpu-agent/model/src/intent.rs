//! The intent: everything users asked of this node, as one value.
//!
//! The store clones the current intent, changes the clone by the methods here, makes it durable
//! and publishes it; backends read published snapshots.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    addr::IfAddr,
    alloc::AllocationRules,
    name::{Id, ObjectKey},
    objects::Objects,
    rules::RuleError,
    spec::{BridgePortSpec, LogicalBridgeSpec, Spec, SviSpec, VrfSpec},
};

/// The number of a commit. Grows by one with each change; never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

impl Generation {
    /// The commit after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One object as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Spec")]
pub struct Object<S: Spec> {
    /// Its id.
    pub id: Id,
    /// What the user asked for.
    pub spec: S,
    /// What the agent chose for it.
    pub allocation: S::Allocation,
    /// The commit that created it; 0 in records that do not say.
    #[serde(default)]
    pub created: Generation,
    /// The commit that last changed it.
    pub generation: Generation,
    /// Deleted by the user, kept until every backend reports it gone.
    pub deleting: bool,
}

impl<S: Spec> Object<S> {
    /// Kind and id.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        S::key(&self.id)
    }
}

/// Everything users asked of this node, and the commit it stands at.
///
/// Invariants (kept by the methods): every reference of a live object names a live object; all
/// rules of [`crate::rules`] hold between the live objects; tombstones keep holding their
/// numbers until collected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    /// The last commit.
    pub generation: Generation,
    /// The Vrfs, tombstones included.
    pub vrfs: Objects<VrfSpec>,
    /// The LogicalBridges, tombstones included.
    pub logical_bridges: Objects<LogicalBridgeSpec>,
    /// The BridgePorts, tombstones included.
    pub bridge_ports: Objects<BridgePortSpec>,
    /// The Svis, tombstones included.
    pub svis: Objects<SviSpec>,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object was written; it and the intent have a new generation.
    Changed,
    /// The intent already said so.
    Unchanged,
}

impl Intent {
    /// A live object.
    #[must_use]
    pub fn get<S: Spec>(&self, id: &Id) -> Option<&Arc<Object<S>>> {
        S::objects(self).get(id).filter(|object| !object.deleting)
    }

    /// The live objects of a kind, by id.
    pub fn live<S: Spec>(&self) -> impl Iterator<Item = &Arc<Object<S>>> {
        S::objects(self).values().filter(|object| !object.deleting)
    }

    /// The VTEPs that live objects with a VNI bring along, LogicalBridges' first.
    pub fn vteps(&self) -> impl Iterator<Item = IpAddr> {
        let bridges = self.live::<LogicalBridgeSpec>();
        let bridges = bridges.filter_map(|it| it.spec.vni.and(it.spec.vtep));
        let vrfs = self.live::<VrfSpec>();
        let vrfs = vrfs.filter_map(|it| it.spec.vni.and(it.spec.vtep));
        bridges.chain(vrfs).map(IfAddr::addr)
    }

    /// The one VTEP of a node: the configured one, else one that objects bring. Of several of those
    /// the one in use stays, so that an object that comes later takes nothing away. What each
    /// backend found `in_use` is the only thing in which they may differ.
    #[must_use]
    pub fn vtep(
        &self,
        configured: Option<IpAddr>,
        in_use: impl IntoIterator<Item = IpAddr>,
    ) -> Option<IpAddr> {
        if configured.is_some() {
            return configured;
        }
        let is_brought = |vtep: &IpAddr| self.vteps().any(|brought| brought == *vtep);
        let in_use = in_use.into_iter().find(is_brought);
        in_use.or_else(|| self.vteps().next())
    }

    /// The names of all objects, tombstones included.
    pub fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        let vrfs = self.vrfs.values().map(|object| object.key());
        let bridges = self.logical_bridges.values().map(|object| object.key());
        let ports = self.bridge_ports.values().map(|object| object.key());
        let svis = self.svis.values().map(|object| object.key());
        vrfs.chain(bridges).chain(ports).chain(svis)
    }

    /// Creates an object. The same id with the same spec is no change, so a retry is safe; a
    /// tombstone of that id comes to life again with the new spec.
    ///
    /// # Errors
    /// [`RuleError::AlreadyExists`] for another spec, or the rule broken. The intent is
    /// unchanged then.
    pub fn create<S: Spec>(
        &mut self,
        id: Id,
        spec: S,
        rules: &AllocationRules,
    ) -> Result<Outcome, RuleError> {
        match self.get::<S>(&id) {
            Some(existing) if existing.spec == spec => Ok(Outcome::Unchanged),
            Some(_) => Err(RuleError::AlreadyExists { key: S::key(&id) }),
            None => self.put(id, spec, rules),
        }
    }

    /// Replaces the spec of a live object.
    ///
    /// # Errors
    /// [`RuleError::NotFound`], or the rule broken. The intent is unchanged then.
    pub fn update<S: Spec>(
        &mut self,
        id: Id,
        spec: S,
        rules: &AllocationRules,
    ) -> Result<Outcome, RuleError> {
        match self.get::<S>(&id) {
            Some(existing) if existing.spec == spec => Ok(Outcome::Unchanged),
            Some(_) => self.put(id, spec, rules),
            None => Err(RuleError::NotFound { key: S::key(&id) }),
        }
    }

    /// Turns a live object into a tombstone.
    ///
    /// # Errors
    /// [`RuleError::NotFound`], or [`RuleError::Referenced`] while others refer to it.
    pub fn delete<S: Spec>(&mut self, id: &Id) -> Result<(), RuleError> {
        let key = S::key(id);
        let Some(object) = self.get::<S>(id) else {
            return Err(RuleError::NotFound { key });
        };
        let by: Vec<_> = S::referrers(id, self)
            .into_iter()
            .filter(|key| self.is_live(key))
            .collect();
        if !by.is_empty() {
            return Err(RuleError::Referenced { key, by });
        }
        let generation = self.generation.next();
        let tombstone = Object {
            deleting: true,
            generation,
            ..object.as_ref().clone()
        };
        self.insert(tombstone);
        Ok(())
    }

    /// The same intent with every object deleted. They stay as tombstones, so that what is there
    /// can still be known for theirs.
    #[must_use]
    pub fn all_deleted(&self) -> Self {
        fn deleted<S: Spec>(objects: &Objects<S>) -> Objects<S> {
            let tombstones = objects.values().map(|object| Object {
                deleting: true,
                ..object.as_ref().clone()
            });
            tombstones.collect()
        }
        Self {
            generation: self.generation,
            vrfs: deleted(&self.vrfs),
            logical_bridges: deleted(&self.logical_bridges),
            bridge_ports: deleted(&self.bridge_ports),
            svis: deleted(&self.svis),
        }
    }

    /// Forgets the tombstone made at `generation`, once every backend reports the object gone.
    /// Returns whether it did: it has to be that one still, and no other tombstone may refer to it,
    /// whose own remains are found by its numbers. The intent's generation does not change, since
    /// nothing is left to apply.
    pub fn collect<S: Spec>(&mut self, id: &Id, generation: Generation) -> bool {
        let dead = S::objects(self)
            .get(id)
            .is_some_and(|object| object.deleting && object.generation == generation);
        let forgotten = dead && S::referrers(id, self).is_empty();
        if forgotten {
            S::objects_mut(self).remove(id);
        }
        forgotten
    }

    /// Whether an object refers to another, tombstones included.
    #[must_use]
    pub fn is_referred_to(&self, key: &ObjectKey) -> bool {
        use crate::name::Kind;
        let referrers = match key.kind {
            Kind::Vrf => VrfSpec::referrers(&key.id, self),
            Kind::LogicalBridge => LogicalBridgeSpec::referrers(&key.id, self),
            Kind::BridgePort => BridgePortSpec::referrers(&key.id, self),
            Kind::Svi => SviSpec::referrers(&key.id, self),
        };
        !referrers.is_empty()
    }

    /// Puts back an object read from the store, as it was.
    pub fn restore<S: Spec>(&mut self, object: Object<S>) {
        self.generation = self.generation.max(object.generation);
        S::objects_mut(self).insert(object);
    }

    fn is_live(&self, key: &ObjectKey) -> bool {
        use crate::name::Kind;
        match key.kind {
            Kind::Vrf => self.get::<VrfSpec>(&key.id).is_some(),
            Kind::LogicalBridge => self.get::<LogicalBridgeSpec>(&key.id).is_some(),
            Kind::BridgePort => self.get::<BridgePortSpec>(&key.id).is_some(),
            Kind::Svi => self.get::<SviSpec>(&key.id).is_some(),
        }
    }

    fn put<S: Spec>(
        &mut self,
        id: Id,
        spec: S,
        rules: &AllocationRules,
    ) -> Result<Outcome, RuleError> {
        spec.check(&id, self)?;
        let previous = S::objects(self).get(&id);
        let created = previous.filter(|object| !object.deleting);
        let created = created.map(|object| object.created);
        let previous = previous.map(|object| object.allocation.clone());
        let allocation = spec.allocate(&id, self, rules, previous.as_ref())?;
        let generation = self.generation.next();
        self.insert(Object {
            id,
            spec,
            allocation,
            created: created.unwrap_or(generation),
            generation,
            deleting: false,
        });
        Ok(Outcome::Changed)
    }

    fn insert<S: Spec>(&mut self, object: Object<S>) {
        self.generation = object.generation;
        S::objects_mut(self).insert(object);
    }
}
