use std::collections::BTreeSet;

use pretty_assertions::assert_eq;
use xpu_model::{Spec, VrfSpec};

use super::*;
use crate::frr::{Line, config::is_end, tests::*};

/// As Debian ships it, with an operator's hand in it.
const THEIRS: &str = "# default to using syslog\n\
    log syslog informational\n\
    !\n\
    ! the management network\n\
    vrf mgmt\n ip route 0.0.0.0/0 192.0.2.254\nexit-vrf\n\
    !\n\
    router bgp 65001\n bgp router-id 10.255.0.1\n ! the other rack\n \
    neighbor 192.0.2.1 remote-as 65009\n !\n \
    address-family ipv4 unicast\n  redistribute static\n exit-address-family\nexit\n\
    !\n\
    route-map X permit 10\nexit\n\
    end\n";

fn merge(inputs: &Inputs<'_>, running: &Observed, text: &str) -> String {
    super::merge(inputs, running, text).text
}

fn running() -> Observed {
    let mut observed = Observed::default();
    let profile = Line::new(Daemon::Bgpd, &[], "frr defaults datacenter");
    observed.config.lines.insert(profile);
    observed
}

#[test]
fn our_lines_go_where_they_belong_and_theirs_stay() {
    let (node, mut intent) = (node(true), xpu_model::Intent::default());
    reshape(&mut intent, &[Some((Some(500), false)), None, None]);
    let merged = merge(&given(&intent, &node), &running(), THEIRS);
    let expected = "# default to using syslog\n\
        log syslog informational\n\
        !\n\
        ! the management network\n\
        vrf mgmt\n ip route 0.0.0.0/0 192.0.2.254\nexit-vrf\n\
        !\n\
        router bgp 65001\n bgp router-id 10.255.0.1\n \
        neighbor 10.254.1.1 remote-as external\n \
        bgp bestpath as-path multipath-relax\n \
        neighbor 10.254.1.1 bfd\n \
        no bgp default ipv4-unicast\n \
        ! the other rack\n \
        neighbor 192.0.2.1 remote-as 65009\n !\n \
        address-family ipv4 unicast\n  redistribute static\n  \
        neighbor 10.254.1.1 activate\n  network 10.255.0.1/32\n exit-address-family\n \
        address-family l2vpn evpn\n  neighbor 10.254.1.1 activate\n  advertise-all-vni\n \
        exit-address-family\n\
        exit\n\
        !\n\
        route-map X permit 10\nexit\n\
        vrf vrf-0\n vni 5000\nexit-vrf\n\
        router bgp 65001 vrf vrf-0\n \
        bgp router-id 10.255.100.1\n \
        no bgp default ipv4-unicast\n \
        address-family ipv4 unicast\n  redistribute connected\n  redistribute static\n \
        exit-address-family\n \
        address-family ipv6 unicast\n  redistribute connected\n  redistribute static\n \
        exit-address-family\n \
        address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n  \
        rd 10.255.100.1:1001\n exit-address-family\nexit\n\
        end\n";
    assert_eq!(merged, expected);
    let again = merge(&given(&intent, &node), &running(), &merged);
    assert_eq!(again, merged, "nothing is left to do");
}

/// FRR has contexts in a BGP instance that the agent knows nothing of (`bmp targets`).
#[test]
fn our_lines_do_not_come_between_a_line_of_theirs_and_what_is_below_it() {
    let (node, intent) = (node(true), xpu_model::Intent::default());
    let targets =
        " bmp targets rack\n  bmp connect 192.0.2.9 port 5000 min-retry 100 max-retry 200\n exit\n";
    let theirs = format!("router bgp 65001\n bgp router-id 10.255.0.1\n{targets}exit\n");
    let merged = merge(&given(&intent, &node), &running(), &theirs);
    assert!(merged.contains(targets), "{merged}");
    assert!(merged.contains(" neighbor 10.254.1.1 remote-as external\n"));
    let again = merge(&given(&intent, &node), &running(), &merged);
    assert_eq!(again, merged, "nothing is left to do");
}

