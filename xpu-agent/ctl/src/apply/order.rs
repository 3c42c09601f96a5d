//! In which order changes are possible. An object is made before those that refer to it, and
//! removed after them. A change that gives a value up goes before one that takes it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{Kind, ObjectKey};

use super::plan::{Change, Obstacle};
use super::values::contested;
use crate::live::{Live, Objects};
use crate::manifest::Spec;

/// Changes in order.
#[derive(Debug, Default, PartialEq)]
pub struct Ordered {
    /// Each is possible once those before it are done.
    pub changes: Vec<Change>,
    /// By object: those being deleted whose value its change takes. They hold it until they are
    /// gone, which may be later than Delete's answer.
    pub needs_gone: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// There is no such order.
    pub obstacle: Option<Obstacle>,
}

/// For which changes one has to wait, by their index, and why.
type Waits = BTreeMap<usize, Why>;

/// Why a change has to wait.
#[derive(Clone, Debug, PartialEq)]
enum Why {
    /// It refers to an object that is to be made.
    Made,
    /// It removes an object that is still referred to.
    Released,
    /// It takes a value that another has.
    Freed(String),
}

/// Brings changes to `live` into an order in which each is valid when its turn comes, if they are
/// valid all together. There is none where changes wait for each other in a cycle, since no wait
/// can be left out.
pub fn order(changes: Vec<Change>, live: &Objects) -> Ordered {
    let waits = waits(&changes, live);
    let mut todo: BTreeSet<(u8, usize)> = (0..)
        .zip(&changes)
        .map(|(place, change)| (rank(change), place))
        .collect();
    let (mut done, mut places) = (BTreeSet::new(), Vec::new());
    let ready = |todo: &BTreeSet<(u8, usize)>, done: &BTreeSet<usize>| {
        let free = |(_, place): &&(u8, usize)| {
            let waits = waits.get(*place).into_iter().flat_map(Waits::keys);
            waits.copied().all(|other| done.contains(&other))
        };
        todo.iter().find(free).copied()
    };
    while let Some(next) = ready(&todo, &done) {
        todo.remove(&next);
        done.insert(next.1);
        places.push(next.1);
    }
    let obstacle = cycle(&todo, &waits, &changes);
    places.extend(todo.into_iter().map(|(_, place)| place));
    let needs_gone = needs_gone(&changes, &waits, live);
    let mut changes: BTreeMap<usize, Change> = (0..).zip(changes).collect();
    let changes = places.iter().filter_map(|place| changes.remove(place));
    Ordered {
        changes: changes.collect(),
        needs_gone,
        obstacle,
    }
}

/// Which goes first of the changes that are possible: what makes room before what takes it, and an
/// object before those that refer to it.
const fn rank(change: &Change) -> u8 {
    let refers = matches!(change.key().kind, Kind::Svi | Kind::BridgePort);
    match (change, refers) {
        (Change::Delete(_), true) => 0,
        (Change::Delete(_), false) => 1,
        (_, false) => 2,
        (_, true) => 3,
    }
}

/// The spec that a change leaves behind.
const fn after(change: &Change) -> Option<&Spec> {
    match change {
        Change::Create(wanted) | Change::Update(wanted, _) => Some(&wanted.spec),
        Change::Delete(_) => None,
    }
}

