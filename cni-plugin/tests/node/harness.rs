//! A node made of network namespaces: one is the host, veth pairs are its VFs, a tonic
//! server is its agent, a generated script its IPAM. Needs root; without it, it fails.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use xpu_cni::{
    journal::Journal,
    lock::{Lock, lock},
    port::Key,
};

use crate::agent::FakeAgent;

/// The VF that every node has.
pub const PCI: &str = "0000:af:06.0";
/// Its MAC, MTU and name at home.
pub const MAC: &str = "02:00:00:00:af:06";
pub const MTU: u64 = 1500;
pub const VF: &str = "vf0";

const PF: &str = "0000:af:00.0";

/// At which checkpoint a call is killed.
pub const KILL_AT: &str = "XPU_TESTBED_KILL_AT";

/// The node. Its namespaces end with it.
pub struct Node {
    pub host: String,
    pub agent: FakeAgent,
    pods: Vec<String>,
    // Last, since fields are dropped in this order and the agent's socket is in it.
    pub root: tempfile::TempDir,
}

/// What a call answered.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The document on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The result of a call that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        if self.stdout.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Code and message of a call that must have failed.
    #[track_caller]
    pub fn error(&self) -> (u64, String) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let document = self.json();
        (
            document["code"].as_u64().unwrap(),
            document["msg"].as_str().unwrap().to_owned(),
        )
    }
}

/// Runs a program that must succeed, and gives its stdout.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

