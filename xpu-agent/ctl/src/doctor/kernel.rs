//! The kernel of a local agent's machine: its version, and the modules that the agent's devices
//! need. First it is looked at, then judged: the judging is pure.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use xpu_model::requirements::LEAST_KERNEL;

use super::{Finding, numbers};

/// Kernel modules the agent's devices are made of, with what for.
const MODULES: [(&str, &str); 4] = [
    ("bridge", "VLAN-aware bridges"),
    ("vxlan", "VXLAN devices"),
    ("vrf", "VRF devices"),
    ("8021q", "the VLAN devices of Svis"),
];

const WHAT: &str = "kernel";

/// What was seen.
#[derive(Debug, Default)]
pub struct Kernel {
    /// `uname -r`.
    release: String,
    /// Those of [`MODULES`] that are loaded, built in, or can be loaded.
    modules: BTreeSet<&'static str>,
    /// Whether the lists of modules are there, without which a module may be built in or loadable
    /// and not be seen: a container has none.
    is_listed: bool,
}

impl Kernel {
    /// Looks, below `root`; what can't be seen is left out.
    pub fn look(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let release = read("proc/sys/kernel/osrelease").trim().to_owned();
        let listed = ["modules.builtin", "modules.dep"].map(|list| {
            let list = read(&format!("lib/modules/{release}/{list}"));
            list.lines().filter_map(module_of).collect::<BTreeSet<_>>()
        });
        let has = |name: &str| {
            root.join("sys/module").join(name).exists() || listed.iter().any(|it| it.contains(name))
        };
        let modules = MODULES.iter().map(|(name, _)| *name);
        Self {
            modules: modules.filter(|name| has(name)).collect(),
            is_listed: listed.iter().any(|list| !list.is_empty()),
            release,
        }
    }

    /// Judges the version and the modules; `answers` is whether the agent on this machine does.
    pub fn findings(&self, answers: bool) -> Vec<Finding> {
        let mut findings = vec![version(&self.release, answers)];
        let missing = MODULES
            .iter()
            .filter(|(name, _)| !self.modules.contains(name));
        findings.extend(missing.map(|(name, what)| match self.is_listed {
            true => Finding::wrong(
                WHAT,
                format!("this kernel has no module {name}: {what} can't be made"),
                format!(
                    "modprobe {name}\n\
                     (Debian's cloud kernels leave some out: apt install linux-image-amd64)"
                ),
            ),
            false => Finding::notice(
                WHAT,
                format!(
                    "module {name}, for {what}, is not loaded, and /lib/modules/{} does not say \
                     whether it could be",
                    self.release
                ),
                "run doctor on the node itself, or let the container see /lib/modules\n\
                 xpu-agent check asks the kernel",
            ),
        }));
        findings
    }
}

/// The module of a line of `modules.dep` or `modules.builtin`:
/// `kernel/net/bridge/bridge.ko.xz: kernel/…`.
fn module_of(line: &str) -> Option<String> {
    let file = line.split(':').next()?.rsplit('/').next()?;
    Some(file.split(".ko").next()?.to_owned())
}

/// An agent that answers has asked the kernel for what it needs: a vendor's may have an old number
/// and VNI filters.
fn version(release: &str, answers: bool) -> Finding {
    let (major, minor) = LEAST_KERNEL;
    match numbers(release) {
        Some(version) if version >= LEAST_KERNEL => {
            Finding::fine(WHAT, format!("{release}, at least {major}.{minor}"))
        }
        Some(_) if answers => Finding::notice(
            WHAT,
            format!(
                "{release:?} is older than {major}.{minor}, and the agent runs on it: it has what \
                 the agent asked for"
            ),
            "xpu-agent check says what that is",
        ),
        _ => Finding::wrong(
            WHAT,
            format!("{release:?} is older than {major}.{minor}, which VXLAN's VNI filters need"),
            "apt install -t bookworm-backports linux-image-amd64, then reboot",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::tests::{FakeRoot, Fault, each_is_found};

    fn healthy() -> Kernel {
        Kernel {
            release: "6.12.48+deb13-amd64".into(),
            modules: MODULES.map(|(name, _)| name).into(),
            is_listed: true,
        }
    }

    #[test]
    fn each_fault_is_found_with_what_mends_it() {
        let faults: [Fault<Kernel>; 4] = [
            (
                |it| it.release = "5.17.9".into(),
                &["5.17.9", "apt install"],
            ),
            (|it| it.release = String::new(), &["5.18", "apt install"]),
            (
                |it| {
                    it.modules.remove("vrf");
                },
                &["no module vrf", "modprobe vrf"],
            ),
            (
                |it| {
                    it.modules.remove("vrf");
                    it.is_listed = false;
                },
                &[
                    "vrf, for VRF devices, is not loaded",
                    "/lib/modules",
                    "xpu-agent check",
                ],
            ),
        ];
        each_is_found(healthy, |it| it.findings(false), &faults);
    }

    #[test]
    fn an_old_number_is_no_fault_where_the_agent_runs() {
        let release = |release: &str, answers| {
            let kernel = Kernel {
                release: release.into(),
                ..healthy()
            };
            kernel.findings(answers).remove(0).level
        };
        let vendors = "5.14.0-570.el9.x86_64";
        assert_eq!(release(vendors, false), Level::Wrong);
        assert_eq!(release(vendors, true), Level::Notice);
        assert_eq!(release("", true), Level::Wrong);
        assert_eq!(release("5.18.0", false), Level::Fine);
    }

    #[test]
    fn modules_are_loaded_built_in_or_there_to_be_loaded() {
        let root = FakeRoot::new();
        root.write("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
        root.write(
            "lib/modules/6.1.0-9-amd64/modules.dep",
            "kernel/drivers/net/vrf.ko.xz:\nkernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\n",
        );
        root.write(
            "lib/modules/6.1.0-9-amd64/modules.builtin",
            "kernel/net/8021q/8021q.ko\n",
        );
        root.write("sys/module/vxlan/initstate", "live\n");
        let kernel = Kernel::look(root.path());
        assert_eq!(kernel.release, "6.1.0-9-amd64");
        assert_eq!(kernel.modules, healthy().modules);
    }
}
