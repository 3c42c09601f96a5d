//! What can be done to the kernel, as data. Each action is one thing an operator would
//! recognise; who applies it only translates.

use std::{collections::BTreeSet, fmt};

use xpu_model::{IfAddr, IfName, Kind, Mac, Mtu};

use super::{
    link::{BridgeParams, Family, LinkKind, PortFlags, Setting},
    observed::{FdbEntry, UnreachableDefault},
    range::{VlanRange, VniRange},
};
use crate::ownership::Mark;

/// A device to make. It is made down, with our mark and without an IPv6 link-local address of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Its name.
    pub name: IfName,
    /// Whose it is.
    pub mark: Mark,
    /// What it is; never [`LinkKind::Other`].
    pub kind: LinkKind,
    /// Its MTU; none: the kernel's choice.
    pub mtu: Option<Mtu>,
    /// Its address; none: the kernel's choice.
    pub mac: Option<Mac>,
    /// The bridge or VRF it belongs to.
    pub master: Option<IfName>,
}

/// One change of the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Takes a static entry from the tenant bridge.
    RemoveFdb(FdbEntry),
    /// Takes a route of ours.
    RemoveRoute(UnreachableDefault),
    /// Takes an address from a device of ours.
    RemoveAddress {
        /// The device.
        device: IfName,
        /// The address.
        addr: IfAddr,
    },
    /// Takes the mapping of VLANs to VNIs; the VLANs stay.
    RemoveTunnels {
        /// The VXLAN device.
        device: IfName,
        /// The VLANs.
        vlans: VlanRange,
    },
    /// Takes VLANs, with their mapping to VNIs if they have one.
    RemoveVlans {
        /// The bridge or port.
        device: IfName,
        /// The VLANs.
        vlans: VlanRange,
    },
    /// Stops admitting VNIs.
    RemoveVnis {
        /// The VXLAN device.
        device: IfName,
        /// The VNIs.
        vnis: VniRange,
    },
    /// Sets a port's netdev down and out of the tenant bridge, which drops its VLANs.
    ReleasePort {
        /// The netdev.
        device: IfName,
    },
    /// Deletes a device of ours.
    RemoveLink {
        /// The device.
        device: IfName,
    },
    /// Switches forwarding on for the node.
    Forward(Family),
    /// Orders the node's routing rules: a VRF's table before the node's own addresses.
    PutVrfFirst(Family),
    /// Undoes [`Self::PutVrfFirst`]: the kernel's own order again.
    PutLocalFirst(Family),
    /// Makes a device.
    CreateLink(NewLink),
    /// Changes a bridge's parameters in place.
    SetBridge {
        /// The bridge.
        device: IfName,
        /// What they should be.
        params: BridgeParams,
    },
    /// Changes a device's address.
    SetMac {
        /// The device.
        device: IfName,
        /// The address.
        mac: Mac,
    },
    /// Changes a device's MTU.
    SetMtu {
        /// The device.
        device: IfName,
        /// In bytes.
        mtu: Mtu,
    },
    /// Enslaves a device of ours to a bridge or VRF of ours. The kernel drops its IPv6
    /// addresses when the VRF changes.
    SetMaster {
        /// The device.
        device: IfName,
        /// The bridge or VRF.
        master: IfName,
    },
    /// Takes a device of ours out of the bridge, bond or VRF that somebody put it into.
    LeaveMaster {
        /// The device.
        device: IfName,
    },
    /// Changes how a bridge treats a port.
    SetPort {
        /// The port.
        device: IfName,
        /// What the flags should be.
        flags: PortFlags,
    },
    /// No IPv6 link-local address by itself.
    SetAddrGenNone {
        /// The device.
        device: IfName,
    },
    /// Writes a setting of a device.
    Tune {
        /// The device.
        device: IfName,
        /// Which setting.
        setting: Setting,
        /// Its value.
        value: i32,
    },
    /// Makes a netdev a port of the tenant bridge.
    EnslavePort {
        /// The netdev.
        device: IfName,
    },
    /// Adds VLANs, or changes the flags of VLANs that are there.
    AddVlans {
        /// The bridge or port.
        device: IfName,
        /// The VLANs; one only if `pvid`.
        vlans: VlanRange,
        /// Untagged frames belong to it, and its frames leave untagged.
        pvid: bool,
    },
    /// Admits VNIs.
    AddVnis {
        /// The VXLAN device.
        device: IfName,
        /// The VNIs.
        vnis: VniRange,
    },
    /// Maps VLANs to as many VNIs, in order.
    AddTunnels {
        /// The VXLAN device.
        device: IfName,
        /// The VLANs.
        vlans: VlanRange,
        /// The VNIs.
        vnis: VniRange,
    },
    /// Sets a device up.
    SetUp {
        /// The device.
        device: IfName,
    },
    /// Adds an address to a device of ours, an IPv6 one without duplicate address detection.
    AddAddress {
        /// The device.
        device: IfName,
        /// The address.
        addr: IfAddr,
    },
    /// Adds a static entry to the tenant bridge.
    AddFdb(FdbEntry),
    /// Adds an unreachable default route.
    AddRoute(UnreachableDefault),
}

