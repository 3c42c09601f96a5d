//! What is an operator's, and what was ours: the base instance and names that others use.

use super::*;

/// Settings change: another router id, VTEP and AS of the peer, a peer less, or no BGP at all.
#[rstest::rstest]
#[case::changed(true, &["no network 10.255.0.1/32", "no neighbor 10.254.1.9 activate",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.9 remote-as external",
    "neighbor 10.254.1.1 remote-as 65002", "bgp router-id 10.255.0.2", "network 10.255.0.2/32"])]
#[case::dropped(false, &["no advertise-all-vni", "no network 10.255.0.1/32",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.1 activate",
    "no neighbor 10.254.1.9 activate", "no neighbor 10.254.1.1 activate",
    "bgp ebgp-requires-policy", "no neighbor 10.254.1.1 bfd", "no bgp router-id 10.255.0.1",
    "no bgp bestpath as-path multipath-relax", "no neighbor 10.254.1.9 remote-as external",
    "no neighbor 10.254.1.1 remote-as external", "bgp default ipv4-unicast"])]
fn what_the_settings_no_longer_give_goes_and_an_operators_stays(
    #[case] stays: bool,
    #[case] expected: &[&str],
) {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let theirs = |text: &str| Line::new(Daemon::Bgpd, &["router bgp 65001"], text);
    let family = ["router bgp 65001", "address-family ipv4 unicast"];
    let kept = [
        theirs("neighbor 192.0.2.1 remote-as 65009"),
        Line::new(Daemon::Bgpd, &family, "neighbor 192.0.2.1 activate"),
    ];
    observed.config.lines.extend(kept.clone());
    let peer = |at: &str| BgpPeer {
        at: PeerAddress::Ip(at.parse().unwrap()),
        remote_as: RemoteAs::External,
        bfd: false,
    };
    node.bgp.as_mut().unwrap().peers.push(peer("10.254.1.9"));
    let account = made(&given(&intent, &node), &observed, &Config::default());
    pass(&given(&intent, &node), &mut observed);
    // A line that stood there before is not ours, though the settings give it too.
    assert!(
        !account.iter().any(|line| kept.contains(line)),
        "{account:#?}"
    );
    if stays {
        node.vtep = Some("10.255.0.2".parse().unwrap());
        let bgp = node.bgp.as_mut().unwrap();
        bgp.router_id = Ipv4Addr::new(10, 255, 0, 2);
        bgp.peers.pop();
        bgp.peers[0].remote_as = RemoteAs::Is(Asn::try_from(65002).unwrap());
    } else {
        node.bgp = None;
    }
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    let planned: Vec<_> = plan(&inputs, &observed).commands;
    let planned: Vec<_> = planned.iter().map(Command::text).collect();
    assert_eq!(planned, expected);
    let account = made(&inputs, &observed, &Config::default());
    assert_eq!(
        account.contains(&theirs("neighbor 10.254.1.1 remote-as 65002")),
        stays
    );
    pass(&inputs, &mut observed);
    for line in &kept {
        assert!(observed.config.lines.contains(line), "{line} is gone");
    }
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    // Of what went, nothing is on account any more.
    let account = made(&inputs, &observed, &Config::default());
    assert!(!account.contains(&theirs("neighbor 10.254.1.9 remote-as external")));
    assert_eq!(account.is_empty(), !stays, "{account:#?}");
}

/// The startup configuration is written later than FRR is told, or not at all for a while.
#[test]
fn what_the_file_still_has_stays_on_account() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let account = made(&given(&intent, &node), &observed, &Config::default());
    let text = startup::merge(&given(&intent, &node), &observed, "").text;
    pass(&given(&intent, &node), &mut observed);
    node.bgp.as_mut().unwrap().peers.clear();
    let peer = in_base("neighbor 10.254.1.1 remote-as external");
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    let saved = startup::Saved::new(text);
    let account = made(&inputs, &observed, saved.config());
    let inputs = Inputs {
        made: &account,
        ..inputs
    };
    assert!(account.contains(&peer));
    assert!(saved.gap(&inputs, &observed).is_behind);
    let saved = startup::Saved::new(startup::merge(&inputs, &observed, saved.text()).text);
    assert!(!saved.text().contains("10.254.1.1"), "{}", saved.text());
    assert_eq!(saved.gap(&inputs, &observed), startup::Gap::default());
    assert!(!made(&inputs, &observed, saved.config()).contains(&peer));
}

