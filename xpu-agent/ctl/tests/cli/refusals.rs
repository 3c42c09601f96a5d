//! What the agent refuses, and what never reaches it.

use std::time::Duration;

use pretty_assertions::assert_eq;
use tonic::Code;

use crate::fake_agent::FakeAgent;
use crate::served::ServedAgent;
use crate::{Asked, Ran, command, run, succeed, xpuctl};

fn refused(agent: &impl Asked, words: &str, stderr: &str) {
    let expected = Ran {
        code: 1,
        stdout: String::new(),
        stderr: stderr.to_owned(),
    };
    assert_eq!(xpuctl(agent, words), expected, "{words}");
}

#[test]
fn a_taken_value_is_named_by_its_field() {
    let agent = ServedAgent::start();
    succeed(&agent, "create lb blue --vlan 100");
    refused(
        &agent,
        "create lb green --vlan 100",
        "\
xpuctl: can't create logicalBridges/green: logical_bridge.spec.vlan_id: 100 is in use by logicalBridges/blue; choose another [FAILED_PRECONDITION]
  logical_bridge.spec.vlan_id: 100 is in use by logicalBridges/blue
  reason: VALUE_IN_USE (network.opiproject.org) field=logical_bridge.spec.vlan_id holder=logicalBridges/blue value=100
  next: change what is named above first, then try again
",
    );
}

#[test]
fn who_refers_and_what_is_referred_to_is_named() {
    let agent = ServedAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    let svi = "create svi gw-a --vrf prod --lb blue --mac 02:00:00:00:00:01 --gateway 10.1.0.1/24";
    refused(
        &agent,
        svi,
        "\
xpuctl: can't create svis/gw-a: svi.spec.logical_bridge: logicalBridges/blue does not exist; create it first [FAILED_PRECONDITION]
  svi.spec.logical_bridge: logicalBridges/blue does not exist
  reason: REFERENCE_NOT_FOUND (network.opiproject.org) field=svi.spec.logical_bridge name=logicalBridges/blue
  next: change what is named above first, then try again
",
    );
    succeed(&agent, "create lb blue --vlan 100");
    succeed(&agent, svi);
    refused(
        &agent,
        "delete vrf prod",
        "\
xpuctl: can't delete vrfs/prod: vrfs/prod is in use by svis/gw-a; delete or change them first [FAILED_PRECONDITION]
  reason: OBJECT_IN_USE (network.opiproject.org) name=vrfs/prod referrers=svis/gw-a
  next: change what is named above first, then try again
",
    );
}

#[test]
fn plain_refusals_have_a_next_step() {
    let agent = ServedAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    refused(
        &agent,
        "create vrf prod --loopback 10.0.0.2/32",
        "\
xpuctl: can't create vrfs/prod: vrfs/prod exists with another spec; update it, or choose another id [ALREADY_EXISTS]
  reason: OBJECT_EXISTS (network.opiproject.org) name=vrfs/prod
  next: `xpuctl describe vrf NAME` shows the one there is; `xpuctl update vrf` changes it, or choose another id
",
    );
    refused(
        &agent,
        "describe lb none",
        "\
xpuctl: can't get logicalBridges/none: logicalBridges/none does not exist [NOT_FOUND]
  reason: OBJECT_NOT_FOUND (network.opiproject.org) name=logicalBridges/none
  next: `xpuctl list logical-bridge` shows what there is
",
    );
}

/// What the command line checks itself, an agent may see otherwise.
#[test]
fn a_field_that_is_wrong_in_itself_is_named_with_the_flags() {
    let agent = FakeAgent::start();
    agent.state().troubles = [Code::InvalidArgument].into();
    refused(
        &agent,
        "list vrf",
        "\
xpuctl: can't list vrfs: page_size: 250 is too much [INVALID_ARGUMENT]
  page_size: 250 is too much
  next: correct what is named above; `xpuctl list vrf --help` lists the flags
",
    );
}

