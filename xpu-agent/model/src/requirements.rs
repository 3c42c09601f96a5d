//! What the agent needs of the node's kernel and of FRR. In one place, since both the agent and
//! `xpuctl doctor` judge a node by it. Versions are `(major, minor)`.

/// The first kernel with VNI filters (`vnifilter`), by which one VXLAN device serves many VNIs.
pub const LEAST_KERNEL: (u32, u32) = (5, 18);

/// The first FRR whose zebra knows such devices (FRR release notes, 9.0).
pub const LEAST_FRR: (u32, u32) = (9, 0);

/// The first major version of FRR in which `mgmtd` takes zebra's configuration. Zebra's own vty
/// does not know those commands any more; what it has to show, it still shows.
pub const ZEBRA_BY_MGMTD: u32 = 10;
