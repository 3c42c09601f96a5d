//! `watch`. The API has no call that reports changes, so the agent is asked again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Code;
use xpu_model::ObjectKey;

use crate::cli::Output;
use crate::commands::{Resource, Session};
use crate::failure::Failure;
use crate::render;
use crate::screen::{Reader, Screen, cut, emit, say};

/// What has been shown so far.
#[derive(Default)]
struct Shown {
    /// On a terminal: the table there.
    frame: Frame,
    /// In a pipe: the last row of each object, by name; none before the first table.
    rows: Option<BTreeMap<String, String>>,
    /// For programs: the objects, by name.
    objects: BTreeMap<String, Value>,
}

impl Session {
    /// Shows a kind's objects until interrupted: on a terminal as one table that is drawn
    /// anew, in a pipe as a line for each object that has changed; for programs as one document
    /// for each change.
    ///
    /// # Errors
    /// [`Failure::NobodyReads`] as soon as the reader of stdout has gone; what a call fails with,
    /// unless it is passing.
    pub async fn watch<K: Resource>(
        &self,
        key: Option<&ObjectKey>,
        interval: Duration,
    ) -> Result<(), Failure> {
        let reader = Reader::of_stdout();
        let mut shown = Shown::default();
        let mut trouble = None;
        loop {
            match self.seen::<K>(key).await {
                Ok(objects) => {
                    trouble = None;
                    self.show_news(&mut shown, &objects, interval)?;
                }
                // A live view lives on while the agent restarts, or is busy; said once, that is
                // enough.
                Err(error) if error.is_passing() => {
                    let message = error.message();
                    if trouble.as_ref() != Some(&message) {
                        say(&format!("{message}; trying again"));
                        // The line stands below the table now.
                        shown.frame = Frame::default();
                    }
                    trouble = Some(message);
                }
                Err(error) => return Err(error),
            }
            if timeout(interval, reader.gone()).await.is_ok() {
                return Err(Failure::NobodyReads);
            }
        }
    }

    fn show_news<K: Resource>(
        &self,
        shown: &mut Shown,
        objects: &[K],
        interval: Duration,
    ) -> Result<(), Failure> {
        // As wide as the terminal, whatever the table is.
        let screen = Screen::of_stdout(self.colour);
        match self.output {
            Output::Table | Output::Wide if screen.height.is_some() => {
                let (agent, kind) = (&self.endpoint, K::KIND.collection());
                let title = format!("{agent}: {kind}, every {interval:?}");
                let text = format!("{title}\n{}", self.table(objects));
                emit(&shown.frame.draw(&text, screen))?;
            }
            Output::Table | Output::Wide => {
                shown.rows = Some(self.append(shown.rows.as_ref(), objects)?);
            }
            Output::Json | Output::Yaml | Output::Name => {
                shown.objects = self.print_changes(&shown.objects, objects)?;
            }
        }
        Ok(())
    }

    /// Prints a document for each change since `known`, by name; gives what is known now.
    fn print_changes<K: Resource>(
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