#[test]
fn what_is_used_up_is_tried_again_only_where_the_agent_says_when() {
    let agent = ServedAgent::with(1, Duration::from_secs(10));
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    refused(
        &agent,
        "create vrf test --loopback 10.0.0.2/32",
        "\
xpuctl: can't create vrfs/test: no free routing table is left in 1001..=1001; widen vrf.table_first to vrf.table_last in the agent's configuration [RESOURCE_EXHAUSTED]
  reason: RANGE_EXHAUSTED (network.opiproject.org) range=1001..=1001 what=routing table
  next: change what is named above; the same would be refused again
",
    );
    let agent = FakeAgent::start();
    agent.state().troubles = [Code::ResourceExhausted].into();
    refused(
        &agent,
        "list vrf",
        "\
xpuctl: can't list vrfs: busy [RESOURCE_EXHAUSTED]
  next: try again in 2s
",
    );
}

#[test]
fn an_agent_that_pages_for_ever_is_found_out() {
    let agent = FakeAgent::start();
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    agent.state().endless_token = Some("again".to_owned());
    refused(
        &agent,
        "list vrf",
        "xpuctl: can't list vrfs: the agent gave page token `again` twice; is it an xpu-agent?\n",
    );
}

/// Each is refused before anything is sent: the endpoint does not exist, which would
/// otherwise be the failure. The message names the flag and the value.
#[test]
fn wrong_values_are_refused_here() {
    let port = "create port port-1 --transparent --mac";
    let bridge = "create lb blue --vlan";
    let svi = "create svi svi1 --vrf prod --lb blue --mac 02:00:00:00:00:01";
    for (words, flag, value) in [
        (format!("{bridge} 0"), "--vlan", "'0'"),
        (format!("{bridge} 4095"), "--vlan", "'4095'"),
        (format!("{bridge} x"), "--vlan", "'x'"),
        (format!("{bridge} 1 --vni 0"), "--vni", "'0'"),
        (format!("{bridge} 1 --vni 16777216"), "--vni", "'16777216'"),
        (
            format!("{bridge} 1 --vtep 10.0.0.1"),
            "--vtep",
            "'10.0.0.1'",
        ),
        ("create lb Blue --vlan 1".into(), "[ID]", "'Blue'"),
        ("create lb abc --vlan 1".into(), "[ID]", "'abc'"),
        (
            "create lb 9f8b7a6c-0000-4000-8000-000000000001 --vlan 1".into(),
            "[ID]",
            "UUID",
        ),
        (
            format!("{port} 00:00:00:00:00:00"),
            "--mac",
            "'00:00:00:00:00:00'",
        ),
        (
            format!("{port} 01:00:5e:00:00:01"),
            "--mac",
            "'01:00:5e:00:00:01'",
        ),
        (
            format!("{port} 02-00-00-00-00-01"),
            "--mac",
            "'02-00-00-00-00-01'",
        ),
        (
            "create vrf prod --loopback 10.0.0.1/33".into(),
            "--loopback",
            "'10.0.0.1/33'",
        ),
        (
            "create vrf prod --loopback 224.0.0.1/32".into(),
            "--loopback",
            "'224.0.0.1/32'",
        ),
        (
            format!("{svi} --gateway fd00::1/129"),
            "--gateway",
            "'fd00::1/129'",
        ),
        (
            format!("{svi} --gateway 10.0.0.1/24 --remote-as 5"),
            "--enable-bgp",
            "",
        ),
        (
            format!("{svi} --gateway 10.0.0.1/24 --enable-bgp"),
            "--remote-as",
            "",
        ),
        (
            format!("{svi} --gateway 10.0.0.1/24 --enable-bgp --remote-as 0"),
            "--remote-as",
            "'0'",
        ),
        (svi.to_owned(), "--gateway", ""),
        ("create vrf prod".into(), "--loopback", ""),
        (
            "create port port-1 --mac 02:00:00:00:00:01".into(),
            "--access",
            "",
        ),
        (
            format!("{port} 02:00:00:00:00:01 --access blue"),
            "--transparent",
            "",
        ),
        ("get vrf svis/blue".into(), "<NAME>", "'svis/blue'"),
        ("get router blue".into(), "<KIND>", "'router'"),
        ("list vrf --timeout 0s".into(), "--timeout", "'0s'"),
        ("list vrf --output xml".into(), "--output", "'xml'"),
    ] {
        let ran = run(command(&words).env("XPUCTL_ENDPOINT", "unix:///nowhere/agent.sock"));
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (2, ""),
            "{words}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains(flag) && ran.stderr.contains(value),
            "{words}: {} does not name {flag} and {value}",
            ran.stderr
        );
    }
}
