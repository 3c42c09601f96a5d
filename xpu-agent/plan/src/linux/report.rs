//! What the kernel's state says about each object, after a plan was applied.

use std::collections::BTreeMap;

use xpu_model::{
    BridgePortSpec, IfName, LogicalBridgeSpec, Mtu, Object, ObjectKey, Objects, Spec, SviSpec,
    VrfSpec,
    status::{Component, PassReport, State},
};

use super::{Action, Hold, Inputs, LinuxPlan, Observed, Outcome, Step, desired, plan};
use crate::ownership::{self, Mark};

/// Reports on every object: a live one by what a next pass would still do for it, a deleted one
/// as long as something of it is left to remove. What failed explains what is left.
#[must_use]
pub fn report(inputs: &Inputs<'_>, observed: &Observed, outcomes: &[Outcome]) -> PassReport {
    let reporter = Reporter {
        inputs,
        observed,
        mtu: desired::mtu(inputs, desired::vtep(inputs, observed)),
        left: Left::new(plan(inputs, observed), outcomes),
    };
    let intent = inputs.intent;
    let mut report = PassReport {
        generation: intent.generation,
        planned: outcomes.len(),
        failed: outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .count(),
        repaired: 0,
        objects: BTreeMap::new(),
        node: Vec::new(),
        refusals: Vec::new(),
        notices: reporter.notices(),
        unobserved: None,
    };
    match reporter.left.reason(&Mark::Node) {
        None | Some(State::Success) => {}
        Some(State::Refused(reason)) => report.refusals.push(reason),
        Some(State::Pending(reason) | State::Error(reason)) => report.node.push(reason),
    }
    let of_l2 = [ownership::tenant_bridge(), ownership::l2_vxlan()];
    let of_l3 = [ownership::l3_bridge(), ownership::l3_vxlan()];
    let of_bridge_alone = &of_l2[..1];
    let of_vrf = |vrf: &VrfSpec| match vrf.vni {
        Some(_) => &of_l3[..],
        None => &[],
    };
    reporter.kind(&intent.vrfs, &mut report, of_vrf, Reporter::vrf);
    let of_bridge = |bridge: &LogicalBridgeSpec| match bridge.vni {
        Some(_) => &of_l2[..],
        None => of_bridge_alone,
    };
    reporter.kind(
        &intent.logical_bridges,
        &mut report,
        of_bridge,
        Reporter::logical_bridge,
    );
    reporter.kind(
        &intent.bridge_ports,
        &mut report,
        |_| of_bridge_alone,
        Reporter::bridge_port,
    );
    reporter.kind(
        &intent.svis,
        &mut report,
        |_| of_bridge_alone,
        Reporter::svi,
    );
    report
}

/// How many actions put right what was as asked after the pass that `before` is of, with the same
/// intent: somebody else has changed it since.
#[must_use]
pub fn repaired(outcomes: &[Outcome], before: &PassReport) -> usize {
    let was_well = |owner: &Mark| match owner {
        Mark::Node => before.was_node_well(),
        Mark::Object(key) => before.was_well(key),
    };
    let repairs = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok() && outcome.step.owners.iter().any(was_well));
    repairs.count()
}

/// What is left to do, by on whose account.
struct Left {
    plan: LinuxPlan,
    actions: BTreeMap<Mark, Action>,
    failures: BTreeMap<Mark, String>,
    /// What failed on each device.
    broken: BTreeMap<IfName, String>,
}

impl Left {
    fn new(plan: LinuxPlan, outcomes: &[Outcome]) -> Self {
        let mut actions = BTreeMap::new();
        for step in &plan.steps {
            for owner in &step.owners {
                actions
                    .entry(owner.clone())
                    .or_insert_with(|| step.action.clone());
            }
        }
        let (mut failures, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for outcome in outcomes {
            let Err(reason) = &outcome.result else {
                continue;
            };
            let failure = || format!("can't {}: {reason}", outcome.step.action);
            for owner in &outcome.step.owners {
                failures.entry(owner.clone()).or_insert_with(failure);
            }
            if let Some(device) = outcome.step.action.device() {
                broken.entry(device.clone()).or_insert_with(failure);
            }
        }
        Self {
            plan,
            actions,
            failures,
            broken,
        }
    }

    /// Why an owner's part is not as asked; none if it is.
    fn reason(&self, owner: &Mark) -> Option<State> {
        let hold = self.plan.holds.get(owner);
        let action = self.actions.get(owner);
        match (hold, action, self.failures.get(owner)) {
            (hold, None, _) => hold.map(Hold::state),
            // What is left to do calls for another pass, whatever mends the rest.
            (Some(hold), Some(_), _) if !hold.is_wait() => Some(State::Error(hold.to_string())),
            (_, Some(_), Some(failure)) => Some(State::Error(failure.clone())),
            (_, Some(action), None) => Some(State::Pending(format!("still to do: {action}"))),
        }
    }
}

struct Reporter<'a> {
    inputs: &'a Inputs<'a>,
    observed: &'a Observed,
    mtu: Mtu,
    left: Left,
}

