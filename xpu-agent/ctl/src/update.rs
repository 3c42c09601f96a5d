//! The flags of `update`, and the change they make: new values, and a mask that names them.
//! What no flag names stays as it is.

use clap::{ArgGroup, Args, Subcommand};
use xpu_model::{Asn, IfAddr, Kind, Mac, ObjectKey, VlanId, Vni};
use xpu_proto::evpn_gw::v1alpha1::{
    BridgePort, BridgePortSpec, BridgePortType, LogicalBridge, LogicalBridgeSpec, Svi, SviSpec,
    Vrf, VrfSpec,
};

use crate::create::{BRIDGE_PORT_WORDS, LOGICAL_BRIDGE_WORDS};
use crate::{args, complete, wire};

/// What to change.
#[derive(Debug, Subcommand)]
pub enum Update {
    /// Change a Vrf
    #[command(
        alias = "vrfs",
        after_help = "\
Example:
  xpuctl update vrf vrf-red --vni 5002"
    )]
    Vrf(VrfChange),
    /// Change a tenant network
    #[command(
        visible_alias = "lb",
        aliases = LOGICAL_BRIDGE_WORDS,
        after_help = "\
Example:
  xpuctl update logical-bridge net-blue --no-vni"
    )]
    LogicalBridge(LogicalBridgeChange),
    /// Change a virtual function's attachment
    #[command(
        visible_aliases = ["port", "bp"],
        aliases = BRIDGE_PORT_WORDS,
        after_help = "\
Example:
  xpuctl update port port-1 --trunk net-blue,net-green"
    )]
    BridgePort(BridgePortChange),
    /// Change a gateway
    #[command(
        alias = "svis",
        after_help = "\
Example:
  xpuctl update svi svi-blue --gateway 10.1.0.1/24 --gateway fd00:1::1/64"
    )]
    Svi(SviChange),
}

