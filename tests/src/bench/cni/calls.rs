//! Running a plugin as a container runtime does, and what that took.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Barrier,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

/// The interface's name in every pod.
pub const IFNAME: &str = "net1";

/// A plugin's program and what it finds in its environment.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its name in the table.
    pub label: String,
    /// The program.
    pub program: PathBuf,
    /// Environment beside CNI's.
    pub env: Vec<(String, String)>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub verb: &'static str,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// The configuration.
    pub stdin: String,
}

/// What a call took.
#[derive(Debug, Clone)]
pub struct Sample {
    /// From before the start of the process to after its end.
    pub wall: Duration,
    /// Processor time, user and system, with that of its children.
    pub cpu: Duration,
    /// Whether it exited with 0.
    pub ok: bool,
    /// What it printed.
    pub stdout: String,
}

impl Sample {
    /// The time in milliseconds.
    #[must_use]
    pub fn ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1e3
    }

    /// The processor time in milliseconds.
    #[must_use]
    pub fn cpu_ms(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3
    }

    /// This sample, if the call succeeded.
    ///
    /// # Errors
    /// Where it did not; the message has what the plugin printed.
    pub fn success(self, what: &str) -> Result<Self> {
        ensure!(self.ok, "{what} failed: {}", self.stdout.trim());
        Ok(self)
    }
}

impl Plugin {
    /// The command of a call, without its standard streams.
    #[must_use]
    pub fn command(&self, call: &Call) -> Command {
        let mut command = Command::new(&self.program);
        self.environment(&mut command, call);
        command
    }

    /// Sets the environment of a call, and nothing else, for a command.
    pub fn environment(&self, command: &mut Command, call: &Call) {
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", call.verb)
            .env("CNI_CONTAINERID", &call.container)
            .env("CNI_NETNS", &call.netns)
            .env("CNI_IFNAME", IFNAME)
            .envs(self.env.iter().map(|(key, value)| (key, value)));
    }

    /// Runs a call in the namespaces of this thread.
    ///
    /// # Errors
    /// Where the program can't be started or waited for. That it fails is in the sample.
    pub fn run(&self, call: &Call) -> Result<Sample> {
        let mut command = self.command(call);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that ends without reading says why by its exit code.
            let _unread = stdin.write_all(call.stdin.as_bytes());
        }
        let mut stdout = String::new();
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_string(&mut stdout)?;
        }
        let (status, cpu) = wait(child.id())?;
        Ok(Sample {
            wall: start.elapsed(),
            cpu,
            ok: status == 0,
            stdout,
        })
    }

    /// Runs calls all at once. Gives their samples and the time that all of them took together.
    ///
    /// # Errors
    /// As of [`Self::run`].
    pub fn burst(&self, calls: &[Call]) -> Result<(Vec<Sample>, Duration)> {
        let barrier = Barrier::new(calls.len() + 1);
        std::thread::scope(|scope| {
            let barrier = &barrier;
            let running: Vec<_> = calls
                .iter()
                .map(|call| {
                    scope.spawn(move || {
                        barrier.wait();
                        self.run(call)
                    })
                })
                .collect();
            barrier.wait();
            let start = Instant::now();
            let samples = running.into_iter().map(|call| match call.join() {
                Ok(sample) => sample,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            let samples = samples.collect::<Result<Vec<_>>>()?;
            Ok((samples, start.elapsed()))
        })
    }
}

/// Waits for a child; gives its status, 0 for success, and its and its children's processor time.
fn wait(child: u32) -> Result<(i32, Duration)> {
    let child = i32::try_from(child)?;
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the right types.
        let done = unsafe { libc::wait4(child, &raw mut status, 0, &raw mut usage) };
        if done == child {
            break;
        }
        ensure!(Errno::last() == Errno::EINTR, "wait4: {}", Errno::last());
    }
    Ok((status, time(usage.ru_utime) + time(usage.ru_stime)))
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or_default();
    let micros = u64::try_from(value.tv_usec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(program: &str) -> Plugin {
        Plugin {
            label: program.to_owned(),
            program: program.into(),
            env: Vec::new(),
        }
    }

    fn call() -> Call {
        Call {
            verb: "ADD",
            container: "c1".to_owned(),
            netns: "/run/netns/none".to_owned(),
            stdin: "{}".to_owned(),
        }
    }

    #[test]
    fn a_call_is_timed_and_its_answer_kept() -> Result<()> {
        let sample = plugin("/bin/cat").run(&call())?;
        assert!(sample.ok && sample.stdout == "{}", "{sample:?}");
        assert!(sample.wall > Duration::ZERO);
        let sample = plugin("/bin/false").run(&call())?;
        assert!(sample.success("it").is_err());
        assert!(plugin("/no/such/program").run(&call()).is_err());
        Ok(())
    }

    #[test]
    fn a_burst_runs_all_of_its_calls() -> Result<()> {
        let (samples, wall) = plugin("/bin/cat").burst(&vec![call(); 7])?;
        assert_eq!(samples.iter().filter(|sample| sample.ok).count(), 7);
        assert!(
            samples
                .iter()
                .all(|sample| sample.cpu <= 8 * wall.max(sample.wall))
        );
        Ok(())
    }
}
