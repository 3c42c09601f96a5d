//! The objects of one kind, by id and by what they have.
//!
//! A value of its own: a clone costs nothing and shares what it can, so that each commit makes a
//! new one and whoever reads has the one before. Nothing here takes longer because there are more
//! objects, but what walks over all of them.

use std::{fmt, ops::Bound, ops::Index, sync::Arc};

use imbl::{
    OrdMap, OrdSet,
    ordmap::{DiffItem, Entry},
};

use crate::{
    intent::Object,
    mac::Mac,
    name::Id,
    number::{VlanId, Vni},
    spec::Spec,
};

/// What objects are looked for by, beside their ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The VLAN that a LogicalBridge has.
    Vlan(VlanId),
    /// The VNI that a LogicalBridge or a Vrf has.
    Vni(Vni),
    /// The MAC of a BridgePort's VF.
    Mac(Mac),
    /// The LogicalBridge that a BridgePort or an Svi names.
    LogicalBridge(Id),
    /// The Vrf that an Svi names.
    Vrf(Id),
}

/// The objects of one kind, tombstones included.
#[derive(Clone, PartialEq)]
pub struct Objects<S: Spec> {
    by_id: OrdMap<Id, Arc<Object<S>>>,
    /// The ids of those that have it ([`Spec::found_by`]).
    index: OrdMap<By, OrdSet<Id>>,
    tombstones: OrdSet<Id>,
}

impl<S: Spec> Objects<S> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&Arc<Object<S>>> {
        self.by_id.get(id)
    }

    /// All, by id.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Object<S>>> {
        self.by_id.values()
    }

    /// All ids, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Id> {
        self.by_id.keys()
    }

    /// Those whose ids come after this one, by id; all where there is none.
    pub fn after(&self, id: Option<&Id>) -> impl Iterator<Item = &Arc<Object<S>>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.by_id.range::<_, Id>((from, Bound::Unbounded));
        range.map(|(_, object)| object)
    }

    /// Those that have it, tombstones included, by id.
    pub fn find<'a>(&'a self, by: &By) -> impl Iterator<Item = &'a Arc<Object<S>>> + use<'a, S> {
        let ids = self.index.get(by).into_iter().flatten();
        ids.filter_map(|id| self.get(id))
    }

    /// Those that are deleted and not gone yet, by id.
    pub fn tombstones(&self) -> impl Iterator<Item = &Arc<Object<S>>> {
        self.tombstones.iter().filter_map(|id| self.get(id))
    }

    /// What differs between these and `next`; what both share is not looked at.
    pub fn differences<'a>(&'a self, next: &'a Self) -> impl Iterator<Item = Difference<'a, S>> {
        self.by_id.diff(&next.by_id).map(|item| match item {
            DiffItem::Add(_, object) => Difference::Written(object),
            DiffItem::Update {
                new: (_, object), ..
            } => Difference::Written(object),
            DiffItem::Remove(_, object) => Difference::Forgotten(object),
        })
    }

    /// Puts an object in, in place of one that is there.
    pub(crate) fn insert(&mut self, object: Object<S>) {
        let (id, object) = (object.id.clone(), Arc::new(object));
        if object.deleting {
            self.tombstones.insert(id.clone());
        } else {
            self.tombstones.remove(&id);
        }
        let before = self.by_id.insert(id, object.clone());
        if before.as_ref().is_none_or(|it| it.spec != object.spec) {
            if let Some(before) = before {
                self.unlist(&before);
            }
            self.list(&object);
        }
    }

    /// Takes an object out, if it is there.
    pub(crate) fn remove(&mut self, id: &Id) {
        if let Some(object) = self.by_id.remove(id) {
            self.tombstones.remove(id);
            self.unlist(&object);
        }
    }

    fn list(&mut self, object: &Object<S>) {
        for by in object.spec.found_by() {
            self.index.entry(by).or_default().insert(object.id.clone());
        }
    }

    fn unlist(&mut self, object: &Object<S>) {
        for by in object.spec.found_by() {
            if let Entry::Occupied(mut ids) = self.index.entry(by) {
                ids.get_mut().remove(&object.id);
                if ids.get().is_empty() {
                    ids.remove();
                }
            }
        }
    }
}

/// What became of an object between two states.
#[derive(Debug)]
pub enum Difference<'a, S: Spec> {
    /// It is new or another; as it is now.
    Written(&'a Arc<Object<S>>),
    /// It is gone; as it was.
    Forgotten(&'a Arc<Object<S>>),
}

impl<S: Spec> Default for Objects<S> {
    fn default() -> Self {
        Self {
            by_id: OrdMap::new(),
            index: OrdMap::new(),
            tombstones: OrdSet::new(),
        }
    }
}

impl<S: Spec> fmt::Debug for Objects<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.by_id).finish()
    }
}

impl<S: Spec> Index<&Id> for Objects<S> {
    type Output = Arc<Object<S>>;

    /// The one with this id.
    ///
    /// # Panics
    /// Where there is none.
    fn index(&self, id: &Id) -> &Self::Output {
        &self.by_id[id]
    }
}

impl<S: Spec> FromIterator<Object<S>> for Objects<S> {
    fn from_iter<I: IntoIterator<Item = Object<S>>>(objects: I) -> Self {
        let mut all = Self::default();
        for object in objects {
            all.insert(object);
        }
        all
    }
}
