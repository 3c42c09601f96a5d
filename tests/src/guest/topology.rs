//! The lab's network inside the guest, made once per boot, put back to a clean state per test.
//!
//! - `host`: the namespace that the guest booted with: physical and virtual functions, pods.
//! - `xpu`: the representors, a bare FRR, the underlay; the agent runs here.
//! - `spine`, `leaf2` and the hosts behind it: see [`super::leaf2`].

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::addresses::{LEAF2_UPLINK, SPINE_TO_XPU, UNDERLAY_MTU, XPU_UPLINK, XPU_VTEP};
use super::frr::Frr;
use super::leaf2::{self, HOSTS, ROUTER_SYSCTLS};
use super::netns::Netns;
use super::pod::Pod;
use super::vf::{self, Vf};
use super::wait::wait_until;
use super::{agent, command};

/// Where the lab notes what it made, in the guest.
const NOTES: &str = "/run/lab";
const MADE: &str = "/run/lab/topology-made";

/// The priority of routing rules that tests make as somebody else's.
pub const FOREIGN_RULE: u32 = 2077;

const BGP_LIMIT: Duration = Duration::from_secs(60);
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What the plugin keeps on the host's disk, and what IPAM does.
const HOST_STATE: [&str; 4] = [
    "/var/lib/cni",
    "/run/cni",
    "/var/run/k8s.cni.cncf.io",
    "/etc/cni/net.d/xpu-cni.d",
];

/// The network, and the right to use it: one test at a time has it.
#[derive(Debug)]
pub struct Topology {
    /// Where VFs are at home and pods are made.
    pub host: Netns,
    /// Where the agent runs.
    pub xpu: Netns,
    /// Between the leaves.
    pub spine: Netns,
    /// The foreign leaf.
    pub leaf2: Netns,
    /// Released when dropped.
    _lock: File,
}

impl Topology {
    /// The network in a clean state: made where this boot has none yet, no agent, an empty FRR on
    /// the xPU, every VF at home, no pods. Waits for other tests that use it.
    ///
    /// # Errors
    /// Outside the lab's guest, and where a step fails.
    pub fn clean() -> Result<Self> {
        let topology = Self::ensure()?;
        topology.reset()?;
        Ok(topology)
    }

    /// The network, made where this boot has none yet, else as the last test left it.
    ///
    /// # Errors
    /// Outside the lab's guest, and where a step fails.
    pub fn ensure() -> Result<Self> {
        ensure!(
            std::env::var_os("XPU_LAB_GUEST").is_some(),
            "this test runs inside the lab's machine only: use `make test-lab`"
        );
        fs::create_dir_all(NOTES)?;
        let lock = File::create(Path::new(NOTES).join("topology.lock"))?;
        lock.lock()?;
        let topology = Self {
            host: Netns::initial(),
            xpu: Netns::named("xpu"),
            spine: Netns::named("spine"),
            leaf2: Netns::named("leaf2"),
            _lock: lock,
        };
        if !Path::new(MADE).exists() {
            topology.make()?;
            fs::write(MADE, "")?;
        }
        Ok(topology)
    }

    /// The VFs, those with a wire of their own first.
    ///
    /// # Errors
    /// Where they are not there.
    pub fn vfs(&self) -> Result<Vec<Vf>> {
        vf::all()
    }

    /// The xPU's FRR.
    pub fn xpu_frr(&self) -> Frr {
        Frr::of(&self.xpu)
    }

    /// The spine's FRR.
    pub fn spine_frr(&self) -> Frr {
        Frr::of(&self.spine)
    }

    /// The foreign leaf's FRR.
    pub fn leaf2_frr(&self) -> Frr {
        Frr::of(&self.leaf2)
    }

    /// Takes away all that a test may have left, on the host and on the xPU.
    ///
    /// # Errors
    /// Where something can't be taken away.
    pub fn reset(&self) -> Result<()> {
        // The agent first: it would repair what is removed under it.
        kill_all_in(&self.xpu)?;
        Pod::delete_all()?;
        vf::bring_home()?;
        for folder in HOST_STATE {
            remove(folder)?;
        }
        self.reset_xpu()?;
        leaf2::forget_silent_host(&self.leaf2)
    }

    /// Puts the xPU back to how it was made: no agent and no store, no devices but its own, a bare
    /// FRR. That one is started anew: zebra 10.3 may crash when a VRF's device goes while it still
    /// works on the VRF's EVPN routes.
    ///
    /// # Errors
    /// Where something can't be taken away.
    pub fn reset_xpu(&self) -> Result<()> {
        kill_all_in(&self.xpu)?;
        for folder in agent::STATE {
            remove(folder)?;
        }
        // An agent that is told no file would read it.
        remove_file(agent::USUAL_CONFIG)?;
        let frr = self.xpu_frr();
        frr.forget()?;
        self.remove_tenants()?;
        self.put_rules_back();
        frr.start("")
    }

    /// The rules as the kernel makes them, whatever an agent that was killed left, or a test that
    /// failed.
    fn put_rules_back(&self) {
        let lines = format!(
            "rule add pref 0 table local protocol kernel\n\
             rule del pref 0 l3mdev protocol kernel\n\
             rule del pref 1001 table local\n\
             rule del pref 1000 l3mdev protocol 88\n\
             rule del pref {FOREIGN_RULE}\n"
        );
        for family in ["-4", "-6"] {
            let words = ["ip", family, "-force", "-batch", "-"];
            // What is right already is refused, line by line.
            let _ = command::run_with_input(&self.xpu.words(&words), &lines);
        }
    }

