//! What `apply` would do: a pure comparison of the manifests with what the agent has.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::shown::listed;
use xpu_model::{Kind, ObjectKey};

use crate::live::{self, Live, Objects};
use crate::manifest::{self, FieldChange, Manifest};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make an object.
    Create(Manifest),
    /// Change some of an object's fields.
    Update(Manifest, Vec<FieldChange>),
    /// Remove an object that no manifest has.
    Delete(ObjectKey),
}

impl Change {
    /// The object.
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::Create(wanted) | Self::Update(wanted, _) => &wanted.key,
            Self::Delete(key) => key,
        }
    }
}

/// What to do, in order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Each is possible once those before it are done.
    pub changes: Vec<Change>,
    /// Objects that are as wanted.
    pub unchanged: usize,
    /// Why they can't be made, if they can't.
    pub obstacle: Option<Obstacle>,
}

/// Why changes can't be made, whatever the agent says of each.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Obstacle {
    /// These are not there, and their ids are such as only an agent gives.
    #[error(
        "{} can't be made: an agent takes no id that an agent made; nothing was changed",
        listed(_0)
    )]
    AgentsIds(Vec<ObjectKey>),
}

impl Obstacle {
    /// What to do.
    pub const fn next(&self) -> &'static str {
        match self {
            Self::AgentsIds(_) => {
                "`xpuctl export --rename`, at the agent that has them, writes manifests with \
                 other ids; or change the ids here, and in who refers to them"
            }
        }
    }
}

impl Plan {
    /// How many objects are made, changed and removed.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Change) -> bool| self.changes.iter().filter(|it| is(it)).count();
        (
            count(|it| matches!(it, Change::Create(_))),
            count(|it| matches!(it, Change::Update(..))),
            count(|it| matches!(it, Change::Delete(_))),
        )
    }
}

/// Compares. `live` has all objects of the manifests' kinds. Of the kinds in `prune` what no
/// manifest has is to go, except ports of pods; `live` then has the objects of every kind.
pub fn plan(
    wanted: &BTreeMap<ObjectKey, Manifest>,
    live: &Objects,
    prune: &BTreeSet<Kind>,
) -> Plan {
    let staying = |key: &ObjectKey| live.get(key).filter(|live| !live.is_going());
    let mut plan = Plan::default();
    let mut changes = Vec::new();
    for manifest in wanted.values() {
        match staying(&manifest.key) {
            None => changes.push(Change::Create(manifest.clone())),
            Some(there) => {
                let fields = manifest::differences(&there.spec, &manifest.spec);
                if fields.is_empty() {
                    plan.unchanged += 1;
                } else {
                    changes.push(Change::Update(manifest.clone(), fields));
                }
            }
        }
    }
    let unwanted = live.iter().filter(|(key, live)| {
        prune.contains(&key.kind)
            && !wanted.contains_key(key)
            && !live.is_going()
            && !live::is_pods(key)
    });
    changes.extend(unwanted.map(|(key, _)| Change::Delete(key.clone())));
    let held = held(&changes, live);
    changes.sort_by_key(|change| rank(change, &held));
    plan.obstacle = agents_ids(&changes);
    plan.changes = changes;
    plan
}

fn agents_ids(changes: &[Change]) -> Option<Obstacle> {
    let made = changes.iter().filter_map(|change| match change {
        Change::Create(wanted) => Some(&wanted.key),
        Change::Update(..) | Change::Delete(_) => None,
    });
    let agents: Vec<_> = made
        .filter(|key| live::has_agents_id(key))
        .cloned()
        .collect();
    (!agents.is_empty()).then_some(Obstacle::AgentsIds(agents))
}

/// What still refers to something, as far as the agent's objects tell, after the first
/// deletions: a network in use goes after those who use it have been changed.
fn held(changes: &[Change], live: &Objects) -> BTreeSet<ObjectKey> {
    let going: BTreeSet<_> = changes
        .iter()
        .filter(|change| matches!(change, Change::Delete(_)))
        .map(Change::key)
        .collect();
    let stays = |(key, _): &(&ObjectKey, &Live)| !going.contains(key);
    live.iter()
        .filter(stays)
        .flat_map(|(_, live)| live.spec.references())
        .collect()
}

/// Who refers to nothing is made first and removed last; but what nobody uses any more goes
/// before anything is made, for its VLAN, VNI or addresses may be wanted again.
fn rank(change: &Change, held: &BTreeSet<ObjectKey>) -> u8 {
    let key = change.key();
    let refers = matches!(key.kind, Kind::Svi | Kind::BridgePort);
    match change {
        Change::Delete(_) if refers => 0,
        Change::Delete(_) if !held.contains(key) => 1,
        Change::Create(_) | Change::Update(..) if !refers => 2,
        Change::Create(_) | Change::Update(..) => 3,
        Change::Delete(_) => 4,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
