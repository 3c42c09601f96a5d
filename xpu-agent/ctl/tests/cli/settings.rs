//! Contexts: the file, the environment, and who wins.

use std::fs;
use std::process::Command;

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use crate::fake_agent::FakeAgent;
use crate::{command, run};

fn configured(agent: &FakeAgent, text: &str) -> (TempDir, Command) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let directory = folder.path().join("xpuctl");
    fs::create_dir(&directory).expect("a directory");
    let text = text.replace("ENDPOINT", &agent.endpoint);
    fs::write(directory.join("config.toml"), text).expect("a file");
    let mut xpuctl = command("list vrf");
    xpuctl.env("XDG_CONFIG_HOME", folder.path());
    (folder, xpuctl)
}

const TWO: &str = "\
current = \"lab\"
[contexts.lab]
endpoint = \"ENDPOINT\"
[contexts.gone]
endpoint = \"unix:///nowhere/agent.sock\"
";

#[test]
fn the_current_context_is_used_unless_another_is_named() {
    let agent = FakeAgent::start();
    let (_folder, mut xpuctl) = configured(&agent, TWO);
    assert_eq!(run(&mut xpuctl).code, 0);
    assert_eq!(run(xpuctl.args(["--context", "gone"])).code, 3);
    let (_folder, mut xpuctl) = configured(&agent, TWO);
    assert_eq!(run(xpuctl.env("XPUCTL_CONTEXT", "gone")).code, 3);
    let nowhere = "unix:///nowhere/a.sock";
    let (_folder, mut xpuctl) = configured(&agent, TWO);
    assert_eq!(run(xpuctl.env("XPUCTL_ENDPOINT", nowhere)).code, 3);
    assert_eq!(run(xpuctl.args(["--endpoint", &agent.endpoint])).code, 0);
}

#[test]
fn a_wrong_file_is_refused_by_name() {
    let agent = FakeAgent::start();
    for (text, flags, parts) in [
        ("current = 5", vec![], vec!["config.toml", "line 1"]),
        (
            "contexts.lab.endpont = \"x\"",
            vec![],
            vec!["endpont", "endpoint"],
        ),
        (
            "current = \"x\"\n[contexts.lab]",
            vec![],
            vec!["`x`", "lab"],
        ),
        (
            "[contexts.lab]\nendpoint = \"lab\"",
            vec!["--context", "lab"],
            vec!["lab", "unix://"],
        ),
        (
            "",
            vec!["--config", "/nowhere/x.toml"],
            vec!["/nowhere/x.toml"],
        ),
    ] {
        let (_folder, mut xpuctl) = configured(&agent, text);
        let ran = run(xpuctl.args(flags));
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (2, ""),
            "{text}: {}",
            ran.stderr
        );
        for part in parts {
            assert!(
                ran.stderr.contains(part),
                "{text}: {} lacks {part}",
                ran.stderr
            );
        }
    }
}

#[test]
fn doctor_judges_the_http_side_of_the_agent_that_it_asks() {
    let agent = FakeAgent::start();
    let text = "current = \"lab\"\n[contexts.lab]\nendpoint = \"ENDPOINT\"\n\
                http = \"http://127.0.0.1:1\"\n";
    let (folder, _) = configured(&agent, text);
    let doctor = |flags: &[&str]| {
        let mut xpuctl = command("doctor");
        xpuctl.env("XDG_CONFIG_HOME", folder.path()).args(flags);
        run(&mut xpuctl).stdout
    };
    let shown = doctor(&[]);
    assert!(shown.contains("of context lab"), "{shown}");
    assert!(shown.contains("http://127.0.0.1:1/readyz"), "{shown}");
    let other = FakeAgent::start();
    let shown = doctor(&["--endpoint", &other.endpoint]);
    assert!(shown.contains(&other.endpoint), "{shown}");
    for foreign in ["of context lab", "127.0.0.1:1/"] {
        assert!(!shown.contains(foreign), "{shown}");
    }
}
