//! The FRR planner: which lines zebra and bgpd should have, and the commands that lead there.
//!
//! What is ours: in the contexts named after the devices of our Vrfs (tombstones included), the
//! lines that [`desired`] can write, and the context itself once nothing else is in it; in the base
//! BGP instance the lines that this agent put there, which it keeps account of ([`made`]), since an
//! operator may have written the same. Everything else in FRR is somebody's and stays, and so does
//! what an FRR that has just started has not loaded yet. Where a foreign device already has a Vrf's
//! device name, nothing is configured in FRR for that Vrf: the contexts of that name are about the
//! other's VRF.
//!
//! FRR must know `vrf X` / `vni N` before the L3VNI's devices appear (FRR issues 17342, 19756):
//! [`facts`] tells the Linux planner, and of what FRR still has, so that those devices stay as
//! long. A VNI is changed in two passes: first `no vni`, then, once FRR has let go, the new one
//! (FRR issues 5791, 21756). One that another Vrf had is told once zebra and bgpd have let go of it,
//! and Linux has taken that Vrf's devices down, as zebra shows. Neither waits for the other there:
//! `no vni` waits for nothing, and Linux keeps only what FRR holds and what is the Vrf's own.
//!
//! A `vni` that mgmtd has and zebra has not got ([`Observed::lost_vni`]) is told anew in the same
//! way, once two passes in a row saw it ([`Inputs::lost`]) and while no device of it is there.
//! Until zebra has it the facts do not say that FRR was told, so that none is made.

mod base_instance;
pub mod config;
mod desired;
mod diff;
mod line;
pub mod observed;
mod report;
pub mod startup;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use xpu_model::{Asn, IfName, Intent, Node, Object, ObjectKey, VrfSpec};

pub use base_instance::made;
pub use config::Config;
pub use diff::plan;
pub use line::{Daemon, Line};
pub use observed::{Observed, Version};
pub use report::{LEAST as LEAST_VERSION, repaired, report, unmanaged};

use crate::{FrrFacts, VrfInFrr, ownership};
use observed::L2Vni;

/// What the planner works from, beside what it observes.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What users asked for.
    pub intent: &'a Intent,
    /// The node's settings.
    pub node: &'a Node,
    /// The devices in the kernel that are not ours, as Linux observed them.
    pub foreign: &'a BTreeSet<IfName>,
    /// The lines of the base BGP instance that this agent put there: what [`made`] gave last.
    pub made: &'a BTreeSet<Line>,
    /// The AS of the base instance in FRR's startup configuration. An FRR that has just started
    /// answers before it has loaded that.
    pub saved_asn: Option<Asn>,
    /// The devices of the Vrfs whose L3VNI was lost already when the last pass ended: what [`lost`]
    /// gave then, of an FRR that had had the time to load its configuration.
    pub lost: &'a BTreeSet<IfName>,
}

impl Inputs<'_> {
    /// Whether the Vrf's name in FRR stands for somebody else's VRF.
    fn is_foreign(&self, vrf: &Object<VrfSpec>) -> bool {
        self.foreign.contains(&vrf.allocation.device)
    }

    /// This node's AS: that of the base instance which is there, else the configured one, unless
    /// FRR is about to load another. FRR cannot change an instance's AS, and a Vrf's is to have the
    /// base's.
    fn asn(&self, observed: &Observed) -> Option<Asn> {
        let configured = self.node.bgp.as_ref().map(|bgp| bgp.asn);
        let free = configured.filter(|_| self.unloaded_asn(observed).is_none());
        observed.base_asn().or(free)
    }

    /// The AS of a base instance that is there, or about to be, in the configured one's place, and
    /// stays: without `no router bgp` on every Vrf's instance and then on the base, which drops all
    /// sessions and routes and which FRR refuses while it knows of an L3VNI, there can't be
    /// another.
    fn other_asn(&self, observed: &Observed) -> Option<Asn> {
        let configured = self.node.bgp.as_ref()?.asn;
        let running = observed.base_asn().filter(|asn| *asn != configured);
        running.or_else(|| self.unloaded_asn(observed))
    }

    /// The AS of a base instance that FRR's startup configuration has in the configured one's
    /// place and FRR has not loaded yet: an instance made meanwhile would keep it out.
    fn unloaded_asn(&self, observed: &Observed) -> Option<Asn> {
        let configured = self.node.bgp.as_ref()?.asn;
        let saved = self.saved_asn.filter(|asn| *asn != configured);
        saved.filter(|_| observed.base_asn().is_none())
    }

    /// The node's VTEP, with those in use as zebra found them.
    fn vtep(&self, observed: &Observed) -> Option<IpAddr> {
        let ours = |l2: &&L2Vni| l2.vxlan.as_deref() == Some(ownership::L2_VXLAN);
        let l2vnis = observed.l2vnis.values().filter(ours);
        self.intent
            .vtep(self.node.vtep, l2vnis.filter_map(|l2| l2.vtep))
    }

    fn router_id(&self, observed: &Observed) -> Option<Ipv4Addr> {
        self.node
            .bgp
            .as_ref()
            .map(|bgp| bgp.router_id)
            .or_else(|| observed.base_router_id())
    }
}

