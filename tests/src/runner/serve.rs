//! The guest's end of a port: waits for a host, runs one job after the other.
//!
//! One thread serves one port for ever. While a job runs it sleeps in `poll(2)` on the port, the
//! job's pipes and its end. Both directions are bounded: where one side does not read, the other
//! is not read from. A host that goes away takes its job's process group along.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::job::{Job, code_of_spawn_error};
use super::port::{Port, Received, would_block, write_some};
use super::programs;
use super::protocol::{Decoder, EXIT_TIMEOUT, Frame, JobSpec};

/// Where the host puts programs.
const PUSHED: &str = "/share/bin";
/// Bytes under way in one direction before its source is no longer read.
const HIGH_WATER: usize = 256 * 1024;
/// Bytes taken from a pipe or port at once.
const CHUNK: usize = 32 * 1024;
/// How long a job may take to end after `SIGTERM` before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Serves the port until it fails.
///
/// # Errors
/// What the port's device said; it works as long as the machine does, so there is no way on.
pub fn serve(port: Port) -> io::Result<std::convert::Infallible> {
    let mut server = Server {
        port,
        decoder: Decoder::awaiting_any(),
        to_host: Vec::new(),
    };
    loop {
        match server.idle_frame()? {
            hello @ Frame::Hello(_) => server.begin(&hello)?,
            Frame::Start(spec) => server.run(&spec)?,
            // Input for a job that is over already.
            _ => {}
        }
    }
}

struct Server {
    port: Port,
    decoder: Decoder,
    to_host: Vec<u8>,
}

impl Server {
    /// Waits for the next frame while no job runs, and writes out what the last one left.
    fn idle_frame(&mut self) -> io::Result<Frame> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(_) => self.decoder = Decoder::awaiting_any(),
            }
            self.port.send(&mut self.to_host)?;
            match self.port.receive(&mut buffer)? {
                Received::Bytes(count) => self.decoder.push(&buffer[..count]),
                Received::Nothing => self.port.wait()?,
                Received::Disconnected => {
                    if self.port.stays_disconnected()? {
                        self.decoder = Decoder::awaiting_any();
                        self.port.wait()?;
                    }
                }
            }
        }
    }

    /// Starts a session: nothing for an earlier client matters any more.
    fn begin(&mut self, hello: &Frame) -> io::Result<()> {
        self.to_host.clear();
        self.queue(hello)
    }

    fn queue(&mut self, frame: &Frame) -> io::Result<()> {
        frame.encode(&mut self.to_host).map_err(io::Error::other)
    }

    fn run(&mut self, spec: &JobSpec) -> io::Result<()> {
        let (pushed, folder) = (Path::new(PUSHED), Path::new(programs::FOLDER));
        let spawned = programs::start_with(pushed, folder, || Job::spawn(spec));
        let job = match spawned {
            Ok(job) => job,
            Err(error) => {
                let program = spec.argv.first().map_or("", String::as_str);
                let text = format!("lab: cannot run {program} in the guest: {error}\n");
                self.queue(&Frame::Stderr(text.into_bytes()))?;
                return self.queue(&Frame::Exit(code_of_spawn_error(&error)));
            }
        };
        let deadline = spec
            .timeout_s
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut session = Session {
            server: self,
            job,
            to_job: Vec::new(),
            stdin_ended: false,
            limit: deadline.map_or(Limit::None, Limit::Term),
            exit: None,
        };
        match session.until_over()? {
            Over::Exited(code) => self.queue(&Frame::Exit(code)),
            Over::HostGone => {
                self.to_host.clear();
                self.decoder = Decoder::awaiting_any();
                Ok(())
            }
            Over::Replaced(hello) => self.begin(&hello),
        }
    }
}

/// What happens to a job that takes too long.
#[derive(Debug, Clone, Copy)]
enum Limit {
    None,
    Term(Instant),
    Kill(Instant),
    Killed,
}

