//! The README's commands, as they stand there, where the lab has what they need: no make, no
//! systemd and no curl, so those words are done by others. `make check-install` does the first.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
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

/// The text of a section.
fn section(heading: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, section) = readme
        .split_once(&format!("\n## {heading}\n"))
        .context("no such section")?;
    Ok(section.split("\n## ").next().unwrap_or_default().to_owned())
}

/// The code blocks of a language in a section.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let fenced = section.split(&fence).skip(1);
    let blocks = fenced.map(|block| block.split("```").next().unwrap_or_default());
    blocks.map(str::to_owned).collect()
}

/// The commands in a section: lines that end in a backslash go on, and what follows a `#` is a
/// comment.
fn commands(heading: &str) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    for block in blocks(&section(heading)?, "sh") {
        let whole = block.replace("\\\n", " ");
        let lines = whole
            .lines()
            .map(|line| line.split(" #").next().unwrap_or_default().trim());
        commands.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    ensure!(commands.len() > 3, "{heading}: {commands:?}");
    Ok(commands)
}

/// The README's `agent.toml`, and what only the lab needs beside it: where its FRR is, the time
/// that its processor takes, and writing over loopback, which one of the commands says it needs.
fn config() -> Result<String> {
    let blocks = blocks(&section("Running it")?, "toml");
    let [config] = blocks.as_slice() else {
        bail!("not one configuration: {blocks:?}");
    };
    Ok(format!(
        "{config}\n[frr]\nsocket_directory = \"/run/frr/xpu\"\n\
         [api]\ndeadline_ms = 30000\n[access]\nloopback = \"admin\"\n"
    ))
}

/// The lab with an `agent.toml` in the folder, and no agent.
fn prepared() -> Result<(Topology, String)> {
    let topology = Topology::clean()?;
    // The folder of an earlier run, if there was one.
    let _ = fs::remove_dir_all(FOLDER);
    fs::create_dir_all(FOLDER)?;
    let config = config()?;
    fs::write(Path::new(FOLDER).join("agent.toml"), &config)?;
    Ok((topology, config))
}

fn run(topology: &Topology, line: &str) -> Result<()> {
    let script = format!("set -eu -o pipefail\ncd {FOLDER}\n{CURL}{line}");
    command::run_words(&topology.xpu.words(&["bash", "-c", &script]))
        .with_context(|| line.to_owned())
        .map(drop)
}

/// "Running it", to an agent that is ready.
fn running(topology: &Topology, config: &str) -> Result<Agent> {
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
            _ => run(topology, &line)?,
        }
    }
    agent.context("nothing was started")
}

#[test]
fn running_and_using_it_goes_as_written() -> Result<()> {
    let (topology, config) = prepared()?;
    let agent = running(&topology, &config)?;
    for line in commands("Using it")? {
        if line.starts_with("xpuctl doctor") {
            for (kind, name) in [("lb", "net-blue"), ("vrf", "vrf-red"), ("svi", "svi-blue")] {
                wait_until("all is up", CONVERGENCE, || is_up(kind, name))?;
            }
        }
        run(&topology, &line)?;
    }
    let written = fs::read_to_string(Path::new(FOLDER).join("tenant.yaml"))?;
    ensure!(written.contains("net-blue"), "{written}");
    let drawn = fs::read_to_string(Path::new(FOLDER).join("topology.svg"))?;
    ensure!(drawn.contains("vrf-red"), "{drawn}");
    let status = agent.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
