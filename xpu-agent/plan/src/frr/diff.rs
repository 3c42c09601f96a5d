//! The way from the lines FRR has to those it should have.

use std::collections::BTreeSet;

use xpu_model::{IfName, Object, Vni, VrfSpec};

use super::{
    Command, FrrPlan, Inputs, base_instance,
    config::{Daemon, Line},
    desired::{Desired, MADE_BY_US, distinguisher, is_context},
    observed::Observed,
};
use crate::ownership;

/// Plans the way from what is observed to what is wanted: removals, then additions, zebra
/// before bgpd in both.
#[must_use]
pub fn plan(inputs: &Inputs<'_>, observed: &Observed) -> FrrPlan {
    let desired = Desired::new(inputs, observed).lines;
    let mut commands = Vec::new();
    let mut leaving = BTreeSet::new();
    let mut given_up = BTreeSet::new();
    let vrfs = inputs.intent.vrfs.values();
    for vrf in vrfs.filter(|vrf| !inputs.is_foreign(vrf)) {
        let device = &vrf.allocation.device;
        let wanted_vni = (!vrf.deleting).then_some(vrf.spec.vni).flatten();
        let vni = observed
            .configured_vni(device)
            .filter(|vni| wanted_vni != Some(*vni) || is_to_be_retold(device, inputs, observed));
        if let Some(vni) = vni {
            let context = format!("vrf {device}");
            remove(
                &mut commands,
                Line::new(Daemon::Zebra, &[&context], format!("vni {vni}")),
            );
            leaving.insert(context);
            given_up.insert(vni);
        } else {
            stale(device, &desired, observed, &mut commands);
            if let Some(vni) = held_vni(vrf, inputs, observed) {
                leaving.insert(format!("vrf {device}"));
                given_up.insert(vni);
            }
        }
    }
    base_instance::stale(inputs, &desired, observed, &mut commands);
    let missing = desired
        .into_iter()
        .filter(|line| !observed.config.lines.contains(line))
        // Contexts are entered on the way to their lines; alone they need no command.
        .filter(|line| !is_context(line))
        // FRR has to let go of the old VNI before it hears of a new one.
        .filter(|line| !leaving.contains(line.path.first().unwrap_or(&line.text)))
        // Nor does a Vrf take what another gives up before that and the other's devices have gone.
        .filter(|line| !is_occupied(line, &given_up, inputs, observed));
    let mut additions: Vec<_> = missing.map(|line| Command { line, add: true }).collect();
    additions.sort_by_key(|command| rank(&command.line));
    commands.extend(additions);
    FrrPlan { commands }
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

/// Whether a line is a Vrf's VNI that another Vrf gives up, or has given up and whose devices are
/// still there: zebra takes them for those of an L2VNI then, with the other Vrf for its tenant. They
/// go without FRR's help: Linux keeps what FRR holds, and a mapping that is the Vrf's own.
fn is_occupied(
    line: &Line,
    given_up: &BTreeSet<Vni>,
    inputs: &Inputs<'_>,
    observed: &Observed,
) -> bool {
    let Some((device, vni)) = vni_of_vrf(line) else {
        return false;
    };
    let is_ours = !inputs.foreign.contains(&ownership::l3_vxlan());
    let found = observed
        .l2vnis
        .get(&vni)
        .filter(|l2| is_ours && l2.vxlan.as_deref() == Some(ownership::L3_VXLAN));
    let tenant = found.and_then(|l2| l2.vrf.as_deref());
    tenant.is_some_and(|tenant| tenant != device) || given_up.contains(&vni)
}

/// The VRF and its VNI, if a line is that.
fn vni_of_vrf(line: &Line) -> Option<(&str, Vni)> {
    let [context] = line.path.as_slice() else {
        return None;
    };
    let vni = line.text.strip_prefix("vni ")?.parse::<u32>().ok()?;
    Some((context.strip_prefix("vrf ")?, Vni::try_from(vni).ok()?))
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
    let of_vrfs = instances.filter_map(|line| {
        let (_, device) = line.strip_prefix("router bgp ")?.split_once(" vrf ")?;
        let mark = Line::new(Daemon::Bgpd, &[line], MADE_BY_US);
        observed.config.lines.contains(&mark).then_some(device)
    });
    of_vrfs.collect()
}

/// What stands in the contexts of one Vrf and should not.
fn stale(
    device: &IfName,
    desired: &BTreeSet<Line>,
    observed: &Observed,
    commands: &mut Vec<Command>,
) {
    if let Some(instance) = observed.bgp_instance(device) {
        let context = Line::new(Daemon::Bgpd, &[], instance);
        let in_it: Vec<_> = lines_in(observed, &context).collect();
        if desired.contains(&context) {
            let stale = |line: &&Line| is_of_our_shape(line) && !desired.contains(line);
            remove_all(commands, in_it.into_iter().filter(stale));
        } else {
            remove_instance(&context, &in_it, commands);
        }
    }
    // A VRF whose device is gone stays in zebra as configuration, until it is told otherwise.
    let context = Line::new(Daemon::Zebra, &[], format!("vrf {device}"));
    if observed.inactive_vrfs.contains(device)
        && observed.config.lines.contains(&context)
        && !desired.contains(&context)
        && lines_in(observed, &context).next().is_none()
    {
        remove(commands, context);
    }
}

/// Takes away an instance that should not be, if we made it: what an operator wrote into it
/// stays, and so does the context around that.
fn remove_instance(context: &Line, in_it: &[&Line], commands: &mut Vec<Command>) {
    if !in_it.iter().any(|line| line.text == MADE_BY_US) {
        return;
    }
    let may_be_ours = |line: &&&Line| is_context(line) || is_ever_ours(line);
    if in_it.iter().filter(may_be_ours).count() == in_it.len() {
        // bgpd refuses while it still knows of the L3VNI, which it hears from zebra.
        remove(commands, context.clone());
        return;
    }
    remove_all(
        commands,
        in_it.iter().copied().filter(|line| is_ever_ours(line)),
    );
}

fn lines_in<'a>(observed: &'a Observed, context: &'a Line) -> impl Iterator<Item = &'a Line> {
    observed.config.within(context.daemon, &context.text)
}

/// Takes lines away in the reverse of the order they are added in: with a neighbor or a peer group
/// FRR drops all lines that name it, and then refuses to take one of them away. Last goes what the
/// rest is known to be ours by.
pub(super) fn remove_all<'a>(commands: &mut Vec<Command>, lines: impl Iterator<Item = &'a Line>) {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|line| (line.text == MADE_BY_US, std::cmp::Reverse(rank(line))));
    lines
        .into_iter()
        .for_each(|line| remove(commands, line.clone()));
}

fn remove(commands: &mut Vec<Command>, line: Line) {
    commands.push(Command { line, add: false });
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
fn rank(line: &Line) -> (Daemon, usize, u8, Vec<String>, String) {
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
    (
        line.daemon,
        line.path.len(),
        kind,
        line.path.clone(),
        line.text.clone(),
    )
}

/// Whether FRR still has anything of a deleted Vrf that is to go, by what is left to do. What
/// others wrote under its name is no trace of it.
pub(super) fn has_trace(vrf: &Object<VrfSpec>, left: &FrrPlan) -> bool {
    let device = &vrf.allocation.device;
    let suffix = format!(" vrf {device}");
    left.commands.iter().any(|command| {
        let line = &command.line;
        let context = line.path.first().unwrap_or(&line.text);
        !command.add && format!(" {context}").ends_with(&suffix)
    })
}
