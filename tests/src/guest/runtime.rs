//! The container runtime and Multus: `xpu-cni` as they run it, by the CNI specification.

use std::{
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    command,
    pod::Pod,
    vf::{HOME_MTU, Vf},
};

const PLUGIN: &str = "xpu-cni";
/// The same code with fault points: `cni-plugin/testbed`. `make test-lab` puts it into the guest.
const TESTBED: &str = "xpu-cni-testbed";
/// Debian's containernetworking-plugins.
pub const CNI_PATH: &str = "/usr/lib/cni";
/// The interface's name in the pod.
pub const INTERFACE: &str = "net1";

/// One interface of one pod.
#[derive(Debug, Clone)]
pub struct Attachment {
    container: String,
    netns: String,
    config: Value,
    traceparent: Option<String>,
}

/// What the plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its standard output as JSON: a result or an error; null where it printed nothing.
    pub json: Value,
    /// Its standard error.
    pub log: String,
}

impl Attachment {
    /// A VF for a pod. `network` has the keys of the plugin: `{"logical_bridge":"net-blue"}`.
    pub fn new(pod: &Pod, vf: &Vf, network: Value) -> Self {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "lab", "type": "xpu-cni", "deviceID": vf.pci,
        });
        merge(&mut config, network);
        Self {
            container: pod.name().to_owned(),
            netns: pod.netns().path(),
            config,
            traceparent: None,
        }
    }

    /// The same with static addresses, if there are any, each `10.0.0.2/24`, and the gateways of a default route.
    #[must_use]
    pub fn addresses(mut self, addresses: &[&str], gateways: &[&str]) -> Self {
        if addresses.is_empty() {
            return self;
        }
        let addresses: Vec<_> = addresses
            .iter()
            .map(|it| json!({ "address": it }))
            .collect();
        let route = |gateway: &&str| {
            let dst = if gateway.contains(':') {
                "::/0"
            } else {
                "0.0.0.0/0"
            };
            json!({ "dst": dst, "gw": gateway })
        };
        let routes: Vec<_> = gateways.iter().map(route).collect();
        merge(
            &mut self.config,
            json!({ "ipam": { "type": "static", "addresses": addresses, "routes": routes } }),
        );
        self
    }

    /// The same, called by somebody whose trace this is (W3C Trace Context).
    #[must_use]
    pub fn traced(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.to_owned());
        self
    }

    /// The same with other keys in the configuration.
    #[must_use]
    pub fn with(mut self, keys: Value) -> Self {
        merge(&mut self.config, keys);
        self
    }

    /// ADD.
    ///
    /// # Errors
    /// Where it fails; the message has the plugin's error and the agent's log.
    pub fn add(&self) -> Result<Value> {
        let answer = self.run("ADD")?;
        ensure!(
            answer.ok,
            "ADD failed: {}; {}; {}",
            answer.json,
            answer.log,
            super::agent::log_tail()
        );
        Ok(answer.json)
    }

    /// DEL.
    ///
    /// # Errors
    /// Where it fails.
    pub fn del(&self) -> Result<()> {
        let answer = self.run("DEL")?;
        ensure!(answer.ok, "DEL failed: {}; {}", answer.json, answer.log);
        Ok(())
    }

    /// Any verb, with the answer as it is.
    ///
    /// # Errors
    /// Where the plugin can't be run, or prints something else than one JSON document.
    pub fn run(&self, verb: &str) -> Result<Answer> {
        answer(verb, &self.output(&[PLUGIN], verb)?)
    }

    /// The same, run by a program that takes the plugin's name as its last argument.
    ///
    /// # Errors
    /// As of [`Self::run`].
    pub fn run_under(&self, wrapper: &[&str], verb: &str) -> Result<Answer> {
        answer(verb, &self.output(&[wrapper, &[PLUGIN]].concat(), verb)?)
    }

    /// Any verb of the testbed's build on this machine, with one of its variables set.
    ///
    /// # Errors
    /// As of [`Self::run`].
    pub fn run_testbed(&self, verb: &str, variable: &str) -> Result<Answer> {
        answer(verb, &self.testbed(verb, variable)?)
    }

    /// A verb that is killed at one of its fault points, counted from 1. Answers with the point's
    /// name; `None`: the call has fewer, and succeeded.
    ///
    /// # Errors
    /// Where it ends in another way.
    pub fn kill_at(&self, verb: &str, point: u32) -> Result<Option<String>> {
        let output = self.testbed(verb, &format!("XPU_TESTBED_KILL_AT={point}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.signal() == Some(9) {
            let mut names = said
                .lines()
                .filter_map(|line| line.strip_prefix("killed at "));
            let name = names
                .next_back()
                .context("it was killed by somebody else")?;
            return Ok(Some(name.to_owned()));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{verb}: {printed}; {said}");
        Ok(None)
    }

    fn testbed(&self, verb: &str, variable: &str) -> Result<Output> {
        self.output(&["env", "XPU_TESTBED_ROOT=/", variable, TESTBED], verb)
    }

    /// A verb that is killed after a time, wherever it is then, unless it ends before. Answers
    /// whether it was.
    ///
    /// # Errors
    /// Where the plugin can't be run.
    pub fn cut(&self, verb: &str, after: Duration) -> Result<bool> {
        const KILLED: i32 = 128 + 9;
        let after = format!("{:.3}", after.as_secs_f64());
        let status = self
            .output(&["timeout", "--signal=KILL", &after, PLUGIN], verb)?
            .status;
        // `timeout` kills its group, itself in it, or tells by its code.
        Ok(status.signal() == Some(9) || status.code() == Some(KILLED))
    }

    fn output(&self, words: &[&str], verb: &str) -> Result<Output> {
        let (program, arguments) = words.split_first().context("no words")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", CNI_PATH)
            .envs(self.traceparent.iter().map(|trace| ("TRACEPARENT", trace)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start xpu-cni")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that ends without reading says why by its exit code.
            let _ = stdin.write_all(self.config.to_string().as_bytes());
        }
        Ok(child.wait_with_output()?)
    }
}

/// What a call that ended by itself answered.
fn answer(verb: &str, output: &Output) -> Result<Answer> {
    let printed = String::from_utf8_lossy(&output.stdout);
    let json = match printed.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text)
            .with_context(|| format!("{verb} printed no JSON document: {text:?}"))?,
    };
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Answer {
        ok: output.status.success(),
        json,
        log,
    })
}

