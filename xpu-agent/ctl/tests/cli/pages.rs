//! What shells and `man` get: pages of the manual, and scripts that complete words.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use pretty_assertions::assert_eq;

use crate::fake_agent::FakeAgent;
use crate::{command, run, succeed};

/// The words of a command, as its `--help` lists them.
fn commands_of(words: &str) -> BTreeSet<String> {
    let help = run(&mut command(&format!("{words} --help"))).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:");
    let listed = listed.skip(1).take_while(|line| !line.is_empty());
    listed
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_a_page() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ran = run(command("man --dir").arg(folder.path()));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let mut expected = BTreeSet::from(["xpuctl.1".to_owned()]);
    for command in commands_of("") {
        let below = commands_of(&command);
        expected.extend(below.iter().map(|it| format!("xpuctl-{command}-{it}.1")));
        expected.insert(format!("xpuctl-{command}.1"));
    }
    assert!(expected.contains("xpuctl-create-vrf.1"), "{expected:?}");
    let written = std::fs::read_dir(folder.path()).expect("a directory");
    let written: BTreeSet<_> = written
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("text"))
        .filter(|name| !name.contains("-help"))
        .collect();
    assert_eq!(written, expected);
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a page");
    assert!(page("xpuctl-apply.1").contains("\\-\\-prune"));
    let printed = run(&mut command("man"));
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    for part in [
        ".TH xpuctl 1",
        ".SH NAME",
        "\\-\\-endpoint",
        "xpuctl\\-apply(1)",
    ] {
        assert!(
            printed.stdout.contains(part),
            "{} lacks {part}",
            printed.stdout
        );
    }
}

#[test]
fn pages_that_can_not_be_written_fail() {
    let ran = run(&mut command("man --dir /nowhere/at/all"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let message = "xpuctl: can't write /nowhere/at/all: ";
    assert!(ran.stderr.starts_with(message), "{}", ran.stderr);
}

/// Whether the shell reads the script.
fn is_read_by(shell: &str, script: &str) -> bool {
    // `-n` is "read and don't run" to all of them.
    let child = Command::new(shell)
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{shell} does not start: {error}; make test-native installs it")
    });
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("is read");
    drop(stdin);
    child.wait().expect("the shell ends").success()
}

#[test]
fn each_shell_gets_a_script_that_it_can_read() {
    for (shell, head) in [
        ("bash", "_clap_complete_xpuctl() {\n"),
        ("zsh", "#compdef xpuctl\n"),
        (
            "fish",
            "complete --keep-order --exclusive --command xpuctl ",
        ),
        ("elvish", "set edit:completion:arg-completer[xpuctl] = "),
    ] {
        let ran = run(&mut command(&format!("completion {shell}")));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
        let script = ran.stdout;
        assert!(script.trim_start().starts_with(head), "{shell}: {script}");
        if shell != "elvish" {
            assert!(is_read_by(shell, &script), "{shell}: {script}");
            assert!(!is_read_by(shell, "if then"), "{shell} reads anything");
        }
    }
}

/// What the scripts ask, and what they are answered.
#[test]
fn zsh_and_fish_get_words_and_names() {
    let agent = FakeAgent::start();
    succeed(&agent, "create lb blue --vlan 100");
    succeed(&agent, "create lb green-network --vlan 7");
    for shell in ["zsh", "fish"] {
        let script = run(&mut command(&format!("completion {shell}"))).stdout;
        assert!(script.contains("XPUCTL_COMPLETE="), "{script}");
        for (typed, word) in [
            (&["desc"][..], "describe"),
            (&["get", "logical"], "logical-bridge"),
            (&["get", "lb", "gr"], "green-network"),
            (&["list", "vrf", "--out"], "--output"),
        ] {
            let mut xpuctl = command("");
            xpuctl
                .env("XPUCTL_ENDPOINT", &agent.endpoint)
                .env("XPUCTL_COMPLETE", shell)
                .env("_CLAP_COMPLETE_INDEX", typed.len().to_string())
                .env("_CLAP_IFS", "\n")
                .args(["--", "xpuctl"])
                .args(typed);
            let ran = run(&mut xpuctl);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
            // The word, and what is said of it.
            let words = ran
                .stdout
                .lines()
                .map(|line| line.split([':', '\t']).next());
            let words: Vec<_> = words.flatten().collect();
            assert_eq!(words, [word], "{shell}: {typed:?}");
        }
    }
}
