//! The host's end of a job port: takes a free port, runs one command, passes its streams through.
//!
//! A port is taken by a lock on a file beside its socket, so that any number of `lab` programs
//! share the machine. Closing the socket, however this program ends, ends the job.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::paths::Paths;
use crate::runner::protocol::{Decoder, Frame, JobSpec, Nonce, PORTS};
use crate::runner::terminal;

/// How long a guest that is up may take to answer a hello: it is emulated, and may be busy.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a hello is tried. A client that was killed may have left half a frame behind, which
/// swallows the first one.
const ATTEMPTS: u32 = 3;
/// How much longer than the job itself the guest may take to say that a job timed out.
const SLACK: Duration = Duration::from_secs(30);
const CHUNK: usize = 32 * 1024;

/// What the job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Empty,
    /// This program's standard input.
    Inherited,
}

/// Runs a command in a guest that is up; answers with its exit code.
///
/// # Errors
/// Where the guest does not answer or goes away before the job is over.
pub fn run(paths: &Paths, spec: JobSpec, input: Input) -> Result<i32> {
    let port = take_port(paths)?;
    let mut session = (0..ATTEMPTS)
        .find_map(|attempt| match Session::open(paths, port.index, ANSWER) {
            Err(error) if error.is::<Mute>() && attempt + 1 < ATTEMPTS => None,
            other => Some(other),
        })
        .context("no attempt was made")??;
    let terminal = spec.pty.is_some();
    let limit = spec
        .timeout_s
        .map(|seconds| Duration::from_secs(seconds) + SLACK);
    session.send(&Frame::Start(spec))?;
    if terminal {
        let _raw = RawTerminal::enter()?;
        session.follow_window_size()?;
        session.pump(Input::Inherited, limit)
    } else {
        session.pump(input, limit)
    }
}

/// Waits until the guest's runner answers, as it does at the end of its boot.
///
/// # Errors
/// Where it does not within `limit`, or the machine goes away.
pub fn wait_ready(paths: &Paths, limit: Duration) -> Result<()> {
    Session::open(paths, take_port(paths)?.index, limit).map(drop)
}

/// How many jobs run now.
pub fn busy_ports(paths: &Paths) -> usize {
    let busy = |index| File::create(paths.job_lock(index)).is_ok_and(|l| l.try_lock().is_err());
    (0..PORTS).filter(|index| busy(*index)).count()
}

/// A guest that holds the port open but says nothing.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not answer within {} s", .0.as_secs())]
struct Mute(Duration);

/// The machine ended, or closed the port, in the middle of a session.
#[derive(Debug, thiserror::Error)]
#[error("the machine went away")]
pub struct Gone;

struct TakenPort {
    index: usize,
    /// Released when dropped.
    _lock: File,
}

fn take_port(paths: &Paths) -> Result<TakenPort> {
    let open = |index| {
        let path = paths.job_lock(index);
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    };
    for index in 0..PORTS {
        let lock = open(index)?;
        if lock.try_lock().is_ok() {
            return Ok(TakenPort { index, _lock: lock });
        }
    }
    // All are busy: wait for one of them, different callers for different ones.
    let index = usize::try_from(std::process::id())? % PORTS;
    eprintln!("lab: {PORTS} jobs run already; waiting for one to end");
    let lock = open(index)?;
    lock.lock()?;
    Ok(TakenPort { index, _lock: lock })
}

struct Session {
    socket: UnixStream,
    decoder: Decoder,
}

impl Session {
    fn open(paths: &Paths, index: usize, limit: Duration) -> Result<Self> {
        let path = paths.job_socket(index);
        let socket = UnixStream::connect(&path)
            .map_err(|error| anyhow!(Gone).context(format!("{}: {error}", path.display())))?;
        let nonce = fresh_nonce()?;
        let mut session = Self {
            socket,
            decoder: Decoder::awaiting(nonce),
        };
        session.send(&Frame::Hello(nonce))?;
        let deadline = Instant::now() + limit;
        match session.receive(Some(deadline)) {
            Ok(Frame::Hello(_)) => Ok(session),
            Ok(other) => bail!("the guest answered a hello with {other:?}"),
            Err(error) if is_timeout(&error) => Err(Mute(limit).into()),
            Err(error) => Err(error),
        }
    }

    fn send(&self, frame: &Frame) -> Result<()> {
        (&self.socket).write_all(&encoded(frame)?).map_err(lost)
    }

    /// The next frame; a timeout is an `io::Error` of kind `WouldBlock` or `TimedOut`.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Frame> {
        let mut buffer = vec![0; CHUNK];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let rest = deadline.map(|deadline| {
                // Zero would mean no timeout at all.
                deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(1))
            });
            self.socket.set_read_timeout(rest)?;
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Gone.into()),
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
    }

    /// Passes bytes both ways until the job is over.
    fn pump(&mut self, input: Input, limit: Option<Duration>) -> Result<i32> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        match input {
            Input::Empty => self.send(&Frame::StdinEnd)?,
            Input::Inherited => {
                let socket = self.socket.try_clone()?;
                // Ends with the process: a read of standard input can't be interrupted.
                std::thread::Builder::new()
                    .name("stdin".to_owned())
                    .spawn(move || forward_stdin(&SOCKET_WRITES, &socket))?;
            }
        }
        loop {
            match self.receive(deadline) {
                Ok(Frame::Stdout(bytes)) => write_out(io::stdout().lock(), &bytes)?,
                Ok(Frame::Stderr(bytes)) => write_out(io::stderr().lock(), &bytes)?,
                Ok(Frame::Exit(code)) => return Ok(code),
                Ok(other) => bail!("the guest sent {other:?} during a job"),
                Err(error) if is_timeout(&error) => {
                    return Err(error.context("the guest did not end the job at its time limit"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the guest whenever this program's terminal changes its size.
    fn follow_window_size(&self) -> Result<()> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGWINCH);
        signals.thread_block()?;
        let changes = SignalFd::new(&signals)?;
        let socket = self.socket.try_clone()?;
        std::thread::Builder::new()
            .name("winch".to_owned())
            .spawn(move || {
                while let (Ok(Some(_)), Ok(size)) =
                    (changes.read_signal(), terminal::size(io::stdin().as_fd()))
                {
                    if write_frame(&SOCKET_WRITES, &socket, &Frame::Resize(size)).is_err() {
                        break;
                    }
                }
            })?;
        Ok(())
    }
}

/// Keeps frames of the two threads that write to a session's socket whole. A program has one
/// session with threads at most.
static SOCKET_WRITES: Mutex<()> = Mutex::new(());

fn forward_stdin(lock: &Mutex<()>, socket: &UnixStream) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; CHUNK];
    loop {
        let frame = match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => Frame::StdinEnd,
            Ok(count) => Frame::Stdin(buffer[..count].to_vec()),
        };
        // An error here means that the session is over, which the reading side reports.
        if write_frame(lock, socket, &frame).is_err() || frame == Frame::StdinEnd {
            return;
        }
    }
}

