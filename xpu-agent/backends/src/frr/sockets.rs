//! Tells when FRR's daemons may be there again: by the files that they make in the directory of
//! their sockets, or by that directory itself, which may be made with them.
//!
//! An event only says that it is worth a look. A socket is there a moment before its daemon
//! listens; that look fails, and the next one is near.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    pin::Pin,
};

use futures::{FutureExt, Stream, StreamExt};
use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tracing::warn;

/// What daemons make when they start; the last one is watchfrr's, when all of them have.
const FILES: [&str; 4] = ["mgmtd.vty", "zebra.vty", "bgpd.vty", "watchfrr.started"];

/// Events taken at most before a look. What is left then calls for one more look, no harm done.
const MOST: usize = 1_000;

type Events = Pin<Box<dyn Stream<Item = io::Result<Event<std::ffi::OsString>>> + Send + Sync>>;

/// The directory of the sockets, watched.
pub(super) struct Sockets {
    directory: PathBuf,
    state: State,
}

enum State {
    /// Not used yet: nothing is watched.
    Idle,
    Watching(Watching),
    /// Watching failed: there are no events.
    Deaf,
}

struct Watching {
    watches: Watches,
    events: Events,
    /// What is watched: the directory, or the nearest one above it that exists.
    at: Option<(WatchDescriptor, PathBuf)>,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sockets").field(&self.directory).finish()
    }
}

impl Sockets {
    /// Watches nothing before it is first used.
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            state: State::Idle,
        }
    }

    /// Drains pending events, so that only later ones complete [`Self::appeared`]. Call right
    /// before trying the sockets.
    pub(super) fn catch_up(&mut self) {
        if matches!(self.state, State::Idle) {
            let watching = Watching::new(&self.directory);
            self.state = self.or_deaf(watching);
        }
        for _ in 0..MOST {
            match self.next().now_or_never() {
                Some(_) => {}
                None => break,
            }
        }
    }

    /// Completes when a daemon may have come. Cancel-safe.
    pub(super) async fn appeared(&mut self) {
        while !self.next().await {}
    }

    /// Takes the next event, and answers whether the sockets are worth a try. Pends where there are
    /// no events to be had. Cancel-safe.
    async fn next(&mut self) -> bool {
        let State::Watching(watching) = &mut self.state else {
            return std::future::pending().await;
        };
        let event = watching.events.next().await;
        let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        match event.and_then(|event| watching.take(&self.directory, &event)) {
            Ok(is_worth) => is_worth,
            Err(error) => {
                self.state = self.or_deaf(Err(error));
                false
            }
        }
    }

    fn or_deaf(&self, watching: io::Result<Watching>) -> State {
        watching.map_or_else(
            |error| {
                warn!(
                    %error,
                    directory = %self.directory.display(),
                    "that FRR's sockets come back is not noticed at once, only when they are tried \
                     again, half a minute later at most; raise fs.inotify.max_user_instances and \
                     max_user_watches, then restart the agent (no packet is lost)"
                );
                State::Deaf
            },
            State::Watching,
        )
    }
}

