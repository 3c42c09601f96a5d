//! A network namespace for each test, and the agent's half in it.

use std::{
    collections::BTreeSet,
    fs::File,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sched::{CloneFlags, setns};
use xpu_linux::kernel::Linux;
use xpu_model::{
    BridgePortSpec, Id, Intent, LogicalBridgeSpec, Mtu, Node, PortMode, Spec, SviSpec, VrfSpec,
    alloc::AllocationRules,
    node::{PortResolver, RouteTargets},
    status::PassReport,
};
use xpu_plan::{
    FrrFacts,
    linux::{self, Inputs, LinuxPlan},
};

use crate::witness::command;

/// A namespace with neighbours that are not ours, and the agent's half in it.
pub struct World {
    pub linux: Linux,
    pub node: Node,
    pub intent: Intent,
    pub frr: FrrFacts,
}

static SPACES: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a fresh network namespace, on a thread of its own.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
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

impl World {
    pub fn new() -> Self {
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
            vxlan_port: xpu_model::node::VXLAN_PORT,
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

    pub fn put<S: Spec>(&mut self, name: &str, spec: S) {
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
    pub fn tenant(&mut self) {
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
                    "10.0.10.1/24".parse::<xpu_model::IfAddr>().unwrap(),
                    "fd00:10::1/64".parse().unwrap(),
                ]
                .try_into()
                .unwrap(),
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

    pub async fn plan(&mut self) -> LinuxPlan {
        let inputs = Inputs {
            intent: &self.intent,
            node: &self.node,
            frr: &self.frr,
        };
        let observed = self.linux.observe(&inputs).await.unwrap();
        linux::plan(&inputs, &observed)
    }

    /// Plans and applies; every action must succeed, and a second plan be empty.
    pub async fn pass(&mut self) -> PassReport {
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

pub fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub fn network(vlan: u32, vni: u32) -> LogicalBridgeSpec {
    LogicalBridgeSpec {
        vlan: vlan.try_into().unwrap(),
        vni: Some(vni.try_into().unwrap()),
        vtep: None,
    }
}
