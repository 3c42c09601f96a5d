//! The agent's half against a real kernel, in the lab's machine. Each test has a network
//! namespace of its own; `ip` and `bridge` are the witnesses.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking too")]

use std::{
    collections::BTreeSet,
    fs::File,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use xpu_linux::kernel::{Follower, Linux};
use xpu_model::{
    BridgePortSpec, Generation, Id, Intent, LogicalBridgeSpec, Mtu, Node, Object, PortMode, Spec,
    SviSpec, VrfSpec,
    alloc::AllocationRules,
    node::{PortResolver, RouteTargets},
    status::{PassReport, State},
};
use xpu_plan::{
    FrrFacts,
    linux::{self, Inputs, LinuxPlan},
};

/// A namespace with neighbours that are not ours, and the agent's half in it.
struct World {
    linux: Linux,
    node: Node,
    intent: Intent,
    frr: FrrFacts,
}

static SPACES: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a fresh network namespace, on a thread of its own.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let number = SPACES.fetch_add(1, Ordering::Relaxed);
    let name = format!("linux-{}-{number}", std::process::id());
    command(&format!("ip netns add {name}"));
    let path = format!("/run/netns/{name}");
    let done = std::thread::spawn(move || {
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    })
    .join();
    command(&format!("ip netns del {name}"));
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command line in the thread's namespace.
fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command's JSON, without numbers that change by themselves.
fn json(line: &str) -> Value {
    let text = command(line);
    let text = if text.trim().is_empty() { "[]" } else { &text };
    let mut value = serde_json::from_str(text).unwrap();
    settle(&mut value);
    value
}

/// Takes out timers, and DAD that comes to its end.
fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("_timer") && key != "tentative");
            map.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

impl World {
    fn new() -> Self {
        for line in [
            "ip link set lo up",
            "ip link add up0 type dummy",
            "ip addr add 192.0.2.1/32 dev up0",
            "ip link set up0 up",
            "ip link add docker0 type bridge vlan_filtering 1",
            "ip addr add 172.17.0.1/16 dev docker0",
            "ip link set docker0 up",
            "ip link add red type vrf table 500",
            "ip link set red up",
            "ip route add unreachable default metric 4278198272 table 500",
            "ip route add 198.51.100.0/24 dev up0 table 1001",
            "ip link add flannel.1 type vxlan id 1 local 192.0.2.1 dstport 8472 nolearning",
            "ip link add port1 type dummy",
            "ip link add port2 type dummy",
        ] {
            command(line);
        }
        let node = Node {
            vtep: Some("192.0.2.1".parse().unwrap()),
            underlay_mtu: Mtu::try_from(1500).unwrap(),
            ports: PortResolver::Name,
            bgp: None,
            route_targets: RouteTargets::Auto,
        };
        Self {
            linux: Linux::open().unwrap(),
            node,
            intent: Intent::default(),
            frr: FrrFacts::Unmanaged,
        }
    }

    fn put<S: Spec>(&mut self, name: &str, spec: S) {
        let rules = AllocationRules {
            tables: 1001..=1100,
            node_seed: [1; 16],
            foreign_devices: BTreeSet::new(),
        };
        if self.intent.get::<S>(&id(name)).is_some() {
            self.intent.update(id(name), spec, &rules).unwrap();
        } else {
            self.intent.create(id(name), spec, &rules).unwrap();
        }
    }

    /// One network with gateway, L3VNI, an access and a trunk port.
    fn tenant(&mut self) {
        self.put(
            "blue",
            VrfSpec {
                vni: Some(10_000.try_into().unwrap()),
                loopback: "10.255.0.1/32".parse().unwrap(),
                vtep: None,
            },
        );
        self.put("net-a", network(10, 1010));
        self.put("net-b", network(11, 1011));
        self.put(
            "gate-a",
            SviSpec {
                vrf: id("blue"),
                logical_bridge: id("net-a"),
                mac: "02:00:5e:00:00:10".parse().unwrap(),
                gateways: vec![
                    "10.0.10.1/24".parse().unwrap(),
                    "fd00:10::1/64".parse().unwrap(),
                ],
                bgp: None,
            },
        );
        self.put(
            "port1",
            BridgePortSpec {
                mac: "02:00:00:00:00:01".parse().unwrap(),
                mode: PortMode::Access(id("net-a")),
            },
        );
        self.put(
            "port2",
            BridgePortSpec {
                mac: "02:00:00:00:00:02".parse().unwrap(),
                mode: PortMode::TransparentTrunk,
            },
        );
    }

