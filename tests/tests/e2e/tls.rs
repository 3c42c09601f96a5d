//! The agent on an xPU with an address of its own, its clients on the host: certificates as
//! `docs/certificates.md` has them made, word by word, and then `xpuctl` and `xpu-cni` with them.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    agent::Agent,
    command,
    pod::Pod,
    runtime::{Attachment, is_home},
    topology::Topology,
};

use crate::Lab;

/// Where the document says that the agent has its files.
const AGENT_FILES: &str = "/etc/xpu-agent";
/// Where they are made, and stay for the clients: no network may name files elsewhere.
const FILES: &str = "/etc/cni/net.d/xpu-cni.d";
/// The agent's address in the document, and the port in its configuration.
const AGENT: &str = "192.0.2.1";
const ENDPOINT: &str = "https://192.0.2.1:50151";

/// The blocks of a language in the document, joined.
fn blocks(document: &str, language: &str) -> String {
    let fence = format!("```{language}\n");
    let blocks = document.split(&fence).skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Follows the document; answers with the configuration that it shows, without `[api]`, of which
/// the lab has one.
fn follow_the_document() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/certificates.md");
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let _ = fs::remove_dir_all(FILES);
    fs::create_dir_all(FILES)?;
    let commands = blocks(&document, "sh");
    ensure!(commands.matches("issue ").count() == 3, "{commands}");
    let script = format!("set -eu -o pipefail\ncd {FILES}\n{commands}");
    command::run_words(&["bash", "-c", &script])?;
    fs::create_dir_all(AGENT_FILES)?;
    for file in ["agent.crt", "agent.key", "ca.crt"] {
        fs::copy(
            Path::new(FILES).join(file),
            Path::new(AGENT_FILES).join(file),
        )?;
    }
    let configuration = blocks(&document, "toml");
    let (api, rest) = configuration.split_once("[tls]").context("no [tls]")?;
    ensure!(api.contains("tcp = \"0.0.0.0:50151\""), "{api}");
    Ok(format!("[tls]{rest}"))
}

/// The way from the host to the xPU that is not the fabric's. It goes with the xPU's next reset.
fn management_link(topology: &Topology) -> Result<()> {
    let xpu = topology.xpu.name();
    command::run(&format!(
        "ip link add mgmt0 type veth peer name mgmt0 netns {xpu}"
    ))?;
    topology
        .host
        .ip_batch("addr add 192.0.2.2/24 dev mgmt0\nlink set mgmt0 up\n")?;
    topology.xpu.ip_batch(&format!(
        "addr add {AGENT}/24 dev mgmt0\nlink set mgmt0 up\n"
    ))
}

