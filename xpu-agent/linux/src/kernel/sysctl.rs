//! Settings under `/proc/sys/net` of the agent's network namespace.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use xpu_model::IfName;
use xpu_plan::linux::{Family, Setting};

/// The file of a device's setting. An [`IfName`] has no `/` and is not `..`, so the path stays
/// below the directory.
fn of_device(device: &IfName, setting: Setting) -> PathBuf {
    let (family, file) = setting.path();
    PathBuf::from("/proc/sys/net")
        .join(family)
        .join("conf")
        .join(device.as_str())
        .join(file)
}

const fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

/// Writes a device's setting.
pub(super) fn tune(device: &IfName, setting: Setting, value: i32) -> io::Result<()> {
    fs::write(of_device(device, setting), value.to_string())
}

/// Switches forwarding of a family on.
pub(super) fn forward(family: Family) -> io::Result<()> {
    fs::write(forwarding(family), "1")
}

/// Whether settings can be changed: a container that is not privileged has `/proc/sys` read-only.
/// The setting that is looked at is opened for writing, and nothing is written.
///
/// # Errors
/// Why not, with the file's name.
pub fn settings_writable() -> io::Result<()> {
    writable(Path::new(forwarding(Family::V4)))
}

fn writable(setting: &Path) -> io::Result<()> {
    match File::options().write(true).open(setting) {
        Ok(_) => Ok(()),
        Err(error) => {
            let words = format!("{}: {error}", setting.display());
            Err(io::Error::new(error.kind(), words))
        }
    }
}

/// Through which of a node's filters for routed packets the frames of every bridge go, too, by their
/// settings below `net.bridge`: `bridge-nf-call-iptables` and the like. None where `br_netfilter` is
/// not loaded, which has them. A bridge can ask for it by itself (`IFLA_BR_NF_CALL_IPTABLES`), but
/// not set aside what these say.
///
/// # Errors
/// A setting is there and can't be read.
pub fn bridge_filters() -> io::Result<Vec<&'static str>> {
    bridge_filters_below(Path::new("/proc/sys/net/bridge"))
}

fn bridge_filters_below(directory: &Path) -> io::Result<Vec<&'static str>> {
    let mut on = Vec::new();
    for setting in [
        "bridge-nf-call-iptables",
        "bridge-nf-call-ip6tables",
        "bridge-nf-call-arptables",
    ] {
        match fs::read_to_string(directory.join(setting)) {
            Ok(text) if text.trim() == "0" => {}
            Ok(_) => on.push(setting),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(on)
}

/// Whether every device filters by the reverse path, whatever it says itself: the kernel takes
/// the higher of `all` and the device's own, and 1 is the strict filter.
pub(super) fn is_reverse_path_strict() -> io::Result<bool> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter")?;
    Ok(text.trim() == "1")
}

/// Whether the kernel has IPv6: `ipv6.disable=1` leaves its settings out.
pub(super) fn has_ipv6() -> io::Result<bool> {
    fs::exists(forwarding(Family::V6))
}

/// Whether devices have `accept_untracked_na`, which came with kernel 5.19.
pub(super) fn has_untracked_na() -> io::Result<bool> {
    fs::exists("/proc/sys/net/ipv6/conf/all/accept_untracked_na")
}

/// Whether a family is forwarded; a kernel without IPv6 does not forward it.
pub(super) fn is_forwarded(family: Family) -> io::Result<bool> {
    match fs::read_to_string(forwarding(family)) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };

    use super::*;

    /// As a container runtime does it, in a mount namespace of this thread's own.
    fn make_read_only() {
        let none = None::<&str>;
        let sys = "/proc/sys";
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(sys), sys, none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, sys, none, read_only, none).unwrap();
    }

    #[test]
    fn what_bridged_frames_pass_is_told_setting_by_setting() {
        let directory = tempfile::tempdir().unwrap();
        let bridge = directory.path().join("bridge");
        assert_eq!(
            bridge_filters_below(&bridge).unwrap(),
            [""; 0],
            "not loaded"
        );
        fs::create_dir(&bridge).unwrap();
        let all = ["iptables", "ip6tables", "arptables"].map(|it| format!("bridge-nf-call-{it}"));
        let set = |setting: &str, value| fs::write(bridge.join(setting), value).unwrap();
        all.iter().for_each(|setting| set(setting, "0\n"));
        assert_eq!(bridge_filters_below(&bridge).unwrap(), [""; 0]);
        for setting in &all {
            set(setting, "1\n");
            assert_eq!(bridge_filters_below(&bridge).unwrap(), [setting.as_str()]);
            set(setting, "0\n");
        }
        fs::create_dir(directory.path().join("bridge-nf-call-iptables")).unwrap();
        assert!(
            bridge_filters_below(directory.path()).is_err(),
            "no setting"
        );
    }

    #[test]
    fn settings_that_a_container_may_not_change_are_found_out_without_changing_any() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let forwarded = || fs::read_to_string(forwarding(Family::V4)).unwrap();
        let before = forwarded();
        settings_writable().unwrap();
        make_read_only();
        let refused = settings_writable().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(
            refused
                .to_string()
                .starts_with("/proc/sys/net/ipv4/ip_forward: ")
        );
        assert_eq!(forwarded(), before);
    }
}