    async fn plan(&mut self) -> LinuxPlan {
        let inputs = Inputs {
            intent: &self.intent,
            node: &self.node,
            frr: &self.frr,
        };
        let observed = self.linux.observe(&inputs).await.unwrap();
        linux::plan(&inputs, &observed)
    }

    /// Plans and applies; every action must succeed, and a second plan be empty.
    async fn pass(&mut self) -> PassReport {
        let plan = self.plan().await;
        let outcomes = self.linux.apply(plan).await;
        let failed: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let inputs = Inputs {
            intent: &self.intent,
            node: &self.node,
            frr: &self.frr,
        };
        let observed = self.linux.observe(&inputs).await.unwrap();
        let again = linux::plan(&inputs, &observed);
        assert!(
            again.is_empty(),
            "a second pass would do {:#?}",
            again.steps
        );
        linux::report(&inputs, &observed, &outcomes)
    }
}

fn network(vlan: u32, vni: u32) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: vlan.try_into().unwrap(),
        vni: Some(vni.try_into().unwrap()),
        vtep: None,
    }
}

/// What must stay as it is, as `ip` and `bridge` tell it.
fn foreign() -> Vec<Value> {
    ["up0", "docker0", "red", "flannel.1"]
        .into_iter()
        .map(|device| json(&format!("ip -j -d addr show dev {device}")))
        .chain([
            json("bridge -j vlan show dev docker0"),
            json("ip -j route show table 500"),
            json("ip -j route show table 1001 proto boot"),
        ])
        .collect()
}

fn link(device: &str) -> Value {
    json(&format!("ip -j -d addr show dev {device}"))[0].clone()
}

fn addr_gen_mode(device: &str) -> Value {
    json(&format!("ip -j -d link show dev {device}"))[0]["inet6_addr_gen_mode"].clone()
}

fn vlans(device: &str) -> Value {
    json(&format!("bridge -j vlan show dev {device}"))[0]["vlans"].clone()
}

fn addresses(device: &str) -> BTreeSet<String> {
    let link = link(device);
    let infos = link["addr_info"].as_array().unwrap();
    infos
        .iter()
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
        .collect()
}

