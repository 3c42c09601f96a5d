//! Every version of the specification, through the library that container runtimes use.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{command, operator, pod::Pod, runtime::INTERFACE, vf::Vf};

use crate::{
    CNI_PATH, FILES, MAC, Node, addresses, interface, nothing_left, plugin, plugin_log, write,
};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Where the versions in between can add nothing.
const OLD_AND_NEW: [&str; 2] = ["0.3.0", "1.1.0"];
const MTU: u32 = 1450;
const V4: &str = "10.100.0.61/24";
const V6: &str = "fd00:100::61/64";

/// A container that libcni's client works on.
struct Client<'a> {
    version: &'a str,
    config: &'a Path,
    pod: &'a Pod,
}

impl Client<'_> {
    /// Does verbs in turn; answers with the client's report of each.
    fn verbs(&self, verbs: &str) -> Result<Vec<Value>> {
        self.verbs_with(verbs, &[])
    }

    fn verbs_with(&self, verbs: &str, options: &[&str]) -> Result<Vec<Value>> {
        let (config, netns) = (self.config.to_string_lossy(), self.pod.path());
        let mut words = vec![
            "env",
            CNI_PATH,
            "drive",
            "-cni-version",
            self.version,
            "-config",
            &config,
            "-container",
            self.pod.name(),
            "-netns",
            &netns,
            "-ifname",
            INTERFACE,
            "-verbs",
            verbs,
        ];
        words.extend(options);
        let printed = command::run_words(&words)?;
        let lines = printed.lines();
        lines
            .map(|line| command::parse_json("drive", line))
            .collect()
    }

    /// The same where every verb must succeed; answers with the report of the first.
    fn succeeds(&self, verbs: &str) -> Result<Value> {
        let reports = self.verbs(verbs)?;
        for report in &reports {
            ensure!(report["ok"] == true, "{report}; {}", plugin_log());
        }
        reports.into_iter().next().context("no report")
    }
}

fn static_addresses() -> Value {
    json!({
        "type": "static",
        "addresses": [
            { "address": V4, "gateway": "10.100.0.1" },
            { "address": V6, "gateway": "fd00:100::1" },
        ],
        "routes": [{ "dst": "192.0.2.0/24", "gw": "10.100.0.1" }, { "dst": "2001:db8::/32" }],
        "dns": { "nameservers": ["10.100.0.53"] },
    })
}

/// The whole document that the version asks for.
fn expected(version: &str, vf: &Vf, pod: &Pod) -> Value {
    let mut interface = json!({ "name": INTERFACE, "mac": vf.mac, "sandbox": pod.path() });
    if version == "1.1.0" {
        interface["mtu"] = MTU.into();
        interface["pciID"] = vf.pci.as_str().into();
    }
    let mut ips = [
        json!({ "interface": 0, "address": V4, "gateway": "10.100.0.1" }),
        json!({ "interface": 0, "address": V6, "gateway": "fd00:100::1" }),
    ];
    if version.starts_with("0.") {
        ips[0]["version"] = "4".into();
        ips[1]["version"] = "6".into();
    }
    json!({
        "cniVersion": version,
        "interfaces": [interface],
        "ips": ips,
        // The second is the address' own gateway, as IPAM named none.
        "routes": [
            { "dst": "192.0.2.0/24", "gw": "10.100.0.1" },
            { "dst": "2001:db8::/32", "gw": "fd00:100::1" },
        ],
        "dns": { "nameservers": ["10.100.0.53"] },
    })
}

/// ADD, then what the version has beside it, then DEL twice; with the result word for word, and
/// the same after libcni has read it: nothing in it is foreign to the version's own type.
#[test]
fn every_version_attaches_and_detaches() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let mut config = plugin(vf);
    config["mtu"] = MTU.into();
    config["ipam"] = static_addresses();
    let config = write("static.json", &config)?;
    for version in VERSIONS {
        let pod = Pod::create(&format!("v{}", version.replace('.', "")))?;
        let client = Client {
            version,
            config: &config,
            pod: &pod,
        };
        let told = client.succeeds("version,validate")?;
        ensure!(told["versions"] == json!(VERSIONS), "{told}");

        let added = client.succeeds("add")?;
        let wanted = expected(version, vf, &pod);
        ensure!(
            added["printed"] == wanted && added["result"] == wanted,
            "{version}: {added}, not {wanted}"
        );
        let found = interface(pod.netns(), INTERFACE)?;
        ensure!(
            found["address"] == vf.mac.as_str()
                && found["mtu"] == MTU
                && found["operstate"] == "UP"
                && addresses(&found) == [V4, V6],
            "{version}: {found}"
        );

        client.succeeds(beside(version))?;
        nothing_left(vf).with_context(|| format!("after DEL by {version}"))?;
    }
    Ok(())
}

