//! What FRR has to look at again.

use super::*;

#[test]
fn a_port_that_comes_or_goes_is_no_news_to_frr_and_all_else_is() {
    let whole = tenant();
    let mut intent = Intent {
        bridge_ports: Default::default(),
        ..whole.clone()
    };
    let mut kernel = with_port();
    assert!(pass(&mut kernel, &intent).is_news_to_frr());
    let plan = pass(&mut kernel, &whole);
    assert!(!plan.is_empty() && !plan.is_news_to_frr(), "{plan:#?}");
    assert!(!pass(&mut kernel, &whole).is_news_to_frr());

    // In more networks, untagged in none.
    let net = LogicalBridgeSpec {
        vlan: 11.try_into().unwrap(),
        vni: None,
        vtep: None,
    };
    intent = whole;
    intent.create(id("net-b"), net, &rules()).unwrap();
    let trunk = BridgePortSpec {
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mode: PortMode::TransparentTrunk,
    };
    intent.update(id("port1"), trunk, &rules()).unwrap();
    let plan = pass(&mut kernel, &intent);
    assert!(!plan.is_empty() && !plan.is_news_to_frr(), "{plan:#?}");

    intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
    let plan = pass(&mut kernel, &intent);
    assert!(!plan.is_empty() && !plan.is_news_to_frr(), "{plan:#?}");

    intent.delete::<SviSpec>(&id("gate-a")).unwrap();
    assert!(pass(&mut kernel, &intent).is_news_to_frr());
}