/// Asserts that a VF is at home as it was: in the host's namespace with its name, MAC and MTU, down,
/// without an alias and without addresses.
///
/// # Errors
/// Where it is not; the message says what it is.
pub fn is_home(vf: &Vf) -> Result<()> {
    let net = format!("/sys/bus/pci/devices/{}/net", vf.pci);
    let found: Vec<_> = fs::read_dir(&net)
        .with_context(|| format!("{} has no interface in the host", vf.pci))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    if found != [vf.name.as_str()] {
        bail!("{} is called {found:?}, not {}", vf.pci, vf.name);
    }
    let line = format!("ip -j addr show {}", vf.name);
    let link = command::json(&line)?[0].take();
    let is_up = link["flags"].to_string().contains("\"UP\"");
    ensure!(
        link["address"] == vf.mac.as_str()
            && link["mtu"] == HOME_MTU
            && !is_up
            && link.get("ifalias").is_none()
            && link["addr_info"] == json!([]),
        "{} is not as it was, with {} and MTU {HOME_MTU}, down and bare: {link}",
        vf.name,
        vf.mac
    );
    Ok(())
}

fn merge(config: &mut Value, keys: Value) {
    if let (Some(config), Value::Object(keys)) = (config.as_object_mut(), keys) {
        config.extend(keys);
    }
}
