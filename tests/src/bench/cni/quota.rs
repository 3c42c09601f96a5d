//! Little processor time: a cgroup with a quota, as a DaemonSet with `limits: cpu: 100m` has it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::unistd::gettid;

/// The period that a quota is a share of, in µs; the kernel's default, and Kubernetes'.
const PERIOD: u32 = 100_000;

/// A cgroup that threads of this process, and what they start, can be put into. Dropping it
/// removes it; its threads must have ended by then.
#[derive(Debug)]
pub struct Quota {
    folder: PathBuf,
    /// The file that takes a thread's id.
    threads: &'static str,
}

impl Quota {
    /// A cgroup that gets `millicores` thousandths of a processor. `None`: this machine's cgroups
    /// have no processor controller that this process may use.
    ///
    /// # Errors
    /// Where the cgroup can't be set up although there is a controller.
    pub fn new(millicores: u32) -> Result<Option<Self>> {
        let quota = PERIOD / 1000 * millicores;
        let name = format!("xpu-bench-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let v2 = Path::new("/sys/fs/cgroup");
        if v1.join("cpu.cfs_quota_us").exists() {
            let folder = v1.join(name);
            make(&folder)?;
            let made = Self {
                folder,
                threads: "tasks",
            };
            made.set("cpu.cfs_period_us", &PERIOD.to_string())?;
            made.set("cpu.cfs_quota_us", &quota.to_string())?;
            return Ok(Some(made));
        }
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|word| word == "cpu")
            || fs::write(v2.join("cgroup.subtree_control"), "+cpu").is_err()
        {
            return Ok(None);
        }
        let folder = v2.join(name);
        make(&folder)?;
        let made = Self {
            folder,
            threads: "cgroup.threads",
        };
        // Single threads can only be in a cgroup of this kind.
        made.set("cgroup.type", "threaded")?;
        made.set("cpu.max", &format!("{quota} {PERIOD}"))?;
        Ok(Some(made))
    }

    /// Does something under the quota, on a thread of its own.
    ///
    /// # Errors
    /// Where the thread can't enter; the work's own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.set(self.threads, &gettid().to_string())?;
                work()
            });
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))
}

impl Drop for Quota {
    fn drop(&mut self) {
        // An empty cgroup that stays is in nobody's way.
        let _left = fs::remove_dir(&self.folder);
    }
}
