//! Echo requests: how many came back.

use std::process::{Child, Stdio};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{command, netns::Netns};

/// What a `ping` is asked to do.
#[derive(Debug, Clone)]
pub struct Ping {
    destination: String,
    count: u32,
    interval_ms: u32,
    size: Option<u16>,
    source: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Requests sent.
    pub sent: u32,
    /// Answers to different requests.
    pub received: u32,
    /// Answers to a request that had been answered.
    pub duplicates: u32,
}

impl Report {
    /// Requests without an answer.
    pub fn lost(self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

impl Ping {
    /// Three requests 200 ms apart to an IPv4 or IPv6 address.
    pub fn to(destination: &str) -> Self {
        let destination = destination.to_owned();
        Self {
            destination,
            count: 3,
            interval_ms: 200,
            size: None,
            source: None,
        }
    }

    /// How many requests.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// Milliseconds between two requests.
    #[must_use]
    pub fn every_ms(mut self, interval_ms: u32) -> Self {
        self.interval_ms = interval_ms;
        self
    }

    /// Bytes of payload in a request, which must not be fragmented.
    #[must_use]
    pub fn size(mut self, bytes: u16) -> Self {
        self.size = Some(bytes);
        self
    }

    /// An interface or address to send from.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// Sends all requests from a namespace and waits for the answers, one second at most for the
    /// last.
    ///
    /// # Errors
    /// Where `ping` can't be run, or refuses (no route is no refusal: nothing comes back).
    pub fn run(&self, netns: &Netns) -> Result<Report> {
        self.start(netns)?.finish()
    }

    /// Starts sending in the background.
    ///
    /// # Errors
    /// Where `ping` can't be run.
    pub fn start(&self, netns: &Netns) -> Result<Running> {
        let (count, interval) = (self.count.to_string(), seconds(self.interval_ms));
        // -w ends a ping whose every request is lost, also where the clock of the guest jumps.
        let limit = (self.count * self.interval_ms / 1000 + 5).to_string();
        let size = self.size.map(|size| size.to_string());
        let mut words = vec!["ping", "-n", "-q", "-c", &count, "-i", &interval, "-W", "1"];
        words.extend(["-w", &limit]);
        if let Some(size) = &size {
            words.extend(["-M", "do", "-s", size]);
        }
        if let Some(source) = &self.source {
            words.extend(["-I", source]);
        }
        words.push(&self.destination);
        let words = netns.words(&words);
        Ok(Running {
            child: command::start(&words, Stdio::piped())?,
            what: words.join(" "),
        })
    }
}

/// A `ping` in the background.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
}

impl Running {
    /// Waits until all is sent; answers with what came back.
    ///
    /// # Errors
    /// Where `ping` refused.
    pub fn finish(self) -> Result<Report> {
        let output = self.child.wait_with_output()?;
        let (text, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        match parse(&text) {
            Some(report) => Ok(report),
            // Without a route, ping sends nothing and says so.
            None if said.contains("unreachable") => Ok(Report {
                sent: 0,
                received: 0,
                duplicates: 0,
            }),
            None => bail!("`{}` gave no summary: {text}{said}", self.what),
        }
    }

    /// Stops sending; answers with what came back until now.
    ///
    /// # Errors
    /// Where `ping` refused.
    pub fn stop(self) -> Result<Report> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?;
        self.finish()
    }
}

/// Asserts that each of three requests comes back, and once only.
///
/// # Errors
/// Where one does not; the message says what came back instead.
pub fn reaches(netns: &Netns, destination: &str) -> Result<()> {
    let report = Ping::to(destination).run(netns)?;
    let whole = report.sent > 0 && report.lost() == 0 && report.duplicates == 0;
    ensure!(
        whole,
        "{} does not reach {destination}: {report:?}",
        netns.name()
    );
    Ok(())
}

/// Asserts that none of three requests comes back.
///
/// # Errors
/// Where one does.
pub fn never_reaches(netns: &Netns, destination: &str) -> Result<()> {
    let report = Ping::to(destination).run(netns)?;
    ensure!(
        report.received == 0,
        "{} reaches {destination}: {report:?}",
        netns.name()
    );
    // With neither address nor route there is nothing to be kept from.
    ensure!(
        report.sent > 0 || netns.run(&format!("ip route get {destination}")).is_err(),
        "{} sent nothing to {destination}",
        netns.name()
    );
    Ok(())
}

fn seconds(milliseconds: u32) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// The summary `3 packets transmitted, 3 received, +1 duplicates, 0% packet loss, time 2ms`.
fn parse(text: &str) -> Option<Report> {
    let summary = text
        .lines()
        .find(|line| line.contains(" packets transmitted"))?;
    let number = |what: &str| {
        let part = summary
            .split(',')
            .find(|part| part.trim_end().ends_with(what))?;
        part.trim()
            .trim_start_matches('+')
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    Some(Report {
        sent: number("packets transmitted")?,
        received: number("received")?,
        duplicates: number("duplicates").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let report = |text| parse(text).expect("a summary");
        let clean = "3 packets transmitted, 3 received, 0% packet loss, time 402ms\n";
        assert_eq!(
            report(clean),
            Report {
                sent: 3,
                received: 3,
                duplicates: 0
            }
        );
        let odd = "5 packets transmitted, 4 received, +2 duplicates, +1 errors, 20% packet loss\n";
        assert_eq!(
            report(odd),
            Report {
                sent: 5,
                received: 4,
                duplicates: 2
            }
        );
        assert_eq!(parse("ping: connect: Network is unreachable\n"), None);
    }

    #[test]
    fn intervals_are_seconds_with_fractions() {
        assert_eq!(seconds(10), "0.010");
        assert_eq!(seconds(1500), "1.500");
    }
}
