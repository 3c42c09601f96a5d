//! The end of an agent whose runtime is stuck: a process of this test's own, sent signals.
//!
//! Without the test harness, whose threads would be there before the signals are taken.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::sync::CancellationToken;
use xpu_agent::lifecycle::signals::Signals;

/// Set for the process that is sent signals: its deadline in milliseconds.
const DEADLINE: &str = "STUCK_WITH_DEADLINE_MS";

fn main() {
    match std::env::var(DEADLINE) {
        Ok(deadline) => stuck(Duration::from_millis(deadline.parse().unwrap())),
        Err(_) => {
            the_deadline_holds_though_the_runtime_is_stuck();
            a_second_signal_ends_it_at_once();
            println!("2 tests of a stuck agent passed");
        }
    }
}

/// Every thread of the runtime hangs, and so does the main one.
fn stuck(deadline: Duration) {
    let signals = Signals::take().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (hangs, hang) = std::sync::mpsc::channel();
    for _ in 0..2 {
        let hangs = hangs.clone();
        runtime.spawn(async move {
            hangs.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
    }
    hang.recv().unwrap();
    hang.recv().unwrap();
    let stop = CancellationToken::new();
    let seen = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(seen.cancelled());
        say("stopping");
    });
    let _stopping = signals.watch(stop, deadline, || say("reload")).unwrap();
    say("up");
    loop {
        std::thread::park();
    }
}

fn say(word: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{word}").unwrap();
    output.flush().unwrap();
}

struct Stuck {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stuck {
    fn start(deadline: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(DEADLINE, deadline.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stuck = Self { child, lines };
        stuck.says("up");
        stuck
    }

    fn says(&mut self, word: &str) {
        assert_eq!(self.lines.next().unwrap().unwrap(), word);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

fn the_deadline_holds_though_the_runtime_is_stuck() {
    let deadline = Duration::from_millis(500);
    let mut stuck = Stuck::start(deadline);
    stuck.signal(Signal::SIGHUP);
    stuck.says("reload");
    let asked = Instant::now();
    stuck.signal(Signal::SIGTERM);
    stuck.says("stopping");
    // A reload does not come between.
    stuck.signal(Signal::SIGHUP);
    let status = stuck.ended();
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(asked.elapsed() >= deadline, "not before the deadline");
}

fn a_second_signal_ends_it_at_once() {
    // A deadline that the test does not live to see.
    let mut stuck = Stuck::start(Duration::from_secs(3_600));
    stuck.signal(Signal::SIGTERM);
    stuck.says("stopping");
    stuck.signal(Signal::SIGINT);
    let status = stuck.ended();
    assert_eq!(status.code(), Some(130), "{status}");
}
