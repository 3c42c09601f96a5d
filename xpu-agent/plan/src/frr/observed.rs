//! What FRR was found to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use xpu_model::{Asn, IfName, Vni};

use super::{
    config::Config,
    line::{Daemon, EVPN, Instance},
};

/// What an observation of FRR found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// FRR's version.
    pub version: Version,
    /// The running configuration of the daemons.
    pub config: Config,
    /// VRFs that zebra has with their device.
    pub active_vrfs: BTreeSet<IfName>,
    /// VRFs that zebra knows by configuration alone: they have no device in the kernel.
    pub inactive_vrfs: BTreeSet<IfName>,
    /// What zebra says of each VRF's L3VNI, by the VRF's device.
    pub l3vnis: BTreeMap<IfName, L3Vni>,
    /// The L2VNIs that zebra found in the kernel.
    pub l2vnis: BTreeMap<Vni, L2Vni>,
    /// What zebra's answers about VNIs name at all; none where one of them could not be read.
    pub named: Option<Named>,
    /// What bgpd exports and imports, by VNI.
    pub bgp_vnis: BTreeMap<Vni, BgpVni>,
}

/// What zebra names in its answers about VNIs, whether or not the rest of them could be read. What
/// is in none of them zebra does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The VRFs that have an L3VNI.
    pub vrfs: BTreeSet<String>,
    /// The VNIs that zebra found in the kernel, L2 and L3.
    pub vnis: BTreeSet<Vni>,
}

/// FRR's version, as far as decisions need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An L2VNI in zebra (`show evpn vni detail json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L2Vni {
    /// The VXLAN device that zebra found it on.
    pub vxlan: Option<String>,
    /// The VRF of its routing device, the default one without such a device.
    pub vrf: Option<String>,
    /// The local VTEP that it is announced with.
    pub vtep: Option<IpAddr>,
    /// The VTEPs that announced the VNI by type-3 routes: BUM frames are flooded to these.
    pub remote_vteps: BTreeSet<IpAddr>,
}

/// An L3VNI in zebra (`show vrf vni json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L3Vni {
    /// Its number.
    pub vni: Vni,
    /// Zebra says `Up`: packets can flow.
    pub up: bool,
    /// The VXLAN device zebra found for it.
    pub vxlan: Option<String>,
    /// The routing device zebra found for it.
    pub svi: Option<String>,
    /// The router MAC it announces.
    pub router_mac: Option<String>,
}

/// A VNI in bgpd (`show bgp l2vpn evpn vni json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpVni {
    /// It is a VRF's.
    pub is_l3: bool,
    /// Its route distinguisher.
    pub rd: Option<String>,
    /// What is imported.
    pub import: Vec<String>,
    /// What is exported.
    pub export: Vec<String>,
}

impl Observed {
    /// The AS of the base BGP instance, if there is one.
    #[must_use]
    pub fn base_asn(&self) -> Option<Asn> {
        self.config.base_asn()
    }

    /// The router id that the base instance was given, if it was.
    #[must_use]
    pub fn base_router_id(&self) -> Option<Ipv4Addr> {
        let context = Instance::base(self.base_asn()?).to_string();
        self.config
            .in_context(Daemon::Bgpd, &[&context])
            .find_map(|line| line.strip_prefix("bgp router-id ")?.parse().ok())
    }

    /// FRR's profile: with `datacenter`, some settings are defaults, and not shown.
    #[must_use]
    pub fn is_datacenter(&self) -> bool {
        self.config
            .has_context(Daemon::Bgpd, "frr defaults datacenter")
    }

    /// The profile's keepalive and hold time in seconds (FRR documentation, "BGP timers").
    pub(super) fn default_timers(&self) -> (u16, u16) {
        if self.is_datacenter() {
            (3, 9)
        } else {
            (60, 180)
        }
    }

    /// Whether an instance has timers other than the profile's.
    pub(super) fn has_timers(&self, instance: &str) -> bool {
        self.config
            .in_context(Daemon::Bgpd, &[instance])
            .any(|line| line.starts_with("timers bgp "))
    }

    /// The L3VNI that zebra was told for a VRF.
    #[must_use]
    pub fn configured_vni(&self, device: &IfName) -> Option<Vni> {
        let context = format!("vrf {device}");
        let vni = self
            .config
            .in_context(Daemon::Zebra, &[&context])
            .find_map(|line| {
                line.strip_prefix("vni ")?
                    .split(' ')
                    .next()?
                    .parse::<u32>()
                    .ok()
            });
        vni.and_then(|vni| Vni::try_from(vni).ok())
    }

    /// The L3VNI that the configuration has for a VRF and that zebra does not work with, although
    /// it has the VRF: mgmtd, which keeps zebra's configuration from FRR 10 on, can lose a line on
    /// its way there. It may also be on its way still.
    #[must_use]
    pub fn lost_vni(&self, device: &IfName) -> Option<Vni> {
        let configured = self.configured_vni(device)?;
        let in_zebra = self.l3vnis.get(device).map(|l3| l3.vni);
        let is_lost = self.active_vrfs.contains(device) && in_zebra != Some(configured);
        is_lost.then_some(configured)
    }

    /// Whether zebra tells of every VNI that it finds in the kernel: it does with EVPN on.
    pub(super) fn is_evpn_on(&self) -> bool {
        let Some(asn) = self.base_asn() else {
            return false;
        };
        let instance = Instance::base(asn).to_string();
        self.config
            .in_context(Daemon::Bgpd, &[&instance, EVPN])
            .any(|line| line == "advertise-all-vni")
    }

    /// The BGP instance of a VRF, as its context's line.
    #[must_use]
    pub fn bgp_instance(&self, device: &IfName) -> Option<&str> {
        let suffix = format!(" vrf {device}");
        self.config
            .outermost(Daemon::Bgpd)
            .find(|line| line.starts_with("router bgp ") && line.ends_with(&suffix))
    }
}