#[test]
fn an_operators_lines_that_frr_is_about_to_load_stay_his() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let theirs = "router bgp 65001\n bgp router-id 10.255.0.1\n \
                  neighbor 10.254.1.1 remote-as external\n address-family ipv4 unicast\n  \
                  network 10.255.0.1/32\n exit-address-family\nexit\n";
    let saved = startup::Saved::new(theirs.to_owned());
    let his = saved.config().lines.clone();
    let inputs = Inputs {
        saved_asn: saved.base_asn(),
        ..given(&intent, &node)
    };
    // The agent may be first, with the same words.
    let account = made(&inputs, &observed, saved.config());
    let claimed: Vec<_> = account.intersection(&his).collect();
    assert_eq!(claimed, Vec::<&Line>::new());
    assert!(account.contains(&in_base("bgp bestpath as-path multipath-relax")));
    pass(&inputs, &mut observed);
    observed.config.lines.extend(his.clone());
    node.bgp = None;
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    let left = observed.config.lines.iter();
    let left: BTreeSet<_> = left.filter(|it| !it.is_context()).cloned().collect();
    let his = his.into_iter().filter(|it| !it.is_context()).collect();
    assert_eq!(left, his);
}

/// FRR overwrites such a line, a file does not.
#[test]
fn a_setting_that_comes_back_is_in_the_file_once() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), Observed::default());
    let (mut account, mut saved) = (BTreeSet::new(), startup::Saved::default());
    for last in [1, 2, 1] {
        node.bgp.as_mut().unwrap().router_id = Ipv4Addr::new(10, 255, 0, last);
        let inputs = Inputs {
            made: &account,
            ..given(&intent, &node)
        };
        let now = made(&inputs, &observed, saved.config());
        let inputs = Inputs {
            made: &now,
            ..inputs
        };
        pass(&inputs, &mut observed);
        assert!(saved.gap(&inputs, &observed).is_behind);
        let text = startup::merge(&inputs, &observed, saved.text()).text;
        let ids: Vec<_> = text.lines().filter(|it| it.contains("router-id")).collect();
        assert_eq!(ids, [format!(" bgp router-id 10.255.0.{last}")]);
        saved = startup::Saved::new(text);
        assert_eq!(saved.gap(&inputs, &observed), startup::Gap::default());
        account = now;
    }
    // Of a file that has both, it is known that it should not.
    let both = saved.text().replace(
        " bgp router-id 10.255.0.1\n",
        " bgp router-id 10.255.0.1\n bgp router-id 10.255.0.2\n",
    );
    account.insert(in_base("bgp router-id 10.255.0.2"));
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    assert!(
        startup::Saved::new(both.clone())
            .gap(&inputs, &observed)
            .is_behind
    );
    let text = startup::merge(&inputs, &observed, &both).text;
    assert_eq!(text, saved.text());
}

#[test]
fn an_operators_line_of_the_same_words_stays() {
    let (mut node, intent, mut observed) = (node(true), Intent::default(), operators_base());
    let theirs = Line::new(
        Daemon::Bgpd,
        &["router bgp 65001"],
        "bgp router-id 10.255.0.1",
    );
    let account = made(&given(&intent, &node), &observed, &Config::default());
    pass(&given(&intent, &node), &mut observed);
    node.bgp = None;
    let inputs = Inputs {
        made: &account,
        ..given(&intent, &node)
    };
    pass(&inputs, &mut observed);
    assert!(observed.config.lines.contains(&theirs));
    assert!(plan(&inputs, &observed).is_empty());
}

