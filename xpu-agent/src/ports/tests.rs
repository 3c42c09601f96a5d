use std::{fs, path::Path, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::config::ResolverConfig;

fn config(file: &Path) -> PortsConfig {
    PortsConfig {
        resolver: ResolverConfig::MacMap,
        map_file: Some(file.to_owned()),
        ..PortsConfig::default()
    }
}

/// Puts a new file in the place of the old one, as who renews it does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

fn netdev(ports: &PortResolver) -> Option<String> {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let found = ports.resolve(&"port-1".parse().unwrap(), mac);
    found.map(|it| it.to_string())
}

struct Rig {
    _directory: tempfile::TempDir,
    file: std::path::PathBuf,
    ports: watch::Receiver<PortResolver>,
    hangup: watch::Sender<()>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(directory: tempfile::TempDir, file: &Path) -> Self {
        let config = config(file);
        // Another one, so that the first reading is seen.
        let (sender, ports) = watch::channel(PortResolver::Name);
        let (hangup, hangups) = watch::channel(());
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config, sender, hangups, stop.clone()));
        Self {
            file: file.to_owned(),
            _directory: directory,
            ports,
            hangup,
            stop,
            task,
        }
    }

    async fn until(&mut self, wanted: &str) {
        let told = self
            .ports
            .wait_for(|ports| netdev(ports).as_deref() == Some(wanted));
        let told = timeout(Duration::from_secs(30), told).await;
        assert!(told.is_ok_and(|it| it.is_ok()), "{wanted}");
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_changes_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ports.toml");
    fs::write(&file, "\"02:00:00:00:00:01\" = \"rep0\"\n").unwrap();
    let mut rig = Rig::start(directory, &file);
    rig.until("rep0").await;
    replace(&rig.file, "\"02:00:00:00:00:01\" = \"rep1\"\n");
    rig.until("rep1").await;
    // What is wrong in between ends nothing.
    replace(&rig.file, "no table");
    replace(&rig.file, "port-1 = \"rep2\"");
    rig.until("rep2").await;
    rig.end().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ports.toml");
    fs::write(&file, "port-1 = \"rep0\"").unwrap();
    let mut config = config(&file);
    let pink = ("port-2".to_owned(), "rep9".parse().unwrap());
    config.map.extend([pink]);
    let (ports, seen) = watch::channel(config.read().unwrap());
    for (bad, why) in [
        (Some("no table"), "ports.toml is not valid"),
        (Some("X = \"rep2\""), "`X` is neither a MAC nor a port's id"),
        (Some("port-1 = \"no/netdev\""), "ports.toml is not valid"),
        (Some("port-2 = \"rep2\""), "`port-2` is rep9 already"),
        (None, "cannot read"),
    ] {
        match bad {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let error = take_over(&config, &ports).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(netdev(&seen.borrow()).as_deref(), Some("rep0"), "{bad:?}");
        assert!(!seen.has_changed().unwrap());
    }
    fs::write(&file, "port-1 = \"rep1\"").unwrap();
    take_over(&config, &ports).await.unwrap();
    assert_eq!(netdev(&seen.borrow()).as_deref(), Some("rep1"));
}

/// A link leads out of the directory that is watched: what changes behind it tells nobody.
#[tokio::test]
async fn what_no_event_tells_of_is_taken_over_at_a_hangup() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, file) = (
        directory.path().join("ports"),
        elsewhere.path().join("ports"),
    );
    fs::write(&file, "port-1 = \"rep0\"").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut rig = Rig::start(directory, &link);
    rig.until("rep0").await;
    replace(&file, "port-1 = \"rep1\"");
    rig.hangup.send_replace(());
    rig.until("rep1").await;
    rig.end().await;
}

/// As is a file that somebody is about to write: all ports would lose their netdevs.
#[tokio::test]
async fn a_file_that_has_become_empty_is_no_map() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ports.toml");
    let mut config = config(&file);
    // Beside those of the configuration itself, which stay in any case.
    config.map = [("port-9".to_owned(), "rep9".parse().unwrap())].into();
    // From the start it may be.
    fs::write(&file, "").unwrap();
    let (ports, _) = watch::channel(config.read().unwrap());
    take_over(&config, &ports).await.unwrap();
    fs::write(&file, "\"02:00:00:00:00:01\" = \"rep0\"\n").unwrap();
    take_over(&config, &ports).await.unwrap();
    fs::write(&file, "").unwrap();
    let error = take_over(&config, &ports).await.unwrap_err().to_string();
    assert!(error.contains("restart the agent"), "{error}");
    assert_eq!(netdev(&ports.borrow()).as_deref(), Some("rep0"));
}
