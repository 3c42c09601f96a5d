//! Multus (thin) with our plugin as a secondary network. The runtime is `cnitool`, the default
//! network Debian's `loopback`.

use std::{fs, path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{command, pod::Pod, runtime::is_home, vf::Vf};

use crate::{
    CNI_PATH, FILES, MAC, Node, addresses, interface,
    kubernetes::{self, Cluster, NAMESPACE, create_network, create_pod, network_status},
    network, nothing_left, plugin_log, write,
};

const MULTUS_LOG: &str = "/run/lab/conformance/multus.log";
const ADDRESSES: [&str; 2] = ["10.100.0.64/24", "fd00:100::64/64"];
/// Where Multus keeps the device-info files of the pods' interfaces.
const DEVICE_INFO: &str = "/var/run/k8s.cni.cncf.io/devinfo/cni";

const MTU: u32 = 1450;
const ATTEMPTS: usize = 5;

/// A cluster whose nodes have Multus.
struct Multus {
    cluster: Cluster,
}

impl Multus {
    fn start() -> Result<Self> {
        let cluster = Cluster::start()?;
        let multus = json!({
            "type": "multus",
            "kubeconfig": cluster.kubeconfig,
            "binDir": "/usr/lib/cni",
            "logLevel": "debug",
            "logFile": MULTUS_LOG,
            "delegates": [{ "cniVersion": "1.0.0", "name": "default", "type": "loopback" }],
        });
        write(
            "net.d/00-multus.conflist",
            &json!({ "cniVersion": "1.0.0", "name": "multus", "plugins": [multus] }),
        )?;
        Ok(Self { cluster })
    }

    /// The runtime's ADD or DEL of a pod. Multus gives the API server a quarter of a second for its
    /// first answer, which two cold programs on an emulated processor may need longer for. It has
    /// called no plugin then, and the runtime tries again, as the kubelet would.
    fn call(&self, verb: &str, pod: &Pod) -> Result<Output> {
        let mut output = self.attempt(verb, pod)?;
        for _ in 1..ATTEMPTS {
            if !String::from_utf8_lossy(&output.stderr).contains("error waiting for pod") {
                break;
            }
            output = self.attempt(verb, pod)?;
        }
        Ok(output)
    }

    fn attempt(&self, verb: &str, pod: &Pod) -> Result<Output> {
        let name = pod_name(pod);
        let folder = format!("NETCONFPATH={FILES}/net.d");
        let arguments = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID=sandbox-{name};K8S_POD_UID={}",
            kubernetes::uid(name)
        );
        let netns = pod.path();
        command::outcome(&[
            "env", CNI_PATH, &folder, &arguments, "cnitool", verb, "multus", &netns,
        ])
    }

    /// The same where it must succeed.
    fn succeeds(&self, verb: &str, pod: &Pod) -> Result<()> {
        let output = self.call(verb, pod)?;
        ensure!(
            output.status.success(),
            "{verb}: {}; the plugin: {}; the API server: {}",
            String::from_utf8_lossy(&output.stderr),
            plugin_log(),
            self.cluster.log()
        );
        Ok(())
    }
}

/// The name in Kubernetes of the lab's pod.
fn pod_name(pod: &Pod) -> &str {
    pod.name()
}

/// What the pod's annotation says of its only network, besides its name.
fn selection(keys: Value) -> Value {
    let mut element = json!({ "name": "blue", "namespace": NAMESPACE });
    if let (Some(element), Value::Object(keys)) = (element.as_object_mut(), keys) {
        element.extend(keys);
    }
    json!([element])
}

/// The network "blue" with addresses from wherever Multus brings them. With an MTU, since a VF of
/// igbvf that gets none refuses a MAC; `libcni::capability_arguments_arrive` has a MAC alone.
fn blue(capabilities: Value) -> Value {
    let mut config = network();
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "blue".into();
    config["mtu"] = MTU.into();
    config["ipam"] = json!({ "type": "static" });
    config["capabilities"] = capabilities;
    config
}

/// The status of one interface.
fn status_of(pod: &Pod, name: &str) -> Result<Value> {
    let status = network_status(pod_name(pod))?.context("no network-status annotation")?;
    let mut all = status.as_array().into_iter().flatten();
    all.find(|it| it["interface"] == name)
        .cloned()
        .with_context(|| format!("no {name} in {status}"))
}

/// What the device-info file should hold, as network-status repeats it.
fn device_info(vf: &Vf) -> Result<Value> {
    let card = fs::read_link(format!("/sys/bus/pci/devices/{}/physfn", vf.pci))?;
    let card = card.file_name().context("no PCI address")?;
    Ok(json!({
        "type": "pci",
        "version": "1.1.0",
        "pci": { "pci-address": vf.pci, "pf-pci-address": card.to_string_lossy() },
    }))
}

fn device_info_files() -> Result<Vec<String>> {
    if !Path::new(DEVICE_INFO).exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(DEVICE_INFO)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[test]
fn a_pod_gets_its_vf_as_its_annotation_asks() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let multus = Multus::start()?;
    let capabilities =
        json!({ "mac": true, "ips": true, "deviceID": true, "CNIDeviceInfoFile": true });
    create_network("blue", &blue(capabilities))?;
    let pod = Pod::create("asks")?;
    let asked = selection(json!({ "mac": MAC, "ips": ADDRESSES }));
    create_pod(pod_name(&pod), &asked, &[vf])?;

    multus.succeeds("add", &pod)?;
    let found = interface(pod.netns(), "net1")?;
    ensure!(
        found["address"] == MAC && found["mtu"] == MTU && addresses(&found) == ADDRESSES,
        "{found}"
    );
    ensure!(is_home(vf).is_err(), "{} is still at home", vf.name);
    let status = status_of(&pod, "net1")?;
    let wanted = json!({
        "name": format!("{NAMESPACE}/blue"),
        "interface": "net1",
        "ips": ["10.100.0.64", "fd00:100::64"],
        "mac": MAC,
        "mtu": MTU,
        "dns": {},
        "device-info": device_info(vf)?,
    });
    ensure!(status == wanted, "{status}, not {wanted}");

    multus.succeeds("del", &pod)?;
    nothing_left(vf)?;
    let left = device_info_files()?;
    ensure!(left.is_empty(), "{left:?} are left in {DEVICE_INFO}");
    multus.succeeds("del", &pod)?;
    nothing_left(vf)
}

