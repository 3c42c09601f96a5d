//! Requests that go on while something happens, of which none may be lost.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::wait_until;
use super::{command, netns::Netns};

/// Requests that are sent until somebody stops them. Dropping it stops them too.
#[derive(Debug)]
pub struct Flood {
    child: Child,
    answered: Arc<AtomicU32>,
    reader: Option<JoinHandle<u32>>,
    started: Instant,
    what: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodReport {
    /// Requests up to the last that was answered: those after it were still under way.
    pub sent: u32,
    /// Those of them that were answered.
    pub answered: u32,
    /// How many were sent in a second.
    pub per_second: u32,
}

impl Flood {
    /// Sends a request every `interval`, from a namespace.
    ///
    /// # Errors
    /// Where `ping` can't be run.
    pub fn start(netns: &Netns, destination: &str, interval: Duration) -> Result<Self> {
        let interval = interval.as_secs_f64().to_string();
        let words = netns.words(&["ping", "-n", "-i", &interval, destination]);
        let mut child = command::start(&words, Stdio::null())?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let answered = Arc::new(AtomicU32::new(0));
        let count = answered.clone();
        let reader = std::thread::spawn(move || {
            let mut last = 0;
            let answers = lines
                .map_while(Result::ok)
                .filter(|line| !line.contains("DUP!"))
                .filter_map(|line| sequence(&line));
            for number in answers {
                count.fetch_add(1, Ordering::Relaxed);
                last = last.max(number);
            }
            last
        });
        Ok(Self {
            child,
            answered,
            reader: Some(reader),
            started: Instant::now(),
            what: words.join(" "),
        })
    }

    /// Waits until `more` further requests were answered.
    ///
    /// # Errors
    /// Where that takes longer than `limit`.
    pub fn expect(&self, more: u32, limit: Duration) -> Result<()> {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        wait_until(&format!("`{}` goes on", self.what), limit, || {
            let answered = self.answered.load(Ordering::Relaxed);
            ensure!(answered >= enough, "{answered} answers, not {enough}");
            Ok(())
        })
    }

    /// Stops sending; answers with what came back.
    ///
    /// # Errors
    /// Where `ping` ended before.
    pub fn stop(mut self) -> Result<FloodReport> {
        let seconds = self.started.elapsed().as_secs_f64();
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )
        .with_context(|| format!("`{}` ended", self.what))?;
        self.child.wait()?;
        let reader = self.reader.take().context("stopped twice")?;
        let Ok(sent) = reader.join() else {
            anyhow::bail!("the reader of `{}` panicked", self.what)
        };
        Ok(FloodReport {
            sent,
            answered: self.answered.load(Ordering::Relaxed),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small positive rate"
            )]
            per_second: (f64::from(sent) / seconds) as u32,
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // After `stop` there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `64 bytes from fd00:9::22: icmp_seq=7 ttl=62 time=3.21 ms`. Below 65536: the number wraps there,
/// after ten minutes at a hundred a second.
fn sequence(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("icmp_seq=")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_a_number_and_headers_have_none() {
        let line = "64 bytes from 172.16.9.22: icmp_seq=17 ttl=62 time=3.2 ms";
        assert_eq!(sequence(line), Some(17));
        assert_eq!(
            sequence("PING 172.16.9.22 (172.16.9.22) 56(84) bytes of data."),
            None
        );
    }
}
