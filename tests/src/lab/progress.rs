//! What the lab says while it works: one line a step, on standard error, with the seconds so far.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// How much of a failed command's output a message repeats, in lines.
const TAIL: usize = 15;

/// A clock that puts its reading in front of each line.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Prints one line.
    pub fn say(self, what: impl std::fmt::Display) {
        eprintln!("lab: [{:4} s] {what}", self.start.elapsed().as_secs());
    }

    /// Runs a command to its end, adding its output to `log`. Lines for which `notable` has a
    /// shorter form are shown.
    ///
    /// # Errors
    /// Where it can't be started or exits with anything but 0; the message has the end of what
    /// it printed.
    pub fn run(
        self,
        mut command: Command,
        log: &mut impl Write,
        notable: impl Fn(&str) -> Option<&str>,
    ) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (output, for_stdout) = std::io::pipe()?;
        let for_stderr = for_stdout.try_clone()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(for_stdout)
            .stderr(for_stderr)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        // The command's ends of the pipe must not stay open here, or the loop would never end.
        drop(command);
        let mut lines = Vec::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(log, "{line}")?;
            if let Some(what) = notable(&line) {
                self.say(what);
            }
            lines.push(line);
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("{name} failed ({status}):\n{}", tail(&lines));
        }
        Ok(())
    }
}

/// For [`Progress::run`]: a command that works in silence.
pub fn silent(_line: &str) -> Option<&str> {
    None
}

/// The last lines, indented, for an error message.
pub fn tail<S: AsRef<str>>(lines: &[S]) -> String {
    let from = lines.len().saturating_sub(TAIL);
    let last: Vec<_> = lines
        .iter()
        .skip(from)
        .map(|line| format!("    {}", line.as_ref().trim_end()))
        .collect();
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_reach_the_log() {
        let mut log = Vec::new();
        let command = shell("echo one; echo two >&2");
        Progress::start()
            .run(command, &mut log, silent)
            .expect("succeeds");
        assert_eq!(String::from_utf8_lossy(&log), "one\ntwo\n");
    }

    #[test]
    fn a_failure_shows_the_end_of_the_output() {
        let command = shell("seq 100; echo no space left >&2; exit 3");
        let error = Progress::start()
            .run(command, &mut Vec::new(), silent)
            .expect_err("fails");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("no space left"),
            "{text}"
        );
        assert!(!text.contains(" 50\n"), "only the tail: {text}");
    }
}
