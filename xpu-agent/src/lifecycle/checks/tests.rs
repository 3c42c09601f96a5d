use super::*;

fn facts() -> Facts {
    Facts {
        kernel: "6.12.48+deb13-amd64".to_owned(),
        features: Feature::ALL.map(|it| (it, Answer::Available)).to_vec(),
        settings: Ok(()),
        frr: Some(FrrFound {
            directory: "/run/frr".to_owned(),
            version: Ok(Version {
                major: 10,
                minor: 3,
            }),
        }),
        store: Ok(()),
        store_directory: "/var/lib/xpu-agent".to_owned(),
        bridged: Ok(vec![]),
        at_stake: Ok(vec![]),
        vxlan_port: xpu_model::node::VXLAN_PORT,
        port_holder: Ok(None),
        networkd: Ok(None),
    }
}

/// Judged: the agent starts or not, and what it says of what is not good.
fn trouble(facts: &Facts) -> (bool, Vec<(&'static str, Verdict)>) {
    let checks = judge(facts);
    let not_good = checks.iter().filter(|it| it.verdict != Verdict::Good);
    for check in not_good.clone() {
        assert!(check.mend.is_some(), "{check}");
    }
    let trouble = not_good.map(|it| (it.name, it.verdict)).collect();
    (may_start(&checks), trouble)
}

#[test]
fn a_machine_as_it_should_be_has_no_trouble() {
    assert_eq!(trouble(&facts()), (true, vec![]));
    let without_frr = Facts {
        frr: None,
        ..facts()
    };
    assert_eq!(trouble(&without_frr), (true, vec![]));
}

/// Without VNI filters, and with them though the number is old.
#[rstest::rstest]
#[case("5.17.15-generic", true)]
#[case("5.14.0-570.el9.x86_64", true)]
#[case("5.4.0", true)]
#[case("4.19.0", true)]
#[case("5.18.0", false)]
#[case("5.18-rc1", false)]
#[case("6.1.0-37-amd64", false)]
fn kernels(#[case] kernel: &str, #[case] is_old: bool) {
    let facts = Facts {
        kernel: kernel.to_owned(),
        ..facts()
    };
    let told = |verdict| Vec::from_iter(is_old.then_some(("kernel", verdict)));
    assert_eq!(trouble(&facts), (true, told(Verdict::Warning)));

    // Each that is missing, or cannot be told: the number counts.
    for place in 0..facts.features.len() {
        for answer in [Answer::Missing, Answer::Unclear("EIO".to_owned())] {
            let mut facts = facts.clone();
            facts.features[place].1 = answer;
            let starts = !is_old && facts.features[place].1 != Answer::Missing;
            let (starting, mut trouble) = trouble(&facts);
            assert_eq!(starting, starts, "{facts:?}");
            trouble.retain(|(name, _)| *name == "kernel");
            assert_eq!(trouble, told(Verdict::Bad), "{facts:?}");
        }
    }
}

#[test]
fn a_missing_right_is_told_as_such_and_not_as_missing_modules() {
    let mut facts = facts();
    for (feature, answer) in &mut facts.features {
        if !matches!(feature, Feature::VlanFiltering | Feature::VniFilter) {
            *answer = Answer::Forbidden;
        }
    }
    let (starts, trouble) = trouble(&facts);
    assert!(!starts);
    let bad: Vec<_> = trouble
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Bad)
        .collect();
    assert_eq!(bad, [&("CAP_NET_ADMIN", Verdict::Bad)]);
}

#[rstest::rstest]
#[case(Feature::Bridge, "bridge")]
#[case(Feature::VlanFiltering, "vlan filtering")]
#[case(Feature::Vlan, "vlan")]
#[case(Feature::Vrf, "vrf")]
#[case(Feature::Vxlan, "vxlan")]
#[case(Feature::VniFilter, "vni filter")]
fn each_missing_feature_is_named(#[case] missing: Feature, #[case] name: &'static str) {
    let mut facts = facts();
    for (feature, answer) in &mut facts.features {
        if *feature == missing {
            *answer = Answer::Missing;
        }
    }
    assert_eq!(trouble(&facts), (false, vec![(name, Verdict::Bad)]));
}

#[rstest::rstest]
#[case(Ok(Version { major: 8, minor: 5 }), false, vec![("FRR", Verdict::Bad)])]
#[case(Ok(Version { major: 9, minor: 0 }), true, vec![])]
#[case(Err("cannot connect".to_owned()), true, vec![("FRR", Verdict::Warning)])]
fn frr_may_come_later_but_must_not_be_old(
    #[case] version: Result<Version, String>,
    #[case] starts: bool,
    #[case] expected: Vec<(&'static str, Verdict)>,
) {
    let facts = Facts {
        frr: Some(FrrFound {
            directory: "/run/frr".to_owned(),
            version,
        }),
        ..facts()
    };
    assert_eq!(trouble(&facts), (starts, expected));
}