fn texts(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

fn setting(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/thread-self/root/proc/sys/net/{path}"))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_tenant_is_made_found_again_and_taken() {
    in_namespace(|| async {
        let mut world = World::new();
        let before = foreign();
        world.tenant();
        let report = world.pass().await;
        for (key, component) in &report.objects {
            assert_eq!(component.state, State::Success, "{key}");
        }
        witness_fabric();
        witness_routing();
        witness_ports();

        // Another agent, as after a restart: everything is recognised.
        world.linux = Linux::open().unwrap();
        assert!(world.plan().await.is_empty());
        assert_eq!(foreign(), before);

        world.intent.delete::<SviSpec>(&id("gate-a")).unwrap();
        world.intent.delete::<BridgePortSpec>(&id("port1")).unwrap();
        world.intent.delete::<BridgePortSpec>(&id("port2")).unwrap();
        world.intent.delete::<VrfSpec>(&id("blue")).unwrap();
        world
            .intent
            .delete::<LogicalBridgeSpec>(&id("net-a"))
            .unwrap();
        world
            .intent
            .delete::<LogicalBridgeSpec>(&id("net-b"))
            .unwrap();
        let report = world.pass().await;
        assert!(report.objects.is_empty(), "{:?}", report.objects);
        let left: BTreeSet<String> = json("ip -j link show")
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect();
        let expected = [
            "br-l3",
            "br-tenant",
            "docker0",
            "flannel.1",
            "lo",
            "port1",
            "port2",
            "red",
            "up0",
            "vxl3",
            "vxlan",
        ];
        assert_eq!(left, texts(&expected));
        assert!(
            json("ip -j route show table 1001 proto 88")
                .as_array()
                .unwrap()
                .is_empty()
        );
        assert!(link("port1").get("master").is_none());
        assert_eq!(foreign(), before);
    });
}

fn witness_fabric() {
    let bridge = &link("br-tenant");
    assert_eq!(bridge["ifalias"], "xpu:node");
    assert_eq!(bridge["mtu"], 1450);
    let data = &bridge["linkinfo"]["info_data"];
    assert_eq!(data["vlan_filtering"], 1);
    assert_eq!(data["vlan_default_pvid"], 0);
    assert_eq!(data["mcast_snooping"], 0);
    let vxlan = &link("vxlan");
    assert_eq!(vxlan["master"], "br-tenant");
    assert_eq!(vxlan["mtu"], 1450);
    assert_eq!(addr_gen_mode("vxlan"), "none");
    let data = &vxlan["linkinfo"]["info_data"];
    assert_eq!(data["local"], "192.0.2.1");
    assert_eq!(data["port"], 4789);
    assert_eq!(data["external"], true);
    assert_eq!(data["vnifilter"], true);
    assert_eq!(data["learning"], false);
    let flags = &json("bridge -j -d link show dev vxlan")[0];
    assert_eq!(flags["vlan_tunnel"], true);
    assert_eq!(flags["learning"], false);
    assert_eq!(flags["neigh_suppress"], true);
    let admitted = json("bridge -j vni show dev vxlan");
    assert_eq!(admitted[0]["vnis"][0]["vni"], 1010);
    let tunnels = command("bridge -compressvlans vlan tunnelshow dev vxlan");
    assert!(
        tunnels.contains("10-11") && tunnels.contains("1010-1011"),
        "{tunnels}"
    );
    assert_eq!(setting("ipv4/ip_forward"), "1");
    assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
}

fn witness_routing() {
    let vrf = link("blue");
    assert_eq!(vrf["ifalias"], "xpu:vrfs/blue");
    assert_eq!(vrf["linkinfo"]["info_data"]["table"], 1001);
    assert_eq!(addresses("blue"), texts(&["10.255.0.1/32"]));
    let svi = link("svi-10");
    assert_eq!(svi["master"], "blue");
    assert_eq!(svi["link"], "br-tenant");
    assert_eq!(svi["address"], "02:00:5e:00:00:10");
    assert_eq!(svi["operstate"], "UP");
    assert_eq!(
        addresses("svi-10"),
        texts(&["10.0.10.1/24", "fd00:10::1/64", "fe80::1/64"])
    );
    assert_eq!(setting("ipv4/conf/svi-10/arp_accept"), "1");
    assert_eq!(setting("ipv4/conf/svi-10/rp_filter"), "0");
    assert_eq!(setting("ipv6/conf/svi-10/accept_untracked_na"), "2");
    assert_eq!(setting("ipv6/conf/vxlan/disable_ipv6"), "1");
    let entries = json("bridge -j fdb show br br-tenant");
    let gateway = entries
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["mac"] == "02:00:5e:00:00:10" && entry["vlan"] == 10);
    assert_eq!(gateway.unwrap()["state"], "permanent");
    let l3 = link("l3-1");
    assert_eq!(l3["master"], "blue");
    assert_eq!(l3["link"], "br-l3");
    assert_eq!(addresses("l3-1"), BTreeSet::new());
    assert_eq!(setting("ipv6/conf/l3-1/disable_ipv6"), "0");
    for family in ["-4", "-6"] {
        let routes = json(&format!("ip -j {family} route show table 1001 proto 88"));
        assert_eq!(routes[0]["type"], "unreachable", "{routes}");
        assert_eq!(routes[0]["metric"], 4_278_198_272_u32);
    }
}

fn witness_ports() {
    assert_eq!(link("port1")["master"], "br-tenant");
    assert_eq!(addr_gen_mode("port1"), "none");
    let access = vlans("port1");
    assert_eq!(
        access,
        serde_json::json!([{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}])
    );
    let trunk = vlans("port2");
    assert_eq!(trunk, serde_json::json!([{"vlan": 10}, {"vlan": 11}]));
}

#[test]
fn drift_is_noticed_and_repaired() {
    in_namespace(|| async {
        let mut world = World::new();
        let mut follower = Follower::new().unwrap();
        world.tenant();
        world.pass().await;
        for line in [
            "ip link del svi-10",
            "ip link del l3-1",
            "ip link del vxlan",
            "ip link del br-tenant",
            "ip link del blue",
            "ip link set port1 nomaster",
            "ip link set svi-10 down",
            "ip link set br-tenant mtu 1400",
            "ip link set vxlan nomaster",
            "ip addr flush dev svi-10",
            "ip addr add 192.0.2.77/24 dev svi-10",
            "bridge vlan del dev vxlan vid 10",
            "bridge vlan del dev vxlan vid 11 tunnel_info id 1011",
            "bridge vlan del dev br-tenant vid 10 self",
            "bridge vlan add dev port1 vid 77",
            "bridge vni del dev vxlan vni 1010",
            "bridge link set dev vxlan learning on",
            "bridge fdb del 02:00:5e:00:00:10 dev br-tenant vlan 10 self",
            "ip route del unreachable default metric 4278198272 table 1001 proto 88",
            "ip -6 route del unreachable default metric 4278198272 table 1001 proto 88",
            "ip route replace unreachable default metric 4278198272 table 1001 proto static",
        ] {
            // What the passes themselves cause is drained first.
            while tokio::time::timeout(Duration::from_millis(50), follower.changed())
                .await
                .is_ok()
            {}
            command(line);
            let noticed = tokio::time::timeout(Duration::from_secs(5), follower.changed()).await;
            noticed
                .unwrap_or_else(|_| panic!("`{line}` went unnoticed"))
                .unwrap();
            assert!(!world.plan().await.is_empty(), "`{line}` calls for nothing");
            world.pass().await;
        }
        witness_fabric();
        witness_routing();
        witness_ports();
    });
}

