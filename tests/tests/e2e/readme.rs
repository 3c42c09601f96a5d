//! The README's commands, as they stand there, where the lab has what they need: no make, no systemd
//! and no curl, so those words are done by others. `make check-install` does the first.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::{
    agent::{Agent, USUAL_CONFIG},
    command,
    http::is_ready,
    operator::is_up,
    service,
    topology::Topology,
    wait::wait_until,
};

use crate::CONVERGENCE;

/// Where the commands are run.
const FOLDER: &str = "/run/lab/readme";

/// curl's words, as far as the README has them.
const CURL: &str = r#"curl() { python3 - "$@" <<'END'
import sys, urllib.request
words = [word for word in sys.argv[1:] if word != "-s"]
body = words.pop(words.index("--json") + 1).encode() if "--json" in words else None
url = next(word for word in words if word != "--json")
url = url if "://" in url else "http://" + url
request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
END
}
"#;

/// The commands of the blocks in a section: lines that end in a backslash go on, and what follows a
/// `#` is a comment.
fn commands(heading: &str) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, section) = readme
        .split_once(&format!("\n## {heading}\n"))
        .context("no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut commands = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let whole = block.replace("\\\n", " ");
        let lines = whole
            .lines()
            .map(|line| line.split(" #").next().unwrap_or_default().trim());
        commands.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    ensure!(commands.len() > 3, "{heading}: {commands:?}");
    Ok(commands)
}

/// The lab with an `agent.toml` in the folder, and no agent.
fn prepared() -> Result<(Topology, String)> {
    let topology = Topology::clean()?;
    // The folder of an earlier run, if there was one.
    let _ = fs::remove_dir_all(FOLDER);
    fs::create_dir_all(FOLDER)?;
    let config = format!("{}\n[access]\nloopback = \"admin\"\n", Agent::lab_config()?);
    fs::write(Path::new(FOLDER).join("agent.toml"), &config)?;
    Ok((topology, config))
}

fn run(topology: &Topology, line: &str) -> Result<()> {
    let script = format!("set -eu -o pipefail\ncd {FOLDER}\n{CURL}{line}");
    command::run_words(&topology.xpu.words(&["bash", "-c", &script]))
        .with_context(|| line.to_owned())
        .map(drop)
}

#[test]
fn running_it_goes_as_written() -> Result<()> {
    let (topology, config) = prepared()?;
    let mut agent = None;
    for line in commands("Running it")? {
        match line.split_whitespace().next() {
            Some("make") => ensure!(line == "make install", "{line}"),
            Some("systemctl") => {
                ensure!(line == "systemctl enable --now xpu-agent", "{line}");
                ensure!(
                    fs::read_to_string(USUAL_CONFIG)? == config,
                    "{USUAL_CONFIG}"
                );
                agent = Some(service::start_configured(&topology.xpu, &[])?);
                // As systemd, which is told.
                wait_until("it is ready", CONVERGENCE, || is_ready(&topology.xpu))?;
            }
            _ => run(&topology, &line)?,
        }
    }
    let status = agent.context("nothing was started")?.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn using_it_goes_as_written() -> Result<()> {
    let (topology, config) = prepared()?;
    // Where doctor looks.
    service::configure(&config)?;
    let mut agent = None;
    for line in commands("Using it")? {
        if let Some(words) = line.strip_suffix('&') {
            let script = format!("cd {FOLDER} && exec {words}");
            agent = Some(Agent::start_by(
                &topology.xpu,
                &["bash", "-c", &script],
                &[],
            )?);
            wait_until("it is ready", CONVERGENCE, || is_ready(&topology.xpu))?;
            continue;
        }
        if line.starts_with("xpuctl doctor") {
            for (kind, name) in [("lb", "net-blue"), ("vrf", "vrf-red"), ("svi", "svi-blue")] {
                wait_until("all is up", CONVERGENCE, || is_up(kind, name))?;
            }
        }
        run(&topology, &line)?;
    }
    ensure!(agent.is_some(), "nothing was started");
    let written = fs::read_to_string(Path::new(FOLDER).join("tenant.yaml"))?;
    ensure!(written.contains("net-blue"), "{written}");
    Ok(())
}
