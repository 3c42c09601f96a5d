//! A good client, and what others beside it do to its answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{net::UnixStream, time::Instant};
use tonic::transport::Channel;

use super::{clients, floor::Work, server::Server, storm::Storm, suite::Effort};
use crate::bench::{
    row::Row,
    stats::{median, quantile},
};

/// The client that the others must not trouble.
pub(super) struct Bystander {
    pub(super) channel: Channel,
    pub(super) effort: Effort,
}

/// What is beside the bystander in one phase.
pub(super) trait Others {
    /// Ends it; how many rounds it was, where it is of rounds.
    fn end(self) -> Result<Option<u32>>;
}

/// Those that only have to be there.
impl<T> Others for Vec<T> {
    fn end(self) -> Result<Option<u32>> {
        Ok(None)
    }
}

impl Others for Storm {
    fn end(self) -> Result<Option<u32>> {
        Self::end(self).map(Some)
    }
}

impl Others for Work {
    fn end(self) -> Result<Option<u32>> {
        Self::end(self).map(Some)
    }
}

/// Those that come to somebody else's work.
impl Others for (Storm, Work) {
    fn end(self) -> Result<Option<u32>> {
        let rounds = self.0.end()?;
        self.1.end()?;
        Ok(Some(rounds))
    }
}

/// The bystander's p99 beside others, which may at most double.
pub(super) async fn beside<T: Others>(
    what: &str,
    server: &mut Server,
    bystander: &Bystander,
    others: impl AsyncFn() -> Result<T>,
) -> Result<Row> {
    let row = measured(what, server, bystander, others).await?;
    Ok(row.ratio_at_most(2.0))
}

/// The bystander's p99 beside others against its p99 alone; the phases take turns. It is alone once
/// the server has let go of those before.
pub(super) async fn measured<T: Others>(
    what: &str,
    server: &mut Server,
    bystander: &Bystander,
    others: impl AsyncFn() -> Result<T>,
) -> Result<Row> {
    let Bystander { channel, effort } = bystander;
    let Effort { calls, phases } = *effort;
    let (mut alone, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rounds, mut took) = (None, Duration::ZERO);
    for _ in 0..phases {
        let held_alone = (server.tasks()?, server.descriptors()?);
        let before = quantile(&clients::get(channel, calls).await?, 0.99);
        let held = others().await.with_context(|| format!("beside {what}"))?;
        let start = Instant::now();
        let during = quantile(&clients::get(channel, calls).await?, 0.99);
        took += start.elapsed();
        let ended = held.end().with_context(|| format!("beside {what}"))?;
        let (tasks, descriptors) = left(server, held_alone).await?;
        ensure!(
            (tasks, descriptors) == (0, 0),
            "beside {what}: the server still has {tasks} tasks and {descriptors} descriptors of \
             clients that are gone"
        );
        rounds = ended.map(|number| number + rounds.unwrap_or(0));
        alone.push(before);
        with.push(during);
        ratios.push(during / before);
    }
    let metric = format!("native: Get p99 beside {what}");
    let row = Row::new(metric, calls * phases, median(&with), "µs")
        .peer(median(&alone), "the same client alone")
        .ratio(median(&ratios));
    Ok(match rounds {
        Some(rounds) => {
            let rate = f64::from(rounds) / took.as_secs_f64();
            row.note(&format!("{rate:.0} rounds of the others a second"))
        }
        None => row,
    })
}

/// Tasks and descriptors more than before, once clients that are gone are noticed.
pub(super) async fn left(server: &mut Server, before: (usize, usize)) -> Result<(usize, usize)> {
    let limit = Instant::now() + Duration::from_secs(30);
    let mut again = tokio::time::interval(Duration::from_millis(10));
    loop {
        // One that comes and goes, so that the server has seen all that came before.
        drop(UnixStream::connect(server.socket()).await?);
        again.tick().await;
        let tasks = server.tasks()?.saturating_sub(before.0);
        let descriptors = server.descriptors()?.saturating_sub(before.1);
        if (tasks, descriptors) == (0, 0) || Instant::now() > limit {
            return Ok((tasks, descriptors));
        }
    }
}
