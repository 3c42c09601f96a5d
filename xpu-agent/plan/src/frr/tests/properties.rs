//! Laws that hold for any intent.

use proptest::{collection::vec, prelude::*};

use super::*;

proptest! {
    #[test]
    fn from_any_intent_to_any_other_and_theirs_stays(
        shapes in vec(shape(), 1..4),
        with_bgp in any::<bool>(),
    ) {
        let (node, mut intent, mut observed) =
            (node(with_bgp), Intent::default(), operators_base());
        for shape in &shapes {
            reshape(&mut intent, shape);
            let inputs = given(&intent, &node);
            let mut passes = 0;
            loop {
                let plan = plan(&inputs, &observed);
                for Command { line, .. } in &plan.commands {
                    prop_assert!(!foreign().contains(line), "{line} is theirs");
                    prop_assert!(!line.to_string().contains("theirs"), "{line} is among theirs");
                }
                if plan.is_empty() {
                    break;
                }
                passes += 1;
                prop_assert!(passes <= 3, "does not settle: {plan:?}");
                apply(&mut observed, &plan);
            }
            for vrf in intent.vrfs.values() {
                let device = &vrf.allocation.device;
                let wanted = (!vrf.deleting).then_some(vrf.spec.vni).flatten();
                prop_assert_eq!(observed.configured_vni(device), wanted);
                let bgp = !vrf.deleting && (vrf.spec.vni.is_some() || has_bgp_svi(&intent, vrf));
                prop_assert_eq!(observed.bgp_instance(device).is_some(), bgp);
            }
            // The way does not matter: the same lines as from nothing.
            let mut fresh = operators_base();
            for _ in 0..3 {
                pass(&inputs, &mut fresh);
            }
            prop_assert_eq!(ours(&observed), ours(&fresh));
            for line in foreign() {
                prop_assert!(observed.config.lines.contains(&line), "{line} is gone");
            }
        }
    }
}

/// What zebra shows of its VRFs and of the L3VNIs that reached it: all that are configured but
/// those of some Vrfs.
fn show(observed: &mut Observed, intent: &Intent, lost: &BTreeSet<IfName>) {
    let devices = || intent.vrfs.values().map(|vrf| &vrf.allocation.device);
    observed.active_vrfs = devices().cloned().collect();
    let configured = devices().filter(|device| !lost.contains(*device));
    let l3vnis = configured.filter_map(|device| {
        let l3 = L3Vni {
            vni: observed.configured_vni(device)?,
            up: false,
            vxlan: None,
            svi: None,
            router_mac: None,
        };
        Some((device.clone(), l3))
    });
    observed.l3vnis = l3vnis.collect();
    observed.named = Some(Named {
        vrfs: observed.l3vnis.keys().map(ToString::to_string).collect(),
        vnis: observed.l2vnis.keys().copied().collect(),
    });
}

proptest! {
    /// On its way to zebra a line can be lost. It is told anew in two passes, never at first sight,
    /// and never while a device of the L3VNI is there; nor is one made meanwhile.
    #[test]
    fn a_vni_that_never_reached_zebra_is_told_anew(
        shape in shape(),
        picked in vec(any::<bool>(), 3),
        has_devices in any::<bool>(),
    ) {
        let (node, mut intent) = (node(true), Intent::default());
        reshape(&mut intent, &shape);
        let mut observed = operators_base();
        let inputs = given(&intent, &node);
        for _ in 0..3 {
            pass(&inputs, &mut observed);
        }
        let settled = observed.clone();
        let vrfs = intent.live::<VrfSpec>().zip(picked);
        let lost: BTreeSet<_> = vrfs
            .filter(|(vrf, is_picked)| *is_picked && vrf.spec.vni.is_some())
            .map(|(vrf, _)| vrf.allocation.device.clone())
            .collect();
        show(&mut observed, &intent, &lost);
        if has_devices {
            let vnis = lost.iter().filter_map(|device| observed.configured_vni(device));
            let found = L2Vni { vxlan: Some(ownership::L3_VXLAN.to_owned()), ..L2Vni::default() };
            observed.l2vnis = vnis.map(|vni| (vni, found.clone())).collect();
            let named = observed.named.get_or_insert_default();
            named.vnis.extend(observed.l2vnis.keys());
        }
        prop_assert!(plan(&inputs, &observed).is_empty(), "it may be on its way");
        prop_assert_eq!(&super::super::lost(&inputs, &observed), &lost);
        let known = facts(&inputs, &observed);
        for vrf in intent.live::<VrfSpec>() {
            let Some(vni) = vrf.spec.vni else { continue };
            let is_lost = lost.contains(&vrf.allocation.device);
            prop_assert_eq!(known.is_ready(&vrf.id, vni), !is_lost);
            prop_assert!(known.may_hold(&vrf.id, vni), "what is there stays");
        }

        let again = Inputs { lost: &lost, ..inputs };
        let retold = plan(&again, &observed);
        if has_devices {
            prop_assert!(retold.is_empty(), "{retold:?}");
            return Ok(());
        }
        let unread = Observed { named: None, ..observed.clone() };
        prop_assert!(plan(&again, &unread).is_empty(), "an answer that says nothing is no loss");
        prop_assert_eq!(retold.len(), lost.len());
        for Command { line, add } in &retold.commands {
            prop_assert!(!add && line.text.starts_with("vni "), "{line}");
            let device = line.path[0].strip_prefix("vrf ").unwrap();
            prop_assert!(lost.iter().any(|it| it.as_str() == device), "{line}");
        }
        apply(&mut observed, &retold);
        show(&mut observed, &intent, &lost);
        for vrf in intent.live::<VrfSpec>().filter(|it| lost.contains(&it.allocation.device)) {
            let Some(vni) = vrf.spec.vni else { continue };
            prop_assert!(!facts(&again, &observed).is_ready(&vrf.id, vni));
        }
        // As a next pass does, whether or not it still has them for lost.
        let second = plan(&again, &observed);
        prop_assert_eq!(second.len(), lost.len());
        for Command { line, add } in &second.commands {
            prop_assert!(*add && line.text.starts_with("vni "), "{line}");
        }
        apply(&mut observed, &second);
        prop_assert_eq!(&observed.config, &settled.config);
        show(&mut observed, &intent, &BTreeSet::new());
        prop_assert!(plan(&again, &observed).is_empty());
    }
}

fn has_bgp_svi(intent: &Intent, vrf: &Object<VrfSpec>) -> bool {
    intent
        .live::<SviSpec>()
        .any(|svi| svi.spec.vrf == vrf.id && svi.spec.bgp.is_some())
}
