//! What holds for every node, user and neighbourhood.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proptest::prelude::*;
use xpu_model::{
    BridgePortSpec, IfName, Intent, LogicalBridgeSpec, Node, Object, ObjectKey, Spec, SviSpec,
    VlanId, Vni, VrfSpec, node::PortResolver, status::State,
};

use super::{
    drift::drift,
    generate::{self, Frr, Op, frr, in_frr, neighbours, node, ops, perform},
    kernel::Kernel,
};
use crate::{
    FrrFacts,
    linux::{Action, Hold, Inputs, plan, purge, report},
    ownership::{self, Mark},
};

/// One pass that must succeed in every action, and leave nothing to do.
fn reach(kernel: &mut Kernel, intent: &Intent, node: &Node, frr: Frr) -> Result<(), TestCaseError> {
    let facts = frr.facts(intent);
    let inputs = Inputs {
        intent,
        node,
        frr: &facts,
    };
    kernel.pass(&inputs).map_err(TestCaseError::fail)?;
    let again = plan(&inputs, &kernel.observe(&inputs));
    prop_assert!(
        again.is_empty(),
        "a second pass would still do {:#?}",
        again.steps
    );
    Ok(())
}

fn intent(ops: &[Op]) -> Intent {
    let mut intent = Intent::default();
    perform(&mut intent, ops);
    intent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// From any intent to any other, in one pass, and then nothing is left to do.
    #[test]
    fn every_intent_is_reached_from_every_other(
        node in node(),
        mut kernel in neighbours(),
        (first, second) in (ops(), ops()),
        (before, after) in (frr(), frr()),
        is_new_user: bool,
    ) {
        let mut wanted = intent(&first);
        reach(&mut kernel, &wanted, &node, before)?;
        if is_new_user {
            wanted = Intent::default();
        }
        perform(&mut wanted, &second);
        reach(&mut kernel, &wanted, &node, after)?;
    }

    /// The way does not matter: an intent is the same kernel state, whatever was there before.
    #[test]
    fn an_intent_is_one_state(
        node in node(),
        clean in neighbours(),
        (first, second) in (ops(), ops()),
    ) {
        let mut travelled = clean.clone();
        reach(&mut travelled, &intent(&first), &node, Frr::Unmanaged)?;
        // Without a VTEP of the node's, the first that is brought stays.
        prop_assume!(node.vtep.is_some());
        let wanted = intent(&second);
        reach(&mut travelled, &wanted, &node, Frr::Unmanaged)?;
        let mut direct = clean;
        reach(&mut direct, &wanted, &node, Frr::Unmanaged)?;
        let forget_ports = |kernel: &Kernel| {
            let mut ours = kernel.ours_only();
            ours.links.values_mut().for_each(|link| {
                if !link.is_ours() {
                    link.addr_gen_none = true;
                }
            });
            ours
        };
        prop_assert_eq!(forget_ports(&travelled), forget_ports(&direct));
    }

    /// In which order objects came does not matter: the same objects with the same numbers, one
    /// by one with a pass after each, end up as the same kernel.
    #[test]
    fn the_order_of_objects_does_not_matter(
        node in node(),
        clean in neighbours(),
        ops in ops(),
        orders in [any::<u64>(), any::<u64>()],
    ) {
        // Without a VTEP of the node's the first that is brought stays, and a netdev is that
        // port's which was there first.
        prop_assume!(node.vtep.is_some());
        let node = Node { ports: PortResolver::Name, ..node };
        let wanted = intent(&ops);
        let [one, other] = orders.map(|order| -> Result<Kernel, TestCaseError> {
            let (mut kernel, mut grown) = (clean.clone(), Intent::default());
            while grow(&mut grown, &wanted, order) {
                reach(&mut kernel, &grown, &node, Frr::Unmanaged)?;
            }
            let live = keys(&wanted).into_iter().filter(|(_, deleting)| !deleting).count();
            prop_assert_eq!(grown.keys().count(), live);
            Ok(kernel)
        });
        prop_assert_eq!(one?.ours_only(), other?.ours_only());
    }

    /// Nothing foreign is ever changed, but for the netdevs of ports, which give and get back
    /// their master, and stay down.
    #[test]
    fn foreign_things_stay(
        node in node(),
        mut kernel in neighbours(),
        (first, second) in (ops(), ops()),
        frr in frr(),
    ) {
        let before = kernel.foreign();
        reach(&mut kernel, &intent(&first), &node, frr)?;
        reach(&mut kernel, &intent(&second), &node, frr)?;
        reach(&mut kernel, &Intent::default(), &node, frr)?;
        let mut after = kernel.foreign();
        for (name, link) in &mut after.links {
            let was = &before.links[name];
            if link.addr_gen_none && !was.addr_gen_none {
                prop_assert!(name.as_str().starts_with("port"), "{name} was no port");
                link.addr_gen_none = false;
                link.up = was.up;
            }
        }
        prop_assert_eq!(after, before);
    }

    /// A purge leaves nothing of ours, whatever the intent says, and everything else.
    #[test]
    fn a_purge_takes_all_that_is_ours_and_nothing_else(
        node in node(),
        mut kernel in neighbours(),
        (first, second) in (ops(), ops()),
        frr in frr(),
    ) {
        let before = kernel.foreign();
        reach(&mut kernel, &intent(&first), &node, frr)?;
        let wanted = intent(&second);
        let facts = frr.facts(&wanted);
        let inputs = Inputs { intent: &wanted, node: &node, frr: &facts };
        let plan = purge(&inputs, &kernel.observe(&inputs));
        kernel.apply(&plan).map_err(TestCaseError::fail)?;
        prop_assert!(purge(&inputs, &kernel.observe(&inputs)).is_empty());
        let left: Vec<_> = kernel.0.all_ours().map(|(name, _)| name.to_string()).collect();
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(kernel.0.routes.is_empty() && kernel.0.fdb.is_empty());
        prop_assert!(kernel.0.vrf_first.is_empty() && kernel.0.own_rules.is_empty());
        for (name, link) in kernel.foreign().links {
            let was = &before.links[&name];
            let is_same = (&link.kind, &link.master, &link.addresses, &link.mark)
                == (&was.kind, &was.master, &was.addresses, &was.mark);
            prop_assert!(is_same, "{name}: {link:?}, was {was:?}");
        }
    }

    /// Whatever happens to our devices is repaired in one pass.
    #[test]
    fn drift_is_repaired(
        node in node(),
        mut kernel in neighbours(),
        ops in ops(),
        happenings in proptest::collection::vec(drift(), 1..4),
    ) {
        let wanted = intent(&ops);
        reach(&mut kernel, &wanted, &node, Frr::Unmanaged)?;
        for (drift, index) in happenings {
            if kernel.0.all_ours().next().is_none() {
                break;
            }
            drift.happen(index, &mut kernel);
        }
        reach(&mut kernel, &wanted, &node, Frr::Unmanaged)?;
    }

    /// An L3VNI that exists is not torn down because FRR is silent or has forgotten it.
    #[test]
    fn silence_of_frr_takes_nothing_away(
        node in node(),
        mut kernel in neighbours(),
        ops in ops(),
        silence in prop_oneof![Just(Frr::Unknown), Just(Frr::Empty)],
    ) {
        let wanted = intent(&ops);
        reach(&mut kernel, &wanted, &node, Frr::UpToDate)?;
        let before = kernel.clone();
        reach(&mut kernel, &wanted, &node, silence)?;
        prop_assert_eq!(kernel, before);
    }

    /// The devices of an L3VNI that is given up, and of a deleted Vrf, stay as long as FRR may work
    /// with it, and go in one pass when it has let go.
    #[test]
    fn frr_lets_go_before_devices_go(
        node in node(),
        mut kernel in neighbours(),
        (first, second) in (ops(), ops()),
        is_read: bool,
    ) {
        let mut wanted = intent(&first);
        reach(&mut kernel, &wanted, &node, Frr::UpToDate)?;
        let before = kernel.clone();
        let holds = match is_read {
            true => in_frr(wanted.live::<VrfSpec>()),
            false => FrrFacts::Unknown,
        };
        perform(&mut wanted, &second);
        let inputs = Inputs { intent: &wanted, node: &node, frr: &holds };
        let plan = kernel.pass(&inputs).map_err(TestCaseError::fail)?;
        let again = crate::linux::plan(&inputs, &kernel.observe(&inputs));
        prop_assert!(again.is_empty(), "a second pass would still do {:#?}", again.steps);
        for leaving in leaving(&wanted, &before) {
            let Leaving { owner, devices, vlan, vni } = &leaving;
            for device in devices {
                let removed = Action::RemoveLink { device: device.clone() };
                let is_removed = plan.steps.iter().any(|step| step.action == removed);
                prop_assert!(!is_removed && kernel.0.ours(device).is_some(), "{leaving:?}");
            }
            prop_assert_eq!(l3vni_at(*vlan, &kernel), Some(*vni));
            let hold = plan.holds.get(owner);
            prop_assert!(hold.is_some_and(Hold::is_wait), "{leaving:?}: {hold:?}");
        }
        let leaving = leaving(&wanted, &before);
        reach(&mut kernel, &wanted, &node, Frr::UpToDate)?;
        for Leaving { vlan, vni, .. } in leaving {
            prop_assert_ne!(l3vni_at(vlan, &kernel), Some(vni));
        }
        for vrf in wanted.vrfs.values().filter(|vrf| vrf.deleting) {
            let device = kernel.0.ours(&vrf.allocation.device);
            prop_assert!(device.is_none_or(|it| it.mark != Some(Mark::Object(vrf.key()))));
        }
    }

    /// Every live object is reported; a deleted one until it has gone, and never after.
    #[test]
    fn reports_are_complete(
        node in node(),
        mut kernel in neighbours(),
        (first, second) in (ops(), ops()),
        frr in frr(),
    ) {
        let mut wanted = intent(&first);
        reach(&mut kernel, &wanted, &node, frr)?;
        perform(&mut wanted, &second);
        let facts = frr.facts(&wanted);
        let inputs = Inputs { intent: &wanted, node: &node, frr: &facts };
        let observed = kernel.observe(&inputs);
        let early = report(&inputs, &observed, &[]);
        let todo = plan(&inputs, &observed);
        for (key, deleting) in keys(&wanted) {
            let word = early.objects.get(&key);
            let owner = Mark::Object(key.clone());
            let has_work = todo.steps.iter().any(|step| step.owners.contains(&owner));
            let held = todo.holds.contains_key(&owner);
            prop_assert_eq!(word.is_some(), !deleting || has_work || held, "{}", key);
            let is_done = word.is_none_or(|word| word.state == State::Success);
            prop_assert!(!has_work || !is_done, "{key} has work left and no word of it");
        }
        kernel.pass(&inputs).map_err(TestCaseError::fail)?;
        let late = report(&inputs, &kernel.observe(&inputs), &[]);
        for (key, deleting) in keys(&wanted) {
            let held = todo.holds.contains_key(&Mark::Object(key.clone()));
            prop_assert_eq!(late.objects.contains_key(&key), !deleting || held, "{}", key);
            if let Some(word) = late.objects.get(&key) {
                prop_assert_eq!(word.state == State::Success, !held, "{}: {:?}", key, word);
            }
        }
    }
}