impl Limit {
    fn due(self) -> Option<Instant> {
        match self {
            Self::Term(due) | Self::Kill(due) => Some(due),
            Self::None | Self::Killed => None,
        }
    }

    fn overrun(self) -> bool {
        matches!(self, Self::Kill(_) | Self::Killed)
    }
}

/// How a session ended.
enum Over {
    Exited(i32),
    HostGone,
    /// Another client took the port before the guest saw the last one go.
    Replaced(Frame),
}

/// What `poll(2)` said of each descriptor.
#[derive(Default)]
struct Ready {
    host_gone: bool,
    from_host: bool,
    to_host: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    exited: bool,
}

struct Session<'a> {
    server: &'a mut Server,
    job: Job,
    to_job: Vec<u8>,
    stdin_ended: bool,
    limit: Limit,
    exit: Option<i32>,
}

impl Session<'_> {
    fn until_over(&mut self) -> io::Result<Over> {
        loop {
            let ready = self.poll()?;
            if ready.host_gone && self.server.port.stays_disconnected()? {
                self.job.signal(Signal::SIGKILL)?;
                return Ok(Over::HostGone);
            }
            if ready.to_host {
                self.server.port.send(&mut self.server.to_host)?;
            }
            if ready.from_host
                && let Some(hello) = self.take_from_host()?
            {
                self.job.signal(Signal::SIGKILL)?;
                return Ok(Over::Replaced(hello));
            }
            self.feed_stdin(ready.stdin);
            if ready.stdout {
                let bytes = take(&mut self.job.stdout);
                self.forward(bytes, Frame::Stdout)?;
            }
            if ready.stderr {
                let bytes = take(&mut self.job.stderr);
                self.forward(bytes, Frame::Stderr)?;
            }
            if ready.exited && self.exit.is_none() {
                self.exit = Some(self.job.exit_code()?);
            }
            // Processes the command left behind may hold its pipes open for ever: what counts is
            // what it wrote itself, and that is in the pipes when it ends.
            let drained = !ready.stdout && !ready.stderr && self.room_to_host();
            if let (Some(code), true) = (self.exit, drained) {
                return Ok(Over::Exited(if self.limit.overrun() {
                    EXIT_TIMEOUT
                } else {
                    code
                }));
            }
            self.enforce_limit()?;
        }
    }

    fn room_to_host(&self) -> bool {
        self.server.to_host.len() < HIGH_WATER
    }

    fn poll(&self) -> io::Result<Ready> {
        let port_flags = flag_if(self.to_job.len() < HIGH_WATER, PollFlags::POLLIN)
            | flag_if(!self.server.to_host.is_empty(), PollFlags::POLLOUT);
        let mut sources = vec![(Source::Port, self.server.port.as_fd(), port_flags)];
        if self.exit.is_none() {
            sources.push((Source::Exit, self.job.exited.as_fd(), PollFlags::POLLIN));
        }
        if let (Some(stdin), false) = (&self.job.stdin, self.to_job.is_empty()) {
            sources.push((Source::Stdin, stdin.as_fd(), PollFlags::POLLOUT));
        }
        if self.room_to_host() {
            let outputs = [
                (Source::Stdout, &self.job.stdout),
                (Source::Stderr, &self.job.stderr),
            ];
            for (source, output) in outputs {
                if let Some(output) = output {
                    sources.push((source, output.as_fd(), PollFlags::POLLIN));
                }
            }
        }
        let mut fds: Vec<_> = sources
            .iter()
            .map(|(_, fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        wait(&mut fds, self.patience())?;
        Ok(Ready::of(
            sources.iter().map(|(source, ..)| *source).zip(&fds),
        ))
    }

    /// How long `poll` may sleep: not at all where only leftovers of a job that is over are sought.
    fn patience(&self) -> PollTimeout {
        if self.exit.is_some() && self.room_to_host() {
            return PollTimeout::ZERO;
        }
        self.limit.due().map_or(PollTimeout::NONE, |due| {
            let rest = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
        })
    }

    /// Handles what the host sent; returns the hello of a client that took this one's place.
    fn take_from_host(&mut self) -> io::Result<Option<Frame>> {
        let mut buffer = vec![0; CHUNK];
        if let Received::Bytes(count) = self.server.port.receive(&mut buffer)? {
            self.server.decoder.push(&buffer[..count]);
        }
        while let Some(frame) = self.server.decoder.next_frame().map_err(io::Error::other)? {
            match frame {
                Frame::Stdin(bytes) if self.job.stdin.is_some() => self.to_job.extend(bytes),
                Frame::StdinEnd => self.stdin_ended = true,
                Frame::Resize(size) => self.job.resize(size)?,
                hello @ Frame::Hello(_) => return Ok(Some(hello)),
                _ => {}
            }
        }
        Ok(None)
    }

    fn feed_stdin(&mut self, writable: bool) {
        let refused = match &self.job.stdin {
            Some(stdin) if writable => write_some(stdin, &mut self.to_job).is_err(),
            _ => false,
        };
        if refused {
            // The job closed its standard input: what is left of it has no reader.
            self.job.stdin = None;
            self.to_job.clear();
        }
        if self.stdin_ended && self.to_job.is_empty() {
            self.job.close_stdin();
            self.stdin_ended = false;
        }
    }

    fn forward(&mut self, bytes: Vec<u8>, frame: fn(Vec<u8>) -> Frame) -> io::Result<()> {
        if bytes.is_empty() {
            Ok(())
        } else {
            self.server.queue(&frame(bytes))
        }
    }

    fn enforce_limit(&mut self) -> io::Result<()> {
        let Some(due) = self.limit.due() else {
            return Ok(());
        };
        let now = Instant::now();
        if now < due {
            return Ok(());
        }
        let (signal, next) = match self.limit {
            Limit::Term(_) => (Signal::SIGTERM, Limit::Kill(now + GRACE)),
            _ => (Signal::SIGKILL, Limit::Killed),
        };
        self.job.signal(signal)?;
        self.limit = next;
        Ok(())
    }
}

/// What a descriptor that `poll(2)` watches belongs to.
#[derive(Clone, Copy)]
enum Source {
    Port,
    Exit,
    Stdin,
    Stdout,
    Stderr,
}

impl Ready {
    fn of<'a>(polled: impl Iterator<Item = (Source, &'a PollFd<'a>)>) -> Self {
        let mut ready = Self::default();
        for (source, fd) in polled {
            let any = fd.any().unwrap_or(false);
            match source {
                Source::Port => {
                    ready.host_gone = has(fd, PollFlags::POLLHUP);
                    ready.from_host = has(fd, PollFlags::POLLIN);
                    ready.to_host = has(fd, PollFlags::POLLOUT);
                }
                Source::Exit => ready.exited = any,
                Source::Stdin => ready.stdin = any,
                Source::Stdout => ready.stdout = any,
                Source::Stderr => ready.stderr = any,
            }
        }
        ready
    }
}

fn has(fd: &PollFd<'_>, flag: PollFlags) -> bool {
    fd.revents().is_some_and(|events| events.contains(flag))
}

fn flag_if(condition: bool, flag: PollFlags) -> PollFlags {
    if condition { flag } else { PollFlags::empty() }
}

fn wait(fds: &mut [PollFd<'_>], patience: PollTimeout) -> io::Result<()> {
    match poll(fds, patience) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads one chunk; an end (or the `EIO` of a terminal without users) closes the output.
fn take(output: &mut Option<File>) -> Vec<u8> {
    let Some(mut file) = output.as_ref() else {
        return Vec::new();
    };
    let mut bytes = vec![0; CHUNK];
    match file.read(&mut bytes) {
        Ok(count) if count > 0 => bytes.truncate(count),
        Err(error) if would_block(&error) => bytes.clear(),
        _ => {
            *output = None;
            bytes.clear();
        }
    }
    bytes
}
