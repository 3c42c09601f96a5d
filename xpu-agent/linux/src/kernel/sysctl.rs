//! Settings under `/proc/sys/net` of the agent's network namespace.

use std::{fs, io, path::PathBuf};

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

/// Whether a family is forwarded; a kernel without IPv6 does not forward it.
pub(super) fn is_forwarded(family: Family) -> io::Result<bool> {
    match fs::read_to_string(forwarding(family)) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