/// An action and on whose account it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// For whom; a range may serve several.
    pub owners: BTreeSet<Mark>,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// Why it failed, in words for an operator.
    pub result: Result<(), String>,
}

impl Step {
    /// A step on one account.
    #[must_use]
    pub fn new(action: Action, owner: Mark) -> Self {
        Self {
            action,
            owners: BTreeSet::from([owner]),
        }
    }

    /// Whether it is done for BridgePorts alone.
    #[must_use]
    pub fn is_only_for_bridge_ports(&self) -> bool {
        let of_port =
            |owner: &Mark| matches!(owner, Mark::Object(key) if key.kind == Kind::BridgePort);
        self.owners.iter().all(of_port)
    }

    /// A step over a range as one step per number, so that one that the kernel refuses does not
    /// hold up its neighbours. None if there is nothing to split.
    #[must_use]
    pub fn split(&self) -> Option<Vec<Self>> {
        let actions = self.action.split()?;
        let step = |action| Self {
            action,
            owners: self.owners.clone(),
        };
        Some(actions.into_iter().map(step).collect())
    }
}

impl Action {
    /// The device that it makes, changes or takes away; none where it is about the node, its
    /// routes, or an entry of the tenant bridge.
    #[must_use]
    pub const fn device(&self) -> Option<&IfName> {
        match self {
            Self::RemoveAddress { device, .. }
            | Self::RemoveTunnels { device, .. }
            | Self::RemoveVlans { device, .. }
            | Self::RemoveVnis { device, .. }
            | Self::ReleasePort { device }
            | Self::RemoveLink { device }
            | Self::CreateLink(NewLink { name: device, .. })
            | Self::SetBridge { device, .. }
            | Self::SetMac { device, .. }
            | Self::SetMtu { device, .. }
            | Self::SetMaster { device, .. }
            | Self::LeaveMaster { device }
            | Self::SetPort { device, .. }
            | Self::SetAddrGenNone { device }
            | Self::Tune { device, .. }
            | Self::EnslavePort { device }
            | Self::AddVlans { device, .. }
            | Self::AddVnis { device, .. }
            | Self::AddTunnels { device, .. }
            | Self::SetUp { device }
            | Self::AddAddress { device, .. } => Some(device),
            Self::Forward(_)
            | Self::PutVrfFirst(_)
            | Self::PutLocalFirst(_)
            | Self::AddFdb(_)
            | Self::RemoveFdb(_)
            | Self::AddRoute(_)
            | Self::RemoveRoute(_) => None,
        }
    }

