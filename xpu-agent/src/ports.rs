//! The map from ports to netdevs that a file has (`ports.map_file`): taken over when it changes,
//! or on SIGHUP. A file that cannot be used changes nothing.

use std::io;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use xpu_model::node::PortResolver;

use crate::{
    config::{ConfigError, PortsConfig},
    files::Files,
};

/// Follows the file until `stop`, if there is one, and sends what it comes to; `hangup` changes at
/// a SIGHUP.
pub async fn run(
    config: PortsConfig,
    ports: watch::Sender<PortResolver>,
    mut hangup: watch::Receiver<()>,
    stop: CancellationToken,
) {
    if let Err(error) = follow(&config, &ports, &mut hangup, &stop).await {
        warn!(
            %error,
            "ports.map_file is no longer followed; raise fs.inotify.max_user_instances, then \
             restart the agent to take over a new one (no packet is lost)"
        );
    }
    // Who holds the other end takes its loss for the agent's end.
    stop.cancelled().await;
}

async fn follow(
    config: &PortsConfig,
    ports: &watch::Sender<PortResolver>,
    hangup: &mut watch::Receiver<()>,
    stop: &CancellationToken,
) -> io::Result<()> {
    let Some(file) = &config.map_file else {
        return Ok(());
    };
    let mut files = Files::follow("ports.map_file", [file.as_path()])?;
    let mut last_problem = None;
    loop {
        files.watch();
        let problem = take_over(config, ports).await.err();
        let problem = problem.map(|error| format!("{:#}", anyhow::Error::from(error)));
        // What is written bit by bit is wrong in the same way many times.
        if let Some(error) = problem.as_ref().filter(|_| problem != last_problem) {
            warn!(
                error,
                "ports.map_file cannot be taken over; the map before it stays in use. Mend the \
                 file; it is read again when it changes, or on SIGHUP"
            );
        }
        last_problem = problem;
        // The file is read after any of them. No arm awaits in its body.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Ok(()) = hangup.changed() => {}
            changed = files.changed() => changed?,
        }
    }
}

async fn take_over(
    config: &PortsConfig,
    ports: &watch::Sender<PortResolver>,
) -> Result<(), ConfigError> {
    let without_file = config.resolver()?;
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || config.read());
    // It can't be cancelled but with the runtime, and this task with it.
    let new = match read.await {
        Ok(read) => read?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    if new == without_file && *ports.borrow() != without_file {
        return Err(ConfigError::Value {
            key: "ports.map_file".to_owned(),
            problem: "has no port any more; if that is meant, restart the agent".to_owned(),
        });
    }
    let is_news = ports.send_if_modified(|current| {
        let is_news = *current != new;
        *current = new;
        is_news
    });
    if is_news {
        info!("ports.map_file is taken over");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
