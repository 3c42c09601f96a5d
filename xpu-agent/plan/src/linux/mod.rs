//! The Linux planner: what the intent is in bridges, VXLAN, VRFs and addresses, and what is left
//! to do for it.
//!
//! The steps: [`Observed`] is what the kernel has; `desired` says what it should have, and which
//! objects have to wait or are not available ([`Hold`]); `diff` compares the two and puts the
//! difference into an order in which every action finds what it needs; [`report()`] says per
//! object how far the kernel got, by asking what a next pass would still do.
//!
//! Foreign devices, addresses and routes are in [`Observed`] so that collisions can be told, and
//! never in a plan: [`crate::ownership`].

mod action;
mod desired;
mod diff;
mod hold;
pub mod link;
pub mod observed;
pub mod range;
mod report;
pub mod vxlan_port;

use std::collections::BTreeMap;

use xpu_model::{Intent, Node};

pub use action::{Action, NewLink, Outcome, Step};
pub use hold::{Hold, NodeUse};
pub use link::{Family, LinkKind, Setting};
pub use observed::{FdbEntry, Link, Observed, Probes, UnreachableDefault};
pub use range::{VlanRange, VniRange};
pub use report::{repaired, report};

use crate::{facts::FrrFacts, ownership::Mark};

/// What the planner works from, beside what it observes.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What users asked for.
    pub intent: &'a Intent,
    /// The node's settings.
    pub node: &'a Node,
    /// What FRR has been told.
    pub frr: &'a FrrFacts,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinuxPlan {
    /// In the order to be applied: removals first, dependants before what they depend on, then
    /// additions the other way round.
    pub steps: Vec<Step>,
    /// What is held back, and why.
    pub holds: BTreeMap<Mark, Hold>,
}

impl LinuxPlan {
    /// Whether the kernel is as far as it can be brought now.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether FRR, which reads devices, addresses and VNIs from the kernel, has news of it: of
    /// the netdevs behind BridgePorts it wants to know nothing.
    #[must_use]
    pub fn is_news_to_frr(&self) -> bool {
        !self.steps.iter().all(Step::is_only_for_bridge_ports)
    }

    /// How many actions it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.steps.len()
    }
}

/// Plans the way from what is observed to what is wanted.
#[must_use]
pub fn plan(inputs: &Inputs<'_>, observed: &Observed) -> LinuxPlan {
    let desired = desired::Desired::new(inputs, observed);
    let steps = diff::steps(inputs, &desired, observed);
    LinuxPlan {
        steps,
        holds: desired.holds,
    }
}

/// Plans the removal of all that is ours, whatever the intent: devices, ports, routes, entries and
/// rules, so that the kernel's own are in its order again. That the node forwards stays, since others may have
/// come to count on it.
#[must_use]
pub fn purge(inputs: &Inputs<'_>, observed: &Observed) -> LinuxPlan {
    let mut steps = diff::removals(inputs, &desired::Desired::default(), observed);
    let ordered = observed.own_rules.iter();
    steps.extend(ordered.map(|family| Step::new(Action::PutLocalFirst(*family), Mark::Node)));
    LinuxPlan {
        steps,
        holds: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests;
