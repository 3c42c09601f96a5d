//! A gateway's entry on the bridge does not outlive it.

use pretty_assertions::assert_eq;

use xpu_model::IfAddr;

use super::*;
use crate::linux::{Action, LinkKind, LinuxPlan};

fn inputs<'a>(intent: &'a Intent, node: &'a Node) -> Inputs<'a> {
    Inputs {
        intent,
        node,
        frr: &FrrFacts::Unmanaged,
    }
}

/// A plan without the steps that the kernel refuses, or that an agent did not come to.
fn without(plan: LinuxPlan, fails: impl Fn(&Action) -> bool) -> LinuxPlan {
    let mut steps = plan.steps;
    steps.retain(|step| !fails(&step.action));
    LinuxPlan {
        steps,
        holds: plan.holds,
    }
}

/// As if the kernel had the one that goes for the subnet's first.
#[test]
fn a_gateway_that_goes_takes_no_other_of_its_subnet_along() {
    let (mut intent, node) = (tenant(), node());
    let mut kernel = with_port();
    let mut svi = intent.get::<SviSpec>(&id("gate-a")).unwrap().spec.clone();
    let mut gateways = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|it| it.parse::<IfAddr>().unwrap());
        svi.gateways = addresses.collect::<Vec<_>>().try_into().unwrap();
        intent.update(id("gate-a"), svi.clone(), &rules()).unwrap();
        kernel.pass(&inputs(&intent, &node)).unwrap();
        kernel.addresses("svi-10")
    };
    gateways(&["10.0.10.1/24", "10.0.10.2/24"]);
    let left = gateways(&["10.0.10.2/24"]);
    let left: Vec<_> = left.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["10.0.10.2/24", "fe80::1/64"]);
}

#[test]
fn an_entry_that_stays_is_removed_though_its_network_is_deleted_too() {
    let (mut intent, node) = (tenant(), node());
    let mut kernel = with_port();
    kernel.pass(&inputs(&intent, &node)).unwrap();
    intent.delete::<SviSpec>(&id("gate-a")).unwrap();
    intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
    intent.delete::<LogicalBridgeSpec>(&id("net-a")).unwrap();
    let generation = intent.generation;
    let todo = plan(
        &inputs(&intent, &node),
        &kernel.observe(&inputs(&intent, &node)),
    );
    let refused = without(todo, |action| matches!(action, Action::RemoveFdb(_)));
    kernel.apply(&refused).unwrap();

    // The network's own part is done, and the entry is known by its number alone.
    let reported = report(
        &inputs(&intent, &node),
        &kernel.observe(&inputs(&intent, &node)),
        &[],
    );
    assert_eq!(
        state(&reported, xpu_model::Kind::LogicalBridge, "net-a"),
        None
    );
    assert!(state(&reported, xpu_model::Kind::Svi, "gate-a").is_some());
    intent.collect::<LogicalBridgeSpec>(&id("net-a"), generation);
    kernel.pass(&inputs(&intent, &node)).unwrap();
    assert!(kernel.0.fdb.is_empty(), "{:?}", kernel.0.fdb);
}

/// An agent that is killed in the middle knows nothing of the deleted objects but what it stored.
#[test]
fn what_is_done_first_leaves_what_is_left_to_be_found() {
    let (intent, node) = (tenant(), node());
    let mut kernel = with_port();
    kernel.pass(&inputs(&intent, &node)).unwrap();
    let nobody = Intent::default();
    let todo = plan(
        &inputs(&nobody, &node),
        &kernel.observe(&inputs(&nobody, &node)),
    );
    for done in 0..todo.len() {
        let mut kernel = kernel.clone();
        let begun = LinuxPlan {
            steps: todo.steps[..done].to_vec(),
            ..LinuxPlan::default()
        };
        kernel.apply(&begun).unwrap();
        kernel.pass(&inputs(&nobody, &node)).unwrap();
        assert!(kernel.0.fdb.is_empty(), "after {done}: {:?}", kernel.0.fdb);
        let svi = |link: &crate::linux::Link| matches!(link.kind, LinkKind::Vlan { .. });
        assert!(!kernel.0.links.values().any(svi));
    }
}