/// What a runtime does after ADD: all that the version has, and DEL twice.
fn beside(version: &str) -> &'static str {
    match version {
        "0.3.0" | "0.3.1" => "del,del",
        _ => "check,del,del",
    }
}

/// STATUS is about agent and IPAM: both can serve. Debian's IPAM plugins are older than that verb
/// and GC, and refuse them.
#[test]
fn status_and_gc_bear_with_an_ipam_that_knows_neither() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let pod = Pod::create("status")?;
    let mut with_ipam = plugin(vf);
    with_ipam["ipam"] = static_addresses();
    for (name, config) in [("bare", plugin(vf)), ("static", with_ipam)] {
        let config = write(&format!("{name}.json"), &config)?;
        let client = Client {
            version: "1.1.0",
            config: &config,
            pod: &pod,
        };
        client.succeeds("status,gc-keep").context(name)?;
    }
    Ok(())
}

/// GC keeps what is valid and removes the rest, if that is all there is; without a list it refuses
/// and removes nothing.
#[test]
fn gc_removes_what_is_not_valid_and_never_guesses() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let config = write("gc.json", &plugin(vf))?;
    let pod = Pod::create("gc")?;
    let client = Client {
        version: "1.1.0",
        config: &config,
        pod: &pod,
    };
    client.succeeds("add")?;
    // Libcni sends a DEL for what its cache has; here the plugin is on its own.
    let cache = empty_cache()?;
    let options = ["-cache", cache.as_str()];
    let reports = client.verbs_with("gc-keep,gc-blind", &options)?;
    ensure!(reports[0]["ok"] == true, "{}", reports[0]);
    ensure!(
        reports[1]["ok"] == false && reports[1]["error"]["code"] == 7,
        "{}",
        reports[1]
    );
    let told = reports[1]["error"]["msg"].as_str().unwrap_or_default();
    ensure!(told.contains("cni.dev/valid-attachments"), "{told}");
    interface(pod.netns(), INTERFACE)?;
    let reports = client.verbs_with("gc-drop,del", &options)?;
    ensure!(reports.iter().all(|it| it["ok"] == true), "{reports:?}");
    nothing_left(vf)?;

    client.succeeds("add")?;
    interface(pod.netns(), INTERFACE)?;
    let reports = client.verbs_with("gc-none", &options)?;
    ensure!(reports[0]["ok"] == true, "{}", reports[0]);
    nothing_left(vf)
}

fn empty_cache() -> Result<String> {
    let cache = format!("{FILES}/empty-cache");
    fs::create_dir_all(&cache)?;
    Ok(cache)
}

#[test]
fn an_attachment_without_addresses_has_none_in_its_result() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let config = write("bare.json", &plugin(vf))?;
    for version in OLD_AND_NEW {
        let pod = Pod::create("bare")?;
        let client = Client {
            version,
            config: &config,
            pod: &pod,
        };
        let added = client.succeeds("add")?;
        let result = &added["printed"];
        ensure!(
            result.get("ips").is_none() && result["interfaces"][0]["mac"] == vf.mac.as_str(),
            "{version}: {added}"
        );
        client.succeeds("del,del")?;
        nothing_left(vf)?;
    }
    Ok(())
}