/// An instance as an operator may have written it, with lines that the agent writes too.
fn operators_instance(device: &str) -> Vec<Line> {
    let instance = format!("router bgp 65001 vrf {device}");
    let family = [instance.as_str(), "address-family ipv4 unicast"];
    vec![
        Line::new(Daemon::Zebra, &[], format!("vrf {device}")),
        Line::new(Daemon::Bgpd, &[], instance.as_str()),
        Line::new(Daemon::Bgpd, &[&instance], "bgp router-id 9.9.9.9"),
        Line::new(Daemon::Bgpd, &[&instance], "neighbor 9.9.9.1 remote-as 9"),
        Line::new(Daemon::Bgpd, &[&instance], family[1]),
        Line::new(Daemon::Bgpd, &family, "redistribute connected"),
    ]
}

#[test]
fn a_vrf_whose_name_a_foreign_device_has_leaves_frr_alone_and_says_so() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let mut observed = Observed {
        version: FRR_10_3,
        ..Observed::default()
    };
    observed.config.lines.extend(operators_instance("vrf-0"));
    observed
        .config
        .lines
        .insert(Line::new(Daemon::Zebra, &["vrf vrf-0"], "vni 777"));
    let foreign = BTreeSet::from(["vrf-0".parse().unwrap()]);
    for deleted in [false, true] {
        if deleted {
            reshape(&mut intent, &[None, None, None]);
        }
        let inputs = Inputs {
            foreign: &foreign,
            ..given(&intent, &node)
        };
        let plan = plan(&inputs, &observed);
        for Command { line, .. } in &plan.commands {
            assert!(!line.to_string().contains("vrf-0"), "{line} is theirs");
        }
        let report = report(&inputs, &observed, &[]);
        let vrf = report.objects.get(&VrfSpec::key(&id("vrf-0")));
        assert_eq!(vrf.is_some(), !deleted, "a tombstone has no trace");
        for (key, component) in &report.objects {
            let reason = component.state.reason().unwrap();
            assert!(reason.contains("did not make"), "{key}: {reason}");
        }
        assert_eq!(
            facts(&inputs, &observed),
            FrrFacts::Known {
                vrfs: Default::default()
            }
        );
    }
}

#[test]
fn an_operators_instance_for_a_vrf_without_vni_stays() {
    let (node, mut intent) = (node(true), Intent::default());
    reshape(&mut intent, &[Some((None, false)), None, None]);
    let mut observed = Observed::default();
    observed.config.lines.extend(operators_instance("vrf-0"));
    for shape in [Some((None, false)), None] {
        reshape(&mut intent, &[shape, None, None]);
        let inputs = given(&intent, &node);
        pass(&inputs, &mut observed);
        for line in operators_instance("vrf-0") {
            assert!(observed.config.lines.contains(&line), "{line} is gone");
        }
        let key = VrfSpec::key(&id("vrf-0"));
        assert!(!report(&inputs, &observed, &[]).objects.contains_key(&key));
    }
}

#[test]
fn of_our_instance_an_operators_lines_stay_with_their_contexts() {
    let (node, mut intent, mut observed) = (node(true), Intent::default(), Observed::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    for _ in 0..2 {
        pass(&given(&intent, &node), &mut observed);
    }
    let instance = "router bgp 65001 vrf vrf-0";
    let theirs = Line::new(Daemon::Bgpd, &[instance], "neighbor 9.9.9.1 remote-as 9");
    let route = Line::new(Daemon::Zebra, &["vrf vrf-0"], "ip route 10.9.0.0/16 Null0");
    observed
        .config
        .lines
        .extend([theirs.clone(), route.clone()]);
    reshape(&mut intent, &[None, None, None]);
    observed.inactive_vrfs.insert("vrf-0".parse().unwrap());
    let inputs = given(&intent, &node);
    for _ in 0..3 {
        pass(&inputs, &mut observed);
    }
    assert!(observed.config.lines.contains(&theirs));
    assert!(observed.config.lines.contains(&route));
    let left: Vec<_> = observed
        .config
        .within(&Line::new(Daemon::Bgpd, &[], instance))
        .filter(|line| !line.text.starts_with("address-family "))
        .collect();
    assert_eq!(left, [&theirs], "ours is gone");
    let key = VrfSpec::key(&id("vrf-0"));
    assert!(!report(&inputs, &observed, &[]).objects.contains_key(&key));
}
