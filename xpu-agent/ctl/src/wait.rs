//! `wait` and `watch`. The API has no call that reports changes, so both ask again and again:
//! `wait` every half second, `watch` as often as it is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Code;
use xpu_model::ObjectKey;

use crate::cli::Output;
use crate::commands::{Resource, Session};
use crate::failure::Failure;
use crate::remote::Agent;
use crate::render;
use crate::screen::{Screen, cut, emit, progress, say};
use crate::view::{Oper, View};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// Packets can flow.
    Up,
    /// It is gone.
    Deleted,
}

/// How long is let pass between two looks at what is waited for.
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
    /// [`Failure::NotYet`] when `limit` is over: it says who is not there and why. Where the agent
    /// has told nothing till then, its trouble.
    pub async fn wait<K: Resource>(
        &self,
        keys: &[ObjectKey],
        goal: Goal,
        limit: Duration,
    ) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        let progress = progress(None);
        let mut late = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Connecting takes its time too, and each page its own.
            let look = timeout(left.max(LOOK) + LOOK, self.missing::<K>(keys, goal, left)).await;
            let now = match look {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(what))) => Failure::NotYet { what, after: limit },
                // The agent may be restarting, or be busy; that is worth waiting for too.
                Ok(Err(error)) if error.is_passing() => error,
                Ok(Err(error)) => return Err(error),
                Err(_) => self.silent(limit),
            };
            // That the agent is slow in the end says less than what it said before.
            let now = match (now, late.take()) {
                (Failure::Refused { .. } | Failure::Silent { .. }, Some(known)) => known,
                (now, _) => now,
            };
            if left.is_zero() {
                return Err(now);
            }
            progress.set_message(now.message());
            progress.tick();
            late = Some(now);
            pause(LOOK.min(left)).await;
        }
        drop(progress);
        let word = match goal {
            Goal::Up => "up",
            Goal::Deleted => "deleted",
        };
        let told: Vec<_> = match keys {
            [] => vec![K::KIND.collection().to_owned()],
            keys => keys.iter().map(ToString::to_string).collect(),
        };
        emit(
            &told
                .iter()
                .map(|name| format!("{name} {word}\n"))
                .collect::<String>(),
        )
    }

    /// Who has not reached the goal, and why; `None` when all have.
    async fn missing<K: Resource>(
        &self,
        keys: &[ObjectKey],
        goal: Goal,
        left: Duration,
    ) -> Result<Option<String>, Failure> {
        // No call takes longer than the wait that it is for.
        let session = Self {
            agent: Agent {
                timeout: self.agent.timeout.min(left.max(LOOK)),
                ..self.agent.clone()
            },
            endpoint: self.endpoint.clone(),
            ..*self
        };
        let objects = session.list::<K>().await?;
        let objects: BTreeMap<_, _> = objects.iter().map(|it| (it.name(), it)).collect();
        let not_up = |object: &&K| object.state().oper != Oper::Up;
        let late: Vec<String> = match (goal, keys) {
            (Goal::Up, []) => objects.values().copied().filter(not_up).map(why).collect(),
            (Goal::Deleted, []) => objects
                .keys()
                .map(|name| format!("{name} is there"))
                .collect(),
            (Goal::Up, keys) => keys
                .iter()
                .filter_map(|key| match objects.get(key.to_string().as_str()) {
                    None => Some(format!("{key} does not exist")),
                    Some(object) => Some(*object).filter(not_up).map(why),
                })
                .collect(),
            (Goal::Deleted, keys) => keys
                .iter()
                .filter(|key| objects.contains_key(key.to_string().as_str()))
                .map(|key| format!("{key} is there"))
                .collect(),
        };
        Ok((!late.is_empty()).then(|| late.join("; ")))
    }

    /// Shows a kind's objects until interrupted: on a terminal as one table that is drawn
    /// anew, in a pipe as a line for each object that has changed; for programs as one document
    /// for each change.
    pub async fn watch<K: Resource>(
        &self,
        key: Option<&ObjectKey>,
        interval: Duration,
    ) -> Result<(), Failure> {
        let mut frame = Frame::default();
        let (mut before, mut known) = (None, BTreeMap::new());
        let mut trouble = None;
        loop {
            match self.seen::<K>(key).await {
                Ok(objects) => {
                    trouble = None;
                    // As wide as the terminal, whatever the table is.
                    let screen = Screen::of_stdout(self.colour);
                    match self.output {
                        Output::Table | Output::Wide if screen.height.is_some() => {
                            let title = format!(
                                "{}: {}, every {interval:?}",
                                self.endpoint,
                                K::KIND.collection()
                            );
                            let text = format!("{title}\n{}", self.table(&objects));
                            emit(&frame.draw(&text, screen))?;
                        }
                        Output::Table | Output::Wide => {
                            before = Some(self.append(before.as_ref(), &objects)?);
                        }
                        Output::Json | Output::Yaml | Output::Name => {
                            known = self.tell_changes(&known, &objects)?;
                        }
                    }
                }
                // A live view lives on while the agent restarts, or is busy; once is enough said.
                Err(error) if error.is_passing() => {
                    let message = error.message();
                    if trouble.as_ref() != Some(&message) {
                        say(&format!("{message}; trying again"));
                        frame = Frame::default();
                    }
                    trouble = Some(message);
                }
                Err(error) => return Err(error),
            }
            pause(interval).await;
        }
    }

    /// Prints a document for each change since `known`, by name; gives what is known now.
    fn tell_changes<K: Resource>(
        &self,
        known: &BTreeMap<String, Value>,
        objects: &[K],
    ) -> Result<BTreeMap<String, Value>, Failure> {
        let read = |object: &K| Ok((object.name().to_owned(), serde_json::to_value(object)?));
        let now: Result<BTreeMap<_, _>, _> = objects.iter().map(read).collect();
        let now = now.map_err(Failure::Json)?;
        let there = now.iter().filter_map(|(name, object)| {
            let change = match known.get(name) {
                None => "ADDED",
                Some(before) if before == object => return None,
                Some(_) => "MODIFIED",
            };
            Some((name, Event { change, object }))
        });
        let gone = known.iter().filter(|(name, _)| !now.contains_key(*name));
        let gone = gone.map(|(name, object)| {
            let change = "DELETED";
            (name, Event { change, object })
        });
        for (name, event) in there.chain(gone) {
            emit(&match self.output {
                Output::Json => render::json_line(&event).map_err(Failure::Json)?,
                Output::Yaml => {
                    format!("---\n{}", render::yaml(&event).map_err(Failure::Yaml)?)
                }
                Output::Table | Output::Wide | Output::Name => render::printable(name) + "\n",
            })?;
        }
        Ok(now)
    }

    fn silent(&self, after: Duration) -> Failure {
        Failure::Silent {
            endpoint: self.endpoint.clone(),
            after,
        }
    }

    async fn seen<K: Resource>(&self, key: Option<&ObjectKey>) -> Result<Vec<K>, Failure> {
        match key {
            None => self.list::<K>().await,
            Some(key) => match self.get::<K>(key).await {
                Ok(object) => Ok(vec![object]),
                Err(Failure::Refused { source, .. }) if source.code() == Code::NotFound => {
                    Ok(Vec::new())
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Prints what has changed since `before`: rows, with a head over the first.
    fn append<K: Resource>(
        &self,
        before: Option<&BTreeMap<String, String>>,
        objects: &[K],
    ) -> Result<BTreeMap<String, String>, Failure> {
        let text = self.table(objects);
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let names = objects.iter().map(|object| object.name().to_owned());
        let now: BTreeMap<_, _> = names.zip(lines.map(str::to_owned)).collect();
        let mut news = String::new();
        if before.is_none() {
            news.push_str(&format!("{head}\n"));
        }
        let nothing = BTreeMap::new();
        let before = before.unwrap_or(&nothing);
        // Columns may have moved; that alone is no news.
        let words = |line: &String| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (name, line) in &now {
            if before.get(name).map(words) != Some(words(line)) {
                news.push_str(&format!("{line}\n"));
            }
        }
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            news.push_str(&format!("{} deleted\n", render::printable(name)));
        }
        emit(&news)?;
        Ok(now)
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

/// A change for programs, as Kubernetes' watch writes it.
#[derive(Serialize)]
struct Event<'a> {
    /// `ADDED`, `MODIFIED` or `DELETED`; what is there in the beginning is added.
    #[serde(rename = "type")]
    change: &'static str,
    /// As it is now; of one that is gone, as it was last.
    object: &'a Value,
}

/// What the terminal shows of the last table.
#[derive(Default)]
struct Frame {
    lines: usize,
    width: Option<u16>,
}

impl Frame {
    /// The bytes that put `text` in the place of the frame before. A table that is higher or
    /// wider than the terminal is cut: what has scrolled away, or was broken into several rows,
    /// can't be drawn over.
    fn draw(&mut self, text: &str, screen: Screen) -> String {
        let height = usize::from(screen.height.unwrap_or(u16::MAX)).max(3);
        let width = usize::from(screen.width.unwrap_or(u16::MAX)).max(1);
        let all: Vec<_> = text.lines().collect();
        let mut lines: Vec<String> = all.iter().map(|line| cut(line, width)).collect();
        if all.len() >= height {
            lines.truncate(height - 2);
            let more = format!("\u{2026} {} lines more", all.len() - lines.len());
            lines.push(cut(&more, width));
        }
        let mut drawn = match self.lines {
            0 => String::new(),
            // A terminal that has become narrower breaks the rows that it shows.
            _ if self.width != screen.width => "\x1b[H\x1b[2J".to_owned(),
            // ECMA-48: to the start of the line so many above, then erase what follows.
            lines => format!("\x1b[{lines}F\x1b[J"),
        };
        self.lines = lines.len();
        self.width = screen.width;
        for line in lines {
            drawn.push_str(&line);
            drawn.push('\n');
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_over_the_one_before() {
        let screen = Screen {
            height: Some(5),
            ..Screen::PIPE
        };
        let mut frame = Frame::default();
        assert_eq!(frame.draw("a\nb\n", screen), "a\nb\n");
        assert_eq!(frame.draw("c\n", screen), "\x1b[2F\x1b[Jc\n");
        let cut = frame.draw("1\n2\n3\n4\n5\n6\n", screen);
        assert_eq!(cut, "\x1b[1F\x1b[J1\n2\n3\n… 3 lines more\n");
        assert_eq!(frame.draw("", screen), "\x1b[4F\x1b[J");
    }

    #[test]
    fn a_frame_is_no_wider_than_the_terminal() {
        let narrow = |width| Screen {
            height: Some(5),
            width: Some(width),
            colour: true,
        };
        let mut frame = Frame::default();
        assert_eq!(frame.draw("abcdef\n", narrow(5)), "abcd\u{2026}\n");
        let again = frame.draw("1\n2\n3\n4\n5\n", narrow(5));
        assert_eq!(again, "\x1b[1F\x1b[J1\n2\n3\n\u{2026} 2\u{2026}\n");
        assert_eq!(frame.draw("a\n", narrow(3)), "\x1b[H\x1b[2Ja\n");
    }
}
