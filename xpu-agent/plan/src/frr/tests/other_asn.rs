//! A base instance of another AS than the settings', which FRR runs or is about to load.

use super::*;

/// FRR has no way to another AS but without any instance, so the running one is left alone.
#[rstest::rstest]
#[case::ours_alone(None)]
#[case::with_an_operators_line(Some("neighbor 192.0.2.1 remote-as 65009"))]
fn another_as_waits_for_a_restart_of_frr(#[case] theirs: Option<&str>) {
    let (mut node, mut intent) = (node(true), Intent::default());
    node.route_targets = RouteTargets::Fixed(Asn::try_from(65001).unwrap());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let account = made(&given(&intent, &node), &observed, &Config::default());
    let mut text = startup::merge(&given(&intent, &node), &observed, "").text;
    pass(&given(&intent, &node), &mut observed);
    if let Some(line) = theirs {
        observed.config.lines.insert(in_base(line));
        text = text.replacen(
            "router bgp 65001\n",
            &format!("router bgp 65001\n {line}\n"),
            1,
        );
    }
    let bgp = node.bgp.as_mut().unwrap();
    bgp.asn = Asn::try_from(65002).unwrap();
    bgp.peers[0].at = PeerAddress::Ip("10.254.1.9".parse().unwrap());
    node.route_targets = RouteTargets::Fixed(bgp.asn);
    let saved = startup::Saved::new(text);
    let account = made(
        &Inputs {
            made: &account,
            ..given(&intent, &node)
        },
        &observed,
        saved.config(),
    );
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    assert_eq!(plan(&inputs, &observed), FrrPlan::default());
    let reported = report(&inputs, &observed, &[]);
    // A retry would find the same.
    assert_eq!(reported.node, [""; 0]);
    let reported = reported.notices.concat();
    assert!(
        reported.contains("bgp.asn is 65002 and FRR runs `router bgp 65001`"),
        "{reported}"
    );
    // Vrfs come and go in the AS that runs.
    reshape(&mut intent, &[None, Some((Some(501), true)), None]);
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    for _ in 0..3 {
        pass(&inputs, &mut observed);
    }
    assert!(
        observed
            .config
            .has_context(Daemon::Bgpd, "router bgp 65001 vrf vrf-1")
    );
    assert!(plan(&inputs, &observed).is_empty());

    let startup::Merged {
        text: wanted,
        made: account,
    } = startup::merge(&inputs, &observed, saved.text());
    let old = wanted.contains("router bgp 65001");
    assert_eq!(old, theirs.is_some(), "{wanted}");
    if old {
        assert!(!saved.gap(&inputs, &observed).deleted.is_empty());
        return;
    }
    assert!(saved.gap(&inputs, &observed).is_behind);
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    let saved = startup::Saved::new(wanted);
    assert_eq!(saved.gap(&inputs, &observed), startup::Gap::default());
    // FRR restarts, and the lines are still known to be the agent's.
    let account = made(&inputs, &observed, saved.config());
    observed.config = saved.config().clone();
    observed.inactive_vrfs.insert("vrf-0".parse().unwrap());
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    let account = made(&inputs, &observed, saved.config());
    assert!(
        plan(&inputs, &observed).is_empty(),
        "{:?}",
        plan(&inputs, &observed)
    );
    assert_eq!(report(&inputs, &observed, &[]).notices, [""; 0]);
    node.bgp = None;
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    let left: Vec<_> = observed
        .config
        .within(&Line::new(Daemon::Bgpd, &[], "router bgp 65002"))
        .filter(|line| !line.is_context())
        .collect();
    assert_eq!(left, Vec::<&Line>::new());
}

/// As a purge, or settings without `[bgp]`, leave it.
#[rstest::rstest]
#[case::nobodys("", "router bgp 65002\n")]
#[case::with_an_empty_family(
    " address-family l2vpn evpn\n exit-address-family\n",
    "router bgp 65002\n"
)]
#[case::for_an_operators_vrf(
    "exit\nrouter bgp 65001 vrf theirs\n bgp router-id 9.9.9.9\n",
    "router bgp 65001\n"
)]
#[case::with_an_operators_line(" bgp router-id 9.9.9.9\n", "router bgp 65001\n")]
fn an_empty_instance_gets_another_as(#[case] within: &str, #[case] expected: &str) {
    let (mut node, intent) = (node(true), Intent::default());
    node.bgp.as_mut().unwrap().asn = Asn::try_from(65002).unwrap();
    let text = format!("router bgp 65001\n{within}exit\n");
    let mut running = Observed::default();
    running.config.read(Daemon::Bgpd, &text);
    let saved = startup::Saved::new(text.clone());
    let inputs = Inputs {
        saved_asn: saved.base_asn(),
        ..given(&intent, &node)
    };
    let merged = startup::merge(&inputs, &running, &text);
    assert!(merged.text.starts_with(expected), "{}", merged.text);
    let is_renamed = merged.text != text;
    assert_eq!(is_renamed, expected.contains("65002"));
    assert_eq!(saved.gap(&inputs, &running).is_behind, is_renamed);
    // FRR, restarted, has the new one, and all of it is the agent's.
    assert_eq!(merged.made.is_empty(), !is_renamed);
}

/// Daemons answer before `vtysh -b` has told them what FRR starts with.
#[test]
fn another_as_that_frr_is_about_to_load_is_not_kept_out() {
    let (mut node, mut intent) = (node(true), Intent::default());
    node.bgp.as_mut().unwrap().asn = Asn::try_from(65077).unwrap();
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    l2vni(&mut intent, Some(100));
    let theirs = "router bgp 65001\n neighbor 192.0.2.1 remote-as 65009\nexit\n";
    let saved = startup::Saved::new(theirs.to_owned());
    let inputs = Inputs {
        saved_asn: saved.base_asn(),
        ..given(&intent, &node)
    };
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    let in_bgpd = |observed: &Observed| -> Vec<String> {
        let plan = plan(&inputs, observed);
        let bgpd = plan.commands.into_iter();
        let bgpd = bgpd.filter(|it| it.line.daemon == Daemon::Bgpd);
        bgpd.map(|it| it.line.to_string()).collect()
    };
    assert_eq!(in_bgpd(&observed), [""; 0]);
    assert!(made(&inputs, &observed, saved.config()).is_empty());
    let waiting = report(&inputs, &observed, &[]);
    assert!(waiting.notices[0].contains("startup configuration has `router bgp 65001`"));
    for object in [
        VrfSpec::key(&id("vrf-0")),
        LogicalBridgeSpec::key(&id("net-0")),
    ] {
        pass(&inputs, &mut observed);
        let report = report(&inputs, &observed, &[]);
        let state = &report.objects[&object].state;
        assert!(
            matches!(state, State::Pending(reason) if reason.contains("has not loaded")),
            "{state:?}"
        );
    }
    // Loaded, it is the node's AS.
    observed
        .config
        .lines
        .extend(saved.config().lines.iter().cloned());
    assert!(report(&inputs, &observed, &[]).notices[0].contains("FRR runs `router bgp 65001`"));
    let planned = in_bgpd(&observed);
    assert!(
        !planned.is_empty()
            && planned
                .iter()
                .all(|it| it.contains("router bgp 65001 vrf vrf-0")),
        "{planned:#?}"
    );
}