/// An L3VNI that the kernel has for a Vrf and that is no longer wanted for it.
#[derive(Debug)]
struct Leaving {
    owner: Mark,
    devices: Vec<IfName>,
    vlan: VlanId,
    vni: Vni,
}

fn leaving(wanted: &Intent, kernel: &Kernel) -> Vec<Leaving> {
    let leaving = wanted.vrfs.values().filter_map(|vrf| {
        let vlan = vrf.allocation.l3_vlan;
        let vni = l3vni_at(vlan, kernel)?;
        let l3 = ownership::l3_device(vlan);
        let owner = Mark::Object(vrf.key());
        let is_there = kernel.0.ours(&l3)?.mark.as_ref() == Some(&owner);
        let leaves = vrf.deleting || vrf.spec.vni != Some(vni);
        (is_there && leaves).then(|| Leaving {
            owner,
            devices: vec![l3, vrf.allocation.device.clone()],
            vlan,
            vni,
        })
    });
    leaving.collect()
}

fn l3vni_at(vlan: VlanId, kernel: &Kernel) -> Option<Vni> {
    let vlans = kernel.0.vlans.get(&ownership::l3_vxlan())?;
    vlans.get(&vlan)?.tunnel
}

/// Adds the next of the wanted objects by that order, of those whose references are there.
fn grow(grown: &mut Intent, wanted: &Intent, order: u64) -> bool {
    fn next<S: Spec>(grown: &Intent, wanted: &Intent, order: u64) -> Option<(u64, Object<S>)> {
        let missing = wanted
            .live::<S>()
            .filter(|object| grown.get::<S>(&object.id).is_none())
            .filter(|object| object.spec.check(&object.id, grown).is_ok());
        let place = |key: &ObjectKey| {
            let mut hasher = DefaultHasher::new();
            (order, key).hash(&mut hasher);
            hasher.finish()
        };
        missing
            .map(|object| (place(&object.key()), object.as_ref().clone()))
            .min_by_key(|(place, _)| *place)
    }
    fn put<S: Spec>(grown: &mut Intent, next: Option<(u64, Object<S>)>) {
        let generation = grown.generation.next();
        if let Some((_, object)) = next {
            grown.restore(Object {
                created: generation,
                generation,
                ..object
            });
        }
    }
    let vrf = next::<VrfSpec>(grown, wanted, order);
    let bridge = next::<LogicalBridgeSpec>(grown, wanted, order);
    let port = next::<BridgePortSpec>(grown, wanted, order);
    let svi = next::<SviSpec>(grown, wanted, order);
    let places = [
        vrf.as_ref().map(|it| it.0),
        bridge.as_ref().map(|it| it.0),
        port.as_ref().map(|it| it.0),
        svi.as_ref().map(|it| it.0),
    ];
    let first = places.iter().flatten().min();
    match places
        .iter()
        .position(|place| place.is_some() && place.as_ref() == first)
    {
        Some(0) => put(grown, vrf),
        Some(1) => put(grown, bridge),
        Some(2) => put(grown, port),
        Some(_) => put(grown, svi),
        None => return false,
    }
    true
}

