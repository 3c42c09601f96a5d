//! Takes over certificates when their files change, or on SIGHUP.

use std::{io, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, interval_at},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::tls::Tls;
use crate::files::Files;

/// How often a certificate that ends soon is warned about.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Follows the files until `stop`, and warns every day of a certificate that ends soon; `hangup`
/// changes at a SIGHUP.
pub async fn run(tls: Tls, mut hangup: watch::Receiver<()>, stop: CancellationToken) {
    // Both arms are cancel-safe.
    tokio::select! {
        () = remind(&tls) => {}
        () = take_over(&tls, &mut hangup, &stop) => {}
    }
}

async fn remind(tls: &Tls) {
    let mut days = interval_at(Instant::now() + REMIND, REMIND);
    loop {
        days.tick().await;
        tls.remind();
    }
}

async fn take_over(tls: &Tls, hangup: &mut watch::Receiver<()>, stop: &CancellationToken) {
    if let Err(error) = follow(tls, hangup, stop).await {
        warn!(
            %error,
            "certificates are no longer followed; raise fs.inotify.max_user_instances, then \
             restart the agent to take over new ones"
        );
        stop.cancelled().await;
    }
}

async fn follow(
    tls: &Tls,
    hangup: &mut watch::Receiver<()>,
    stop: &CancellationToken,
) -> io::Result<()> {
    let files = tls.files();
    let all = [&files.cert, &files.key, &files.client_ca];
    let all = all.into_iter().chain(&files.client_crl);
    let mut files = Files::follow("certificates", all.map(AsRef::as_ref))?;
    loop {
        // They may have changed between their first reading and now.
        files.watch();
        read(tls).await;
        // The files are read after any of them. No arm awaits in its body.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Ok(()) = hangup.changed() => {}
            changed = files.changed() => changed?,
        }
    }
}

async fn read(tls: &Tls) {
    let tls = tls.clone();
    // Its result is not needed: the reading itself has logged what went wrong.
    let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
}