/// A network that declares no capabilities is told by `CNI_ARGS`.
#[test]
fn mac_and_addresses_come_by_cni_args_too() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let multus = Multus::start()?;
    create_network("blue", &blue(json!({})))?;
    let pod = Pod::create("args")?;
    let asked = selection(json!({ "mac": MAC, "ips": ADDRESSES, "interface": "blue0" }));
    create_pod(pod_name(&pod), &asked, &[vf])?;

    multus.succeeds("add", &pod)?;
    let found = interface(pod.netns(), "blue0")?;
    ensure!(
        found["address"] == MAC && addresses(&found) == ADDRESSES,
        "{found}"
    );
    let status = status_of(&pod, "blue0")?;
    ensure!(
        status["mac"] == MAC && status["ips"] == json!(["10.100.0.64", "fd00:100::64"]),
        "{status}"
    );
    multus.succeeds("del", &pod)?;
    nothing_left(vf)
}

/// `cni-args` of the annotation are `args.cni` of the configuration; keys of others pass.
#[test]
fn cni_args_of_the_annotation_arrive() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let multus = Multus::start()?;
    let mut config = blue(json!({ "mac": true }));
    config["ipam"] = Value::Null;
    create_network("blue", &config)?;
    let pod = Pod::create("cni-args")?;
    let asked = selection(json!({ "cni-args": { "mac": MAC, "of-another": { "deep": [1] } } }));
    create_pod(pod_name(&pod), &asked, &[vf])?;

    multus.succeeds("add", &pod)?;
    let found = interface(pod.netns(), "net1")?;
    ensure!(found["address"] == MAC, "{found}");
    let status = status_of(&pod, "net1")?;
    ensure!(
        status["mac"] == MAC && status.get("ips").is_none(),
        "{status}"
    );
    multus.succeeds("del", &pod)?;
    nothing_left(vf)
}

/// Two networks of one resource: the first device is the first network's.
#[test]
fn two_networks_get_a_vf_each() -> Result<()> {
    let node = Node::start()?;
    let [first, second, ..] = node.vfs.as_slice() else {
        anyhow::bail!("the lab has too few VFs");
    };
    let multus = Multus::start()?;
    let mut config = blue(json!({}));
    config["ipam"] = Value::Null;
    create_network("blue", &config)?;
    let pod = Pod::create("two")?;
    let element = json!({ "name": "blue", "namespace": NAMESPACE });
    create_pod(pod_name(&pod), &json!([element, element]), &[first, second])?;

    multus.succeeds("add", &pod)?;
    for (name, vf) in [("net1", first), ("net2", second)] {
        let found = interface(pod.netns(), name)?;
        ensure!(found["address"] == vf.mac.as_str(), "{name}: {found}");
        let status = status_of(&pod, name)?;
        ensure!(status["mac"] == vf.mac.as_str(), "{status}");
    }
    multus.succeeds("del", &pod)?;
    nothing_left(first)?;
    nothing_left(second)
}

/// Multus sends a DEL after an ADD that failed, and the runtime sends another.
#[test]
fn a_failing_add_is_followed_by_del_and_leaves_nothing() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let multus = Multus::start()?;
    let mut config = blue(json!({ "ips": true }));
    config["logical_bridge"] = "net-unknown".into();
    create_network("blue", &config)?;
    let pod = Pod::create("fails")?;
    create_pod(
        pod_name(&pod),
        &selection(json!({ "ips": ADDRESSES })),
        &[vf],
    )?;

    let output = multus.call("add", &pod)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("net-unknown"),
        "the runtime is told {said:?}"
    );
    let log = plugin_log();
    let calls: Vec<_> = ["ADD", "DEL"]
        .iter()
        .map(|verb| log.lines().filter(|line| is_call(line, verb)).count())
        .collect();
    ensure!(calls == [1, 1], "calls of ADD and DEL: {calls:?} in {log}");
    let links = pod.netns().links()?;
    ensure!(links.is_empty(), "the pod has {links:?}");
    ensure!(
        network_status(pod_name(&pod))?.is_none(),
        "a status without a network"
    );
    nothing_left(vf)?;
    multus.succeeds("del", &pod)?;
    nothing_left(vf)
}

#[test]
fn del_works_when_pod_and_namespace_are_gone() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let multus = Multus::start()?;
    create_network("blue", &blue(json!({ "mac": true, "ips": true })))?;
    let pod = Pod::create("gone")?;
    let asked = selection(json!({ "mac": MAC, "ips": ADDRESSES }));
    create_pod(pod_name(&pod), &asked, &[vf])?;
    multus.succeeds("add", &pod)?;

    kubernetes::delete_pod(pod_name(&pod))?;
    pod.netns().delete()?;
    multus.succeeds("del", &pod)?;
    nothing_left(vf)
}

/// Whether a line of the plugin's log says that a call has begun to end: `TIME LEVEL VERB …`.
fn is_call(line: &str, verb: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let level = words.next();
    words.next() == Some(verb) && (level == Some("Error") || line.contains(" done in "))
}