fn keys(intent: &Intent) -> Vec<(xpu_model::ObjectKey, bool)> {
    let mut keys = Vec::new();
    keys.extend(
        intent
            .vrfs
            .values()
            .map(|object| (object.key(), object.deleting)),
    );
    keys.extend(
        intent
            .logical_bridges
            .values()
            .map(|object| (object.key(), object.deleting)),
    );
    keys.extend(
        intent
            .bridge_ports
            .values()
            .map(|object| (object.key(), object.deleting)),
    );
    keys.extend(
        intent
            .svis
            .values()
            .map(|object| (object.key(), object.deleting)),
    );
    keys
}

/// The generator does make what the properties are about.
#[test]
fn generated_worlds_are_worth_testing() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut svis, mut l3, mut tunnels, mut ports, mut leave) = (0, 0, 0, 0, 0);
    for _ in 0..200 {
        let tree = (node(), neighbours(), ops(), ops());
        let (node, mut kernel, ops, later) = tree.new_tree(&mut runner).unwrap().current();
        let mut wanted = generate_intent(&ops);
        let facts = Frr::Unmanaged.facts(&wanted);
        kernel
            .pass(&Inputs {
                intent: &wanted,
                node: &node,
                frr: &facts,
            })
            .unwrap();
        let has = |prefix: &str| {
            kernel
                .0
                .all_ours()
                .any(|(name, _)| name.as_str().starts_with(prefix))
        };
        svis += usize::from(has("svi-"));
        l3 += usize::from(has("l3-"));
        tunnels += usize::from(kernel.0.vnis.values().any(|vnis| !vnis.is_empty()));
        ports += usize::from(kernel.0.tenant_ports().next().is_some());
        perform(&mut wanted, &later);
        leave += usize::from(!leaving(&wanted, &kernel).is_empty());
    }
    for (what, count) in [
        ("svis", svis),
        ("l3vnis", l3),
        ("l2vnis", tunnels),
        ("ports", ports),
        ("l3vnis given up", leave),
    ] {
        assert!(count > 20, "only {count} of 200 worlds have {what}");
    }
}

fn generate_intent(ops: &[generate::Op]) -> Intent {
    intent(ops)
}