fn write_frame(lock: &Mutex<()>, mut socket: &UnixStream, frame: &Frame) -> Result<()> {
    let bytes = encoded(frame)?;
    let _guard = lock
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(socket.write_all(&bytes)?)
}

/// Tells the end of the machine from other trouble with the socket.
fn lost(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Gone.into(),
        _ => error.into(),
    }
}

fn encoded(frame: &Frame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes)?;
    Ok(bytes)
}

fn write_out(mut stream: impl Write, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes)?;
    Ok(stream.flush()?)
}

fn is_timeout(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn fresh_nonce() -> Result<Nonce> {
    let mut nonce = Nonce::default();
    File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    Ok(nonce)
}

/// Standard input in raw mode, until dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("standard input is no terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn paths(root: &std::path::Path) -> Paths {
        let here = || root.to_owned();
        Paths {
            tree: here(),
            run: here(),
            share: here(),
            cache: here(),
        }
    }

    fn spec() -> JobSpec {
        let argv = vec!["true".to_owned()];
        JobSpec {
            argv,
            env: Default::default(),
            cwd: "/".into(),
            timeout_s: None,
            pty: None,
        }
    }

    /// A guest's runner that answers every hello and then plays `script` to the first job.
    fn fake_guest(paths: &Paths, script: Vec<Frame>) -> std::thread::JoinHandle<JobSpec> {
        let listener = UnixListener::bind(paths.job_socket(0)).expect("bound");
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("accepted");
            let mut decoder = Decoder::awaiting_any();
            let mut buffer = [0; 1024];
            let mut started = None;
            loop {
                let count = socket.read(&mut buffer).expect("read");
                decoder.push(&buffer[..count]);
                while let Some(frame) = decoder.next_frame().expect("frame") {
                    match frame {
                        hello @ Frame::Hello(_) => {
                            let stale = encoded(&Frame::Stdout(b"stale".to_vec())).expect("fits");
                            socket.write_all(&stale).expect("written");
                            socket
                                .write_all(&encoded(&hello).expect("fits"))
                                .expect("written");
                        }
                        Frame::Start(spec) => {
                            for frame in &script {
                                let bytes = encoded(frame).expect("fits");
                                socket.write_all(&bytes).expect("written");
                            }
                            started = Some(spec);
                        }
                        // The guest has all the client sent: closing now loses nothing.
                        Frame::StdinEnd => return started.expect("started"),
                        _ => {}
                    }
                }
            }
        })
    }

    #[test]
    fn a_jobs_exit_code_comes_back() {
        let root = tempfile::tempdir().expect("temporary folder");
        let paths = paths(root.path());
        let guest = fake_guest(&paths, vec![Frame::Exit(42)]);
        assert_eq!(run(&paths, spec(), Input::Empty).expect("runs"), 42);
        assert_eq!(guest.join().expect("guest"), spec());
    }

    #[test]
    fn a_machine_that_ends_during_a_job_is_told() {
        let root = tempfile::tempdir().expect("temporary folder");
        let paths = paths(root.path());
        let guest = fake_guest(&paths, Vec::new());
        let error = run(&paths, spec(), Input::Empty).expect_err("no exit code");
        assert!(error.is::<Gone>(), "{error:#}");
        guest.join().expect("guest");
    }

    #[test]
    fn a_machine_that_is_down_is_told() {
        let root = tempfile::tempdir().expect("temporary folder");
        let error = run(&paths(root.path()), spec(), Input::Empty).expect_err("nobody listens");
        assert!(error.is::<Gone>(), "{error:#}");
    }

    #[test]
    fn a_mute_guest_is_given_up_on() {
        let root = tempfile::tempdir().expect("temporary folder");
        let paths = paths(root.path());
        let _listener = UnixListener::bind(paths.job_socket(0)).expect("bound");
        let error = wait_ready(&paths, Duration::from_millis(20)).expect_err("nobody answers");
        assert!(error.is::<Mute>(), "{error:#}");
    }

    #[test]
    fn a_taken_port_is_busy_until_released() {
        let root = tempfile::tempdir().expect("temporary folder");
        let paths = paths(root.path());
        let first = take_port(&paths).expect("free");
        let second = take_port(&paths).expect("free");
        assert_eq!((first.index, second.index), (0, 1));
        assert_eq!(busy_ports(&paths), 2);
        drop(first);
        assert_eq!(take_port(&paths).expect("free").index, 0);
    }
}
