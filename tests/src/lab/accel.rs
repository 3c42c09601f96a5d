//! Which accelerator runs the guest: KVM where it was seen to work, TCG everywhere else.
//!
//! A `/dev/kvm` proves nothing: nested ones exist that hang a guest for ever. So the guest's own
//! kernel is booted under KVM once per boot of the host, with a limit, and the outcome is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::image::Image;
use super::machine::probe_arguments;
use super::paths::Paths;
use super::progress::Progress;

/// Seconds that a boot to the initramfs may take; with a working KVM it takes 2.
const PROBE_LIMIT: &str = "12";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accel {
    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg]
            .into_iter()
            .find(|accel| accel.name() == text)
    }
}

/// The accelerator to use: `XPU_LAB_ACCEL` (`kvm` or `tcg`), else what is known, else a probe.
///
/// # Errors
/// Where `XPU_LAB_ACCEL` has another value.
pub fn choose(paths: &Paths, image: &Image, progress: Progress) -> Result<Accel> {
    if let Some(given) = std::env::var("XPU_LAB_ACCEL")
        .ok()
        .filter(|value| !value.is_empty())
    {
        let Some(accel) = Accel::parse(&given) else {
            bail!("XPU_LAB_ACCEL is {given:?}: it may be kvm or tcg");
        };
        return Ok(accel);
    }
    if let Some(accel) = remembered(paths) {
        return Ok(accel);
    }
    let accel = if kvm_works(paths, image, progress) {
        Accel::Kvm
    } else {
        Accel::Tcg
    };
    progress.say(format_args!("the guest runs on {}", accel.name()));
    remember(paths, accel)?;
    Ok(accel)
}

/// Keeps the outcome until the host boots again.
///
/// # Errors
/// What the file system said.
pub fn remember(paths: &Paths, accel: Accel) -> Result<()> {
    Ok(fs::write(
        memory(paths),
        format!("{} {}", boot_id(), accel.name()),
    )?)
}

fn remembered(paths: &Paths) -> Option<Accel> {
    recall(&fs::read_to_string(memory(paths)).ok()?, &boot_id())
}

fn recall(memory: &str, boot_id: &str) -> Option<Accel> {
    let (boot, accel) = memory.split_once(' ')?;
    (boot == boot_id).then(|| Accel::parse(accel))?
}

fn memory(paths: &Paths) -> PathBuf {
    paths.cache.join("accel")
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn kvm_works(paths: &Paths, image: &Image, progress: Progress) -> bool {
    if !Path::new("/dev/kvm").exists() {
        return false;
    }
    progress.say(format_args!("trying KVM, for {PROBE_LIMIT} s at most"));
    let log = paths.run.join("probe.log");
    // timeout(1) kills what hangs, also where this program is ended first.
    let ended = Command::new("timeout")
        .args(["--signal=KILL", PROBE_LIMIT])
        .args(probe_arguments(image, &log))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let booted = fs::read_to_string(&log).is_ok_and(|text| text.contains("lab: probe passed"));
    booted && ended.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_holds_for_one_boot() {
        assert_eq!(recall("b1 kvm", "b1"), Some(Accel::Kvm));
        assert_eq!(recall("b1 tcg", "b1"), Some(Accel::Tcg));
        assert_eq!(recall("b1 kvm", "b2"), None);
        assert_eq!(recall("b1 xen", "b1"), None);
        assert_eq!(recall("", "b1"), None);
    }
}
