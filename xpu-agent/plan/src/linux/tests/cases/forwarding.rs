//! What the node itself forwards, and keeps.

use pretty_assertions::assert_eq;

use super::*;

fn inputs<'a>(intent: &'a Intent, node: &'a Node) -> Inputs<'a> {
    Inputs {
        intent,
        node,
        frr: &FrrFacts::Unmanaged,
    }
}

const FORWARD: &str = "switch IPv6 forwarding on";

#[test]
fn a_node_keeps_the_default_route_that_a_router_advertised() {
    let (nobody, node) = (Intent::default(), node());
    let mut kernel = with_port();
    kernel.0.advertised.insert(named("eth0"));
    let plan = kernel.pass(&inputs(&nobody, &node)).unwrap();
    assert!(!words(&plan.steps).contains(&FORWARD.to_owned()));
    let observed = kernel.observe(&inputs(&nobody, &node));
    let reported = report(&inputs(&nobody, &node), &observed, &[]);
    let [notice] = &reported.notices[..] else {
        panic!("{reported:?}");
    };
    assert!(
        notice.contains("`sysctl net.ipv6.conf.eth0.accept_ra=2`"),
        "{notice}"
    );
    assert!(!reported.wants_retry(), "{reported:?}");

    // Who needs it says so, and has all the rest.
    let tenant = tenant();
    kernel.pass(&inputs(&tenant, &node)).unwrap();
    let observed = kernel.observe(&inputs(&tenant, &node));
    let reported = report(&inputs(&tenant, &node), &observed, &[]);
    let Some(State::Error(reason)) = state(&reported, xpu_model::Kind::Svi, "gate-a") else {
        panic!("{reported:?}");
    };
    assert!(reason.contains("eth0"), "{reason}");
    for (kind, name) in [
        (xpu_model::Kind::Vrf, "blue"),
        (xpu_model::Kind::BridgePort, "port1"),
    ] {
        assert_eq!(state(&reported, kind, name), Some(State::Success));
    }

    // accept_ra is 2 now: the route stays.
    kernel.0.advertised.clear();
    let plan = kernel.pass(&inputs(&tenant, &node)).unwrap();
    assert_eq!(words(&plan.steps), [FORWARD]);
    let observed = kernel.observe(&inputs(&tenant, &node));
    let reported = report(&inputs(&tenant, &node), &observed, &[]);
    assert!(reported.notices.is_empty(), "{reported:?}");
    let gateway = state(&reported, xpu_model::Kind::Svi, "gate-a");
    assert_eq!(gateway, Some(State::Success));
}

/// A node that forwards already has no such route to lose, and a tenant that advertises itself on
/// a gateway does not keep the node from forwarding.
#[test]
fn what_a_tenant_advertises_does_not_count() {
    let (tenant, node) = (tenant(), node());
    let mut kernel = with_port();
    kernel.pass(&inputs(&tenant, &node)).unwrap();
    let mut observed = kernel.observe(&inputs(&tenant, &node));
    observed.forwarding.remove(&Family::V6);
    observed.advertised.insert(named("svi-10"));
    let plan = plan(&inputs(&tenant, &node), &observed);
    assert_eq!(words(&plan.steps), [FORWARD]);
    let reported = report(&inputs(&tenant, &node), &observed, &[]);
    assert!(reported.notices.is_empty(), "{reported:?}");
}

#[test]
fn a_filter_that_our_devices_cannot_set_aside_is_told_once_it_matters() {
    let (nobody, tenant, node) = (Intent::default(), tenant(), node());
    let mut kernel = with_port();
    let mut notices = |intent: &Intent, rp_strict| {
        kernel.0.rp_strict = rp_strict;
        let inputs = inputs(intent, &node);
        kernel.pass(&inputs).unwrap();
        report(&inputs, &kernel.observe(&inputs), &[]).notices
    };
    assert!(notices(&nobody, true).is_empty());
    assert!(notices(&tenant, false).is_empty());
    let reported = notices(&tenant, true);
    assert_eq!(reported.len(), 1);
    assert!(
        reported[0].contains("`sysctl net.ipv4.conf.all.rp_filter=0`"),
        "{reported:?}"
    );
}
