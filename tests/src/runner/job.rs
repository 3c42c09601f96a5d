//! One running command: its process group, its pipes or terminal, its exit code.
//!
//! Knows nothing of frames or ports.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::protocol::{JobSpec, WindowSize};
use super::terminal;

/// A command that was started. Dropping it leaves the processes alone: see [`Job::signal`].
#[derive(Debug)]
pub struct Job {
    group: Pid,
    /// Where the job's standard input is written; `None` once closed.
    pub stdin: Option<File>,
    /// Standard output, or everything where the job has a terminal; `None` after its end.
    pub stdout: Option<File>,
    /// Standard error; `None` after its end and for a job with a terminal.
    pub stderr: Option<File>,
    /// Becomes readable when the command is over: then [`Job::exit_code`] answers.
    pub exited: PipeReader,
    terminal: bool,
}

impl Job {
    /// Starts the command in a process group of its own.
    ///
    /// # Errors
    /// What `fork`, `exec` or the pipes said; `NotFound` where there is no such program.
    pub fn spawn(spec: &JobSpec) -> io::Result<Self> {
        match spec.pty {
            Some(size) => Self::spawn_on_terminal(spec, size),
            None => Self::spawn_on_pipes(spec),
        }
    }

    fn spawn_on_pipes(spec: &JobSpec) -> io::Result<Self> {
        let mut child = command(spec, &spec.argv)?
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        Ok(Self {
            group: group_of(&child)?,
            stdin: stdin.map(nonblocking).transpose()?,
            stdout: stdout.map(nonblocking).transpose()?,
            stderr: stderr.map(nonblocking).transpose()?,
            exited: watch(child)?,
            terminal: false,
        })
    }

    fn spawn_on_terminal(spec: &JobSpec, size: WindowSize) -> io::Result<Self> {
        let pair = nix::pty::openpty(Some(&terminal::to_kernel(size)), None)?;
        // A controlling terminal is taken between fork and exec. setsid(1) does that, so that no
        // code of ours has to run there.
        let mut argv = vec!["setsid".to_owned(), "--ctty".to_owned(), "--".to_owned()];
        argv.extend(spec.argv.iter().cloned());
        let child = command(spec, &argv)?
            .stdin(pair.slave.try_clone()?)
            .stdout(pair.slave.try_clone()?)
            .stderr(pair.slave)
            .spawn()?;
        Ok(Self {
            group: group_of(&child)?,
            stdin: Some(nonblocking(pair.master.try_clone()?)?),
            stdout: Some(nonblocking(pair.master)?),
            stderr: None,
            exited: watch(child)?,
            terminal: true,
        })
    }

    /// Sends a signal to every process of the job that stayed in its group.
    ///
    /// # Errors
    /// What `killpg(2)` said; a group that is gone is no error.
    pub fn signal(&self, signal: Signal) -> nix::Result<()> {
        match killpg(self.group, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The job's exit code, 128 + n where signal n ended it. Blocks until the job is over.
    ///
    /// # Errors
    /// Where the thread that waits for the command failed.
    pub fn exit_code(&mut self) -> io::Result<i32> {
        let mut code = [0; 4];
        self.exited.read_exact(&mut code)?;
        Ok(i32::from_le_bytes(code))
    }

    /// Ends standard input. On a terminal the end-of-file character does that.
    pub fn close_stdin(&mut self) {
        const END_OF_TRANSMISSION: &[u8] = &[4];
        if self.terminal {
            if let Some(mut stdin) = self.stdin.as_ref() {
                // A terminal that takes no more bytes has a reader that is gone or stuck.
                let _ = stdin.write_all(END_OF_TRANSMISSION);
            }
        } else {
            self.stdin = None;
        }
    }

    /// Tells the job's terminal, if it has one, its new size.
    ///
    /// # Errors
    /// What `ioctl(2)` said.
    pub fn resize(&self, size: WindowSize) -> nix::Result<()> {
        match &self.stdout {
            Some(master) if self.terminal => terminal::resize(master, size),
            _ => Ok(()),
        }
    }
}

/// The exit code that a shell gives a command that could not be started.
pub fn code_of_spawn_error(error: &io::Error) -> i32 {
    match error.kind() {
        ErrorKind::NotFound => 127,
        _ => 126,
    }
}

fn command(spec: &JobSpec, argv: &[String]) -> io::Result<Command> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the command is empty"))?;
    if !std::path::Path::new(&spec.cwd).is_dir() {
        let missing = format!("the guest has no directory {}", spec.cwd);
        return Err(io::Error::new(ErrorKind::InvalidInput, missing));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(&spec.env)
        .current_dir(&spec.cwd);
    Ok(command)
}

fn group_of(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)
}

fn nonblocking(fd: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(File::from(fd))
}

/// Turns the end of a process into something that `poll(2)` can wait for beside pipes.
fn watch(mut child: Child) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    std::thread::Builder::new()
        .name("wait".to_owned())
        .spawn(move || report(child.wait(), writer))?;
    Ok(reader)
}

fn report(status: io::Result<ExitStatus>, mut writer: PipeWriter) {
    let code = match status {
        Ok(status) => status.code().or(status.signal().map(|signal| 128 + signal)),
        Err(_) => None,
    };
    if let Some(code) = code {
        // Nobody reads after the session is over; there is nobody to tell either.
        let _ = writer.write_all(&code.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shell(script: &str) -> JobSpec {
        JobSpec {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("GREETING".to_owned(), "hi".to_owned())]),
            cwd: "/".to_owned(),
            timeout_s: None,
            pty: None,
        }
    }

    #[test]
    fn exit_codes_are_the_commands_own() {
        for (script, code) in [("exit 0", 0), ("exit 77", 77), ("kill -9 $$", 137)] {
            let mut job = Job::spawn(&shell(script)).expect("starts");
            assert_eq!(job.exit_code().expect("ends"), code, "{script}");
        }
    }

    #[test]
    fn streams_environment_and_directory_arrive() {
        let script = "pwd; echo $GREETING; echo oops >&2";
        let mut job = Job::spawn(&shell(script)).expect("starts");
        job.exit_code().expect("ends");
        let text = |file: Option<File>| io::read_to_string(file.expect("piped")).expect("text");
        assert_eq!(text(job.stdout.take()), "/\nhi\n");
        assert_eq!(text(job.stderr.take()), "oops\n");
    }

    #[test]
    fn a_signal_reaches_the_whole_group() {
        let mut job = Job::spawn(&shell("sleep 60 & wait")).expect("starts");
        job.signal(Signal::SIGKILL).expect("sent");
        assert_eq!(job.exit_code().expect("ends"), 137);
    }

    #[test]
    fn a_missing_program_has_the_shells_exit_code() {
        let mut spec = shell("");
        spec.argv = vec!["no-such-program".to_owned()];
        let error = Job::spawn(&spec).expect_err("does not exist");
        assert_eq!(code_of_spawn_error(&error), 127);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let mut spec = shell("");
        spec.cwd = "/no/such/place".to_owned();
        let error = Job::spawn(&spec).expect_err("does not exist");
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }

    #[test]
    fn a_job_on_a_terminal_sees_its_size() {
        let mut spec = shell("stty size");
        spec.pty = Some(WindowSize {
            rows: 33,
            columns: 44,
        });
        let mut job = Job::spawn(&spec).expect("starts");
        assert_eq!(job.exit_code().expect("ends"), 0);
        let mut text = [0; 16];
        let count = job
            .stdout
            .take()
            .expect("terminal")
            .read(&mut text)
            .expect("reads");
        assert_eq!(text[..count], *b"33 44\r\n");
    }
}
