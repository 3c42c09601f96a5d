//! `apply`, `diff`, `export`: files become objects, and objects files.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use crate::fake_agent::FakeAgent;
use crate::served::ServedAgent;
use crate::{Asked, Ran, command, run, succeed, xpuctl};

const TENANT: &str = "\
kind: Svi
name: gw-blue
spec:
  vrf: prod
  logicalBridge: blue
  macAddress: 02:00:00:00:00:fe
  gwIpPrefix: [10.1.0.1/24]
---
kind: LogicalBridge
name: blue
spec: {vlanId: 100, vni: 10100}
---
kind: Vrf
name: prod
spec: {vni: 5001, loopbackIpPrefix: 10.0.0.1/32}
---
kind: BridgePort
name: access
spec: {macAddress: 02:00:00:00:00:01, ptype: ACCESS, logicalBridges: [blue]}
";

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("tenant.yaml");
    fs::write(&path, text).expect("a file");
    (folder, path)
}

fn on_file(agent: &impl Asked, words: &str, text: &str) -> Ran {
    let (_folder, path) = file(text);
    let mut xpuctl = command(words);
    run(xpuctl
        .arg("-f")
        .arg(path)
        .env("XPUCTL_ENDPOINT", agent.endpoint()))
}

fn on_stdin(agent: &impl Asked, words: &str, text: &str) -> Ran {
    let mut xpuctl: Command = command(words);
    xpuctl.env("XPUCTL_ENDPOINT", agent.endpoint());
    let child = xpuctl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("xpuctl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("is read");
    drop(stdin);
    let output = child.wait_with_output().expect("xpuctl ends");
    Ran {
        code: output.status.code().expect("xpuctl exits"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

#[test]
fn apply_makes_in_order_and_then_has_nothing_to_do() {
    let agent = FakeAgent::start();
    let made = on_file(&agent, "apply", TENANT);
    assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    assert_eq!(
        made.stdout,
        "\
+ vrfs/prod
    loopbackIpPrefix: 10.0.0.1/32
    vni: 5001
+ logicalBridges/blue
    vlanId: 100
    vni: 10100
+ bridgePorts/access
    logicalBridges: blue
    macAddress: 02:00:00:00:00:01
    ptype: ACCESS
+ svis/gw-blue
    gwIpPrefix: 10.1.0.1/24
    logicalBridge: blue
    macAddress: 02:00:00:00:00:fe
    vrf: prod
4 to create, 0 to change, 0 to delete; 0 as wanted
vrfs/prod created
logicalBridges/blue created
bridgePorts/access created
svis/gw-blue created
"
    );
    for words in ["apply --exit-code", "diff", "apply --dry-run"] {
        let again = on_file(&agent, words, TENANT);
        let nothing = Ran {
            code: 0,
            stdout: "nothing to change; 4 as wanted\n".into(),
            stderr: String::new(),
        };
        assert_eq!(again, nothing, "{words}");
    }
}

#[test]
fn a_change_is_shown_by_field_and_sent_by_mask() {
    let agent = FakeAgent::start();
    assert_eq!(on_file(&agent, "apply", TENANT).code, 0);
    let text = TENANT
        .replace("vni: 5001, ", "")
        .replace("[10.1.0.1/24]", "[10.1.0.1/24, fd00::1/64]");
    let shown = "\
~ vrfs/prod
    vni: 5001 -> none
~ svis/gw-blue
    gwIpPrefix: 10.1.0.1/24 -> 10.1.0.1/24, fd00::1/64
0 to create, 2 to change, 0 to delete; 2 as wanted
";
    for words in ["diff", "apply --dry-run"] {
        let ran = on_file(&agent, words, &text);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, shown), "{words}");
    }
    let vni = |agent: &FakeAgent| {
        agent.state().vrfs["vrfs/prod"]
            .spec
            .clone()
            .expect("a spec")
            .vni
    };
    assert_eq!(vni(&agent), Some(5001), "nothing was changed by looking");
    let ran = on_stdin(&agent, "apply --exit-code -f -", &text);
    assert_eq!((ran.code, ran.stderr.as_str()), (4, ""));
    assert!(
        ran.stdout
            .ends_with("vrfs/prod changed\nsvis/gw-blue changed\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(vni(&agent), None);
    assert_eq!(agent.state().last_mask, ["spec.gw_ip_prefix"]);
}

#[test]
fn prune_asks_first_and_leaves_pods_and_other_kinds_alone() {
    let agent = FakeAgent::start();
    assert_eq!(on_file(&agent, "apply", TENANT).code, 0);
    succeed(&agent, "create lb grey --vlan 7");
    succeed(
        &agent,
        "create port cni-0123456789abcdef --mac 02:00:00:00:00:02 --access blue",
    );
    let (bridge, port) = (
        "kind: LogicalBridge\nname: blue\nspec: {vlanId: 100, vni: 10100}\n",
        "kind: BridgePort\nname: other\nspec: {macAddress: 02:00:00:00:00:03, ptype: TRUNK}\n",
    );
    let asked = on_file(&agent, "apply --prune", bridge);
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert!(
        agent
            .state()
            .logical_bridges
            .contains_key("logicalBridges/grey")
    );

    let pruned = on_file(
        &agent,
        "apply --prune --yes",
        &format!("{bridge}---\n{port}"),
    );
    assert_eq!((pruned.code, pruned.stderr.as_str()), (0, ""));
    let state = agent.state();
    let names: Vec<_> = state.bridge_ports.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["bridgePorts/cni-0123456789abcdef", "bridgePorts/other"]
    );
    assert_eq!(state.logical_bridges.len(), 1);
    assert_eq!(
        (state.vrfs.len(), state.svis.len()),
        (1, 1),
        "kinds that no manifest names"
    );
}

#[test]
fn what_is_refused_does_not_keep_the_rest_from_being_made() {
    let agent = ServedAgent::start();
    succeed(&agent, "create lb green --vlan 100");
    let more = "---\nkind: LogicalBridge\nname: grey\nspec: {vlanId: 7}\n";
    let ran = on_file(&agent, "apply", &format!("{TENANT}{more}"));
    assert_eq!(ran.code, 1);
    // The network is not made, so neither is who needs it.
    for part in [
        "logical_bridge.spec.vlan_id: 100 is in use by logicalBridges/green",
        "can't create bridgePorts/access: ",
        "can't create svis/gw-blue: ",
        "\nxpuctl: 3 of 5 changes were refused\n",
    ] {
        assert!(ran.stderr.contains(part), "{} lacks {part}", ran.stderr);
    }
    assert_eq!(succeed(&agent, "list vrf -o name"), "vrfs/prod\n");
    let bridges = succeed(&agent, "list lb -o name");
    assert_eq!(bridges, "logicalBridges/green\nlogicalBridges/grey\n");
}

#[test]
fn a_value_is_taken_when_it_is_given_up_and_a_swap_is_refused() {
    let networks = |vlans: [u16; 2]| {
        let [a, b] = vlans;
        format!(
            "kind: LogicalBridge\nname: net-a\nspec: {{vlanId: {a}}}\n---\n\
             kind: LogicalBridge\nname: net-b\nspec: {{vlanId: {b}}}\n"
        )
    };
    let agent = ServedAgent::start();
    assert_eq!(
        on_stdin(&agent, "apply -f -", &networks([100, 200])).code,
        0
    );
    let ran = on_stdin(&agent, "apply -f -", &networks([200, 300]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let before = succeed(&agent, "export lb");
    for words in ["apply -f -", "diff -f -"] {
        let ran = on_stdin(&agent, words, &networks([300, 200]));
        assert_eq!(ran.code, 2, "{words}: {}", ran.stderr);
        assert_eq!(
            ran.stderr,
            "\
xpuctl: it can't be done at once: logicalBridges/net-a takes vlanId 300 from logicalBridges/net-b; logicalBridges/net-b takes vlanId 200 from logicalBridges/net-a; nothing was changed
  next: do it in two steps: first have one of them take a value that nobody has, or let go of it, then apply this
"
        );
        assert!(
            ran.stdout
                .ends_with("2 to change, 0 to delete; 0 as wanted\n"),
            "{}",
            ran.stdout
        );
    }
    assert_eq!(succeed(&agent, "export lb"), before);
}

#[test]
fn a_reader_that_goes_keeps_no_change_from_being_made() {
    fn unread(agent: &impl Asked, words: &str) -> i32 {
        let (_folder, path) = file(TENANT);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut xpuctl = command(words);
        let status = xpuctl
            .arg("-f")
            .arg(path)
            .env("XPUCTL_ENDPOINT", agent.endpoint())
            .stdout(writer)
            .status();
        status.expect("xpuctl starts").code().expect("xpuctl exits")
    }
    for (words, code) in [("apply", 0), ("apply --exit-code", 4)] {
        let agent = FakeAgent::start();
        assert_eq!(unread(&agent, "diff"), 4);
        assert_eq!(unread(&agent, words), code, "{words}");
        assert_eq!(agent.state().svis.len(), 1, "the last change is made too");
        assert_eq!(unread(&agent, "apply --exit-code"), 0, "nothing is left");
        assert_eq!(unread(&agent, "diff"), 0);
    }
    let agent = ServedAgent::start();
    succeed(
        &agent,
        "create port access --mac 02:00:00:00:00:09 --transparent",
    );
    succeed(
        &agent,
        "create port other --mac 02:00:00:00:00:01 --transparent",
    );
    assert_eq!(unread(&agent, "apply"), 1, "one is refused");
    assert_eq!(succeed(&agent, "list svi -o name"), "svis/gw-blue\n");
}

#[test]
fn a_wrong_manifest_changes_nothing() {
    let agent = FakeAgent::start();
    let ran = on_file(
        &agent,
        "apply",
        &format!("{TENANT}---\nkind: Vrf\nname: broken\nspec: {{}}\n"),
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    let parts = ["tenant.yaml, document 5", "vrfs/broken", "loopbackIpPrefix"];
    assert!(
        parts.iter().all(|part| ran.stderr.contains(part)),
        "{}",
        ran.stderr
    );
    assert!(agent.state().vrfs.is_empty());
}

#[test]
fn export_comes_back_by_apply() {
    let agent = FakeAgent::start();
    assert_eq!(on_file(&agent, "apply", TENANT).code, 0);
    succeed(
        &agent,
        "create port trunk --mac 02:00:00:00:00:04 --transparent",
    );
    succeed(
        &agent,
        "create port cni-0123456789abcdef --mac 02:00:00:00:00:02 --access blue",
    );
    for words in ["export", "-o json export", "-o yaml export"] {
        let exported = succeed(&agent, words);
        assert!(!exported.contains("cni-"), "{exported}");
        let same = on_stdin(&agent, "diff -f -", &exported);
        assert_eq!(
            (same.code, same.stderr.as_str()),
            (0, ""),
            "{words}: {}",
            same.stdout
        );
        let elsewhere = FakeAgent::start();
        assert_eq!(on_stdin(&elsewhere, "apply -f -", &exported).code, 0);
        assert_eq!(succeed(&elsewhere, words), exported);
    }
    assert!(succeed(&agent, "export ports --with-pods").contains("cni-0123456789abcdef"));
    // What the API itself prints is taken too.
    let list = succeed(&agent, "-o json list svi");
    assert_eq!(on_stdin(&agent, "diff -f -", &list).code, 0);
    let yaml = succeed(&agent, "-o yaml get vrf prod");
    assert_eq!(on_stdin(&agent, "diff -f -", &yaml).code, 0);
}

/// Creates an object without an id, and gives the name that the agent made.
fn made(agent: &ServedAgent, words: &str) -> String {
    let name = succeed(agent, &format!("create {words} -o name"));
    name.trim_end().to_owned()
}

#[test]
fn ids_that_the_agent_made_do_not_come_back_elsewhere_but_by_other_names() {
    let agent = ServedAgent::start();
    let bridge = made(&agent, "lb --vlan 7");
    succeed(&agent, "create lb blue --vlan 8");
    succeed(&agent, "create vrf prod --loopback 10.0.0.1/32");
    let gateway = "--mac 02:00:00:00:00:fe --gateway 10.1.0.1/24";
    succeed(
        &agent,
        &format!("create svi gw-1 --vrf prod --lb {bridge} {gateway}"),
    );

    let ran = xpuctl(&agent, "export");
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains(&bridge), "{}", ran.stderr);
    assert!(ran.stderr.contains("--rename"), "{}", ran.stderr);
    let exported = ran.stdout;
    // Who refers to it is as useless elsewhere.
    assert!(xpuctl(&agent, "export svi").stderr.contains(&bridge));
    assert_eq!(xpuctl(&agent, "export vrf").stderr, "");

    // Where the object is, its manifest changes it.
    let changed = exported.replace("vlanId: 7", "vlanId: 9");
    let ran = on_stdin(&agent, "apply -f -", &changed);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(
        ran.stdout.ends_with(&format!("{bridge} changed\n")),
        "{}",
        ran.stdout
    );
    assert_eq!(on_stdin(&agent, "apply -f -", &exported).code, 0);

    // Elsewhere nothing is made.
    let elsewhere = ServedAgent::start();
    for words in ["apply -f -", "diff -f -", "apply --dry-run -f -"] {
        let ran = on_stdin(&elsewhere, words, &exported);
        assert_eq!(ran.code, 2, "{words}: {}", ran.stderr);
        let message = format!("xpuctl: {bridge} can't be made: ");
        assert!(ran.stderr.starts_with(&message), "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains("export --rename"), "{}", ran.stderr);
    }
    assert_eq!(xpuctl(&elsewhere, "export").stdout, "");

    let ran = xpuctl(&agent, "export --rename");
    let message = format!("xpuctl: {bridge} is written as lb-7\n");
    assert_eq!((ran.code, ran.stderr), (0, message.clone()));
    assert_eq!(on_stdin(&elsewhere, "apply -f -", &ran.stdout).code, 0);
    assert_eq!(succeed(&elsewhere, "export"), ran.stdout);
    // One kind alone says the same.
    let svi = xpuctl(&agent, "export svi --rename");
    assert_eq!(svi.stderr, message);
    assert_eq!(svi.stdout, succeed(&elsewhere, "export svi"));
}
