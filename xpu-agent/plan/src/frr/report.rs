//! What FRR says about each object.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use xpu_model::{
    IfAddr, IfName, Intent, LogicalBridgeSpec, Object, ObjectKey, SviSpec, Vni, VrfSpec,
    requirements::LEAST_FRR,
    status::{Component, PassReport, State},
};

use super::{
    FrrPlan, Inputs, Line, Outcome,
    desired::route_target,
    diff::{self, has_trace, plan},
    line::Instance,
    observed::{Observed, Version},
};
use crate::ownership::{L2_VXLAN, L3_VXLAN, svi_device};

/// Single VXLAN devices.
pub const LEAST: Version = Version {
    major: LEAST_FRR.0,
    minor: LEAST_FRR.1,
};
/// IPv6 VTEPs (FRR release notes, 10.6); 10.3 shows `Local VTEP IP: 0.0.0.0`.
const LEAST_V6_VTEP: Version = Version {
    major: 10,
    minor: 6,
};

/// Reports on every object that concerns FRR: Vrfs and LogicalBridges with a VNI, Svis with BGP,
/// and tombstones of which FRR has traces.
#[must_use]
pub fn report(inputs: &Inputs<'_>, observed: &Observed, outcomes: &[Outcome]) -> PassReport {
    let intent = inputs.intent;
    let mut report = PassReport {
        generation: intent.generation,
        planned: outcomes.len(),
        failed: outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .count(),
        ..PassReport::default()
    };
    let reporter = Reporter {
        inputs,
        observed,
        outcomes,
        left: plan(inputs, observed),
    };
    let lasting = [
        reporter.version_trouble(inputs.node.vtep),
        reporter.asn_trouble(),
    ];
    report.notices.extend(lasting.into_iter().flatten());
    let vrfs = intent
        .vrfs
        .values()
        .map(|vrf| (vrf.key(), reporter.vrf(vrf)));
    let bridges = intent
        .logical_bridges
        .values()
        .map(|it| (it.key(), reporter.bridge(it)));
    let svis = intent
        .svis
        .values()
        .map(|svi| (svi.key(), reporter.svi(svi)));
    report.objects = vrfs
        .chain(bridges)
        .chain(svis)
        .filter_map(|(key, component)| Some((key, component?)))
        .collect::<BTreeMap<_, _>>();
    report
}

/// How many commands put right what was as asked after the pass that `before` is of, with the same
/// intent: somebody else has changed it since, or FRR was started anew without it.
#[must_use]
pub fn repaired(inputs: &Inputs<'_>, outcomes: &[Outcome], before: &PassReport) -> usize {
    let was_well = |line: &Line| {
        let owners = owners(inputs.intent, line);
        owners.is_empty() || owners.iter().any(|key| before.was_well(key))
    };
    let repairs = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok() && was_well(&outcome.command.line));
    repairs.count()
}

/// The objects that a line is for; none: the node.
fn owners(intent: &Intent, line: &Line) -> Vec<ObjectKey> {
    let Some(device) = line.vrf() else {
        let vni = line.l2vni();
        let bridges = intent.logical_bridges.values();
        let bridges = bridges.filter(|it| vni.is_some() && it.spec.vni == vni);
        return bridges.map(|it| it.key()).collect();
    };
    let mut vrfs = intent.vrfs.values();
    let Some(vrf) = vrfs.find(|it| it.allocation.device.as_str() == device) else {
        return Vec::new();
    };
    let has_line = |svi: &&Arc<Object<SviSpec>>| {
        let bridge = intent.logical_bridges.get(&svi.spec.logical_bridge);
        let group = bridge.map(|it| svi_device(it.spec.vlan));
        let names = |group: IfName| line.text.split(' ').any(|word| word == group.as_str());
        svi.spec.vrf == vrf.id && group.is_some_and(names)
    };
    let svi = intent.svis.values().find(has_line);
    vec![svi.map_or_else(|| vrf.key(), |svi| svi.key())]
}

/// Reports where no FRR is managed: what needs it is refused, and has no trace once deleted.
#[must_use]
pub fn unmanaged(intent: &Intent) -> PassReport {
    let refused = |what: &str| {
        let reason = format!(
            "{what} needs FRR, and frr.enabled is false in the agent's configuration; set it to \
             true, or leave {what} out"
        );
        Component::new(State::Refused(reason))
    };
    let vrfs = intent.live::<VrfSpec>().filter_map(|vrf| {
        let vni = vrf.spec.vni?;
        Some((vrf.key(), refused(&format!("VNI {vni}"))))
    });
    let bridges = intent.live::<LogicalBridgeSpec>().filter_map(|bridge| {
        let vni = bridge.spec.vni?;
        Some((bridge.key(), refused(&format!("VNI {vni}"))))
    });
    let svis = intent.live::<SviSpec>();
    let svis = svis.filter(|svi| svi.spec.bgp.is_some());
    let svis = svis.map(|svi| (svi.key(), refused("enable_bgp")));
    PassReport {
        generation: intent.generation,
        objects: vrfs.chain(bridges).chain(svis).collect(),
        ..PassReport::default()
    }
}

