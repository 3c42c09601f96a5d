//! The difference between what is wanted and what is there, as ordered steps.
//!
//! Four parts, in this order: a new sentinel before the old one can go; removals; then, over
//! what the removals leave, additions and changes. Every part goes through the phases in the
//! order of dependency, over all objects at once, so that whoever applies it can send long
//! batches.

mod account;
mod add;
mod remaining;
mod remove;

use std::collections::BTreeSet;

use xpu_model::IfName;

use super::{Action, Inputs, Observed, Step, desired::Desired, range::Range};
use crate::ownership::Mark;
use account::Accounts;

/// The steps from `observed` to `desired`.
pub(super) fn steps(inputs: &Inputs<'_>, desired: &Desired, observed: &Observed) -> Vec<Step> {
    let gone = remaining::gone(desired, observed);
    let mut remaining = remaining::after_removals(desired, observed, &gone);
    let accounts = Accounts::new(inputs, desired);
    let mut steps = add::sentinels(desired, &mut remaining);
    steps.extend(remove::steps(
        desired, observed, &remaining, &gone, &accounts,
    ));
    steps.extend(add::steps(desired, &remaining));
    steps
}

/// Only what has to go.
pub(super) fn removals(inputs: &Inputs<'_>, desired: &Desired, observed: &Observed) -> Vec<Step> {
    let gone = remaining::gone(desired, observed);
    let remaining = remaining::after_removals(desired, observed, &gone);
    let accounts = Accounts::new(inputs, desired);
    remove::steps(desired, observed, &remaining, &gone, &accounts)
}

/// Devices that will not outlive the removals.
type Gone = BTreeSet<IfName>;

/// A step for everyone who has a number in a run.
fn shared<T>(
    (range, owners): (Range<T>, Vec<BTreeSet<Mark>>),
    action: impl FnOnce(Range<T>) -> Action,
) -> Step {
    Step {
        action: action(range),
        owners: owners.into_iter().flatten().collect(),
    }
}