/// One command, with the contexts to enter before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The line added or taken away.
    pub line: Line,
    /// False: `no` goes before it.
    pub add: bool,
}

impl Command {
    /// The command's own text: the line, with or without `no`.
    #[must_use]
    pub fn text(&self) -> String {
        if self.add {
            return self.line.text.clone();
        }
        match self.line.text.strip_prefix("no ") {
            Some(positive) => positive.to_owned(),
            None => format!("no {}", self.line.text),
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrrPlan {
    /// The commands.
    pub commands: Vec<Command>,
}

impl FrrPlan {
    /// Whether FRR is as far as it can be brought now.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// How many commands it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.commands.len()
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command.
    pub command: Command,
    /// FRR's words, if it refused.
    pub result: Result<(), String>,
}

/// The objects that FRR has a part in: Vrfs and LogicalBridges with a VNI, Svis with BGP. Deleted
/// Vrfs are among them in any case: an Svi's BGP, or a VNI since taken away, may have left an
/// instance.
#[must_use]
pub fn concerned(intent: &Intent) -> Vec<ObjectKey> {
    let vrfs = intent
        .vrfs
        .values()
        .filter(|it| it.spec.vni.is_some() || it.deleting)
        .map(|it| it.key());
    let bridges = intent
        .logical_bridges
        .values()
        .filter(|it| it.spec.vni.is_some());
    let svis = intent
        .svis
        .values()
        .filter(|it| it.spec.bgp.is_some())
        .map(|it| it.key());
    vrfs.chain(bridges.map(|it| it.key())).chain(svis).collect()
}

/// What the Linux planner has to know of FRR: of deleted Vrfs too, whose devices stay until FRR has
/// let go of them.
#[must_use]
pub fn facts(inputs: &Inputs<'_>, observed: &Observed) -> FrrFacts {
    let vrfs = inputs.intent.vrfs.values();
    let ours = vrfs.filter(|vrf| !inputs.is_foreign(vrf));
    let instances = diff::instances_of_ours(observed);
    let known = ours.filter_map(|vrf| {
        let device = &vrf.allocation.device;
        let configured = observed.configured_vni(device);
        let of_vrf = VrfInFrr {
            told: configured.filter(|_| observed.lost_vni(device).is_none()),
            holds: configured.or_else(|| diff::held_vni(vrf, inputs, observed)),
            instance: instances.contains(vrf.allocation.device.as_str()),
        };
        (of_vrf != VrfInFrr::default()).then(|| (vrf.id.clone(), of_vrf))
    });
    FrrFacts::Known {
        vrfs: known.collect(),
    }
}

/// The devices of the live Vrfs whose L3VNI is lost between mgmtd and zebra, or on its way still.
#[must_use]
pub fn lost(inputs: &Inputs<'_>, observed: &Observed) -> BTreeSet<IfName> {
    let vrfs = inputs.intent.live::<VrfSpec>();
    let devices = vrfs.map(|vrf| &vrf.allocation.device);
    let lost = devices.filter(|device| observed.lost_vni(device).is_some());
    lost.cloned().collect()
}

#[cfg(test)]
mod tests;
