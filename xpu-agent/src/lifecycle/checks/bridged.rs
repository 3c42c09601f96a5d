//! Whether tenants' frames go through the node's filters for routed packets, and what that can do.

use super::{Check, Facts, good, version, warning};

/// The first kernel whose `br_netfilter` takes no VXLAN device's metadata for a route
/// (CVE-2024-50045). Which releases of older kernels do so, their numbers don't tell.
const BRIDGED_SAFELY: (u32, u32) = (6, 12);

pub(super) fn judge(facts: &Facts) -> Check {
    const NAME: &str = "br_netfilter";
    let settings = match &facts.bridged {
        Ok(on) if on.is_empty() => return good(NAME, "tenants' frames pass no iptables"),
        Ok(on) => on,
        Err(reason) => {
            let found =
                format!("unclear whether tenants' frames pass the node's iptables: {reason}");
            return warning(NAME, found, "see `sysctl net.bridge`");
        }
    };
    let list = |value: u32| {
        let each = settings.iter().map(|it| format!("net.bridge.{it}={value}"));
        each.collect::<Vec<_>>().join(" ")
    };
    let mut found = format!("tenants' frames pass the node's iptables: {}", list(1));
    let mut mend = format!(
        "sysctl {}; where others on the node need it (kube-proxy and network plugins with bridges \
         do), run the agent in a network namespace of its own and switch it off there",
        list(0)
    );
    if version(&facts.kernel).is_none_or(|version| version < BRIDGED_SAFELY) {
        found.push_str(
            "; without the fix of CVE-2024-50045 a frame above the MTU of a VXLAN device can panic \
             the kernel",
        );
        mend.push_str(
            "; or boot a kernel with the fix (6.12, or a stable release since October 2024 such as \
             6.1.113), which leaves the filtering",
        );
    }
    warning(NAME, found, mend)
}