/// An object with new values, and which of them count.
pub struct Masked<K> {
    pub key: ObjectKey,
    pub object: K,
    pub mask: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct VrfChange {
    /// Its name: `blue` or in full, `vrfs/blue`
    #[arg(value_parser = args::vrf, add = complete::names(Kind::Vrf))]
    name: ObjectKey,
    /// Address and length; an IPv4 one is the router id and the base of the RD
    #[arg(long, group = "change", value_name = "IP/LEN")]
    loopback: Option<IfAddr>,
    /// L3VNI, 1 to 16777215
    #[arg(long, group = "change", value_parser = args::number::<Vni>)]
    vni: Option<Vni>,
    /// Route on this xPU only
    #[arg(long, group = "change", conflicts_with = "vni")]
    no_vni: bool,
    #[command(flatten)]
    vtep: VtepChange,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct LogicalBridgeChange {
    /// Its name: `blue` or in full, `logicalBridges/blue`
    #[arg(value_parser = args::logical_bridge, add = complete::names(Kind::LogicalBridge))]
    name: ObjectKey,
    /// VLAN at the ports, 1 to 4094
    #[arg(long, group = "change", value_parser = args::number::<VlanId>)]
    vlan: Option<VlanId>,
    /// L2VNI, 1 to 16777215
    #[arg(long, group = "change", value_parser = args::number::<Vni>)]
    vni: Option<Vni>,
    /// Keep the network on this xPU
    #[arg(long, group = "change", conflicts_with = "vni")]
    no_vni: bool,
    #[command(flatten)]
    vtep: VtepChange,
}

/// The tunnel endpoint of whatever has a VNI.
#[derive(Debug, Args)]
struct VtepChange {
    /// The local VTEP (tunnel endpoint), instead of the agent's default
    #[arg(long, group = "change", value_name = "IP/LEN")]
    vtep: Option<IfAddr>,
    /// Use the agent's default VTEP again
    #[arg(long, group = "change", conflicts_with = "vtep")]
    no_vtep: bool,
}

impl VtepChange {
    /// Whether it is named.
    const fn is_some(&self) -> bool {
        self.vtep.is_some() || self.no_vtep
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
#[command(group = ArgGroup::new("mode"))]
pub struct BridgePortChange {
    /// Its name: `blue` or in full, `bridgePorts/blue`
    #[arg(value_parser = args::bridge_port, add = complete::names(Kind::BridgePort))]
    name: ObjectKey,
    /// The virtual function's MAC address
    #[arg(long, group = "change")]
    mac: Option<Mac>,
    /// Untagged, in this logical bridge
    #[arg(long, groups = ["change", "mode"], value_name = "BRIDGE", value_parser = args::logical_bridge)]
    access: Option<ObjectKey>,
    /// Tagged, in these logical bridges and no others
    #[arg(
        long,
        groups = ["change", "mode"],
        value_name = "BRIDGE,…",
        value_delimiter = ',',
        value_parser = args::logical_bridge
    )]
    trunk: Vec<ObjectKey>,
    /// Tagged, in every logical bridge there is and will be
    #[arg(long, groups = ["change", "mode"])]
    transparent: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct SviChange {
    /// Its name: `blue` or in full, `svis/blue`
    #[arg(value_parser = args::svi, add = complete::names(Kind::Svi))]
    name: ObjectKey,
    /// The VRF that routes
    #[arg(long, group = "change", value_parser = args::vrf)]
    vrf: Option<ObjectKey>,
    /// The logical bridge that gets the gateway
    #[arg(long, group = "change", visible_alias = "lb", value_name = "BRIDGE", value_parser = args::logical_bridge)]
    logical_bridge: Option<ObjectKey>,
    /// The gateway's MAC address
    #[arg(long, group = "change")]
    mac: Option<Mac>,
    /// The gateways from now on, in place of those there are; may be repeated
    #[arg(long = "gateway", group = "change", value_name = "IP/LEN")]
    gateways: Vec<IfAddr>,
    /// Speak BGP with tenants of this AS in these subnets
    #[arg(long, group = "change", value_name = "ASN", value_parser = args::number::<Asn>)]
    remote_as: Option<Asn>,
    /// Stop speaking BGP with tenants
    #[arg(long, group = "change", conflicts_with = "remote_as")]
    no_bgp: bool,
}

/// The paths of those fields that are named.
fn mask<const N: usize>(fields: [(&str, bool); N]) -> Vec<String> {
    let named = fields.into_iter().filter(|(_, named)| *named);
    named.map(|(field, _)| format!("spec.{field}")).collect()
}

impl From<VrfChange> for Masked<Vrf> {
    fn from(flags: VrfChange) -> Self {
        let mask = mask([
            ("loopback_ip_prefix", flags.loopback.is_some()),
            ("vni", flags.vni.is_some() || flags.no_vni),
            ("vtep_ip_prefix", flags.vtep.is_some()),
        ]);
        let spec = VrfSpec {
            vni: flags.vni.map(u32::from),
            loopback_ip_prefix: flags.loopback.map(wire::prefix),
            vtep_ip_prefix: flags.vtep.vtep.map(wire::prefix),
        };
        let object = Vrf {
            spec: Some(spec),
            ..Vrf::default()
        };
        let key = flags.name;
        Self { key, object, mask }
    }
}

impl From<LogicalBridgeChange> for Masked<LogicalBridge> {
    fn from(flags: LogicalBridgeChange) -> Self {
        let mask = mask([
            ("vlan_id", flags.vlan.is_some()),
            ("vni", flags.vni.is_some() || flags.no_vni),
            ("vtep_ip_prefix", flags.vtep.is_some()),
        ]);
        let spec = LogicalBridgeSpec {
            vlan_id: flags.vlan.map_or(0, u32::from),
            vni: flags.vni.map(u32::from),
            vtep_ip_prefix: flags.vtep.vtep.map(wire::prefix),
        };
        let object = LogicalBridge {
            spec: Some(spec),
            ..LogicalBridge::default()
        };
        let key = flags.name;
        Self { key, object, mask }
    }
}

impl From<BridgePortChange> for Masked<BridgePort> {
    fn from(flags: BridgePortChange) -> Self {
        let trunk = !flags.trunk.is_empty() || flags.transparent;
        let mode = flags.access.is_some() || trunk;
        let mask = mask([
            ("mac_address", flags.mac.is_some()),
            ("ptype", mode),
            ("logical_bridges", mode),
        ]);
        let ptype = match trunk {
            true => BridgePortType::Trunk,
            false => BridgePortType::Access,
        };
        let bridges = flags.access.into_iter().chain(flags.trunk);
        let spec = BridgePortSpec {
            mac_address: flags.mac.map_or_else(Vec::new, |mac| mac.octets().to_vec()),
            ptype: ptype.into(),
            logical_bridges: bridges.map(|key| key.to_string()).collect(),
        };
        let object = BridgePort {
            spec: Some(spec),
            ..BridgePort::default()
        };
        let key = flags.name;
        Self { key, object, mask }
    }
}

impl From<SviChange> for Masked<Svi> {
    fn from(flags: SviChange) -> Self {
        let bgp = flags.remote_as.is_some() || flags.no_bgp;
        let mask = mask([
            ("vrf", flags.vrf.is_some()),
            ("logical_bridge", flags.logical_bridge.is_some()),
            ("mac_address", flags.mac.is_some()),
            ("gw_ip_prefix", !flags.gateways.is_empty()),
            ("enable_bgp", bgp),
            ("remote_as", bgp),
        ]);
        let name = |key: Option<ObjectKey>| key.map_or_else(String::new, |key| key.to_string());
        let spec = SviSpec {
            vrf: name(flags.vrf),
            logical_bridge: name(flags.logical_bridge),
            mac_address: flags.mac.map_or_else(Vec::new, |mac| mac.octets().to_vec()),
            gw_ip_prefix: flags.gateways.into_iter().map(wire::prefix).collect(),
            enable_bgp: flags.remote_as.is_some(),
            remote_as: flags.remote_as.map_or(0, u32::from),
        };
        let object = Svi {
            spec: Some(spec),
            ..Svi::default()
        };
        let key = flags.name;
        Self { key, object, mask }
    }
}