/// For which others each change waits.
fn waits(changes: &[Change], live: &Objects) -> Vec<Waits> {
    let places = |is: fn(&Change) -> bool| -> BTreeMap<&ObjectKey, usize> {
        let all = (0..).zip(changes).filter(|(_, change)| is(change));
        all.map(|(place, change)| (change.key(), place)).collect()
    };
    let made = places(|change| matches!(change, Change::Create(_)));
    let removed = places(|change| matches!(change, Change::Delete(_)));
    let givers: Vec<(usize, &Spec, Option<&Spec>)> = (0..)
        .zip(changes)
        .filter_map(|(place, change)| Some((place, &live.get(change.key())?.spec, after(change))))
        .collect();
    let mut waits = vec![Waits::new(); changes.len()];
    let mut wait = |who: usize, other: usize, why: Why| {
        if let Some(waits) = waits.get_mut(who) {
            waits.entry(other).or_insert(why);
        }
    };
    for (place, change) in (0..).zip(changes) {
        let wanted = after(change).map(Spec::references).unwrap_or_default();
        for key in &wanted {
            if let Some(other) = made.get(key) {
                wait(place, *other, Why::Made);
            }
        }
        // An object that is being deleted keeps nothing that it refers to from being deleted.
        let staying = live.get(change.key()).filter(|live| !live.is_going());
        let held = staying.map(|live| live.spec.references());
        for key in held.iter().flatten().filter(|key| !wanted.contains(key)) {
            if let Some(other) = removed.get(key) {
                wait(*other, place, Why::Released);
            }
        }
        let Some(wanted) = after(change) else {
            continue;
        };
        for (other, before, kept) in givers.iter().filter(|(other, ..)| *other != place) {
            if let Some(value) = freed(wanted, before, *kept) {
                wait(place, *other, Why::Freed(value));
            }
        }
    }
    waits
}

/// The value that is wanted, that another object has `before` its change, and that is not `kept`
/// by it. A value that both are to have in the end is given up by neither: the agent refuses one of
/// them.
fn freed(wanted: &Spec, before: &Spec, kept: Option<&Spec>) -> Option<String> {
    let value = contested(before, wanted)?;
    let kept = kept.and_then(|kept| contested(kept, wanted));
    kept.is_none().then_some(value)
}

/// By changed object: which objects must be gone first, of those that the plan deletes and of those
/// that are being deleted already.
fn needs_gone(
    changes: &[Change],
    waits: &[Waits],
    live: &Objects,
) -> BTreeMap<ObjectKey, BTreeSet<ObjectKey>> {
    let changed: BTreeSet<_> = changes.iter().map(Change::key).collect();
    let going: Vec<(&ObjectKey, &Live)> = live
        .iter()
        .filter(|(key, live)| live.is_going() && !changed.contains(key))
        .collect();
    let mut needed = BTreeMap::new();
    for (change, waits) in changes.iter().zip(waits) {
        let Some(wanted) = after(change) else {
            continue;
        };
        let deleted = waits
            .iter()
            .filter_map(|(place, why)| match (changes.get(*place)?, why) {
                (Change::Delete(key), Why::Freed(_)) => Some(key),
                _ => None,
            });
        let going = going
            .iter()
            .filter(|(_, live)| contested(&live.spec, wanted).is_some())
            .map(|(key, _)| *key);
        let keys: BTreeSet<_> = deleted.chain(going).cloned().collect();
        if !keys.is_empty() {
            needed.insert(change.key().clone(), keys);
        }
    }
    needed
}

/// Changes that wait for each other, if any are left over, in words.
fn cycle(todo: &BTreeSet<(u8, usize)>, waits: &[Waits], changes: &[Change]) -> Option<Obstacle> {
    let left: BTreeSet<usize> = todo.iter().map(|(_, place)| *place).collect();
    let mut path: Vec<usize> = Vec::new();
    let mut next = todo.first().map(|(_, place)| *place)?;
    // Each of them waits for one of them.
    while !path.contains(&next) {
        path.push(next);
        let mut others = waits.get(next)?.keys();
        next = *others.find(|other| left.contains(other))?;
    }
    let round = path.iter().skip_while(|place| **place != next);
    let sentences = round.filter_map(|place| {
        let (other, why) = waits
            .get(*place)?
            .iter()
            .find(|(it, _)| left.contains(it))?;
        let (who, whom) = (changes.get(*place)?.key(), changes.get(*other)?.key());
        Some(match why {
            Why::Made => format!("{who} refers to {whom}, which is to be made"),
            Why::Released => format!("{who} is deleted when {whom} does not refer to it"),
            Why::Freed(value) => format!("{who} takes {value} from {whom}"),
        })
    });
    Some(Obstacle::Cycle(sentences.collect()))
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