#[rstest::rstest]
fn what_is_gone_leaves_the_file_as_it_was(
    #[values("65001", "0.65001", "65001 as-notation dot")] asn: &str,
) {
    let header = |asn: &str| format!("router bgp {asn}\n");
    let theirs = &THEIRS.replace(&header("65001"), &header(asn));
    let (node, mut intent) = (node(true), xpu_model::Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let inputs = given(&intent, &node);
    let mut before = Observed::default();
    before.config.read(Daemon::Bgpd, theirs);
    let made = crate::frr::made(&inputs, &before, &Config::default());
    let merged = merge(&inputs, &running(), theirs);
    assert!(
        merged.contains("vni 5000") && merged.contains("peer-group"),
        "{merged}"
    );
    let instances = merged
        .lines()
        .filter(|line| line.starts_with("router bgp "));
    assert_eq!(instances.count(), 2, "{merged}");
    // An operator's `write memory` keeps the lines and not their places; more VNIs come and go.
    reshape(&mut intent, &[Some((Some(501), true)), None, None]);
    let changed = merge(&given(&intent, &node), &running(), &merged);
    assert!(
        !changed.contains("vni 5000") && changed.contains("vni 5010"),
        "{changed}"
    );
    reshape(&mut intent, &[None, None, None]);
    let without = xpu_model::Node { bgp: None, ..node };
    let inputs = Inputs {
        made: &made,
        ..given(&intent, &without)
    };
    let left = merge(&inputs, &running(), &changed);
    // Contexts that are empty now may stay.
    let speaks = |text: &str| {
        let lines = text.lines().filter(|line| !is_end(line));
        let kept = lines.filter(|line| !line.contains("address-family l2vpn evpn"));
        kept.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(speaks(&left), speaks(theirs));
}

#[test]
fn a_file_that_is_not_there_is_made_of_our_lines() {
    let (node, intent) = (node(true), xpu_model::Intent::default());
    let merged = merge(&given(&intent, &node), &running(), "");
    assert!(
        merged.starts_with("router bgp 65001\n neighbor 10.254.1.1 remote-as"),
        "{merged}"
    );
    assert!(merged.ends_with("exit\n"), "{merged}");
    let nothing = xpu_model::Node { bgp: None, ..node };
    assert_eq!(merge(&given(&intent, &nothing), &running(), ""), "");
}

/// Written by hand: no indentation, no closing words.
#[test]
fn a_file_in_another_style_gets_our_lines_as_a_whole() {
    let (node, intent) = (node(true), xpu_model::Intent::default());
    let text = "router bgp 65001\nbgp router-id 10.255.0.1\naddress-family l2vpn evpn\n\
        neighbor 192.0.2.1 activate\n";
    let merged = merge(&given(&intent, &node), &running(), text);
    for line in text.lines() {
        assert!(
            merged.lines().any(|it| it == line),
            "{line} is gone: {merged}"
        );
    }
    let again = merge(&given(&intent, &node), &running(), &merged);
    assert_eq!(again, merged);
}

proptest::proptest! {
    /// Whatever the file says, merging ends, keeps what is not ours, and then has nothing to do.
    #[test]
    fn merging_is_done_in_one_go(
        lines in proptest::collection::vec(proptest::sample::select(&[
            "router bgp 65001", " bgp router-id 1.2.3.4", "exit", "!", "", "vrf vrf-0", " vni 777",
            "exit-vrf", " address-family l2vpn evpn", "  advertise-all-vni",
            " exit-address-family", "router bgp 65001 vrf vrf-0", "end", " no bgp default ipv4-unicast",
            "ip route 192.0.2.0/24 Null0", "  neighbor x activate", "# a comment", "\tvni 5",
        ][..]), 0..24),
        shape in shape(),
    ) {
        let (node, mut intent) = (node(true), xpu_model::Intent::default());
        reshape(&mut intent, &[shape[0], None, None]);
        let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        let inputs = given(&intent, &node);
        let merged = merge(&inputs, &running(), &text);
        proptest::prop_assert_eq!(&merge(&inputs, &running(), &merged), &merged);
        let theirs = |text: &str| text.lines().filter(|line| line.starts_with("ip route")).count();
        proptest::prop_assert_eq!(theirs(&merged), theirs(&text));
        let live = intent.live::<VrfSpec>().filter_map(|vrf| vrf.spec.vni);
        let wanted: BTreeSet<_> = live.map(|vni| format!(" vni {vni}")).collect();
        for line in wanted {
            proptest::prop_assert!(merged.lines().any(|it| it == line), "{line} is not in {merged}");
        }
    }
}

#[test]
fn a_deleted_vrf_is_known_to_be_in_the_file_until_it_has_left_it() {
    let (node, mut intent) = (node(true), xpu_model::Intent::default());
    reshape(&mut intent, &[Some((Some(500), true)), None, None]);
    let text = merge(&given(&intent, &node), &running(), "");
    assert_eq!(gap(&intent, &text), Gap::default());
    reshape(&mut intent, &[None, None, None]);
    let deleted = vec![VrfSpec::key(&"vrf-0".parse().unwrap())];
    // With its lines, or with nothing but the words around them.
    for text in [text.as_str(), "vrf vrf-0\nexit-vrf\n"] {
        let behind = gap(&intent, text);
        assert!(behind.is_behind);
        assert_eq!(behind.deleted, deleted);
        let left = merge(&given(&intent, &node), &running(), text);
        assert!(!left.contains("vrf-0"), "{left}");
        assert_eq!(gap(&intent, &left), Gap::default());
    }
    // What an operator has in there stays, and nothing waits for that.
    let theirs = "vrf vrf-0\n ip route 10.9.0.0/16 Null0\nexit-vrf\n";
    let left = merge(&given(&intent, &node), &running(), theirs);
    assert!(left.starts_with(theirs), "{left}");
    assert_eq!(gap(&intent, theirs).deleted, []);
}

fn gap(intent: &xpu_model::Intent, text: &str) -> Gap {
    Saved::new(text.to_owned()).gap(&given(intent, &node(true)), &running())
}

/// A pass asks each time, and a merge places line by line: neither may look through the whole file
/// for each.
#[test]
fn thousands_of_vrfs_are_merged_in_no_time() {
    let (node, mut intent) = (node(true), xpu_model::Intent::default());
    let rules = xpu_model::alloc::AllocationRules {
        tables: 1001..=9000,
        node_seed: [0; 16],
        foreign_devices: BTreeSet::new(),
    };
    for number in 0..2000_u32 {
        let spec = VrfSpec {
            vni: Some(xpu_model::Vni::try_from(number + 1).unwrap()),
            loopback: "10.255.100.1/32".parse().unwrap(),
            vtep: None,
        };
        let id = format!("vrf-{number}").parse().unwrap();
        intent.create(id, spec, &rules).unwrap();
    }
    let inputs = given(&intent, &node);
    let started = std::time::Instant::now();
    let text = merge(&inputs, &running(), "");
    assert_eq!(text.matches("exit-vrf\n").count(), 2000);
    let saved = Saved::new(text);
    assert_eq!(saved.gap(&inputs, &running()), Gap::default());
    // Some 100 ms; a minute and more, line by line.
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
