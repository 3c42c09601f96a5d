//! The end of an agent whose runtime, or whose log, is stuck: a process of this test's own, sent
//! signals.
//!
//! Without the test harness, whose threads would be there before the signals are taken.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::{self, Pid},
};
use tokio_util::sync::CancellationToken;
use xpu_agent::lifecycle::signals::Signals;

/// Set for the process that is sent signals: its deadline in milliseconds.
const DEADLINE: &str = "STUCK_WITH_DEADLINE_MS";

/// When what should happen at once has not happened at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    match std::env::var(DEADLINE) {
        Ok(deadline) => stuck(Duration::from_millis(deadline.parse().unwrap())),
        Err(_) => {
            the_deadline_holds_though_the_runtime_is_stuck();
            a_second_signal_ends_it_at_once();
            a_stuck_log_holds_no_signal_up();
            println!("3 tests of a stuck agent passed");
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
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let reload = || {
        tracing::info!("read again");
        say("reload");
    };
    let _stopping = signals.watch(stop, deadline, reload).unwrap();
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
    lines: Receiver<String>,
}

impl Stuck {
    fn start(deadline: Duration) -> Self {
        Self::with_log(deadline, Stdio::null())
    }

    fn with_log(deadline: Duration, log: Stdio) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(DEADLINE, deadline.as_millis().to_string())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let said = output.lines().map_while(Result::ok);
            said.map_while(|line| tell.send(line).ok()).for_each(drop);
        });
        let stuck = Self { child, lines };
        stuck.says("up");
        stuck
    }

    fn says(&self, word: &str) {
        let said = self.lines.recv_timeout(PATIENCE);
        assert_eq!(said.as_deref(), Ok(word));
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Gone already, unless a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn the_deadline_holds_though_the_runtime_is_stuck() {
    let deadline = Duration::from_millis(500);
    let stuck = Stuck::start(deadline);
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
    let stuck = Stuck::start(Duration::from_secs(3_600));
    stuck.signal(Signal::SIGTERM);
    stuck.says("stopping");
    stuck.signal(Signal::SIGINT);
    let status = stuck.ended();
    assert_eq!(status.code(), Some(130), "{status}");
}

/// A pipe that takes no byte more, and whose reader does not read.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = unistd::pipe().unwrap();
    let set = |flags| fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
    set(OFlag::O_NONBLOCK);
    for size in [4096, 1] {
        while unistd::write(&writer, &vec![b'x'; size]) != Err(Errno::EAGAIN) {}
    }
    set(OFlag::empty());
    (reader, writer)
}

fn a_stuck_log_holds_no_signal_up() {
    for hangups in [0, 2] {
        let (_reader, writer) = full_pipe();
        // A deadline that the test does not live to see.
        let stuck = Stuck::with_log(Duration::from_secs(3_600), writer.into());
        for _ in 0..hangups {
            stuck.signal(Signal::SIGHUP);
        }
        stuck.signal(Signal::SIGTERM);
        // The reload does not come to its word.
        stuck.says("stopping");
        stuck.signal(Signal::SIGINT);
        let status = stuck.ended();
        assert_eq!(status.code(), Some(130), "{status}");
    }
}
