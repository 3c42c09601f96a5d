//! Frames as `tcpdump` sees them, one line each.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{command, netns::Netns};

/// Lines that wait to be read before `tcpdump` has to.
const QUEUE: usize = 4096;

/// A capture that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    frames: Receiver<String>,
    what: String,
}

impl Capture {
    /// Captures on an interface, with a filter in the words of `pcap-filter(7)`. Frames that are
    /// sent after this returns are seen.
    ///
    /// # Errors
    /// Where `tcpdump` does not start to listen; the message has its words.
    pub fn start(netns: &Netns, interface: &str, filter: &str) -> Result<Self> {
        let mut words = vec![
            "tcpdump",
            "-nn",
            "-e",
            "-l",
            "--immediate-mode",
            "-i",
            interface,
        ];
        words.extend(filter.split_whitespace());
        let words = netns.words(&words);
        let mut child = command::start(&words, Stdio::piped())?;
        let what = words.join(" ");
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
        wait_listening(&mut said).with_context(|| format!("`{what}`"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, frames) = sync_channel(QUEUE);
        std::thread::spawn(move || {
            // The rest of what it says is read so that it never has to wait; it ends with it.
            std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            frames,
            what,
        })
    }

    /// The next frame that has all of `parts` in its line.
    ///
    /// # Errors
    /// Where none comes within `limit`; the message has the frames that came instead.
    pub fn expect(&mut self, parts: &[&str], limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut others = Vec::new();
        loop {
            match self
                .frames
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(frame) if parts.iter().all(|part| frame.contains(part)) => return Ok(frame),
                Ok(frame) => others.push(frame),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "`{}` saw no frame with {parts:?} within {limit:?}, but {others:#?}",
                    self.what
                ),
                Err(RecvTimeoutError::Disconnected) => bail!("`{}` ended", self.what),
            }
        }
    }

    /// Ends the capture; answers with the frames that nobody asked for yet.
    ///
    /// # Errors
    /// Where `tcpdump` can't be ended.
    pub fn finish(mut self) -> Result<Vec<String>> {
        self.interrupt()?;
        self.child.wait()?;
        Ok(self.frames.iter().collect())
    }

    fn interrupt(&self) -> Result<()> {
        Ok(kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `finish` there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_listening(said: &mut impl BufRead) -> Result<()> {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        if said.read_line(&mut line)? == 0 {
            bail!("ended before it listened: {}", all.trim());
        }
        if line.contains("listening on") {
            return Ok(());
        }
        all.push_str(&line);
    }
}