/// Neighbours, learned addresses and routes come by the thousand, and wake nobody.
#[test]
fn what_tenants_make_goes_unnoticed() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        command("ip link set up0 up");
        let mut follower = Follower::new().unwrap();
        for template in [
            "bridge fdb add 02:aa:00:00:00:0N dev port1 vlan 10 master dynamic",
            "bridge fdb add 02:aa:00:00:01:0N dev vxlan dst 192.0.2.9 vni 1010 self permanent",
            "bridge fdb add 02:aa:00:00:01:0N dev vxlan vlan 10 master extern_learn",
            "ip neigh add 10.0.10.7N lladdr 02:aa:00:00:00:01 dev svi-10 nud stale",
            "ip route add 203.0.113.N via 10.0.10.77 dev svi-10 table 1001 proto bgp",
            "ip route add default via 10.0.10.77 dev svi-10 metric N table 1001 proto bgp",
            "ip route del 203.0.113.N table 1001",
        ] {
            // A bridge speaks of its ports by itself now and then, but not three times in a row.
            let mut wakes = 0;
            for number in ["1", "2", "3"] {
                command(&template.replace('N', number));
                let noticed = tokio::time::timeout(Duration::from_millis(300), follower.changed());
                wakes += usize::from(noticed.await.is_ok());
            }
            assert!(wakes < 3, "`{template}` wakes the agent");
        }
    });
}

/// What no event tells is found by looking.
#[test]
fn quiet_drift_is_found_by_an_audit() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        for line in [
            "sysctl -q net.ipv4.conf.svi-10.arp_accept=0",
            "sysctl -q net.ipv4.ip_forward=0",
        ] {
            command(line);
            assert_eq!(world.plan().await.len(), 1, "after `{line}`");
            world.pass().await;
        }
        witness_routing();
    });
}

#[test]
fn changes_are_made_in_place() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        let index = link("svi-10")["ifindex"].clone();
        world.put(
            "redd",
            VrfSpec {
                vni: None,
                loopback: "10.255.0.2/32".parse().unwrap(),
                vtep: None,
            },
        );
        world.put(
            "gate-a",
            SviSpec {
                vrf: id("redd"),
                logical_bridge: id("net-a"),
                mac: "02:00:5e:00:00:20".parse().unwrap(),
                gateways: vec![
                    "10.0.20.1/24".parse().unwrap(),
                    "fd00:10::1/64".parse().unwrap(),
                ],
                bgp: None,
            },
        );
        world.put("net-a", network(10, 2020));
        world.put(
            "port1",
            BridgePortSpec {
                mac: "02:00:00:00:00:01".parse().unwrap(),
                mode: PortMode::Access(id("net-b")),
            },
        );
        world.node.underlay_mtu = Mtu::try_from(9000).unwrap();
        world.pass().await;
        let svi = link("svi-10");
        assert_eq!(svi["ifindex"], index);
        assert_eq!(
            (&svi["master"], &svi["mtu"]),
            (&"redd".into(), &8950.into())
        );
        assert_eq!(svi["address"], "02:00:5e:00:00:20");
        assert_eq!(
            addresses("svi-10"),
            texts(&["10.0.20.1/24", "fd00:10::1/64", "fe80::1/64"])
        );
        let fdb = command("bridge fdb show br br-tenant");
        assert!(
            !fdb.contains("02:00:5e:00:00:10") && fdb.contains("02:00:5e:00:00:20"),
            "{fdb}"
        );
        let flags = ["PVID", "Egress Untagged"];
        assert_eq!(
            vlans("port1"),
            serde_json::json!([{"vlan": 11, "flags": flags}])
        );
        let tunnels = command("bridge vlan tunnelshow dev vxlan");
        assert!(
            tunnels.contains("2020") && !tunnels.contains("1010"),
            "{tunnels}"
        );
    });
}