impl Node {
    /// A node with one VF, a running agent and an IPAM that gives `10.1.2.3/24`.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root: they make namespaces"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = tempfile::tempdir().unwrap();
        let host = format!("xcni{}-{number}", std::process::id());
        run("ip", &["netns", "add", &host]);
        let agent = FakeAgent::start(&root.path().join("agent.sock"));
        let node = Self {
            root,
            host,
            agent,
            pods: Vec::new(),
        };
        node.make_vf(0);
        node.make_ipam();
        node
    }

    /// Makes the PF's VF of a number and gives its PCI address. Number 0 is there.
    pub fn make_vf(&self, number: u8) -> String {
        let (host, name, wire) = (&self.host, format!("vf{number}"), format!("wire{number}"));
        let pci = format!("0000:af:06.{number:x}");
        let mac = format!("02:00:00:{number:02x}:af:06");
        run(
            "ip",
            &[
                "-n", host, "link", "add", &name, "address", &mac, "type", "veth", "peer", "name",
                &wire,
            ],
        );
        run("ip", &["-n", host, "link", "set", &name, "alias", &pci]);
        run("ip", &["-n", host, "link", "set", &wire, "up"]);
        let devices = self.root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(devices.join(&pci).join("net").join(&name)).unwrap();
        let class = self.root.path().join("sys/class/net").join(&name);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join("ifalias"), format!("{pci}\n")).unwrap();
        fs::write(class.join("netdev_group"), "0\n").unwrap();
        fs::create_dir_all(devices.join(PF)).unwrap();
        symlink(format!("../{PF}"), devices.join(&pci).join("physfn")).unwrap();
        symlink("../../drivers/igbvf", devices.join(&pci).join("driver")).unwrap();
        let function = devices.join(PF).join(format!("virtfn{number}"));
        symlink(format!("../{pci}"), function).unwrap();
        pci
    }

    /// Makes sysfs forget the VF's netdev, as the real one does when it has moved away.
    pub fn hide_netdev(&self) {
        fs::remove_dir(self.netdev()).unwrap();
    }

    /// Makes sysfs know it again.
    pub fn show_netdev(&self) {
        fs::create_dir(self.netdev()).unwrap();
    }

    fn netdev(&self) -> PathBuf {
        let devices = self.root.path().join("sys/bus/pci/devices");
        devices.join(PCI).join("net").join(VF)
    }

    /// Gives the VF to a driver that makes no netdev of it.
    pub fn give_to_a_program(&self) {
        symlink("../../drivers/vfio-pci", self.without_driver()).unwrap();
    }

    /// Takes the VF from its driver; gives where that was.
    pub fn without_driver(&self) -> PathBuf {
        self.hide_netdev();
        let device = self.root.path().join("sys/bus/pci/devices").join(PCI);
        fs::remove_file(device.join("driver")).unwrap();
        device.join("driver")
    }

    /// A new pod's namespace; gives its path.
    pub fn pod(&mut self) -> PathBuf {
        let name = format!("{}p{}", self.host, self.pods.len());
        run("ip", &["netns", "add", &name]);
        self.pods.push(name.clone());
        Path::new("/run/netns").join(name)
    }

    /// A network's configuration: access to `blue`, no IPAM, and what `more` adds.
    pub fn config(&self, more: Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "red", "type": "xpu-cni", "deviceID": PCI,
            "agent": self.agent.address(), "logical_bridge": "blue",
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// One call of the plugin on this node.
    pub fn call(&self, command: &str, container: &str, netns: &Path, config: &Value) -> Answer {
        self.call_with(command, container, netns, &config.to_string(), &[])
    }

    /// One call of the plugin, with further environment.
    pub fn call_with(
        &self,
        command: &str,
        container: &str,
        netns: &Path,
        stdin: &str,
        env: &[(&str, &str)],
    ) -> Answer {
        let host = File::open(Path::new("/run/netns").join(&self.host)).unwrap();
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_xpu-cni-testbed"));
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "net1")
            .env("CNI_NETNS", netns)
            .env("CNI_PATH", self.root.path().join("bin"))
            .env("XPU_TESTBED_ROOT", self.root.path())
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: setns(2) is async-signal-safe, and so all that runs after the fork.
        unsafe { plugin.pre_exec(move || Ok(setns(&host, CloneFlags::CLONE_NEWNET)?)) };
        let mut child = plugin.spawn().unwrap();
        // A process that is killed early doesn't read; that is its test's business.
        let _unread = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// One call of the plugin that is killed at a checkpoint, which are counted from 1; it gets
    /// through where there are fewer.
    pub fn call_killed_at(
        &self,
        point: u32,
        command: &str,
        container: &str,
        netns: &Path,
        config: &Value,
    ) -> Answer {
        let (at, config) = (point.to_string(), config.to_string());
        let env = [(KILL_AT, at.as_str())];
        self.call_with(command, container, netns, &config, &env)
    }

    /// A link as `ip -j` tells it; `Null` when there is none of that name.
    pub fn link(netns: &str, name: &str) -> Value {
        let all = run("ip", &["-n", netns, "-j", "-d", "link", "show"]);
        let all: Vec<Value> = serde_json::from_str(&all).unwrap();
        all.into_iter()
            .find(|link| link["ifname"] == name)
            .unwrap_or_default()
    }

    /// The VF is home as it was, and nothing else is left: no port, no address, no record, no
    /// claim, no device-info file, and no temporary one.
    #[track_caller]
    pub fn assert_clean(&self) {
        let vf = Self::link(&self.host, VF);
        assert_eq!(vf["address"], MAC, "{vf}");
        assert_eq!(vf["mtu"], MTU, "{vf}");
        assert_eq!(vf["ifalias"], PCI, "{vf}");
        assert_eq!(vf.get("altnames"), None, "{vf}");
        assert!(!is_up(&vf), "{vf}");
        assert_eq!(flags(&vf), ["BROADCAST", "MULTICAST"], "{vf}");
        assert_eq!(self.agent.ports(), Vec::<String>::new());
        for folder in ["attachments", "vf", "tombstones", "corrupt"] {
            assert_eq!(self.state(folder), Vec::<String>::new(), "{folder}");
        }
        for folder in ["devinfo", "leases"] {
            assert_eq!(self.names(folder), Vec::<String>::new(), "{folder}");
        }
    }

    /// The lock of a VF, as another call of the plugin holds it.
    pub fn hold(&self, pci: &str) -> Lock {
        let journal = Journal::open(&self.root.path().join("state")).unwrap();
        lock(&journal.vf_lock(&pci.parse().unwrap()), Instant::now()).unwrap()
    }

    /// The lock of an attachment, as another call of the plugin holds it.
    pub fn hold_attachment(&self, key: &str) -> Lock {
        let journal = Journal::open(&self.root.path().join("state")).unwrap();
        let key = Key::from_file_name(key).unwrap();
        lock(&journal.attachment_lock(&key), Instant::now()).unwrap()
    }

    /// The names of a pod's links, or of the host's.
    pub fn links(netns: &str) -> Vec<String> {
        let all = run("ip", &["-n", netns, "-j", "link", "show"]);
        let all: Vec<Value> = serde_json::from_str(&all).unwrap();
        all.iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The names in a folder of the journal.
    pub fn state(&self, folder: &str) -> Vec<String> {
        self.names(&format!("state/{folder}"))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let dir = self.root.path().join(folder);
        let Ok(listing) = fs::read_dir(dir) else {
            return Vec::new();
        };
        listing
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for name in self.pods.iter().chain([&self.host]) {
            let _gone_already = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Whether a link is administratively up.
pub fn is_up(link: &Value) -> bool {
    link["flags"]
        .as_array()
        .is_some_and(|flags| flags.contains(&json!("UP")))
}

/// A link's flags but those of its carrier, in order.
pub fn flags(link: &Value) -> Vec<&str> {
    let all = link["flags"].as_array().unwrap().iter();
    let all = all.map(|flag| flag.as_str().unwrap());
    let mut own: Vec<_> = all
        .filter(|flag| !["M-DOWN", "NO-CARRIER", "LOWER_UP"].contains(flag))
        .collect();
    own.sort_unstable();
    own
}

/// The name of a pod's namespace.
pub fn name_of(netns: &Path) -> &str {
    netns.file_name().unwrap().to_str().unwrap()
}

/// `ip` in a namespace, by its name or its path.
#[track_caller]
pub fn ip(netns: impl AsRef<Path>, line: &str) -> String {
    let words = ["-n", name_of(netns.as_ref())].into_iter();
    run("ip", &Vec::from_iter(words.chain(line.split(' '))))
}

/// The VF comes home by a name, as the kernel brings it from a namespace that ends. A veth would
/// end with that.
#[track_caller]
pub fn come_home(node: &Node, pod: &Path, name: &str) {
    ip(
        pod,
        &format!("link set net1 netns {} name {name}", node.host),
    );
}

/// A pod ends and nobody says so; its VF comes home by a name.
#[track_caller]
pub fn end_silently(node: &Node, pod: &Path, name: &str) {
    come_home(node, pod, name);
    run("ip", &["netns", "del", name_of(pod)]);
}

/// An ADD that is killed once the move is noted, and before it is made; then a DEL, before which
/// the pod ends, if `ends_first`.
pub fn killed_before_the_move(node: &mut Node, ends_first: bool) {
    let (pod, config) = (node.pod(), node.config(serde_json::json!({})));
    // The record, the claim, the port twice, and the move once.
    let answer = node.call_killed_at(6, "ADD", "c1", &pod, &config);
    assert!(answer.stderr.contains("killed at move"), "{answer:?}");
    if ends_first {
        run("ip", &["netns", "del", name_of(&pod)]);
    }
    node.call("DEL", "c1", &pod, &config).ok();
}
