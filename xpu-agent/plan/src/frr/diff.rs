//! The way from the lines FRR has to those it should have.

use std::{cmp::Reverse, collections::BTreeSet};

use xpu_model::{IfName, Object, Vni, VrfSpec};

use super::{
    Command, FrrPlan, Inputs, base_instance,
    config::Config,
    desired::{Desired, distinguisher},
    line::{Daemon, Instance, Line, MADE_BY_US},
    observed::Observed,
};
use crate::ownership;

/// Plans the way from what is observed to what is wanted: removals, then additions, zebra
/// before bgpd in both.
#[must_use]
pub fn plan(inputs: &Inputs<'_>, observed: &Observed) -> FrrPlan {
    let desired = Desired::new(inputs, observed).lines;
    let mut removals = Vec::new();
    // The VRFs that FRR has to let go of a VNI for, and those VNIs.
    let mut leaving = BTreeSet::new();
    let mut given_up = BTreeSet::new();
    let vrfs = inputs.intent.vrfs.values();
    for vrf in vrfs.filter(|vrf| !inputs.is_foreign(vrf)) {
        let device = &vrf.allocation.device;
        let wanted_vni = (!vrf.deleting).then_some(vrf.spec.vni).flatten();
        let taken = observed
            .configured_vni(device)
            .filter(|vni| wanted_vni != Some(*vni) || is_to_be_retold(device, inputs, observed));
        match taken {
            Some(vni) => removals.push(Line::l3vni(device, vni)),
            None => removals.extend(stale(device, &desired, observed)),
        }
        if let Some(vni) = taken.or_else(|| held_vni(vrf, inputs, observed)) {
            leaving.insert(device.as_str());
            given_up.insert(vni);
        }
    }
    removals.extend(base_instance::stale(inputs, &desired, observed));
    let is_told_now = |line: &Line| match line.as_l3vni() {
        // FRR has to let go of a Vrf's old VNI before it hears of a new one. Nor does a Vrf take
        // what another gives up before that and the other's devices have gone.
        Some((device, vni)) => {
            !leaving.contains(device)
                && !given_up.contains(&vni)
                && !is_occupied(device, vni, inputs, observed)
        }
        // Contexts are entered on the way to their lines; alone they need no command.
        None => !line.is_context(),
    };
    let mut additions: Vec<_> = desired
        .iter()
        .filter(|line| !observed.config.lines.contains(line) && is_told_now(line))
        .collect();
    additions.sort_by_key(|line| rank(line));
    let removals = removals
        .into_iter()
        .map(|line| Command { line, add: false });
    let additions = additions.into_iter().cloned();
    let additions = additions.map(|line| Command { line, add: true });
    FrrPlan {
        commands: removals.chain(additions).collect(),
    }
}

/// Whether a Vrf's L3VNI is to be taken and told anew, because it never reached zebra. Not while a
/// device of it may be there: zebra can crash when it hears of an L3VNI behind that (FRR issues
/// 17342, 19756), and shows one that it finds as an L2VNI. Nor where zebra names the VRF or the VNI
/// in an answer that could not be read as a whole: taking the VNI would cut a Vrf off that works.
fn is_to_be_retold(device: &IfName, inputs: &Inputs<'_>, observed: &Observed) -> bool {
    let lost = observed.lost_vni(device);
    lost.is_some_and(|vni| {
        let is_unknown = observed.named.as_ref().is_some_and(|named| {
            !named.vrfs.contains(device.as_str()) && !named.vnis.contains(&vni)
        });
        inputs.lost.contains(device) && observed.is_evpn_on() && is_unknown
    })
}

/// Whether devices of another Vrf still have a VNI that it has given up: zebra takes them for those
/// of an L2VNI then, with the other Vrf for its tenant. They go without FRR's help: Linux keeps what
/// FRR holds, and a mapping that is the Vrf's own.
fn is_occupied(device: &str, vni: Vni, inputs: &Inputs<'_>, observed: &Observed) -> bool {
    let is_ours = !inputs.foreign.contains(&ownership::l3_vxlan());
    let found = observed
        .l2vnis
        .get(&vni)
        .filter(|l2| is_ours && l2.vxlan.as_deref() == Some(ownership::L3_VXLAN));
    let tenant = found.and_then(|l2| l2.vrf.as_deref());
    tenant.is_some_and(|tenant| tenant != device)
}

/// A VNI that FRR has been told to give up for a Vrf and still works with (FRR issues 5791, 21756:
/// a new one in its place would find the old one's state).
pub(super) fn held_vni(
    vrf: &Object<VrfSpec>,
    inputs: &Inputs<'_>,
    observed: &Observed,
) -> Option<Vni> {
    let device = &vrf.allocation.device;
    if observed.configured_vni(device).is_some() {
        return None;
    }
    let in_zebra = observed.l3vnis.get(device).map(|l3| l3.vni);
    // bgpd shows no VRF beside a VNI: its own is the one with the RD that it was given.
    let in_bgpd = || {
        let rd = distinguisher(vrf, inputs, observed)?;
        let mut vnis = observed.bgp_vnis.iter();
        let found = vnis.find(|(_, vni)| vni.is_l3 && vni.rd.as_ref() == Some(&rd));
        found.map(|(vni, _)| *vni)
    };
    let held = in_zebra.or_else(in_bgpd);
    held.filter(|held| vrf.deleting || vrf.spec.vni != Some(*held))
}