#[test]
fn foreign_devices_of_our_names_stay_and_are_told() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link add svi-10 type dummy");
        command("ip link set port1 master docker0");
        let before = (link("svi-10"), link("port1"), vlans("port1"));
        world.tenant();
        let report = world.pass().await;
        assert_eq!((link("svi-10"), link("port1"), vlans("port1")), before);
        let errors: Vec<String> = report
            .objects
            .values()
            .filter_map(|component| component.state.reason().map(ToOwned::to_owned))
            .collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors.iter().any(|error| error.contains("docker0")),
            "{errors:?}"
        );
        assert!(
            errors.iter().any(|error| error.contains("svi-10")),
            "{errors:?}"
        );
    });
}

/// Between the look and the work somebody takes a name, as a name and as an alternative one.
#[test]
fn a_device_that_takes_the_name_meanwhile_is_not_touched() {
    for take in [
        "ip link set thief name svi-10",
        "ip link property add dev thief altname svi-10",
    ] {
        in_namespace(move || async move {
            let mut world = World::new();
            command("ip link add thief type dummy");
            let before = (link("thief"), setting("ipv4/conf/thief/arp_accept"));
            world.tenant();
            let plan = world.plan().await;
            command(take);
            let outcomes = world.linux.apply(plan).await;
            let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
            let failed: Vec<_> = failed.map(|it| it.step.action.to_string()).collect();
            assert!(failed.contains(&"make svi-10".to_owned()), "{failed:#?}");
            // By its index: that is what stays.
            let index = &before.0["ifindex"];
            let links = json("ip -j -d addr show");
            let mut links = links.as_array().unwrap().iter();
            let mut after = links
                .find(|link| link["ifindex"] == *index)
                .unwrap()
                .clone();
            let name = after["ifname"].as_str().unwrap().to_owned();
            let mode = |link: &Value| link["inet6_addr_gen_mode"].clone();
            assert_eq!(mode(&after), mode(&before.0), "after `{take}`");
            assert_eq!(setting(&format!("ipv4/conf/{name}/arp_accept")), before.1);
            after["ifname"] = "thief".into();
            after.as_object_mut().unwrap().remove("altnames");
            assert_eq!(after, before.0, "after `{take}`");
        });
    }
}

/// Less than IPv6 needs, and then enough.
#[test]
fn links_too_small_for_ipv6_are_made_and_marked() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link set port1 mtu 1000");
        world.node.underlay_mtu = Mtu::try_from(1300).unwrap();
        world.tenant();
        let report = world.pass().await;
        let wrong = report
            .objects
            .iter()
            .filter(|it| it.1.state != State::Success);
        let wrong: Vec<_> = wrong.map(|(key, _)| key.to_string()).collect();
        assert_eq!(wrong, ["svis/gate-a"], "its IPv6 gateway can't be had");
        for (device, mark) in [
            ("br-tenant", "xpu:node"),
            ("vxl3", "xpu:node"),
            ("svi-10", "xpu:svis/gate-a"),
        ] {
            let link = link(device);
            assert_eq!(
                (&link["ifalias"], &link["mtu"]),
                (&mark.into(), &1250.into())
            );
        }
        world.node.underlay_mtu = Mtu::try_from(1500).unwrap();
        // Devices that are up make a link-local address the moment they have IPv6, before they
        // can be told not to: one more pass takes it away.
        let plan = world.plan().await;
        let outcomes = world.linux.apply(plan).await;
        assert!(outcomes.iter().all(|it| it.result.is_ok()), "{outcomes:#?}");
        world.pass().await;
        witness_fabric();
        witness_routing();
    });
}

