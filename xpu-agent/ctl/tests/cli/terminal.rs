//! `xpuctl` on a real terminal: a pty, whose screen a terminal emulator keeps.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};

use crate::fake_agent::FakeAgent;
use crate::{LIMIT, succeed};

struct Terminal {
    screen: vt100::Parser,
    /// Everything that was written, colours and all.
    raw: String,
    pty: Pty,
    bytes: Receiver<Vec<u8>>,
    child: Child,
}

impl Terminal {
    fn run(agent: &FakeAgent, program: &str, arguments: &[&str], columns: u16) -> Self {
        Self::with(agent, program, arguments, columns, &[])
    }

    fn with(
        agent: &FakeAgent,
        program: &str,
        arguments: &[&str],
        columns: u16,
        variables: &[(&str, &str)],
    ) -> Self {
        const ROWS: u16 = 24;
        let (pty, pts) = open().expect("a pty");
        pty.resize(Size::new(ROWS, columns)).expect("a size");
        // Whoever runs the tests in the background has them ignore Ctrl-C, and their children too.
        let command = Command::new("env")
            .args(["--default-signal=INT", program])
            .args(arguments)
            .env("XPUCTL_ENDPOINT", &agent.endpoint)
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied());
        let child = command.spawn(pts).expect("the program starts");
        let (send, bytes) = channel();
        let mut reader = std::fs::File::from(
            std::os::fd::AsFd::as_fd(&pty)
                .try_clone_to_owned()
                .expect("a second descriptor"),
        );
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // A pty whose other side is closed ends with EIO.
            while let Ok(read @ 1..) = reader.read(&mut part) {
                if send.send(part[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            screen: emulator(ROWS, columns),
            raw: String::new(),
            pty,
            bytes,
            child,
        }
    }

    fn xpuctl(agent: &FakeAgent, words: &str, columns: u16) -> Self {
        let words: Vec<_> = words.split_whitespace().collect();
        Self::run(agent, env!("CARGO_BIN_EXE_xpuctl"), &words, columns)
    }

    /// Waits until the screen is as wished.
    fn until(&mut self, what: &str, wish: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let shown = self.screen.screen().contents();
            if wish(&shown) {
                return shown;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("no {what} on the screen:\n{shown}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {what}:\n{shown}"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.screen.process(bytes);
        self.raw.push_str(&String::from_utf8_lossy(bytes));
    }

    /// Waits until the program has ended, and gives the screen.
    fn end(mut self) -> (String, String) {
        while let Ok(bytes) = self.bytes.recv_timeout(LIMIT) {
            self.take(&bytes);
        }
        self.child.wait().expect("the program ends");
        (self.screen.screen().contents(), self.raw.clone())
    }

    fn type_in(&mut self, text: &str) {
        self.pty.write_all(text.as_bytes()).expect("is taken");
    }
}

fn emulator(rows: u16, columns: u16) -> vt100::Parser {
    let size = |count| NonZero::new(count).expect("not zero");
    vt100::Parser::new(size(rows), size(columns), 0)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn filled() -> FakeAgent {
    let agent = FakeAgent::start();
    for words in [
        "vrf prod --loopback 10.0.0.1/32 --vni 5001",
        "vrf production-of-another --loopback 10.0.0.2/32",
        "lb blue --vlan 100 --vni 10100 --vtep 10.255.0.1/32",
        "lb green-network --vlan 7",
        "port access --mac 02:00:00:00:00:01 --access blue",
        "port trunk --mac 02:00:00:00:00:02 --trunk blue,green-network",
    ] {
        succeed(&agent, &format!("create {words}"));
    }
    let down = crate::xpuctl(
        &agent,
        "create port down --mac 02:00:00:00:00:03 --transparent",
    );
    assert_eq!(down.code, 0);
    agent
}

#[test]
fn tables_fit_the_terminal_and_have_colours() {
    let agent = filled();
    for columns in [60, 80, 200] {
        let (shown, raw) = Terminal::xpuctl(&agent, "list ports", columns).end();
        // What is wider would have been broken by the terminal in the midst of a word.
        for line in raw.lines() {
            let mut plain = emulator(1, 500);
            plain.process(line.as_bytes());
            let width = plain.screen().contents().trim_end().chars().count();
            assert!(width <= usize::from(columns), "{columns}: {line:?}");
        }
        let words = |text: &str| text.split_whitespace().collect::<String>();
        assert!(words(&shown).contains("DOWN"), "{shown}");
        assert!(raw.contains("\x1b["), "no colours: {raw:?}");
        if columns == 200 {
            assert!(
                shown.contains("linux: no netdev has this port's name yet"),
                "{shown}"
            );
        }
    }
}

#[test]
fn no_colours_where_nobody_wants_them() {
    let agent = filled();
    let program = env!("CARGO_BIN_EXE_xpuctl");
    let plain = |words: &[&str], variables: &[(&str, &str)]| {
        let (_, raw) = Terminal::with(&agent, program, words, 120, variables).end();
        assert!(raw.contains("UP"), "{raw:?}");
        !raw.contains('\x1b')
    };
    assert!(plain(&["list", "ports"], &[("NO_COLOR", "1")]));
    assert!(plain(&["list", "ports"], &[("TERM", "dumb")]));
    assert!(plain(&["list", "ports", "--color", "never"], &[]));
    assert!(!plain(&["list", "ports"], &[]));
    assert!(!succeed(&agent, "list ports").contains('\x1b'), "in a pipe");
    assert!(succeed(&agent, "list ports --color always").contains('\x1b'));
}

#[test]
fn watch_draws_over_itself() {
    let agent = filled();
    let mut terminal = Terminal::xpuctl(&agent, "watch ports -n 50ms", 120);
    terminal.until("port that is down", |shown| shown.contains("DOWN"));
    succeed(&agent, "delete port down");
    let shown = terminal.until("table without it", |shown| {
        shown.contains("trunk") && !shown.contains("DOWN")
    });
    assert_eq!(shown.matches("NAME").count(), 1, "one table:\n{shown}");
    succeed(
        &agent,
        "create port port-9 --mac 02:00:00:00:00:09 --access blue",
    );
    let shown = terminal.until("new port", |shown| shown.contains("port-9"));
    assert_eq!(shown.matches("NAME").count(), 1, "one table:\n{shown}");
    // Ctrl-C ends it.
    terminal.type_in("\x03");
    terminal.end();
}

#[test]
fn a_wide_watch_is_cut_to_the_terminal() {
    let agent = filled();
    let mut terminal = Terminal::xpuctl(&agent, "watch ports -o wide -n 50ms", 50);
    terminal.until("port that is down", |shown| shown.contains("down"));
    for round in 0..3 {
        let port = format!("port-{round}");
        let made = format!("create port {port} --mac 02:00:00:00:00:1{round} --access blue");
        succeed(&agent, &made);
        let shown = terminal.until("new port", |shown| shown.contains(&port));
        assert_eq!(shown.matches("NAME").count(), 1, "one table:\n{shown}");
        let rows = shown.lines().filter(|line| line.starts_with("trunk"));
        assert_eq!(rows.count(), 1, "one row each:\n{shown}");
        // What is broken into several rows goes on with something else.
        let heads = ["unix://", "NAME", "access", "down", "trunk", "port-"];
        let head = |line: &str| heads.iter().any(|head| line.starts_with(head));
        let mut rows = shown.lines().filter(|line| !line.is_empty());
        assert!(rows.all(head), "no row is broken:\n{shown}");
    }
    terminal.type_in("\x03");
    terminal.end();
}

#[test]
fn long_work_shows_that_it_goes_on() {
    let agent = filled();
    let waits = Terminal::xpuctl(&agent, "wait port down --timeout 700ms", 100);
    let (_, raw) = waits.end();
    assert!(raw.contains("bridgePorts/down is DOWN"), "{raw:?}");
    assert!(raw.matches("bridgePorts/down").count() > 1, "{raw:?}");
    let mut slow = Terminal::xpuctl(
        &agent,
        "create vrf hang --loopback 10.0.0.9/32 --timeout 60s",
        100,
    );
    slow.until("word of it", |shown| shown.contains("creating a Vrf"));
    slow.type_in("\x03");
    slow.end();
}

#[test]
fn prune_asks_on_a_terminal() {
    let agent = filled();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("vrf.yaml");
    let text = "kind: Vrf\nname: prod\nspec: {vni: 5001, loopbackIpPrefix: 10.0.0.1/32}\n";
    std::fs::write(&path, text).expect("a file");
    let words = format!("apply --prune -f {}", path.display());
    for (answer, left) in [("n\n", 2), ("y\n", 1)] {
        let mut terminal = Terminal::xpuctl(&agent, &words, 100);
        terminal.until("question", |shown| shown.contains("delete 1? [y/N]"));
        terminal.type_in(answer);
        terminal.end();
        assert_eq!(agent.state().vrfs.len(), left, "{answer:?}");
    }
}

#[test]
fn a_real_bash_completes_words_and_names() {
    let agent = filled();
    let mut bash = Terminal::run(&agent, "bash", &["--norc", "--noprofile", "-i"], 120);
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_xpuctl"))
        .parent()
        .expect("a directory");
    bash.type_in(&format!(
        "PS1='ready> '; PATH={}:$PATH; source <(xpuctl completion bash)\n",
        directory.display()
    ));
    bash.type_in("echo sour''ced\n");
    bash.until("prompt", |shown| shown.contains("\nsourced"));
    for (typed, whole) in [
        ("xpuctl desc\t", "xpuctl describe"),
        ("xpuctl get logical\t", "xpuctl get logical-bridge"),
        ("xpuctl get lb gr\t", "xpuctl get lb green-network"),
        (
            "xpuctl delete vrf production\t",
            "xpuctl delete vrf production-of-another",
        ),
        ("xpuctl update port tr\t", "xpuctl update port trunk"),
        ("xpuctl wait port do\t", "xpuctl wait port down"),
        ("xpuctl list vrf --out\t", "xpuctl list vrf --output"),
    ] {
        bash.type_in(typed);
        bash.until(whole, |shown| shown.contains(whole));
        // Readline: forget the line, clear the screen.
        bash.type_in("\x15\x0c");
        bash.until("clear screen", |shown| !shown.contains(whole));
    }
    bash.type_in("exit\n");
    bash.end();
}