#[test]
fn a_store_that_cannot_be_written_keeps_the_agent_from_starting() {
    let facts = Facts {
        store: Err("/var/lib: Read-only file system".to_owned()),
        ..facts()
    };
    assert_eq!(trouble(&facts), (false, vec![("store", Verdict::Bad)]));
}

#[test]
fn settings_that_cannot_be_changed_keep_the_agent_from_starting() {
    let facts = Facts {
        settings: Err("/proc/sys/net/ipv4/ip_forward: Read-only file system".to_owned()),
        ..facts()
    };
    assert_eq!(trouble(&facts), (false, vec![("sysctl", Verdict::Bad)]));
    let checks = judge(&facts);
    let check = checks.iter().find(|it| it.name == "sysctl").unwrap();
    assert!(check.found.contains("/proc/sys/net/ipv4/ip_forward"));
    assert!(check.mend.as_ref().unwrap().contains("privileged"));
}

#[rstest::rstest]
#[case("6.1.0-37-amd64", true)]
#[case("6.11.3", true)]
#[case("odd", true)]
#[case("6.12.48+deb13-amd64", false)]
#[case("7.0.0", false)]
fn filters_for_bridged_frames_are_told_once_with_what_they_may_do(
    #[case] kernel: &str,
    #[case] may_panic: bool,
) {
    let facts = Facts {
        kernel: kernel.to_owned(),
        bridged: Ok(vec!["bridge-nf-call-iptables", "bridge-nf-call-arptables"]),
        ..facts()
    };
    let (starts, mut trouble) = trouble(&facts);
    trouble.retain(|(name, _)| *name != "kernel");
    assert_eq!(
        (starts, trouble),
        (true, vec![("br_netfilter", Verdict::Warning)])
    );
    let checks = judge(&facts);
    let check = checks.iter().find(|it| it.name == "br_netfilter").unwrap();
    let each = |value| {
        format!(
            "net.bridge.bridge-nf-call-iptables={value} net.bridge.bridge-nf-call-arptables={value}"
        )
    };
    assert!(check.found.contains(&each(1)), "{check}");
    let mend = check.mend.as_ref().unwrap();
    assert!(mend.starts_with(&format!("sysctl {}; ", each(0))), "{mend}");
    assert_eq!(check.found.contains("CVE-2024-50045"), may_panic, "{check}");
    assert_eq!(mend.contains("or boot a kernel"), may_panic, "{mend}");
}

#[test]
fn filters_that_cannot_be_looked_at_are_told_as_such() {
    let facts = Facts {
        bridged: Err("Permission denied".to_owned()),
        ..facts()
    };
    let warned = vec![("br_netfilter", Verdict::Warning)];
    assert_eq!(trouble(&facts), (true, warned));
}

#[test]
fn a_check_reads_well() {
    let mut facts = Facts {
        kernel: "5.10.0".to_owned(),
        ..facts()
    };
    facts.features[5].1 = Answer::Missing;
    let kernel = judge(&facts).swap_remove(1).to_string();
    assert_eq!(
        kernel,
        "kernel           BAD      5.10.0 is older than 5.18, the first with VXLAN VNI filters\n\
         \u{20}                         → boot kernel 5.18 or later: apt install linux-image-amd64"
    );
}

#[test]
fn a_device_at_the_port_of_vxlan_is_told_by_its_name() {
    let facts = Facts {
        port_holder: Ok(Some("vxlan.calico".to_owned())),
        ..facts()
    };
    let warned = vec![("VXLAN's port", Verdict::Warning)];
    assert_eq!(trouble(&facts), (true, warned));
    let checks = judge(&facts);
    let check = checks.iter().find(|it| it.name == "VXLAN's port").unwrap();
    assert!(
        check.found.contains("vxlan.calico") && check.found.contains("4789"),
        "{check}"
    );
    assert!(
        check
            .mend
            .as_deref()
            .unwrap()
            .contains("underlay.vxlan_port"),
        "{check}"
    );
}

#[test]
fn a_networkd_that_takes_what_is_others_is_a_warning() {
    let facts = Facts {
        networkd: Ok(Some([].into())),
        ..facts()
    };
    let warned = vec![("systemd-networkd", Verdict::Warning)];
    assert_eq!(trouble(&facts), (true, warned));
}

#[test]
fn a_default_route_that_forwarding_would_take_is_told_with_the_mend() {
    let facts = Facts {
        at_stake: Ok(vec!["eth0".to_owned(), "eth1".to_owned()]),
        ..facts()
    };
    let warned = vec![("IPv6 forwarding", Verdict::Warning)];
    assert_eq!(trouble(&facts), (true, warned));
    let checks = judge(&facts);
    let check = checks.iter().find(|it| it.name == "IPv6 forwarding");
    let mend = check.and_then(|it| it.mend.clone()).unwrap();
    let each = ["eth0", "eth1"].map(|it| format!("sysctl net.ipv6.conf.{it}.accept_ra=2"));
    assert_eq!(mend, each.join("; "));
}
