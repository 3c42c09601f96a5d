//! Looks at the machine. Nothing is changed, except that the kernel may load modules that the
//! agent would make it load a moment later.

use std::{num::NonZeroU16, path::Path, time::Duration};

use nix::{sys::utsname::uname, unistd::AccessFlags};
use tokio::time::timeout;
use xpu_backends::frr::Frr;
use xpu_linux::{
    kernel::{Answer, Feature, bridge_filters, links, routes_at_stake, settings_writable},
    sync::{Rtnl, RtnlError},
};
use xpu_plan::{linux::vxlan_port, ownership};

use super::{Facts, FrrFound, networkd};
use crate::config::Config;

/// How long FRR may take to tell its version; readiness has more time for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at what `config` needs.
pub async fn observe(config: &Config) -> Facts {
    let kernel = uname().map_or_else(
        |error| error.to_string(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    let frr = if config.frr.enabled {
        Some(frr(&config.frr.socket_directory).await)
    } else {
        None
    };
    let directory = &config.store.directory;
    Facts {
        kernel,
        features: features(),
        settings: settings_writable().map_err(|error| error.to_string()),
        frr,
        store: writable(directory),
        store_directory: directory.display().to_string(),
        bridged: bridge_filters().map_err(|error| error.to_string()),
        at_stake: routes_at_stake()
            .map(|devices| devices.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string()),
        vxlan_port: config.underlay.vxlan_port,
        port_holder: port_holder(config.underlay.vxlan_port).map_err(|error| error.to_string()),
        networkd: networkd::observe(),
    }
}

fn features() -> Vec<(Feature, Answer)> {
    let mut rtnl = match Rtnl::open() {
        Ok(rtnl) => rtnl,
        Err(error) => {
            let answer = Answer::Unclear(error.to_string());
            return Feature::ALL.map(|it| (it, answer.clone())).to_vec();
        }
    };
    Feature::ALL.map(|it| (it, it.ask(&mut rtnl))).to_vec()
}

async fn frr(directory: &Path) -> FrrFound {
    let mut frr = Frr::new(directory.to_owned());
    let version = match timeout(PATIENCE, frr.version()).await {
        Ok(Ok(version)) => Ok(version),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "FRR in {} does not answer within {PATIENCE:?}",
            directory.display()
        )),
    };
    FrrFound {
        directory: directory.display().to_string(),
        version,
    }
}

/// Somebody's VXLAN device for which ours would not come up at the port.
fn port_holder(port: NonZeroU16) -> Result<Option<String>, RtnlError> {
    let links = links()?;
    let holder = vxlan_port::holder(&links, &ownership::l2_vxlan(), port);
    Ok(holder.map(ToString::to_string))
}

/// Whether files can be made in `directory`, or it can be made itself.
fn writable(directory: &Path) -> Result<(), String> {
    let existing = directory.ancestors().find(|path| path.exists());
    let Some(existing) = existing else {
        return Err("no part of the path exists".to_owned());
    };
    if !existing.is_dir() {
        return Err(format!("{} is no directory", existing.display()));
    }
    nix::unistd::access(existing, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| format!("{}: {}", existing.display(), error.desc()))
}