    /// Restarts the xPU's FRR with an empty configuration, as after an operator's mistake.
    ///
    /// # Errors
    /// Where a daemon can't be killed or started.
    pub fn restart_xpu_frr(&self) -> Result<()> {
        self.restart_xpu_frr_with("")
    }

    /// Starts the xPU's FRR anew where a daemon of it has died, as its supervisor would.
    ///
    /// # Errors
    /// Where a daemon can't be killed or started.
    pub fn supervise_xpu_frr(&self) -> Result<()> {
        let frr = self.xpu_frr();
        if frr.all_run() {
            return Ok(());
        }
        eprintln!("a daemon of the xPU's FRR has died: all are started anew");
        self.restart_xpu_frr()
    }

    /// Restarts the xPU's FRR with a configuration, as its service would with its file.
    ///
    /// # Errors
    /// Where a daemon can't be killed or started, or refuses a line.
    pub fn restart_xpu_frr_with(&self, configuration: &str) -> Result<()> {
        let frr = self.xpu_frr();
        for pid in frr.pids() {
            command::run(&format!("kill -9 {pid}"))?;
            wait_until("FRR's daemon is gone", KILL_LIMIT, || {
                ensure!(
                    !Path::new(&format!("/proc/{pid}")).exists(),
                    "process {pid} is there"
                );
                Ok(())
            })?;
        }
        frr.forget()?;
        frr.start(configuration)
    }

    fn make(&self) -> Result<()> {
        self.unmake()?;
        for machine in [&self.xpu, &self.spine, &self.leaf2] {
            Netns::create(machine.name())?;
        }
        // Pods are hosts; what the guest itself does with their packets is nobody's business.
        self.host.sysctl("net.ipv6.conf.default.accept_ra=0")?;
        std::thread::scope(|scope| {
            let wires = scope.spawn(|| vf::create_all(&self.xpu));
            self.connect_xpu()?;
            leaf2::build(&self.spine, &self.leaf2)?;
            match wires.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        wait_until("spine and leaf2 exchange routes", BGP_LIMIT, || {
            self.spine_frr().evpn_session_up(LEAF2_UPLINK)
        })
    }

    /// Removes what an attempt to make the network left behind.
    fn unmake(&self) -> Result<()> {
        for machine in [&self.xpu, &self.spine, &self.leaf2] {
            if machine.exists() {
                kill_all_in(machine)?;
                Frr::of(machine).forget()?;
            }
        }
        let hosts = HOSTS.iter().map(|host| Netns::named(host.name));
        for netns in hosts.chain([&self.spine, &self.leaf2, &self.xpu].map(Netns::clone)) {
            netns.delete()?;
        }
        Ok(())
    }

    fn connect_xpu(&self) -> Result<()> {
        self.xpu.sysctl(ROUTER_SYSCTLS)?;
        self.xpu.ip_batch(&format!(
            "link add up0 mtu {UNDERLAY_MTU} type veth peer name to-xpu netns {}\n\
             addr add {XPU_UPLINK}/31 dev up0\n\
             link set up0 up\n\
             addr add {XPU_VTEP}/32 dev lo\n",
            self.spine.name()
        ))?;
        self.spine.ip_batch(&format!(
            "link set to-xpu mtu {UNDERLAY_MTU} up\n\
             addr add {SPINE_TO_XPU}/31 dev to-xpu\n"
        ))
    }

    /// Removes every device of the xPU's namespace but those that the lab put there, and every
    /// route that FRR left.
    fn remove_tenants(&self) -> Result<()> {
        let is_ours = |name: &String| name == "up0" || name.starts_with("rep");
        let (ours, others): (Vec<_>, Vec<_>) = self.xpu.links()?.into_iter().partition(is_ours);
        // Some go along with others: failures are no news, what remains is.
        let lines: String = others
            .iter()
            .map(|name| format!("link del {name}\n"))
            .collect();
        let words = ["ip", "-force", "-batch", "-"];
        // The exit code tells only that some lines failed.
        let _ = command::run_with_input(&self.xpu.words(&words), &lines);
        let left: Vec<_> = self
            .xpu
            .links()?
            .into_iter()
            .filter(|name| !is_ours(name))
            .collect();
        ensure!(left.is_empty(), "the xPU's namespace keeps {left:?}");

        let mut lines = String::new();
        for port in ours.iter().filter(|name| *name != "up0") {
            lines.push_str(&format!("link set {port} nomaster down mtu 1500\n"));
            lines.push_str(&format!("addr flush dev {port}\n"));
        }
        // Nexthops take the routes by them along. What is unreachable is so by no device.
        lines.push_str("nexthop flush\nroute flush proto bgp\n");
        lines.push_str("route flush table all type unreachable\n");
        self.xpu
            .ip_batch(&lines)
            .context("cannot clear the xPU's ports and routes")?;
        self.xpu.run("ip -6 route flush proto bgp")?;
        let line = "ip -6 route flush table all type unreachable";
        self.xpu.run(line).map(drop)
    }
}

/// Kills every process of a namespace and waits until they are gone.
fn kill_all_in(netns: &Netns) -> Result<()> {
    wait_until(
        &format!("{}'s processes are gone", netns.name()),
        KILL_LIMIT,
        || {
            let all = command::run(&format!("ip netns pids {}", netns.name()))?;
            let left: Vec<_> = all.split_whitespace().collect();
            for pid in &left {
                // It may end by itself meanwhile.
                command::outcome(&["kill", "-9", pid])?;
            }
            ensure!(left.is_empty(), "there are {left:?}");
            Ok(())
        },
    )
}

fn remove_file(path: &str) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {path}"))
        }
        _ => Ok(()),
    }
}

fn remove(folder: &str) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {folder}"))
        }
        _ => Ok(()),
    }
}