struct Reporter<'a> {
    inputs: &'a Inputs<'a>,
    observed: &'a Observed,
    outcomes: &'a [Outcome],
    /// What a next pass would still do.
    left: FrrPlan,
}

impl Reporter<'_> {
    /// What this FRR cannot do at all for VNIs behind this VTEP.
    fn version_trouble(&self, vtep: Option<IpAddr>) -> Option<String> {
        let version = self.observed.version;
        let v6 = matches!(vtep, Some(IpAddr::V6(_)));
        if version < LEAST {
            Some(format!(
                "FRR {version} has no single VXLAN devices; install {LEAST} or later"
            ))
        } else if v6 && version < LEAST_V6_VTEP {
            Some(format!(
                "FRR {version} has no IPv6 VTEPs; install {LEAST_V6_VTEP} or later"
            ))
        } else {
            None
        }
    }

    /// What the settings ask of an instance that runs, or soon does, and can't have.
    fn asn_trouble(&self) -> Option<String> {
        let other = self.inputs.other_asn(self.observed)?;
        let wanted = self.inputs.node.bgp.as_ref()?.asn;
        let has = match self.inputs.unloaded_asn(self.observed) {
            Some(_) => "FRR's startup configuration has",
            None => "FRR runs",
        };
        Some(format!(
            "bgp.asn is {wanted} and {has} `router bgp {other}`, whose AS cannot be changed: \
             [bgp] is not told to it; restart FRR once its startup configuration has \
             `router bgp {wanted}`, which the agent sees to where no line but its own is in there"
        ))
    }

    /// Refuses a VNI that this FRR or these settings cannot have; `own` is the VTEP that its
    /// object brings.
    fn refusal(&self, vni: Vni, own: Option<IfAddr>) -> Option<State> {
        if let Err(reason) = route_target(self.inputs, self.observed, vni) {
            return Some(State::Refused(reason));
        }
        let vtep = own
            .map(IfAddr::addr)
            .or_else(|| self.inputs.vtep(self.observed));
        self.version_trouble(vtep).map(State::Refused)
    }

    /// Why nothing is told FRR about a Vrf.
    fn foreign(&self, vrf: &Object<VrfSpec>) -> Option<State> {
        let device = &vrf.allocation.device;
        self.inputs.is_foreign(vrf).then(|| {
            State::Refused(format!(
                "FRR's vrf {device} is left alone, for a device {device} exists that this agent \
                 did not make; rename or delete it"
            ))
        })
    }

    /// Whether zebra means our VXLAN device of that name.
    fn is_ours(&self, device: &str, ours: &str) -> bool {
        device == ours && !self.inputs.foreign.iter().any(|it| it.as_str() == ours)
    }

    /// Why a VNI that zebra found on somebody else's VXLAN device is not to be had. One of ours may
    /// still have it from before.
    fn taken(&self, vni: Vni, device: Option<&str>) -> Option<State> {
        let device = device?;
        let is_ours = [L2_VXLAN, L3_VXLAN]
            .iter()
            .any(|it| self.is_ours(device, it));
        (!is_ours).then(|| {
            State::Error(format!(
                "VNI {vni} is on {device}, which this agent did not make, and FRR has each VNI \
                 once; take another VNI, or delete {device}"
            ))
        })
    }

    fn no_base(&self) -> Option<State> {
        if self.inputs.asn(self.observed).is_some() {
            return None;
        }
        let reason = match self.inputs.unloaded_asn(self.observed) {
            Some(asn) => format!(
                "FRR has not loaded its startup configuration with `router bgp {asn}` yet; if it \
                 does not read that file, take the instance out of it"
            ),
            None => "bgpd has no base instance; set [bgp] in the agent's configuration, or \
                     configure `router bgp` in FRR"
                .to_owned(),
        };
        Some(State::Pending(reason))
    }

    fn vrf(&self, vrf: &Object<VrfSpec>) -> Option<Component> {
        let device = &vrf.allocation.device;
        if vrf.deleting {
            let letting_go = State::Pending(format!("FRR has not let go of vrf {device} yet"));
            return has_trace(vrf, &self.left).then(|| Component::new(letting_go));
        }
        let vni = vrf.spec.vni?;
        let hopeless = self
            .refusal(vni, vrf.spec.vtep)
            .or_else(|| self.foreign(vrf));
        if let Some(state) = hopeless {
            return Some(Component::new(state));
        }
        let l3 = self.observed.l3vnis.get(device).filter(|l3| l3.vni == vni);
        let held = diff::held_vni(vrf, self.inputs, self.observed);
        let held = held.map(|held| {
            State::Pending(format!(
                "FRR has not let go of VNI {held} of vrf {device} yet"
            ))
        });
        let l2 = self.observed.l2vnis.get(&vni);
        let vxlan = match l3 {
            Some(l3) => l3.vxlan.as_deref(),
            None => l2.and_then(|l2| l2.vxlan.as_deref()),
        };
        let trouble = self
            .taken(vni, vxlan)
            .or(held)
            .or_else(|| self.vrf_trouble(device))
            .or_else(|| self.no_base());
        let is_told = self.observed.configured_vni(device) == Some(vni);
        let state = trouble.unwrap_or_else(|| match l3 {
            None if !is_told => State::Pending(format!(
                "FRR is told of VNI {vni} once what had it before has let go of it"
            )),
            None => State::Pending(format!("zebra does not show L3VNI {vni} yet")),
            Some(l3) if l3.up => State::Success,
            Some(l3) => {
                let missing = match (&l3.vxlan, &l3.svi) {
                    (None, _) => "it has no VXLAN device yet",
                    (_, None) => "it has no routing device yet",
                    _ => "a device of it is down",
                };
                State::Pending(format!("L3VNI {vni} is not up in zebra: {missing}"))
            }
        });
        let mut component = Component::new(state);
        if let Some(asn) = self.inputs.asn(self.observed) {
            component = component.fact("localAS", asn.get());
        }
        if let Some(rmac) = l3.and_then(|l3| l3.router_mac.as_deref()) {
            component = component.fact("rmac", rmac);
        }
        if let Some(bgp) = self.observed.bgp_vnis.get(&vni) {
            if let Some(rd) = &bgp.rd {
                component = component.fact("rd", rd.as_str());
            }
            component = component
                .fact("importRts", bgp.import.clone())
                .fact("exportRts", bgp.export.clone());
        }
        Some(component)
    }

    fn bridge(&self, bridge: &Object<LogicalBridgeSpec>) -> Option<Component> {
        let vni = bridge.spec.vni?;
        let found = self.observed.l2vnis.get(&vni);
        let device = found.and_then(|l2| l2.vxlan.as_deref());
        let known = found.filter(|_| device.is_none_or(|it| self.is_ours(it, L2_VXLAN)));
        match (bridge.deleting, known) {
            (true, None) => None,
            (true, Some(_)) => {
                let reason = format!("zebra has not let go of VNI {vni} yet");
                Some(Component::new(State::Pending(reason)))
            }
            (false, known) => {
                let trouble = self
                    .refusal(vni, bridge.spec.vtep)
                    .or_else(|| self.taken(vni, device))
                    .or_else(|| self.no_base());
                let state = trouble.unwrap_or_else(|| {
                    if known.is_some() {
                        self.base_trouble(vni).unwrap_or(State::Success)
                    } else {
                        State::Pending(format!("zebra does not show VNI {vni} yet"))
                    }
                });
                let component = Component::new(state);
                let vteps = known.into_iter().flat_map(|l2| &l2.remote_vteps);
                let vteps: Vec<_> = vteps.map(ToString::to_string).collect();
                Some(component.fact("remoteVteps", vteps))
            }
        }
    }

    fn svi(&self, svi: &Object<SviSpec>) -> Option<Component> {
        svi.spec.bgp.filter(|_| !svi.deleting)?;
        let vrf = self.inputs.intent.get::<VrfSpec>(&svi.spec.vrf)?;
        let state = self
            .foreign(vrf)
            .or_else(|| self.vrf_trouble(&vrf.allocation.device))
            .or_else(|| self.no_base());
        Some(Component::new(state.unwrap_or(State::Success)))
    }

    /// Trouble with the lines of the base instance that this L2VNI needs: all but those that are
    /// another's alone.
    fn base_trouble(&self, vni: Vni) -> Option<State> {
        let base = self.inputs.node.bgp.as_ref()?;
        let instance = Instance::base(base.asn).to_string();
        self.trouble(|line| line.outermost() == instance && line.l2vni().is_none_or(|it| it == vni))
    }

    /// What failed, or is left to do, in the contexts of a VRF.
    fn vrf_trouble(&self, device: &IfName) -> Option<State> {
        self.trouble(|line| line.vrf() == Some(device.as_str()))
    }

    fn trouble(&self, concerns: impl Fn(&Line) -> bool) -> Option<State> {
        let failed = self
            .outcomes
            .iter()
            .find(|outcome| outcome.result.is_err() && concerns(&outcome.command.line));
        let left = self
            .left
            .commands
            .iter()
            .find(|command| concerns(&command.line));
        match (failed, left) {
            (
                Some(Outcome {
                    command,
                    result: Err(reason),
                }),
                Some(_),
            ) => Some(State::Error(format!(
                "FRR refuses `{}`: {reason}",
                command.text()
            ))),
            (_, Some(command)) => Some(State::Pending(format!(
                "`{}` is to be told FRR",
                command.text()
            ))),
            _ => None,
        }
    }
}
