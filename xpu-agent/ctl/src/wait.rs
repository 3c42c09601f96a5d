//! `wait`. The API has no call that reports changes, so the agent is asked every half second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::time::timeout;
use xpu_model::ObjectKey;

use crate::commands::{Resource, Session};
use crate::failure::Failure;
use crate::remote::Agent;
use crate::screen::{emit, progress};
use crate::view::{Oper, View};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// Packets can flow.
    Up,
    /// It is gone.
    Deleted,
}

/// How long to let pass between two looks at what is waited for.
pub const LOOK: Duration = Duration::from_millis(500);

/// Between two looks at the agent.
#[expect(
    clippy::disallowed_methods,
    reason = "the API has no call that reports changes: there is no event to wait for"
)]
pub async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

impl Session {
    /// Waits until all of `keys` have reached the goal; without keys, all objects of the kind.
    ///
    /// # Errors
    /// [`Failure::NotYet`] when `limit` is over: it says which objects have not reached the goal, and
    /// why. Where the agent has not answered till then, why it has not.
    pub async fn wait<K: Resource>(
        &self,
        keys: &[ObjectKey],
        goal: Goal,
        limit: Duration,
    ) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        let progress = progress(None);
        let mut known = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(now) = self.look::<K>(keys, goal, limit, left).await? else {
                break;
            };
            // That the agent is slow in the end says less than what it said before.
            let why = match (now, known.take()) {
                (Failure::Refused { .. } | Failure::Silent { .. }, Some(known)) => known,
                (now, _) => now,
            };
            if left.is_zero() {
                return Err(why);
            }
            progress.set_message(why.message());
            progress.tick();
            known = Some(why);
            pause(LOOK.min(left)).await;
        }
        drop(progress);
        let word = match goal {
            Goal::Up => "up",
            Goal::Deleted => "deleted",
        };
        let names: Vec<_> = match keys {
            [] => vec![K::KIND.collection().to_owned()],
            keys => keys.iter().map(ToString::to_string).collect(),
        };
        let lines = names.iter().map(|name| format!("{name} {word}\n"));
        emit(&lines.collect::<String>())
    }

    /// Looks once. `None` when the goal is reached, else what is waited for: an object, or an
    /// agent that is restarting or busy.
    async fn look<K: Resource>(
        &self,
        keys: &[ObjectKey],
        goal: Goal,
        limit: Duration,
        left: Duration,
    ) -> Result<Option<Failure>, Failure> {
        // Connecting takes its time too, and each page its own.
        match timeout(left.max(LOOK) + LOOK, self.list_within::<K>(left)).await {
            Ok(Ok(objects)) => {
                let late = late(&objects, keys, goal);
                Ok((!late.is_empty()).then(|| Failure::NotYet {
                    what: late.join("; "),
                    after: limit,
                }))
            }
            Ok(Err(error)) if error.is_passing() => Ok(Some(error)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Some(Failure::Silent {
                endpoint: self.endpoint.clone(),
                after: limit,
            })),
        }
    }

    /// Lists, with calls that take no longer than what is left of the wait that they are for.
    async fn list_within<K: Resource>(&self, left: Duration) -> Result<Vec<K>, Failure> {
        let session = Self {
            agent: Agent {
                timeout: self.agent.timeout.min(left.max(LOOK)),
                ..self.agent.clone()
            },
            endpoint: self.endpoint.clone(),
            ..*self
        };
        session.list::<K>().await
    }
}

/// Which objects have not reached the goal, and why: a text each.
fn late<K: View>(objects: &[K], keys: &[ObjectKey], goal: Goal) -> Vec<String> {
    let objects: BTreeMap<_, _> = objects.iter().map(|it| (it.name(), it)).collect();
    let there = |key: &ObjectKey| objects.get(key.to_string().as_str()).copied();
    let not_up = |object: &&K| object.state().oper != Oper::Up;
    match (goal, keys) {
        (Goal::Up, []) => objects.values().copied().filter(not_up).map(why).collect(),
        (Goal::Deleted, []) => objects
            .keys()
            .map(|name| format!("{name} is there"))
            .collect(),
        (Goal::Up, keys) => keys
            .iter()
            .filter_map(|key| match there(key) {
                None => Some(format!("{key} does not exist")),
                Some(object) => Some(object).filter(not_up).map(why),
            })
            .collect(),
        (Goal::Deleted, keys) => keys
            .iter()
            .filter(|key| there(key).is_some())
            .map(|key| format!("{key} is there"))
            .collect(),
    }
}

/// `svis/blue is DOWN: linux: …`.
fn why<K: View>(object: &K) -> String {
    let state = object.state();
    let (name, oper) = (object.name(), state.oper.as_str());
    match state.trouble() {
        Some(reason) => format!("{name} is {oper}: {reason}"),
        None => format!("{name} is {oper}"),
    }
}