/// The devices of the VRFs that have a BGP instance which the agent made.
pub(super) fn instances_of_ours(observed: &Observed) -> BTreeSet<&str> {
    let instances = observed.config.outermost(Daemon::Bgpd);
    let of_vrfs = instances.filter_map(|header| {
        let device = Instance::read(header)?.vrf?;
        let mark = Line::new(Daemon::Bgpd, &[header], MADE_BY_US);
        observed.config.lines.contains(&mark).then_some(device)
    });
    of_vrfs.collect()
}

/// What stands in the contexts of one Vrf and should not.
fn stale(device: &IfName, desired: &BTreeSet<Line>, observed: &Observed) -> Vec<Line> {
    let config = &observed.config;
    let mut stale = Vec::new();
    if let Some(instance) = observed.bgp_instance(device) {
        let context = Line::new(Daemon::Bgpd, &[], instance);
        if desired.contains(&context) {
            let in_it = config.within(&context);
            let of_ours = in_it.filter(|line| is_of_our_shape(line) && !desired.contains(line));
            stale.extend(in_order_of_removal(of_ours));
        } else {
            stale.extend(stale_instance(context, config));
        }
    }
    // A VRF whose device is gone stays in zebra as configuration, until it is told otherwise.
    let context = Line::new(Daemon::Zebra, &[], format!("vrf {device}"));
    if observed.inactive_vrfs.contains(device)
        && config.lines.contains(&context)
        && !desired.contains(&context)
        && config.within(&context).next().is_none()
    {
        stale.push(context);
    }
    stale
}

/// What goes of an instance that should not be, if we made it: what an operator wrote into it
/// stays, and so does the context around that.
fn stale_instance(context: Line, config: &Config) -> Vec<Line> {
    let in_it: Vec<_> = config.within(&context).collect();
    if !in_it.iter().any(|line| line.text == MADE_BY_US) {
        return Vec::new();
    }
    let may_be_ours = |line: &&Line| line.is_context() || is_ever_ours(line);
    if in_it.iter().all(may_be_ours) {
        // bgpd refuses while it still knows of the L3VNI, which it hears from zebra.
        return vec![context];
    }
    in_order_of_removal(in_it.into_iter().filter(|line| is_ever_ours(line)))
}

/// Lines to be taken away, in the reverse of the order they are added in: with a neighbor or a peer
/// group FRR drops all lines that name it, and then refuses to take one of them away. Last goes
/// what the rest is known to be ours by.
pub(super) fn in_order_of_removal<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<Line> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|line| (line.text == MADE_BY_US, Reverse(rank(line))));
    lines.into_iter().cloned().collect()
}

/// Whether `desired` may have written the line; an operator's additions to our instances are
/// of other shapes and stay.
fn is_of_our_shape(line: &Line) -> bool {
    let text = line.text.as_str();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    match line.path.len() {
        1 => {
            starts(&["bgp router-id ", "neighbor svi-"])
                || (text.starts_with("bgp listen range ") && text.contains(" peer-group svi-"))
        }
        2 => {
            starts(&[
                "rd ",
                "route-target import ",
                "route-target export ",
                "neighbor svi-",
            ]) || text.starts_with("advertise ipv")
        }
        _ => false,
    }
}

/// Whether `desired` may have written the line in an instance, now or under another intent; more
/// than [`is_of_our_shape`], which leaves out what stands in every instance of ours.
fn is_ever_ours(line: &Line) -> bool {
    const EVERYWHERE: [&str; 4] = [
        MADE_BY_US,
        "no bgp ebgp-requires-policy",
        "redistribute connected",
        "redistribute static",
    ];
    is_of_our_shape(line) || EVERYWHERE.contains(&line.text.as_str())
}

/// Zebra first; in bgpd a peer group before what names it, instances before their families.
fn rank(line: &Line) -> impl Ord + use<'_> {
    let text = line.text.as_str();
    let kind = if text.ends_with(" peer-group") || text.contains(" interface remote-as ") {
        0
    } else if text.contains(" remote-as ") {
        1
    } else if text.ends_with(" activate") {
        2
    } else {
        3
    };
    (line.daemon, line.path.len(), kind, &line.path, text)
}

/// Whether FRR still has anything of a deleted Vrf that is to go, by what is left to do. What
/// others wrote under its name is no trace of it.
pub(super) fn has_trace(vrf: &Object<VrfSpec>, left: &FrrPlan) -> bool {
    let device = vrf.allocation.device.as_str();
    let mut commands = left.commands.iter();
    commands.any(|command| !command.add && command.line.vrf() == Some(device))
}
