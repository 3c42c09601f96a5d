//! Where the lab keeps its things. Nothing of it is in the tracked work tree.
//!
//! - Images are shared by all work trees of a user: `$XPU_LAB_CACHE`, else
//!   `$XDG_CACHE_HOME/xpu-lab`, else `~/.cache/xpu-lab`.
//! - Each work tree has a VM of its own, and further ones (`XPU_LAB_MACHINE=2` …) for tests that
//!   run side by side. Its sockets and logs are under the temporary directory, since a unix
//!   socket's path has at most 107 bytes; what the guest shares is under `target`.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Which machine of the work tree a `lab` program is about.
pub const MACHINE: &str = "XPU_LAB_MACHINE";
/// The most machines that a work tree can have.
pub const MOST_MACHINES: usize = 4;

/// The places of one machine of a work tree's lab.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The work tree, which the guest sees read-only under the same path.
    pub tree: PathBuf,
    /// Sockets, locks, logs of the VM.
    pub run: PathBuf,
    /// What the guest sees as `/share`.
    pub share: PathBuf,
    /// Images by recipe.
    pub cache: PathBuf,
}

impl Paths {
    /// The places of the machine that the environment names, the first if none, in the work tree
    /// that this program was built from; made where missing.
    ///
    /// # Errors
    /// Where there can be no such machine, there is no home directory, or a folder can't be made.
    pub fn of_this_tree() -> Result<Self> {
        let machine = match env::var(MACHINE) {
            Ok(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=MOST_MACHINES).contains(number))
                .with_context(|| format!("{MACHINE} is {text:?}: it takes 1 to {MOST_MACHINES}"))?,
            Err(_) => 1,
        };
        Self::of_machine(machine)
    }

    /// The places of a machine, counted from 1.
    ///
    /// # Errors
    /// Where there is no home directory or a folder can't be made.
    pub fn of_machine(machine: usize) -> Result<Self> {
        let paths = Self::places(machine)?;
        paths.create()?;
        Ok(paths)
    }

    /// The places of all machines that this work tree ever had.
    ///
    /// # Errors
    /// Where there is no home directory.
    pub fn of_all_machines() -> Result<Vec<Self>> {
        let all = (1..=MOST_MACHINES).map(Self::places);
        all.filter(|paths| paths.as_ref().map_or(true, |it| it.run.exists()))
            .collect()
    }

    fn places(machine: usize) -> Result<Self> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("no work tree")?;
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), Into::into);
        Ok(Self {
            tree: tree.to_owned(),
            run: run_dir(tree, machine),
            share: tree
                .join(target)
                .join("vm")
                .join(numbered("share", machine)),
            cache: cache_dir()?,
        })
    }

    fn create(&self) -> Result<()> {
        for folder in [
            &self.cache,
            &self.share,
            &self.share.join("bin"),
            &self.share.join("sys"),
        ] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.run)
            .with_context(|| format!("cannot make {}", self.run.display()))
    }

    /// The host's end of a job port.
    pub fn job_socket(&self, index: usize) -> PathBuf {
        self.run.join(format!("job{index}.sock"))
    }

    /// What the user of a job port holds a lock on.
    pub fn job_lock(&self, index: usize) -> PathBuf {
        self.run.join(format!("job{index}.lock"))
    }

    /// The guest's console.
    pub fn serial_log(&self) -> PathBuf {
        self.run.join("serial.log")
    }

    /// QEMU's process id, written by QEMU.
    pub fn pid_file(&self) -> PathBuf {
        self.run.join("qemu.pid")
    }
}

fn cache_dir() -> Result<PathBuf> {
    let given = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    given("XPU_LAB_CACHE")
        .or_else(|| given("XDG_CACHE_HOME").map(|cache| cache.join("xpu-lab")))
        .or_else(|| given("HOME").map(|home| home.join(".cache/xpu-lab")))
        .context("no place for images: set XPU_LAB_CACHE or HOME")
}

fn run_dir(tree: &Path, machine: usize) -> PathBuf {
    let digest = Sha256::digest(tree.as_os_str().as_encoded_bytes());
    let user = nix::unistd::getuid();
    let name = format!("xpu-lab-{user}-{}", short_hex(&digest));
    env::temp_dir().join(numbered(&name, machine))
}

/// The first machine has plain names.
fn numbered(name: &str, machine: usize) -> String {
    match machine {
        1 => name.to_owned(),
        _ => format!("{name}-{machine}"),
    }
}

/// The first six bytes in hexadecimal: enough to tell a user's trees and recipes apart.
pub fn short_hex(digest: &[u8]) -> String {
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_do_not_share_a_run_directory() {
        assert_eq!(run_dir(Path::new("/a"), 1), run_dir(Path::new("/a"), 1));
        assert_ne!(run_dir(Path::new("/a"), 1), run_dir(Path::new("/b"), 1));
        assert_ne!(run_dir(Path::new("/a"), 1), run_dir(Path::new("/a"), 2));
    }

    #[test]
    fn socket_paths_fit_the_kernels_limit() {
        let deep = Path::new("/a/very/long/path").join("x".repeat(200));
        let socket = run_dir(&deep, MOST_MACHINES).join("job0.sock");
        assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
    }
}
