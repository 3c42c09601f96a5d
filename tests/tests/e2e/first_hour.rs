//! `docs/first-hour.md`, word by word: its commands are run as they stand there, and what it
//! shows must be in what they print.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use xpu_tests::guest::{command, netns::Netns, topology::Topology};

/// A block of the document.
#[derive(Debug)]
enum Block {
    /// Commands.
    Run(Commands),
    /// Parts of lines that the commands before print.
    Shown(Vec<String>),
}

#[derive(Debug)]
struct Commands {
    machine: Machine,
    fails: bool,
    text: String,
}

#[derive(Debug)]
enum Machine {
    Xpu,
    Host,
}

/// What this test makes beside what every test's start takes away.
const LEFT: [&str; 4] = [
    "/etc/xpu-agent",
    "/opt/cni/bin/xpu-cni",
    "/opt/cni/bin/evpn-gw",
    "/var/log/xpu-agent.log",
];

fn blocks(document: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let run = |machine, fails| {
            let text = body.join("\n");
            Block::Run(Commands {
                machine,
                fails,
                text,
            })
        };
        blocks.push(match info {
            "sh xpu" => run(Machine::Xpu, false),
            "sh xpu fails" => run(Machine::Xpu, true),
            "sh host" => run(Machine::Host, false),
            "text" => Block::Shown(body.iter().map(|line| words(line)).collect()),
            // Where the machine of the lab is made: not in it.
            "sh build" => continue,
            other => bail!("a block of `{other}` would not be tested"),
        });
    }
    Ok(blocks)
}

/// Columns move with what is in them.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run(topology: &Topology, commands: &Commands) -> Result<String> {
    let host = Netns::initial();
    let netns = match commands.machine {
        Machine::Xpu => &topology.xpu,
        Machine::Host => &host,
    };
    let script = format!("set -eu -o pipefail\nexec 2>&1\n{}", commands.text);
    let output = command::outcome(&netns.words(&["bash", "-c", &script]))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() != commands.fails,
        "{}\n{}: {printed}\nagent: {}",
        commands.text,
        output.status,
        fs::read_to_string("/var/log/xpu-agent.log").unwrap_or_default()
    );
    Ok(printed)
}

#[test]
fn the_first_hour_goes_as_written() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/first-hour.md");
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let blocks = blocks(&document)?;
    let topology = Topology::clean()?;
    let _leave_nothing = Leavings;
    let (mut ran, mut shown, mut printed) = (0, 0, String::new());
    for block in &blocks {
        match block {
            Block::Run(commands) => {
                ran += 1;
                printed = run(&topology, commands)?;
            }
            Block::Shown(parts) => {
                let lines: Vec<_> = printed.lines().map(words).collect();
                for part in parts {
                    shown += 1;
                    ensure!(
                        lines.iter().any(|line| line.contains(part)),
                        "the document shows {part:?}; printed was\n{printed}"
                    );
                }
            }
        }
    }
    ensure!(ran >= 10 && shown >= 20, "{ran} blocks, {shown} lines");
    // A socket's file outlives its agent; an answer does not.
    let ask = topology.xpu.words(&["xpuctl", "list", "vrf"]);
    command::run_words(&ask).context("the agent runs on")?;
    Ok(())
}

/// Takes away what the document makes.
struct Leavings;

impl Drop for Leavings {
    fn drop(&mut self) {
        for path in LEFT {
            // What a failed run has not made is not there.
            let _ = fs::remove_dir_all(path);
            let _ = fs::remove_file(path);
        }
    }
}
