//! Takes over certificates when their files change, or on SIGHUP.
//!
//! Watched are the files' directories: certificates are renewed by renaming a new file, or, in
//! Kubernetes, a symbolic link to a new directory, over the old one. What an event says is not
//! looked at; each makes us read the files.

use std::{collections::BTreeSet, io, path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use inotify::{Inotify, WatchMask, Watches};
use tokio::{
    sync::Notify,
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::tls::Tls;

/// Certificate and key are two files: how long to wait for the second after the first.
const SETTLE: Duration = Duration::from_millis(200);
/// How many events may pass meanwhile.
const EVENTS: usize = 1_000;

/// How often is warned of a certificate that ends soon.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Follows the files until `stop`, and warns every day of a certificate that ends soon; `hangup`
/// is notified of a SIGHUP.
pub async fn run(tls: Tls, hangup: Arc<Notify>, stop: CancellationToken) {
    // Both arms are cancel-safe.
    tokio::select! {
        () = remind(&tls) => {}
        () = take_over(&tls, &hangup, &stop) => {}
    }
}

async fn remind(tls: &Tls) {
    let mut days = interval_at(Instant::now() + REMIND, REMIND);
    loop {
        days.tick().await;
        tls.remind();
    }
}

async fn take_over(tls: &Tls, hangup: &Notify, stop: &CancellationToken) {
    if let Err(error) = follow(tls, hangup, stop).await {
        warn!(
            %error,
            "certificates are no longer followed; raise fs.inotify.max_user_instances, then \
             restart the agent to take over new ones"
        );
        stop.cancelled().await;
    }
}

async fn follow(tls: &Tls, hangup: &Notify, stop: &CancellationToken) -> io::Result<()> {
    let inotify = Inotify::init()?;
    let mut watches = inotify.watches();
    watch(tls, &mut watches);
    let mut events = inotify.into_event_stream(vec![0; 4096])?;
    // They may have changed between their first reading and now.
    read(tls).await;
    loop {
        // All arms are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = hangup.notified() => {}
            event = events.next() => {
                event.ok_or(io::ErrorKind::UnexpectedEof)??;
                for _ in 0..EVENTS {
                    match timeout(SETTLE, events.next()).await {
                        Ok(event) => event.ok_or(io::ErrorKind::UnexpectedEof)??,
                        Err(_) => break,
                    };
                }
            }
        }
        // A directory that was replaced needs a new watch; one that has it keeps it.
        watch(tls, &mut watches);
        read(tls).await;
    }
}

async fn read(tls: &Tls) {
    let tls = tls.clone();
    // It ends in any case, and tells by itself what went wrong.
    let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
}

fn watch(tls: &Tls, watches: &mut Watches) {
    let files = tls.files();
    let all = [&files.cert, &files.key, &files.client_ca];
    let all = all.into_iter().chain(&files.client_crl);
    let parent = |file: &Path| match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => ".".into(),
    };
    let directories: BTreeSet<_> = all.map(|file| parent(file)).collect();
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    for directory in directories {
        if let Err(error) = watches.add(&directory, mask) {
            warn!(
                %error, directory = %directory.display(),
                "changes of certificates are not noticed there; send SIGHUP after a change"
            );
        }
    }
}
