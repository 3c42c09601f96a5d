//! The host's packages and disk space, checked and, as root on Debian, put right.
//!
//! Installs packages only; the one file it writes is the source of backports that a Debian 12
//! needs for a QEMU with working SR-IOV.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::progress::{Progress, silent};

/// The program that is the machine.
pub const QEMU: &str = "qemu-system-x86_64";

/// igb's VFs work from this major version on.
const QEMU_MAJOR: u32 = 10;

/// Tools that building an image takes, and those that tests outside the guest use; and the Debian
/// package of each.
const TOOLS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("strace", "strace"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
];

/// What Debian signs trixie with; older keyrings lack it.
const TRIXIE_KEY: &str = "/usr/share/keyrings/debian-archive-trixie-stable.gpg";

const BACKPORTS_SOURCE: &str = "/etc/apt/sources.list.d/xpu-lab-backports.sources";
const BACKPORTS: &str = "\
# Written by the xPU EVPN Gateway's lab, for QEMU 10.
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// Installs what is missing for the lab.
///
/// # Errors
/// Where something is missing and can't be installed; the message names it.
pub fn ensure_packages(progress: Progress, log: &mut impl Write) -> Result<()> {
    let missing = missing_packages();
    let qemu = qemu_major();
    let old_qemu = qemu.is_none_or(|major| major < QEMU_MAJOR);
    if missing.is_empty() && !old_qemu {
        return Ok(());
    }
    let mut wanted = missing.clone();
    wanted.extend(old_qemu.then_some("qemu-system-x86 (version 10 or newer)"));
    ensure!(
        nix::unistd::geteuid().is_root() && find_tool("apt-get").is_some(),
        "the lab needs {}: install that, or run this as root on Debian 12 or newer",
        wanted.join(", ")
    );
    progress.say(format_args!("installing {}", wanted.join(", ")));
    let backports = old_qemu && release_codename() == "bookworm";
    if backports && !Path::new(BACKPORTS_SOURCE).exists() {
        fs::write(BACKPORTS_SOURCE, BACKPORTS)
            .with_context(|| format!("cannot write {BACKPORTS_SOURCE}"))?;
    }
    progress.run(apt_get(&["update"]), log, silent)?;
    if !missing.is_empty() {
        progress.run(
            apt_get(&[&["install"], missing.as_slice()].concat()),
            log,
            silent,
        )?;
    }
    if old_qemu {
        let from: &[&str] = if backports {
            &["-t", "bookworm-backports"]
        } else {
            &[]
        };
        let install = [&["install"], from, &["qemu-system-x86"]].concat();
        progress.run(apt_get(&install), log, silent)?;
    }
    let still = missing_packages();
    ensure!(
        still.is_empty(),
        "Debian's archive has no recent enough {}: `apt-get update` and install it by hand",
        still.join(", ")
    );
    match qemu_major() {
        Some(major) if major >= QEMU_MAJOR => Ok(()),
        Some(major) => bail!("QEMU {major} is too old: its igb has no VFs; the lab needs 10"),
        None => bail!("{QEMU} is not there after its installation"),
    }
}

fn missing_packages() -> Vec<&'static str> {
    let tools = TOOLS.iter().filter(|(tool, _)| find_tool(tool).is_none());
    let mut packages: Vec<_> = tools.map(|(_, package)| *package).collect();
    if !Path::new(TRIXIE_KEY).exists() {
        packages.push("debian-archive-keyring");
    }
    packages
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "-q",
            "-y",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(arguments);
    command
}

/// Where a tool is; system folders count even where the user's `PATH` leaves them out.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn qemu_major() -> Option<u32> {
    let output = Command::new(QEMU).arg("--version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in `QEMU emulator version 10.0.2 (Debian …)`.
fn major_version(text: &str) -> Option<u32> {
    let version = text
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)?;
    version.split('.').next()?.parse().ok()
}

fn release_codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename.unwrap_or_default().trim_matches('"').to_owned()
}

/// Refuses to start what would fill the disk.
///
/// # Errors
/// Where the folder's file system has less than `bytes` free.
pub fn ensure_space(folder: &Path, bytes: u64, what: &str) -> Result<()> {
    let stats = nix::sys::statvfs::statvfs(folder)
        .with_context(|| format!("cannot look at {}", folder.display()))?;
    let free = stats.blocks_available() * stats.fragment_size();
    ensure!(
        free >= bytes,
        "{what} needs {} MiB in {}, where {} MiB are free: make room, or name another place \
         with XPU_LAB_CACHE",
        bytes >> 20,
        folder.display(),
        free >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_version_is_read() {
        let text = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n";
        assert_eq!(major_version(text), Some(10));
        assert_eq!(major_version("QEMU emulator version 7.2.1"), Some(7));
        assert_eq!(major_version("no such thing"), None);
    }

    #[test]
    fn a_full_disk_is_told_with_the_remedy() {
        let folder = tempfile::tempdir().expect("temporary folder");
        ensure_space(folder.path(), 0, "nothing").expect("always fits");
        let error = ensure_space(folder.path(), u64::MAX, "an image").expect_err("never fits");
        assert!(error.to_string().contains("XPU_LAB_CACHE"), "{error}");
    }
}