impl Watching {
    fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = Box::pin(inotify.into_event_stream(vec![0; 4096])?);
        let mut watching = Self {
            watches,
            events,
            at: None,
        };
        watching.settle(directory)?;
        Ok(watching)
    }

    /// Watches the directory if it is there, else the nearest one above it.
    fn settle(&mut self, directory: &Path) -> io::Result<()> {
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            // The daemons give a socket that they listen on to the group of vtysh.
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut last = None;
        // What is made between the look at it and the watch over it is found by looking again.
        loop {
            let nearest = directory.ancestors().find(|it| it.is_dir());
            let nearest = nearest.unwrap_or(Path::new("/")).to_owned();
            if last.as_ref() == Some(&nearest) {
                return Ok(());
            }
            let watch = match self.watches.add(&nearest, mask) {
                // Gone again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                watch => watch?,
            };
            if let Some((old, _)) = self.at.replace((watch.clone(), nearest.clone()))
                && old != watch
            {
                // Refused where its directory has gone: the watch went with it.
                let _ = self.watches.remove(old);
            }
            last = Some(nearest);
        }
    }

    /// Whether an event is worth a look; watches what is to be watched after it.
    fn take(&mut self, directory: &Path, event: &Event<std::ffi::OsString>) -> io::Result<bool> {
        let is_lost = event.mask.contains(EventMask::Q_OVERFLOW);
        let at = self.at.as_ref();
        let (_, watched) = match at.filter(|(watch, _)| *watch == event.wd || is_lost) {
            Some(at) => at,
            // From a watch that was given up.
            None => return Ok(false),
        };
        let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
        let is_gone = event.mask.intersects(gone);
        let is_named = event.name.as_deref().is_some_and(|name| {
            if watched == directory {
                FILES.iter().any(|file| name == OsStr::new(file))
            } else {
                let below = directory.strip_prefix(watched).ok();
                below.and_then(|below| below.iter().next()) == Some(name)
            }
        });
        if is_gone || is_lost || (is_named && watched != directory) {
            if event.mask.contains(EventMask::MOVE_SELF) {
                // The watch follows the directory to where it is now.
                self.at.take().map(|(watch, _)| self.watches.remove(watch));
            }
            self.settle(directory)?;
        }
        let is_there = self.at.as_ref().is_some_and(|(_, at)| at == directory);
        // Made before it was watched, the sockets may be in it.
        Ok(is_lost || is_named || (is_gone && is_there))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    async fn is_told(sockets: &mut Sockets) -> bool {
        let wait = Duration::from_millis(300);
        let told = tokio::time::timeout(wait, sockets.appeared()).await;
        told.is_ok()
    }

    #[tokio::test]
    async fn what_a_daemon_makes_is_told_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("zebra.vty"), "").unwrap();
        let mut sockets = Sockets::new(directory.path().to_owned());
        sockets.catch_up();
        assert!(!is_told(&mut sockets).await, "it was there");
        for name in ["zebra.pid", "staticd.vty", "zserv.api"] {
            fs::write(file(name), "").unwrap();
        }
        fs::remove_file(file("zebra.vty")).unwrap();
        assert!(!is_told(&mut sockets).await);
        for name in FILES {
            fs::write(file(name), "").unwrap();
            assert!(is_told(&mut sockets).await, "{name}");
        }
        fs::remove_file(file("zebra.vty")).unwrap();
        fs::write(file("zebra.vty"), "").unwrap();
        sockets.catch_up();
        assert!(!is_told(&mut sockets).await, "caught up with");
    }

    #[tokio::test]
    async fn a_directory_may_come_later_and_go_and_come_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("run/frr/blue");
        let mut sockets = Sockets::new(directory.clone());
        sockets.catch_up();
        fs::create_dir(root.path().join("other")).unwrap();
        assert!(!is_told(&mut sockets).await);
        for _ in 0..2 {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("zebra.vty"), "").unwrap();
            assert!(is_told(&mut sockets).await);
            sockets.catch_up();
            fs::write(directory.join("bgpd.vty"), "").unwrap();
            assert!(is_told(&mut sockets).await);
            fs::remove_dir_all(root.path().join("run")).unwrap();
            sockets.catch_up();
            assert!(!is_told(&mut sockets).await);
        }
        // Moved away it is another one, whatever is made in it.
        fs::create_dir_all(&directory).unwrap();
        assert!(is_told(&mut sockets).await);
        sockets.catch_up();
        let moved = root.path().join("moved");
        fs::rename(&directory, &moved).unwrap();
        assert!(!is_told(&mut sockets).await);
        fs::write(moved.join("zebra.vty"), "").unwrap();
        assert!(!is_told(&mut sockets).await);
        fs::create_dir(&directory).unwrap();
        assert!(is_told(&mut sockets).await);
    }
}
