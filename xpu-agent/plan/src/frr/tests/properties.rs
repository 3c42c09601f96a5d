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

fn has_bgp_svi(intent: &Intent, vrf: &Object<VrfSpec>) -> bool {
    intent
        .live::<SviSpec>()
        .any(|svi| svi.spec.vrf == vrf.id && svi.spec.bgp.is_some())
}
