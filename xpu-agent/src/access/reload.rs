//! Takes over certificates when their files change, on SIGHUP, or when one begins that was there
//! before its time.

use std::{
    future::pending,
    io,
    os::fd::OwnedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
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
        let begins = read(tls).await;
        // The files are read after any of them. No arm awaits in its body.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Ok(()) = hangup.changed() => {}
            changed = files.changed() => changed?,
            () = begun(begins) => {}
        }
    }
}

/// Reads the files; what of them begins later says when.
async fn read(tls: &Tls) -> Option<SystemTime> {
    let tls = tls.clone();
    let read = tokio::task::spawn_blocking(move || tls.reload());
    // The reading itself has logged what went wrong.
    read.await.unwrap_or_default()
}

/// Completes when it is that time by the clock of the machine, however that was set meanwhile; never
/// without one.
async fn begun(time: Option<SystemTime>) {
    let Some(time) = time else {
        return pending().await;
    };
    if let Err(error) = reached(time).await {
        warn!(
            %error,
            "the beginning of the new certificate cannot be waited for; send SIGHUP when it is \
             valid (systemctl reload xpu-agent)"
        );
        pending().await
    }
}

/// A timer of the wall clock fires at its time also after that clock was set
/// (`timerfd_create(2)`); tokio's count what has passed.
async fn reached(time: SystemTime) -> io::Result<()> {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    timer.set(
        Expiration::OneShot(TimeSpec::from_duration(since_1970)),
        TimerSetTimeFlags::TFD_TIMER_ABSTIME,
    )?;
    // SAFETY: the descriptor is owned here and given away: it is the same and open until it is
    // dropped, which the `AsyncFd` does after its registration.
    let registered =
        unsafe { AsyncFd::register_with_interest(OwnedFd::from(timer), Interest::READABLE) };
    let timer = registered.map_err(|error| error.into_parts().1)?;
    timer.readable().await.map(drop)
}
