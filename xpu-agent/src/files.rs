//! Tells when files that are read again have changed.
//!
//! Watched are the files' directories: a file is renewed by renaming a new one, or, in Kubernetes,
//! a symbolic link to a new directory, over the old one. What an event says is not looked at; each
//! is a reason to read the files.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use futures::{Stream, StreamExt};
use inotify::{Inotify, WatchMask, Watches};
use tokio::time::timeout;
use tracing::warn;

/// Files that belong together are written one after the other: how long to wait for the next.
const SETTLE: Duration = Duration::from_millis(200);
/// How many events may pass meanwhile.
const EVENTS: usize = 1_000;

/// Files, followed.
pub struct Files {
    /// What they are called in the log.
    what: &'static str,
    directories: BTreeSet<PathBuf>,
    watches: Watches,
    events: Pin<Box<dyn Stream<Item = io::Result<()>> + Send>>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Files").field(&self.what).finish()
    }
}

impl Files {
    /// Follows files from now on: what is read after this misses no change.
    ///
    /// # Errors
    /// The kernel's, where it has no inotify instance left.
    pub fn follow<'a>(
        what: &'static str,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Self> {
        let directory = |file: &Path| match file.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => ".".into(),
        };
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; 4096])?;
        let mut followed = Self {
            what,
            directories: files.into_iter().map(directory).collect(),
            watches,
            events: Box::pin(events.map(|event| event.map(drop))),
        };
        followed.watch();
        Ok(followed)
    }

    /// Completes when something changed, a moment after the last of it. Of a future that is
    /// dropped the change is lost, so read the files then.
    ///
    /// # Errors
    /// When nothing is told any more.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.event().await?;
        for _ in 0..EVENTS {
            match timeout(SETTLE, self.event()).await {
                Ok(event) => event?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Watches directories that were replaced, too; before the files are read again.
    pub fn watch(&mut self) {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        for directory in &self.directories {
            // One that is watched stays so.
            if let Err(error) = self.watches.add(directory, mask) {
                warn!(
                    %error, directory = %directory.display(),
                    "changes of {} are not noticed there; send SIGHUP after a change", self.what
                );
            }
        }
    }

    async fn event(&mut self) -> io::Result<()> {
        let event = self.events.next().await;
        event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }
}
