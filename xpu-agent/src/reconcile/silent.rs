//! Silent hosts: known neighbours are asked before the bridge forgets them, so that their type-2
//! routes stay.
//!
//! The kernel tells when a neighbour behind one of our gateways has become stale. Its turn comes
//! at a random moment between 40 and 70 % of the bridge's ageing time since it was last heard:
//! early enough for a second try, and spread, so that hosts that fell silent together are not
//! asked together. A host that answers becomes stale again later, and its turn comes again; one
//! that does not is gone, for the kernel and for FRR.

use std::{collections::HashSet, future::poll_fn, time::Duration};

use tokio_util::{sync::CancellationToken, time::DelayQueue};
use tracing::{debug, warn};
use xpu_linux::kernel::{FollowError, Linux, Neighbour, Stale, StaleNeighbours};

/// Neighbours that wait for their turn at most; the kernel's own tables hold far fewer by default
/// (`gc_thresh3`, 1024).
const MOST: usize = 65_536;

/// Neighbours asked in one go.
const BATCH: usize = 64;

/// Asks silent neighbours until `stop`.
///
/// # Errors
/// [`FollowError`] when the kernel's events cannot be followed.
pub async fn run(
    linux: Linux,
    mut events: StaleNeighbours,
    stop: CancellationToken,
) -> Result<(), FollowError> {
    let mut turns = Turns::default();
    turns.all(&linux).await;
    loop {
        // All arms are cancel-safe, and none awaits in its pattern.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.next() => match event? {
                Some(stale) => turns.one(&linux, stale).await,
                None => turns.all(&linux).await,
            },
            due = turns.due() => {
                let asked = due.len();
                match linux.probe_neighbours(due).await {
                    Ok(probed) => debug!(asked, probed, "silent neighbours"),
                    Err(error) => warn!(
                        %error,
                        asked,
                        "silent neighbours cannot be asked, and FRR may withdraw their routes until \
                         they send again; if this goes on, see that the agent has CAP_NET_ADMIN and \
                         what the kernel's log (dmesg) says"
                    ),
                }
            }
        }
    }
}

/// Who is to be asked when.
#[derive(Default)]
struct Turns {
    queue: DelayQueue<Neighbour>,
    waiting: HashSet<Neighbour>,
}

impl Turns {
    /// Takes up every neighbour that is stale now.
    async fn all(&mut self, linux: &Linux) {
        match linux.stale_neighbours().await {
            Ok(all) => {
                for stale in all {
                    self.one(linux, stale).await;
                }
            }
            Err(error) => warn!(
                %error,
                "the neighbours cannot be listed: those that are silent now are not asked before \
                 the kernel tells of them again; if their routes go, restart the agent, which lists \
                 them anew (systemctl restart xpu-agent, no packet is lost)"
            ),
        }
    }

    /// Takes up one neighbour, if it is behind a gateway of ours.
    async fn one(&mut self, linux: &Linux, stale: Stale) {
        let Some(ageing) = linux.ageing_behind(stale.neighbour.device).await else {
            return;
        };
        if self.waiting.len() < MOST && self.waiting.insert(stale.neighbour) {
            let turn = turn(ageing, stale.silent, fastrand::f64());
            self.queue.insert(stale.neighbour, turn);
        }
    }

    /// Those whose turn it is; pends while there is none. Cancel-safe.
    async fn due(&mut self) -> Vec<Neighbour> {
        let mut due = Vec::new();
        poll_fn(|context| {
            while due.len() < BATCH
                && let std::task::Poll::Ready(Some(expired)) = self.queue.poll_expired(context)
            {
                let neighbour = expired.into_inner();
                self.waiting.remove(&neighbour);
                due.push(neighbour);
            }
            if due.is_empty() {
                std::task::Poll::Pending
            } else {
                std::task::Poll::Ready(())
            }
        })
        .await;
        due
    }
}

/// When a neighbour that has been silent for so long is to be asked; `luck` is from 0 to 1.
fn turn(ageing: Duration, silent: Duration, luck: f64) -> Duration {
    ageing
        .mul_f64(0.4 + 0.3 * luck)
        .saturating_sub(silent)
        // Even of those that are late not all at once.
        .max(Duration::from_secs(1).mul_f64(luck))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_in_time_and_not_all_at_once() {
        let (ageing, second) = (Duration::from_secs(300), Duration::from_secs(1));
        for silent in [0, 30, 100, 299, 1000].map(Duration::from_secs) {
            let turns = [0.0, 0.5, 1.0].map(|luck| turn(ageing, silent, luck));
            assert!(turns[0] < turns[1] && turns[1] < turns[2], "{turns:?}");
            let late = silent > ageing.mul_f64(0.7);
            assert!(
                late || silent + turns[2] <= ageing.mul_f64(0.7) + second,
                "{silent:?}"
            );
            assert!(!late || turns[2] <= second, "{silent:?}");
        }
    }
}