    fn split(&self) -> Option<Vec<Self>> {
        let actions: Vec<Self> = match self {
            Self::RemoveTunnels { device, vlans } => vlans
                .singles()
                .map(|vlans| Self::RemoveTunnels {
                    device: device.clone(),
                    vlans,
                })
                .collect(),
            Self::RemoveVlans { device, vlans } => vlans
                .singles()
                .map(|vlans| Self::RemoveVlans {
                    device: device.clone(),
                    vlans,
                })
                .collect(),
            Self::RemoveVnis { device, vnis } => vnis
                .singles()
                .map(|vnis| Self::RemoveVnis {
                    device: device.clone(),
                    vnis,
                })
                .collect(),
            Self::AddVlans {
                device,
                vlans,
                pvid,
            } => vlans
                .singles()
                .map(|vlans| Self::AddVlans {
                    device: device.clone(),
                    vlans,
                    pvid: *pvid,
                })
                .collect(),
            Self::AddVnis { device, vnis } => vnis
                .singles()
                .map(|vnis| Self::AddVnis {
                    device: device.clone(),
                    vnis,
                })
                .collect(),
            Self::AddTunnels {
                device,
                vlans,
                vnis,
            } => vlans
                .singles()
                .zip(vnis.singles())
                .map(|(vlans, vnis)| Self::AddTunnels {
                    device: device.clone(),
                    vlans,
                    vnis,
                })
                .collect(),
            _ => return None,
        };
        (actions.len() > 1).then_some(actions)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveFdb(FdbEntry { vlan, mac }) => {
                write!(f, "remove the gateway's entry {mac} in VLAN {vlan}")
            }
            Self::RemoveRoute(UnreachableDefault { table, family }) => {
                write!(
                    f,
                    "remove the unreachable {family} default route from table {table}"
                )
            }
            Self::RemoveAddress { device, addr } => write!(f, "remove {addr} from {device}"),
            Self::RemoveTunnels { device, vlans } => write!(f, "unmap {vlans} on {device}"),
            Self::RemoveVlans { device, vlans } => write!(f, "remove {vlans} from {device}"),
            Self::RemoveVnis { device, vnis } => write!(f, "remove {vnis} from {device}"),
            Self::ReleasePort { device } => write!(f, "take {device} out of its bridge"),
            Self::RemoveLink { device } => write!(f, "delete {device}"),
            Self::Forward(family) => write!(f, "switch {family} forwarding on"),
            Self::PutVrfFirst(family) => {
                write!(
                    f,
                    "look {family} destinations up in VRFs before the node's own"
                )
            }
            Self::PutLocalFirst(family) => {
                write!(
                    f,
                    "look {family} destinations up among the node's own first again"
                )
            }
            Self::CreateLink(link) => write!(f, "make {}", link.name),
            Self::SetBridge { device, .. } => write!(f, "set the parameters of {device}"),
            Self::SetMac { device, mac } => write!(f, "give {device} the address {mac}"),
            Self::SetMtu { device, mtu } => write!(f, "give {device} the MTU {mtu}"),
            Self::SetMaster { device, master } => write!(f, "put {device} into {master}"),
            Self::LeaveMaster { device } => write!(f, "take {device} out of its master"),
            Self::SetPort { device, .. } => write!(f, "set the port flags of {device}"),
            Self::SetAddrGenNone { device } => {
                write!(f, "keep {device} from making a link-local address")
            }
            Self::Tune {
                device,
                setting,
                value,
            } => {
                let (directory, file) = setting.path();
                write!(f, "set net.{directory}.conf.{device}.{file} to {value}")
            }
            Self::EnslavePort { device } => write!(f, "put {device} into the tenant bridge"),
            Self::AddVlans { device, vlans, .. } => write!(f, "add {vlans} to {device}"),
            Self::AddVnis { device, vnis } => write!(f, "add {vnis} to {device}"),
            Self::AddTunnels {
                device,
                vlans,
                vnis,
            } => {
                write!(f, "map {vlans} to {vnis} on {device}")
            }
            Self::SetUp { device } => write!(f, "set {device} up"),
            Self::AddAddress { device, addr } => write!(f, "add {addr} to {device}"),
            Self::AddFdb(FdbEntry { vlan, mac }) => {
                write!(f, "add the gateway's entry {mac} in VLAN {vlan}")
            }
            Self::AddRoute(UnreachableDefault { table, family }) => {
                write!(
                    f,
                    "add the unreachable {family} default route to table {table}"
                )
            }
        }
    }
}
