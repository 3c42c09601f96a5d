//! What Multus asks besides the plugins: an API server with pods and networks, and the kubelet's
//! word on which device is whose.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{command, vf::Vf, wait::wait_until};

use crate::{FILES, write};

/// The namespace of the pods and networks.
pub const NAMESPACE: &str = "tenant";
/// The resource that a device plugin would offer VFs as.
const RESOURCE: &str = "example.org/xpu_vf";
/// Where the kubelet notes the devices that it gave to pods; Multus knows no other place.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A stub of an API server. Dropping it ends it.
pub struct Cluster {
    server: Child,
    log: PathBuf,
    /// The file that clients find the server by.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts the server without objects.
    pub fn start() -> Result<Self> {
        let (kubeconfig, log) = (
            Path::new(FILES).join("kubeconfig"),
            Path::new(FILES).join("kubestub.log"),
        );
        let server = Command::new("kubestub")
            .arg("-objects")
            .arg(objects())
            .arg("-kubeconfig")
            .arg(&kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start kubestub")?;
        let cluster = Self {
            server,
            log,
            kubeconfig,
        };
        wait_until("the API server is served", READY_LIMIT, || {
            ensure!(
                cluster.kubeconfig.exists(),
                "no kubeconfig yet; {}",
                cluster.log()
            );
            Ok(())
        })?;
        Ok(cluster)
    }

    /// What was asked of the server.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Makes a NetworkAttachmentDefinition.
pub fn create_network(name: &str, config: &Value) -> Result<()> {
    let definition = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": { "k8s.v1.cni.cncf.io/resourceName": RESOURCE },
        },
        "spec": { "config": config.to_string() },
    });
    write(
        &format!("objects/network-attachment-definitions/{NAMESPACE}/{name}.json"),
        &definition,
    )?;
    Ok(())
}

/// Makes a pod that asks for networks and has VFs.
pub fn create_pod(name: &str, networks: &Value, vfs: &[&Vf]) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid(name),
            "annotations": { "k8s.v1.cni.cncf.io/networks": networks.to_string() },
        },
        "spec": { "containers": [{ "name": "main", "image": "none" }] },
    });
    write(&pod_file(name), &pod)?;
    let devices: Vec<_> = vfs.iter().map(|vf| &vf.pci).collect();
    let checkpoint = json!({
        "Data": {
            "PodDeviceEntries": [{
                "PodUID": uid(name),
                "ContainerName": "main",
                "ResourceName": RESOURCE,
                // By NUMA node.
                "DeviceIDs": { "0": devices },
                "AllocResp": "",
            }],
            "RegisteredDevices": { (RESOURCE): devices },
        },
        "Checksum": 0,
    });
    let path = Path::new(CHECKPOINT);
    fs::create_dir_all(path.parent().context("it has a folder")?)?;
    fs::write(path, checkpoint.to_string())?;
    Ok(())
}

/// Removes a pod from the API, as after a forced deletion.
pub fn delete_pod(name: &str) -> Result<()> {
    fs::remove_file(Path::new(FILES).join(pod_file(name)))?;
    Ok(())
}

/// The pod's network-status annotation; none where Multus has written none.
pub fn network_status(name: &str) -> Result<Option<Value>> {
    let text = fs::read_to_string(Path::new(FILES).join(pod_file(name)))?;
    let pod = command::parse_json("the pod's file", &text)?;
    let status = pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"].as_str();
    status
        .map(|text| command::parse_json("network-status", text))
        .transpose()
}

/// The pod's UID.
pub fn uid(name: &str) -> String {
    format!("uid-{name}")
}

fn objects() -> PathBuf {
    Path::new(FILES).join("objects")
}

fn pod_file(name: &str) -> String {
    format!("objects/pods/{NAMESPACE}/{name}.json")
}