/// `xpuctl` on the host, with the certificate of a name: whether it was done, and what it said.
fn xpuctl(who: &str, line: &str) -> Result<(bool, String)> {
    let line = format!(
        "xpuctl --timeout 40s --endpoint {ENDPOINT} --ca {FILES}/ca.crt --cert {FILES}/{who}.crt \
         --key {FILES}/{who}.key {line}"
    );
    let output = command::outcome(&line.split_whitespace().collect::<Vec<_>>())?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

fn keys(who: &str, endpoint: &str) -> Value {
    json!({
        "logical_bridge": "net-blue",
        "agent": endpoint,
        "tls": {
            "ca": format!("{FILES}/ca.crt"),
            "cert": format!("{FILES}/{who}.crt"),
            "key": format!("{FILES}/{who}.key"),
        },
    })
}

/// A lab whose agent is at [`ENDPOINT`], with the LogicalBridge `net-blue`.
fn lab_by_tls() -> Result<(Leavings, Lab)> {
    let topology = Topology::clean()?;
    let leavings = Leavings;
    let config = format!("{}\n{}", Agent::lab_config()?, follow_the_document()?);
    management_link(&topology)?;
    let env = [("XPU_AGENT_API__TCP", "0.0.0.0:50151")];
    let agent = Agent::start_in(&topology.xpu, &config, &env)?;
    let vfs = topology.vfs()?;
    let lab = Lab {
        vfs,
        agent: Some(agent),
        topology,
    };
    let (done, said) = xpuctl("ops", "create logical-bridge net-blue --vlan 100")?;
    ensure!(done, "{said}");
    Ok((leavings, lab))
}

#[test]
fn clients_on_the_host_work_by_the_documents_certificates() -> Result<()> {
    let (_leave_nothing, lab) = lab_by_tls()?;
    let vf = &lab.vfs[0];
    let pod = Pod::create("tls")?;
    let attachment = Attachment::new(&pod, vf, keys("host-1", ENDPOINT));
    let result = attachment.add()?;
    ensure!(
        result["interfaces"][0]["mac"] == vf.mac.as_str(),
        "{result}"
    );
    let (done, ports) = xpuctl("ops", "-o name list bridge-port")?;
    ensure!(done && ports.starts_with("bridgePorts/cni-"), "{ports}");

    // A host's plugin may make ports, and nothing else.
    let (done, said) = xpuctl("host-1", "create logical-bridge net-red --vlan 200")?;
    ensure!(
        !done && said.contains("spiffe://lab.example/cni/host-1"),
        "{said}"
    );
    attachment.del()?;
    is_home(vf)?;
    let (_, ports) = xpuctl("ops", "-o name list bridge-port")?;
    ensure!(ports.is_empty(), "{ports}");

    // The agent's own certificate is for a server: nobody's as a client.
    let stranger = Attachment::new(&pod, vf, keys("agent", ENDPOINT)).run("ADD")?;
    ensure!(!stranger.ok, "{}", stranger.json);
    is_home(vf)?;
    let (done, said) = xpuctl("agent", "list logical-bridge")?;
    ensure!(!done, "{said}");
    Ok(())
}

/// Hosts name modules of libc's in `nsswitch.conf`, as Fedora does. To a static program they are of
/// another libc than its own, so it may load none.
#[test]
fn an_agent_is_found_by_its_name_whatever_else_the_host_looks_names_up_by() -> Result<()> {
    const FOLDER: &str = "/run/lab/etc";
    let (_leave_nothing, lab) = lab_by_tls()?;
    fs::create_dir_all(FOLDER)?;
    for (name, text) in [
        // Each with a library of its own in the guest; asked before DNS, and after it.
        ("nsswitch.conf", "hosts: compat files hesiod dns compat\n"),
        ("hosts", "192.0.2.1 xpu1.lab.example\n"),
        // Nobody listens there.
        ("resolv.conf", "nameserver 127.0.0.1\n"),
    ] {
        fs::write(Path::new(FOLDER).join(name), text)?;
    }
    let over_etc = format!("mount -t overlay -o lowerdir={FOLDER}:/etc etc /etc && exec \"$@\"");
    let on_such_a_host = ["unshare", "--mount", "sh", "-c", &over_etc, "sh"];
    let seen = command::run_words(
        &[
            &on_such_a_host[..],
            &["getent", "hosts", "xpu1.lab.example"],
        ]
        .concat(),
    )?;
    ensure!(seen.contains(AGENT), "{seen}");

    let vf = &lab.vfs[0];
    let pod = Pod::create("name")?;
    let with = |name| Attachment::new(&pod, vf, keys("host-1", &format!("https://{name}:50151")));
    let unknown = with("xpu2.lab.example").run_under(&on_such_a_host, "ADD")?;
    ensure!(
        unknown.json["code"] == 11 && unknown.json["msg"].to_string().contains("xpu2.lab.example"),
        "{unknown:?}"
    );
    is_home(vf)?;
    for verb in ["STATUS", "ADD", "DEL"] {
        let answer = with("xpu1.lab.example").run_under(&on_such_a_host, verb)?;
        ensure!(answer.ok, "{verb}: {answer:?}");
    }
    is_home(vf)
}

/// Takes away what the document makes.
struct Leavings;

impl Drop for Leavings {
    fn drop(&mut self) {
        for folder in [AGENT_FILES, FILES] {
            // What a failed run has not made is not there.
            let _ = fs::remove_dir_all(folder);
        }
    }
}
