//! The flags of `create`, and the specs they make, which are a manifest's. Each flag is read into
//! the domain's type, so a spec that leaves here breaks no rule of its own; rules between objects
//! are the agent's.

use clap::{ArgGroup, Args, Subcommand};
use xpu_model::{Asn, Id, IfAddr, Mac, ObjectKey, VlanId, Vni};

use crate::args;
use crate::manifest::{
    BridgePortText, LogicalBridgeText, MacText, PortType, Prefix, SviText, VrfText,
};

/// What people also type for `logical-bridge`.
pub const LOGICAL_BRIDGE_WORDS: [&str; 4] =
    ["lbs", "logicalbridge", "logicalbridges", "logical-bridges"];
/// What people also type for `bridge-port`.
pub const BRIDGE_PORT_WORDS: [&str; 5] =
    ["ports", "bps", "bridgeport", "bridgeports", "bridge-ports"];

/// What to create.
#[derive(Debug, Subcommand)]
pub enum Create {
    /// A tenant's routing table; with a VNI, its L3 EVPN
    #[command(
        alias = "vrfs",
        after_help = "\
Example:
  xpuctl create vrf vrf-red --loopback 10.255.1.1/32 --vni 5001"
    )]
    Vrf(VrfFlags),
    /// A tenant network: a VLAN; with a VNI, its L2 EVPN
    #[command(
        visible_alias = "lb",
        aliases = LOGICAL_BRIDGE_WORDS,
        after_help = "\
Example:
  xpuctl create logical-bridge net-blue --vlan 100 --vni 10100"
    )]
    LogicalBridge(LogicalBridgeFlags),
    /// A virtual function's attachment to logical bridges
    #[command(
        visible_aliases = ["port", "bp"],
        aliases = BRIDGE_PORT_WORDS,
        after_help = "\
Examples:
  xpuctl create port port-1 --mac 02:00:00:00:00:01 --access net-blue
  xpuctl create port port-2 --mac 02:00:00:00:00:02 --trunk net-blue,net-green"
    )]
    BridgePort(BridgePortFlags),
    /// A logical bridge's gateway into a VRF
    #[command(
        alias = "svis",
        after_help = "\
Example:
  xpuctl create svi svi-blue --vrf vrf-red --lb net-blue --mac 02:00:5e:00:00:01 --gateway 10.1.0.1/24"
    )]
    Svi(SviFlags),
}

/// The object's id, common to all kinds.
#[derive(Debug, Args)]
pub struct NewId {
    /// Its id: 4 to 63 of a-z, 0-9 and `-`. Without one the agent makes a UUID
    #[arg(value_parser = args::new_id)]
    id: Option<Id>,
}

impl NewId {
    /// As the API wants it: empty asks for a UUID.
    pub fn text(&self) -> String {
        self.id
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    }
}

#[derive(Debug, Args)]
pub struct VrfFlags {
    #[command(flatten)]
    pub id: NewId,
    /// Address and length; an IPv4 one is the router id and the base of the RD
    #[arg(long, value_name = "IP/LEN")]
    loopback: IfAddr,
    /// L3VNI, 1 to 16777215. Without one the VRF routes on this xPU only
    #[arg(long, value_parser = args::number::<Vni>)]
    vni: Option<Vni>,
    /// The local VTEP (tunnel endpoint), instead of the agent's default
    #[arg(long, value_name = "IP/LEN")]
    vtep: Option<IfAddr>,
}

#[derive(Debug, Args)]
pub struct LogicalBridgeFlags {
    #[command(flatten)]
    pub id: NewId,
    /// VLAN at the ports, 1 to 4094
    #[arg(long, value_parser = args::number::<VlanId>)]
    vlan: VlanId,
    /// L2VNI, 1 to 16777215. Without one the network stays on this xPU
    #[arg(long, value_parser = args::number::<Vni>)]
    vni: Option<Vni>,
    /// The local VTEP (tunnel endpoint), instead of the agent's default
    #[arg(long, value_name = "IP/LEN")]
    vtep: Option<IfAddr>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("mode").required(true))]
pub struct BridgePortFlags {
    #[command(flatten)]
    pub id: NewId,
    /// The virtual function's MAC address
    #[arg(long)]
    mac: Mac,
    /// Untagged, in this logical bridge
    #[arg(long, group = "mode", value_name = "BRIDGE", value_parser = args::logical_bridge)]
    access: Option<ObjectKey>,
    /// Tagged, in these logical bridges
    #[arg(
        long,
        group = "mode",
        value_name = "BRIDGE,…",
        value_delimiter = ',',
        value_parser = args::logical_bridge
    )]
    trunk: Vec<ObjectKey>,
    /// Tagged, in every logical bridge there is and will be
    #[arg(long, group = "mode")]
    transparent: bool,
}

#[derive(Debug, Args)]
pub struct SviFlags {
    #[command(flatten)]
    pub id: NewId,
    /// The VRF that routes
    #[arg(long, value_parser = args::vrf)]
    vrf: ObjectKey,
    /// The logical bridge that gets the gateway
    #[arg(long, visible_alias = "lb", value_name = "BRIDGE", value_parser = args::logical_bridge)]
    logical_bridge: ObjectKey,
    /// The gateway's MAC address
    #[arg(long)]
    mac: Mac,
    /// The gateway's address with its subnet's length; may be repeated
    #[arg(long = "gateway", required = true, value_name = "IP/LEN")]
    gateways: Vec<IfAddr>,
    /// Speak BGP with tenants in these subnets
    #[arg(long, requires = "remote_as")]
    enable_bgp: bool,
    /// Those tenants' AS number
    #[arg(long, value_name = "ASN", requires = "enable_bgp", value_parser = args::number::<Asn>)]
    remote_as: Option<Asn>,
}

impl From<VrfFlags> for VrfText {
    fn from(flags: VrfFlags) -> Self {
        Self {
            vni: flags.vni,
            loopback_ip_prefix: Prefix(flags.loopback),
            vtep_ip_prefix: flags.vtep.map(Prefix),
        }
    }
}

impl From<LogicalBridgeFlags> for LogicalBridgeText {
    fn from(flags: LogicalBridgeFlags) -> Self {
        Self {
            vlan_id: flags.vlan,
            vni: flags.vni,
            vtep_ip_prefix: flags.vtep.map(Prefix),
        }
    }
}

impl From<BridgePortFlags> for BridgePortText {
    fn from(flags: BridgePortFlags) -> Self {
        // clap lets exactly one of the three through; a transparent trunk names no bridge.
        let (ptype, bridges) = match flags.access {
            Some(bridge) => (PortType::Access, vec![bridge]),
            None => (PortType::Trunk, flags.trunk),
        };
        Self {
            mac_address: MacText(flags.mac),
            ptype,
            logical_bridges: bridges.into_iter().map(|bridge| bridge.id).collect(),
        }
    }
}

impl From<SviFlags> for SviText {
    fn from(flags: SviFlags) -> Self {
        Self {
            vrf: flags.vrf.id,
            logical_bridge: flags.logical_bridge.id,
            mac_address: MacText(flags.mac),
            gw_ip_prefix: flags.gateways.into_iter().map(Prefix).collect(),
            enable_bgp: flags.enable_bgp,
            remote_as: flags.remote_as,
        }
    }
}
