//! What `apply` would do: a pure comparison of the manifests with what the agent has.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::shown::listed;
use xpu_model::{Kind, ObjectKey};

use super::order::order;
use crate::live::{self, Objects};
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
    /// By object: those being deleted whose value its change takes.
    pub needs_gone: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Why the changes can't be made, if they can't.
    pub obstacle: Option<Obstacle>,
}

/// Why changes can't be made, whatever the agent says of each.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Obstacle {
    /// These are not there, and only an agent gives such ids.
    #[error(
        "{} can't be made: an agent takes no id that an agent made; nothing was changed",
        listed(_0)
    )]
    AgentsIds(Vec<ObjectKey>),
    /// Each can only be done after another: a sentence each.
    #[error("it can't be done at once: {}; nothing was changed", _0.join("; "))]
    Cycle(Vec<String>),
}

impl Obstacle {
    /// What to do.
    pub const fn next(&self) -> &'static str {
        match self {
            Self::AgentsIds(_) => {
                "`xpuctl export --rename`, at the agent that has them, writes manifests with \
                 other ids; or change the ids here, and in who refers to them"
            }
            Self::Cycle(_) => {
                "do it in two steps: first have one of them take a value that nobody has, or let \
                 go of it, then apply this"
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

/// Compares what is wanted with what is there. `live` has all objects of the manifests' kinds.
/// Objects of the kinds in `prune` that no manifest has are deleted, except pods' ports; `live`
/// then has the objects of every kind.
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
    let ordered = order(changes, live);
    plan.obstacle = agents_ids(&ordered.changes).or(ordered.obstacle);
    plan.needs_gone = ordered.needs_gone;
    plan.changes = ordered.changes;
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