impl Reporter<'_> {
    /// What only an operator mends, and an event tells of.
    fn notices(&self) -> Vec<String> {
        let rules = self.observed.rules_in_way.iter().map(|family| {
            format!(
                "{family}: tenants reach the node's own addresses past their Vrf: a rule at {} \
                 (`ip rule`), which is not this agent's, would come before the table local or be \
                 deleted in its place if that were moved behind the VRFs; give it another priority",
                ownership::VRF_RULE
            )
        });
        let beside = self.observed.rules_beside.iter().map(|family| {
            format!(
                "{family}: a rule at {} (`ip rule`), which is not this agent's, stands behind the \
                 agent's: rules that are added without a priority get this one, and are asked in \
                 the order in which they were added; give them priorities (`ip rule add … pref N`)",
                ownership::VRF_RULE
            )
        });
        let routes = self.observed.routes_at_stake().map(|device| {
            format!(
                "IPv6 is not forwarded: the kernel would forget the node's default route by \
                 {device}, which a router advertised; `sysctl \
                 net.ipv6.conf.{device}.accept_ra=2` keeps it, and forwarding is switched on a \
                 minute later at most"
            )
        });
        let rules = rules.chain(beside);
        rules.chain(routes).chain(self.strict_filter()).collect()
    }

    /// That our devices' own `rp_filter` has no effect, once there is one.
    fn strict_filter(&self) -> Option<String> {
        let intent = self.inputs.intent;
        let has_l3vni = || intent.live::<VrfSpec>().any(|vrf| vrf.spec.vni.is_some());
        let routes = intent.live::<SviSpec>().next().is_some() || has_l3vni();
        (self.observed.rp_strict && routes).then(|| {
            "net.ipv4.conf.all.rp_filter is 1, which no device can set aside: tenants' packets are \
             dropped where the way back is another one, as with anycast gateways; `sysctl \
             net.ipv4.conf.all.rp_filter=0` leaves it to each device"
                .to_owned()
        })
    }

    /// What is wrong with a device of the node's; none if packets can pass it.
    fn fabric(&self, device: &IfName) -> Option<State> {
        let wrong = match self.observed.links.get(device) {
            Some(link) if !link.is_ours() => {
                return Some(Hold::ForeignDevice(device.clone()).state());
            }
            None => format!("the node's device {device} isn't there"),
            Some(link) if !link.up => format!("the node's device {device} is down"),
            Some(_) => {
                let of_node = |step: &&Step| {
                    step.owners.contains(&Mark::Node) && step.action.device() == Some(device)
                };
                let step = self.left.plan.steps.iter().find(of_node)?;
                format!("the node's device {device}: still to do: {}", step.action)
            }
        };
        Some(match self.left.broken.get(device) {
            Some(failure) => State::Error(format!("{wrong}: {failure}")),
            None => State::Pending(wrong),
        })
    }

    /// Reports on a kind; `fabric` names the node's devices that an object's packets pass.
    fn kind<'f, S: Spec>(
        &self,
        objects: &Objects<S>,
        report: &mut PassReport,
        fabric: impl Fn(&S) -> &'f [IfName],
        facts: impl Fn(&Self, &Object<S>, Component) -> Component,
    ) {
        for object in objects.values() {
            let key: ObjectKey = object.key();
            let reason = self.left.reason(&Mark::Object(key.clone()));
            let component = match (object.deleting, reason) {
                (false, reason) => {
                    let mut fabric = fabric(&object.spec).iter();
                    let state = reason.or_else(|| fabric.find_map(|it| self.fabric(it)));
                    let component = Component::new(state.unwrap_or(State::Success));
                    Some(facts(self, object, component))
                }
                (true, reason) => reason.map(Component::new),
            };
            report
                .objects
                .extend(component.map(|component| (key, component)));
        }
    }

    fn vrf(&self, vrf: &Object<VrfSpec>, component: Component) -> Component {
        let allocation = &vrf.allocation;
        let component = component
            .fact("routingTable", allocation.table.get())
            .fact("device", allocation.device.as_str());
        if vrf.spec.vni.is_none() {
            return component;
        }
        component
            .fact(
                "l3Device",
                ownership::l3_device(allocation.l3_vlan).as_str(),
            )
            .fact("routerMac", allocation.router_mac.to_string())
            .fact("mtu", self.mtu.get())
    }

    fn logical_bridge(
        &self,
        bridge: &Object<LogicalBridgeSpec>,
        component: Component,
    ) -> Component {
        let component = component
            .fact("vlan", bridge.spec.vlan.get())
            .fact("mtu", self.mtu.get());
        match bridge.spec.vni {
            None => component,
            Some(vni) => component
                .fact("vni", vni.get())
                .fact("device", ownership::L2_VXLAN),
        }
    }

    fn bridge_port(&self, port: &Object<BridgePortSpec>, component: Component) -> Component {
        let Some(netdev) = self.inputs.node.ports.resolve(&port.id, port.spec.mac) else {
            return component;
        };
        let component = component.fact("netdev", netdev.as_str());
        match self.observed.links.get(&netdev) {
            None => component,
            Some(link) => component.fact("carrier", link.carrier),
        }
    }

    fn svi(&self, svi: &Object<SviSpec>, component: Component) -> Component {
        let bridges = &self.inputs.intent.logical_bridges;
        let Some(bridge) = bridges.get(&svi.spec.logical_bridge) else {
            return component;
        };
        component
            .fact("device", ownership::svi_device(bridge.spec.vlan).as_str())
            .fact("mtu", self.mtu.get())
    }
}