#[test]
fn netdevs_that_the_node_uses_are_no_ports() {
    in_namespace(|| async {
        let mut world = World::new();
        let used: &[(&str, &[&str])] = &[
            ("used1", &["ip addr add 203.0.113.1/24 dev used1"]),
            (
                "used2",
                &[
                    "ip link set used2 up",
                    "ip route add 203.0.113.128/25 dev used2",
                ],
            ),
            (
                "used3",
                &["ip link add link used3 name used3.7 type vlan id 7"],
            ),
            (
                "used4",
                &[
                    "ip link set used4 up",
                    "ip -6 route add 2001:db8::/64 dev used4",
                ],
            ),
        ];
        world.tenant();
        for (number, (name, lines)) in used.iter().enumerate() {
            command(&format!("ip link add {name} type dummy"));
            lines.iter().for_each(|line| drop(command(line)));
            let spec = BridgePortSpec {
                mac: format!("02:00:00:00:01:0{number}").parse().unwrap(),
                mode: PortMode::Access(id("net-a")),
            };
            world.put(name, spec);
        }
        let report = world.pass().await;
        for (name, _) in used {
            assert!(link(name).get("master").is_none(), "{name} was taken");
            let key = BridgePortSpec::key(&id(name));
            let reason = report.objects[&key].state.reason().unwrap_or("none");
            assert!(reason.contains("is in use by the node"), "{name}: {reason}");
        }
    });
}

#[test]
fn a_purge_leaves_the_node_as_it_was() {
    in_namespace(|| async {
        let mut world = World::new();
        let rules = || (json("ip -j rule show"), json("ip -j -6 rule show"));
        let links = || {
            let links = json("ip -j link show");
            let links = links.as_array().unwrap().iter();
            let names = links.map(|link| link["ifname"].as_str().unwrap().to_owned());
            names.collect::<BTreeSet<_>>()
        };
        let before = (foreign(), rules(), links());
        world.tenant();
        world.pass().await;
        assert_ne!((rules(), links()), (before.1.clone(), before.2.clone()));
        let inputs = Inputs {
            intent: &world.intent,
            node: &world.node,
            frr: &world.frr,
        };
        let plan = linux::purge(&inputs, &world.linux.observe(&inputs).await.unwrap());
        let outcomes = world.linux.apply(plan).await;
        let failed: Vec<_> = outcomes.iter().filter(|it| it.result.is_err()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!((foreign(), rules(), links()), before);
        let left = world.linux.observe(&inputs).await.unwrap();
        assert!(linux::purge(&inputs, &left).is_empty());
        for family in ["-4", "-6"] {
            let routes = json(&format!("ip -j {family} route show table all proto 88"));
            assert_eq!(routes, serde_json::json!([]));
        }
    });
}

/// What a pod may write on its VF comes home with it.
#[test]
fn an_alias_alone_makes_nothing_ours() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link set port1 alias xpu:node");
        command("ip link add vf0 type dummy");
        command("ip link set vf0 alias xpu:svis/gone");
        world.tenant();
        world.pass().await;
        assert_eq!(link("vf0")["ifalias"], "xpu:svis/gone");
        assert_eq!(link("port1")["master"], "br-tenant");
    });
}

/// Numbers that make no range are the worst case for the kernel's messages.
#[test]
fn four_thousand_scattered_networks_fit() {
    in_namespace(|| async {
        let mut world = World::new();
        for vlan in 1..=4000 {
            // Neighbouring VLANs have VNIs far apart.
            world.intent.restore(Object {
                id: id(&format!("net-{vlan}")),
                spec: network(vlan, 10_000 + (vlan * 7919) % 4001),
                allocation: (),
                created: Generation(1),
                generation: Generation(1),
                deleting: false,
            });
        }
        let started = std::time::Instant::now();
        let report = world.pass().await;
        println!(
            "4000 scattered networks: {} actions in {:?}",
            report.planned,
            started.elapsed()
        );
        // `bridge vlan tunnelshow` asks the old way, whose answer is cut at this size. The way of
        // `-s` has no tunnels; that one is there shows in that the VLAN can't be mapped again.
        let ranges = json("bridge -j vni show dev vxlan")[0]["vnis"].clone();
        let count = |range: &Value| {
            let first = range["vni"].as_u64().unwrap();
            range["vniEnd"].as_u64().unwrap_or(first) + 1 - first
        };
        let admitted: u64 = ranges.as_array().unwrap().iter().map(count).sum();
        assert!((4000..=4001).contains(&admitted), "{admitted} VNIs");
        let parts = json("bridge -j -s vlan show dev vxlan");
        let vlans = parts.as_array().unwrap().iter();
        let vlans: usize = vlans.map(|it| it["vlans"].as_array().unwrap().len()).sum();
        assert!((4000..=4001).contains(&vlans), "{vlans} VLANs");
        let again = "bridge vlan add dev vxlan vid 3999 tunnel_info id 5";
        let mapped = std::panic::catch_unwind(|| command(again)).is_err();
        assert!(mapped, "VLAN 3999 was not mapped");
    });
}