/// Runtimes hand MAC and addresses over as capability arguments.
#[test]
fn capability_arguments_arrive() -> Result<()> {
    const ADDRESS: &str = "10.100.0.62/24";
    let node = Node::start()?;
    let vf = node.vf()?;
    let mut config = plugin(vf);
    config["capabilities"] = json!({ "mac": true, "ips": true });
    config["ipam"] = json!({ "type": "static" });
    let config = write("capabilities.json", &config)?;
    let pod = Pod::create("capabilities")?;
    let client = Client {
        version: "1.1.0",
        config: &config,
        pod: &pod,
    };
    let capabilities = json!({ "mac": MAC, "ips": [ADDRESS] }).to_string();
    let options = ["-capabilities", &capabilities];
    let added = client.verbs_with("add", &options)?;
    ensure!(
        added[0]["printed"]["interfaces"][0]["mac"] == MAC
            && added[0]["printed"]["ips"][0]["address"] == ADDRESS,
        "{added:?}"
    );
    let found = interface(pod.netns(), INTERFACE)?;
    ensure!(
        found["address"] == MAC && addresses(&found) == [ADDRESS],
        "{found}"
    );
    client.verbs_with("del,del", &options)?;
    nothing_left(vf)
}

/// What a runtime is told when it can't be: code, and the cause by its key or name.
#[test]
fn errors_are_errors_of_the_specification() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let pod = Pod::create("errors")?;
    let mut unknown = plugin(vf);
    unknown["logical_bridge"] = "net-unknown".into();
    let mut wrong = plugin(vf);
    wrong["deviceID"] = "0000:zz:00.0".into();
    let mut unasked = plugin(vf);
    unasked["logical_bridge"] = Value::Null;
    let cases = [
        // Of the plugin's own range: the agent's refusal.
        ("unknown", unknown, 101, "net-unknown"),
        ("wrong", wrong, 7, "deviceID"),
        ("unasked", unasked, 7, "logical_bridge"),
    ];
    for (name, config, code, word) in cases {
        let config = write(&format!("{name}.json"), &config)?;
        for version in OLD_AND_NEW {
            let client = Client {
                version,
                config: &config,
                pod: &pod,
            };
            let reports = client.verbs("add,del")?;
            let error = &reports[0]["error"];
            ensure!(
                reports[0]["ok"] == false && error["code"] == code,
                "{name}: {}",
                reports[0]
            );
            let message = error["msg"].as_str().unwrap_or_default();
            ensure!(message.contains(word), "{name}: {error}");
            ensure!(reports[1]["ok"] == true, "{name}: DEL: {}", reports[1]);
            nothing_left(vf)?;
        }
    }
    Ok(())
}

/// What a runtime is told of a pod that has lost its port, and of a node that has lost its agent.
#[test]
fn check_and_status_tell_what_is_lost() -> Result<()> {
    // In this order, so that the right to the network goes last.
    let Node {
        _topology,
        agent,
        vfs,
    } = Node::start()?;
    let vf = vfs.first().context("the lab has no VF")?;
    let config = write("lost.json", &plugin(vf))?;
    let pod = Pod::create("lost")?;
    let client = Client {
        version: "1.1.0",
        config: &config,
        pod: &pod,
    };
    client.succeeds("status,add,check,status")?;
    for port in operator::names("bridge-port")? {
        operator::xpuctl(&format!("delete bridge-port {port}"))?;
    }
    let reports = client.verbs("check,status,del,del")?;
    is_error(&reports[0], 104, "port cni-")?;
    is_error(&reports[1], 51, "missing at the agent")?;
    ensure!(
        reports[2..].iter().all(|it| it["ok"] == true),
        "{reports:?}"
    );
    nothing_left(vf)?;
    agent.stop()?;
    let reports = client.verbs("status")?;
    is_error(&reports[0], 50, "can't be reached")
}

/// Asserts that a verb failed with a code, and with these words.
fn is_error(report: &Value, code: u32, words: &str) -> Result<()> {
    let error = &report["error"];
    let told = error["msg"].as_str().unwrap_or_default();
    ensure!(
        report["ok"] == false && error["code"] == code && told.contains(words),
        "{report}, not {code} with `{words}`; {}",
        plugin_log()
    );
    Ok(())
}

/// A runtime that has lost its cache, its pod and the pod's namespace still sends DEL.
#[test]
fn del_needs_neither_pod_nor_cache() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let config = write("forgotten.json", &plugin(vf))?;
    let pod = Pod::create("forgotten")?;
    let client = Client {
        version: "1.1.0",
        config: &config,
        pod: &pod,
    };
    client.succeeds("add")?;
    pod.netns().delete()?;
    let cache = empty_cache()?;
    for report in client.verbs_with("del,del", &["-cache", &cache])? {
        ensure!(report["ok"] == true, "{report}; {}", plugin_log());
    }
    nothing_left(vf)
}
